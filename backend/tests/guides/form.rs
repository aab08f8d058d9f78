//! What can be said of a guide without doing what it says.

use std::fs;

use super::blocks::{Kind, blocks_of, guides, prose_of, root};
use super::desk::Desk;

/// What stands in blocks `sh setup`: the test's own programs and paths are in place of it.
const SETUP: [&str; 6] = [
    "ci/setup demo",
    "source ci/env",
    "cargo build --release",
    "PATH=$PWD/target/release:$PATH",
    "ci/demo",
    "ci/test",
];

/// A command without what is said about it.
fn command_of(line: &str) -> &str {
    line.split("  #").next().unwrap_or_default().trim()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_block_says_what_becomes_of_it_and_those_that_are_not_run_say_so_to_the_reader() {
    for block in guides().iter().flat_map(|guide| blocks_of(guide)) {
        let (place, above) = (&block.place, block.above.to_lowercase());
        match block.kind {
            Kind::Setup => {
                for line in block.text.lines().map(command_of) {
                    assert!(SETUP.contains(&line), "{place}: {line:?} is none of {SETUP:?}");
                }
            }
            Kind::Board => {
                assert!(above.contains("on the board"), "{place}: \"on the board\" is not above it");
            }
            Kind::Elsewhere => {
                assert!(above.contains("not run here"), "{place}: \"not run here\" is not above it");
            }
            Kind::Tested(file) => {
                let script = read(&file);
                for command in block.text.lines().map(command_of) {
                    assert!(script.contains(command), "{place}: {command:?} is not in {file}");
                }
            }
            Kind::Form(file) => assert!(root().join(&file).exists(), "{place}: there is no {file}"),
            Kind::Output(None)
            | Kind::Output(Some(_))
            | Kind::Run
            | Kind::Terminal(_)
            | Kind::Interrupted(_)
            | Kind::Guest(_)
            | Kind::Toml(_)
            | Kind::Tree(_)
            | Kind::Source(_)
            | Kind::Json => {}
        }
    }
}

#[test]
fn every_guide_with_something_to_type_is_followed() {
    let followed = include_str!("main.rs");
    for guide in guides() {
        let is_typed =
            |kind| matches!(kind, Kind::Run | Kind::Terminal(_) | Kind::Guest(_) | Kind::Interrupted(_));
        if blocks_of(&guide).into_iter().any(|block| is_typed(block.kind)) {
            assert!(followed.contains(&format!("\"{guide}\"")), "no test follows {guide}");
        }
    }
}

/// Sub-commands of the program end at once, since there is nothing that they could ask; it is only the last word that counts.
#[test]
fn every_command_line_that_is_not_run_is_one_that_the_program_takes() {
    let desk = Desk::new();
    let mut taken = 0;
    for block in guides().iter().flat_map(|guide| blocks_of(guide)) {
        let (Kind::Board | Kind::Form(_)) = block.kind else { continue };
        for line in block.text.lines().filter(|line| line.starts_with("vhost-device-rpmsg")) {
            let command = command_of(line).split(" | ").next().unwrap_or_default();
            desk.takes(&block.place, command);
            taken += 1;
        }
    }
    assert!(taken > 5, "{taken} command lines");
}

#[test]
fn every_line_of_source_that_is_shown_is_there() {
    for block in guides().iter().flat_map(|guide| blocks_of(guide)) {
        let Kind::Source(file) = &block.kind else { continue };
        let source = read(file);
        for part in block.text.split("// ...\n") {
            // Where something is left out, it is by whole lines.
            let part = part.trim_end_matches(' ').trim_matches('\n');
            assert!(source.contains(part), "{}: not in {file}:\n{part}", block.place);
        }
    }
}

#[test]
fn every_configuration_that_is_shown_is_accepted() {
    let desk = Desk::new();
    let trees = ["am62x", "imx8mp", "imx8mq-rpmsg", "mps2-an385", "stm32mp157", "zynqmp"];
    for tree in trees {
        desk.run("trees", &format!("dtc -@ -q -I dts -O dtb -o {tree}.dtb dts/{tree}.dts"));
    }
    for block in guides().iter().flat_map(|guide| blocks_of(guide)) {
        let Kind::Toml(None) = block.kind else { continue };
        let mut text = block.text.clone();
        if !text.contains("[[remote]]") {
            text += "[[remote]]\nname = \"core\"\nlink = \"loopback\"\n";
        }
        if !text.contains("[[vm]]") {
            text += "[[vm]]\nname = \"a\"\nsocket = \"a.sock\"\n";
        }
        // The host's own tree is that of the board that is meant.
        let host = "\"/sys/firmware/fdt\"";
        let texts: Vec<_> = if text.contains(host) {
            trees.iter().map(|tree| text.replace(host, &format!("\"{tree}.dtb\""))).collect()
        } else {
            vec![text]
        };
        let tries = texts.iter().map(|text| desk.check(text)).collect::<Vec<_>>();
        assert!(tries.iter().any(Result::is_ok), "{}: {tries:?}", block.place);
    }
}

/// Tables of what the program says have its words in the first column, in quotation marks, with `...` for what varies.
#[test]
fn what_tables_say_that_the_program_says_is_in_its_source() {
    let mut source = String::new();
    let mut folders = vec![root().join("backend/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("source") {
            let path = entry.expect("source").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                source += &fs::read_to_string(&path).expect("source");
            }
        }
    }
    // Strings go on behind a backslash.
    let source: String = source.split("\\\n").map(str::trim_start).collect();
    let (mut lines, mut strange) = (0, Vec::new());
    for guide in guides() {
        let text = read(&guide);
        let mut of_messages = false;
        for line in text.lines() {
            of_messages = line.starts_with("| line |") || (of_messages && line.starts_with('|'));
            let Some(first) = line.strip_prefix("| ").and_then(|rest| rest.split(" | ").next()) else {
                continue;
            };
            if !of_messages || first.contains("QEMU:") || first.contains("the guest") {
                continue;
            }
            let said = first.split('`').skip(1).step_by(2).flat_map(|said| said.split("..."));
            // An error and its cause are two texts, and names stand before what is said of them.
            let said = said.flat_map(|said| said.split(": ")).flat_map(|said| said.split(", "));
            for part in said.map(|part| part.trim().trim_end_matches(':')) {
                if part.starts_with("remote ") || part.starts_with("vm ") {
                    continue;
                }
                if !source.contains(part) {
                    strange.push(format!("{guide}: {part:?}"));
                }
                lines += 1;
            }
        }
    }
    assert!(strange.is_empty(), "the program does not say {strange:#?}");
    assert!(lines > 20, "{lines} lines of tables");
}

