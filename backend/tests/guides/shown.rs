//! What a guide shows, beside what was printed.

/// Whether a line is the one shown, where `...` stands for anything. What ends lines is of no interest.
pub(crate) fn is_shown(shown: &str, line: &str) -> bool {
    let (shown, line) = (shown.trim_end(), line.trim_end());
    let Some((first, others)) = shown.split_once("...") else { return shown == line };
    let (middle, last) = others.rsplit_once("...").unwrap_or(("", others));
    let mut rest = line.strip_prefix(first).and_then(|rest| rest.strip_suffix(last));
    for part in middle.split("...") {
        rest = rest.and_then(|rest| Some(rest.split_once(part)?.1));
    }
    rest.is_some()
}

/// Fails unless all lines are those shown. A shown line that is `...` stands for any number of lines.
pub(crate) fn assert_shown(place: &str, shown: &str, printed: &str) {
    let shown_lines: Vec<_> = shown.lines().collect();
    let printed_lines: Vec<_> = printed.lines().collect();
    assert!(
        all_shown(&shown_lines, &printed_lines),
        "{place}: expected\n{shown}\nfound\n{printed}\n(the last shown line may be the wrong one)"
    );
}

fn all_shown(shown: &[&str], printed: &[&str]) -> bool {
    match (shown, printed) {
        ([], printed) => printed.is_empty(),
        (["...", shown @ ..], printed) => {
            (0..=printed.len()).any(|skipped| all_shown(shown, &printed[skipped..]))
        }
        ([shown, others @ ..], [line, printed @ ..]) => is_shown(shown, line) && all_shown(others, printed),
        (_, []) => false,
    }
}

#[test]
fn a_shown_line_is_the_whole_line_but_for_its_dots() {
    assert!(is_shown("... remote core: attached", "[2026 INFO x] remote core: attached\r"));
    assert!(is_shown("ready memory=... size=... pool=...", "ready memory=a size=1 pool=2"));
    assert!(!is_shown("remote core: attached", "[2026 INFO x] remote core: attached"));
    assert!(!is_shown("... attached", "attached to something"));
    assert!(is_shown("NAME  STATE", "NAME  STATE"));
}

#[test]
fn dots_on_a_line_of_their_own_are_any_number_of_lines() {
    assert!(all_shown(&["a", "...", "d"], &["a", "b", "c", "d"]));
    assert!(all_shown(&["a", "...", "d"], &["a", "d"]));
    assert!(!all_shown(&["a", "d"], &["a", "b", "d"]));
    assert!(!all_shown(&["a"], &["a", "b"]));
}
