//! The fenced blocks of a guide, and what their first lines say of them.
//!
//! | info string | what it is | what becomes of it |
//! |---|---|---|
//! | `sh` | commands that come to an end | run, all of them must succeed |
//! | `sh terminal NAME` | one command that goes on, in a terminal of its own | started, and ended with the guide |
//! | `sh interrupted TEXT` | commands that go on, a line each | started, and ended once they have said so |
//! | `sh guest NAME` | commands typed in the VM that runs in that terminal | typed, all of them must succeed |
//! | `sh setup` | how the program gets there, or the project's own commands | what the test has done before, see `form` |
//! | `sh board` | commands for a board; the text above says so | not run |
//! | `sh elsewhere` | commands for what is not here, such as another VMM; the text above says so | not run |
//! | `sh tested FILE`, `output tested FILE` | commands that another test runs, or what it compares | looked for in that file, line by line |
//! | `sh form FILE` | commands that go on, or take what is not here, and that the tests in the file run in other words | their form is that which the program takes, see `form` |
//! | `output [NAME]` | what the block above has printed; or lines that are said in a terminal since the last such block | compared; `...` stands for anything |
//! | `toml [FILE]` | a configuration, or a part of one; with a name, a file that the reader makes | made, and accepted by `check` |
//! | `dts FILE` | a device tree that the reader makes | made |
//! | `rust FILE` | a part of the project's source | looked for there, up to lines `// ...` |
//! | `rust elsewhere` | source of another project | nothing |
//! | `json` | a request, its reply | nothing here: the protocol's own tests read it |

use std::fs;
use std::path::{Path, PathBuf};

/// What a block is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Run,
    Terminal(String),
    Interrupted(String),
    Guest(String),
    Setup,
    Board,
    Elsewhere,
    Tested(String),
    Form(String),
    Output(Option<String>),
    Toml(Option<String>),
    Tree(String),
    Source(String),
    Json,
}

/// A fenced block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) kind: Kind,
    /// For people: file and line.
    pub(crate) place: String,
    /// The heading, and the text since the block before.
    pub(crate) above: String,
    /// What is in it, each line ended.
    pub(crate) text: String,
}

impl Kind {
    fn read(info: &str) -> Option<Self> {
        let name = |name: &str| name.to_owned();
        Some(match info.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["sh"] => Kind::Run,
            ["sh", "terminal", terminal] => Kind::Terminal(name(terminal)),
            ["sh", "interrupted", text] => Kind::Interrupted(name(text)),
            ["sh", "guest", terminal] => Kind::Guest(name(terminal)),
            ["sh", "setup"] => Kind::Setup,
            ["sh", "board"] => Kind::Board,
            ["sh" | "rust", "elsewhere"] => Kind::Elsewhere,
            ["sh" | "output", "tested", file] => Kind::Tested(name(file)),
            ["sh", "form", file] => Kind::Form(name(file)),
            ["output"] => Kind::Output(None),
            ["output", terminal] => Kind::Output(Some(name(terminal))),
            ["toml"] => Kind::Toml(None),
            ["toml", file] => Kind::Toml(Some(name(file))),
            ["dts", file] => Kind::Tree(name(file)),
            ["rust", file] => Kind::Source(name(file)),
            ["json"] => Kind::Json,
            _ => return None,
        })
    }
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::canonicalize(root).expect("the repository")
}

/// All guides, by their paths in the repository: the `README.md` and everything in `backend/docs`.
pub(crate) fn guides() -> Vec<String> {
    let docs = fs::read_dir(root().join("backend/docs")).expect("the guides");
    let names = docs.map(|entry| entry.expect("a guide").file_name().into_string().expect("UTF-8"));
    let mut guides: Vec<_> = names.map(|name| format!("backend/docs/{name}")).collect();
    guides.push("README.md".to_owned());
    guides.sort();
    guides
}

/// What is between the blocks of a guide.
pub(crate) fn prose_of(guide: &str) -> String {
    let text = fs::read_to_string(root().join(guide)).expect("a guide");
    let text: Vec<_> = text.split("\n```").step_by(2).collect();
    text.join("\n")
}

/// The blocks of a guide, in order. Fails on one that does not say what it is.
pub(crate) fn blocks_of(guide: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(guide)).expect("a guide");
    let (mut blocks, mut heading, mut above) = (Vec::new(), "", String::new());
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            if line.starts_with('#') {
                (heading, above) = (line, String::new());
            }
            above += line;
            above.push('\n');
            continue;
        };
        let place = format!("{guide}:{number}");
        let kind = Kind::read(info)
            .unwrap_or_else(|| panic!("{place}: expected a block that says what it is, found {info:?}"));
        let inner = lines.by_ref().map(|(line, _)| line).take_while(|line| *line != "```");
        let text = inner.map(|line| format!("{line}\n")).collect();
        let above = format!("{heading}\n{}", std::mem::take(&mut above));
        blocks.push(Block { kind, place, above, text });
    }
    blocks
}
