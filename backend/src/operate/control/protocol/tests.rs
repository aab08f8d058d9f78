//! What lines say, and what is said about those that say nothing.

use super::*;

fn refused(line: &str) -> (Code, String) {
    let refusal = Request::parse(line.as_bytes()).unwrap_err();
    (refusal.code, refusal.message)
}

#[test]
fn every_request_is_read_as_it_is_written() {
    let vm = Map::from_iter([("name".to_owned(), "d".into()), ("weight".to_owned(), 3.into())]);
    let remote = |order| Request::Remote { name: "m4".to_owned(), order };
    let firmware = Some("new.elf".to_owned());
    for request in [
        Request::AddVm(vm),
        Request::RemoveVm("a".to_owned()),
        Request::SetService(Map::from_iter([("name".to_owned(), "a".into())])),
        Request::ListVms,
        Request::ListRemotes,
        Request::Upgrade,
        Request::List,
        Request::Stats,
        Request::Events,
        remote(RemoteRequest::Start),
        remote(RemoteRequest::Stop),
        remote(RemoteRequest::Follow),
        remote(RemoteRequest::Dump),
        remote(RemoteRequest::Restart { firmware }),
        remote(RemoteRequest::Restart { firmware: None }),
        remote(RemoteRequest::Trace),
        remote(RemoteRequest::Table),
    ] {
        assert_eq!(Request::parse(request.to_json().as_bytes()), Ok(request));
    }
}

#[test]
fn a_line_that_is_no_object_is_refused() {
    for line in ["", "vm-list", "{", "[]", "1", "{\"version\":1} x"] {
        let (code, message) = refused(line);
        assert_eq!(code, Code::Syntax, "{line}");
        assert!(
            message.starts_with("expected a JSON object in one line, found something else: "),
            "{message}"
        );
    }
    assert_eq!(Request::parse(b"\xff").unwrap_err().code, Code::Syntax);
    assert_eq!(refused(&"[".repeat(10_000)).0, Code::Syntax);
}

#[test]
fn another_version_is_refused_with_the_one_there_is() {
    for (version, found) in [("\"version\":2,", "2"), ("\"version\":\"1\",", "\"1\""), ("", "nothing")] {
        assert_eq!(
            refused(&format!("{{{version}\"request\":\"vm-list\"}}")),
            (Code::Version, format!("key version: expected 1, found {found}"))
        );
    }
}

#[test]
fn a_request_that_there_is_not_is_refused_with_those_there_are() {
    for (request, found) in
        [(",\"request\":\"reboot\"", "\"reboot\""), ("", "nothing"), (",\"request\":[]", "an array")]
    {
        assert_eq!(
            refused(&format!("{{\"version\":1{request}}}")),
            (
                Code::Request,
                format!(
                    "key request: expected \"vm-add\", \"vm-remove\", \"vm-list\", \"remote-list\", \"remote-start\", \
                         \"remote-stop\", \"remote-restart\", \"remote-trace\", \"remote-follow\", \"remote-dump\", \"remote-table\", \"capture\", \"service-set\", \"ls\", \"stats\", \"events\" or \"upgrade\", found {found}"
                )
            )
        );
    }
}

#[test]
fn keys_that_a_request_lacks_or_does_not_have_are_refused() {
    for (rest, message) in [
        ("\"vm-remove\"", "request vm-remove: missing field `name`"),
        ("\"vm-remove\",\"name\":3", "request vm-remove: invalid type: integer `3`, expected a string"),
        ("\"remote-stop\"", "request remote-stop: missing field `name`"),
        ("\"vm-list\",\"name\":\"a\"", "request vm-list: unknown field `name`, there are no fields"),
        ("\"vm-add\",\"vm\":{},\"name\":\"a\"", "request vm-add: unknown field `name`, expected `vm`"),
        ("\"vm-add\",\"vm\":\"a\"", "request vm-add: invalid type: string \"a\", expected a map"),
    ] {
        assert_eq!(
            refused(&format!("{{\"version\":1,\"request\":{rest}}}")),
            (Code::Request, message.to_owned())
        );
    }
}

#[test]
fn replies_are_lines_that_say_version_and_result_or_error() {
    let line = |outcome| String::from_utf8(Reply::line(outcome)).unwrap();
    assert_eq!(line(Ok(serde_json::json!({"vms": []}))), "{\"version\":1,\"result\":{\"vms\":[]}}\n");
    let refusal = Refusal::new(Code::NotFound, "no\nline");
    let error = line(Err(refusal.clone()));
    assert_eq!(error, "{\"version\":1,\"error\":{\"code\":\"not-found\",\"message\":\"no\\nline\"}}\n");
    assert_eq!(Reply::parse(&error).unwrap(), Err(refusal));
    assert!(Reply::parse("{\"version\":1}").is_err());
}

#[test]
fn the_lines_of_the_reference_are_requests_and_replies() {
    let reference = include_str!("../../../../docs/control.md");
    let lines: Vec<_> = reference.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(lines.len(), 31);
    for line in lines {
        match line.contains("\"request\"") {
            true => drop(Request::parse(line.as_bytes()).unwrap()),
            false => drop(Reply::parse(line).unwrap()),
        }
    }
    let codes = [
        Code::Syntax,
        Code::TooLong,
        Code::Version,
        Code::Request,
        Code::Vm,
        Code::NotFound,
        Code::Remote,
        Code::Busy,
        Code::Failed,
    ];
    for code in codes {
        let code = serde_json::to_value(code).unwrap();
        assert!(reference.contains(&format!("| `{}` |", code.as_str().unwrap())), "{code}");
    }
    assert!(reference.contains(&format!("at most {MAX_LINE} bytes")));
}