#[test]
fn every_link_between_guides_leads_somewhere() {
    for guide in guides() {
        let folder = root().join(&guide);
        let folder = folder.parent().expect("a folder");
        let text = prose_of(&guide);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { root().join(&guide) } else { folder.join(path) };
            assert!(path.contains("://") || file.exists(), "{guide}: {target} is not there");
            let anchor = |line: &str| {
                let title = line.trim_start_matches('#').trim().to_lowercase();
                let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
            };
            if !heading.is_empty() {
                let text = fs::read_to_string(&file).expect("a guide");
                let headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(headings.collect::<Vec<_>>().contains(&heading.to_owned()), "{guide}: no {target}");
            }
        }
    }
}

#[test]
fn every_file_of_the_project_that_is_named_is_there() {
    let places = ["", "backend", "backend/src", "backend/src/remote/mailbox", "backend/src/operate"];
    let mut named = 0;
    for guide in guides() {
        for name in prose_of(&guide).split('`').skip(1).step_by(2) {
            let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            let is_ours =
                name.contains('/') && !name.starts_with(['/', '.', '~']) && name.chars().all(is_path);
            let of_a_kind = [".rs", ".dts", ".toml", ".c", ".md", ".lua", ".conf"]
                .iter()
                .any(|kind| name.ends_with(kind));
            if is_ours && of_a_kind {
                let is_there = places.iter().any(|place| root().join(place).join(name).exists());
                assert!(is_there, "{guide}: there is no {name}");
                named += 1;
            }
        }
    }
    assert!(named > 20, "{named} names");
}
