//! What is printed of replies, and said of those that do not come.

use std::os::unix::net::UnixListener;
use std::thread;

use super::*;

/// What a request comes to where the other side answers with this.
fn answered(request: &Request, json: bool, reply: &'static str) -> (String, Result<(), CallError>) {
    let folder = tempfile::tempdir().unwrap();
    let control = folder.path().join("control");
    let listener = UnixListener::bind(&control).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        stream.write_all(reply.as_bytes()).unwrap();
        line
    });
    let mut printed = Vec::new();
    let result = Call { control, request: request.clone(), json }.run(&mut printed);
    assert_eq!(server.join().unwrap(), format!("{}\n", request.to_json()));
    (String::from_utf8(printed).unwrap(), result)
}

const VM_C: &str = "{\"version\":1,\"result\":{\"vm\":{\"name\":\"c\",\"remote\":\"core\",\"slot\":2,\"socket\":\
                    \"/run/c.sock\",\"connected\":false}}}\n";
const VMS: &str = "{\"version\":1,\"result\":{\"vms\":[{\"name\":\"a\",\"remote\":\"core\",\"slot\":0,\"socket\":\
                   \"/run/a.sock\",\"connected\":true},{\"name\":\"longer\",\"remote\":\"r\",\"slot\":126,\"socket\":\
                   \"file descriptor 7\",\"connected\":false}]}}\n";
const NO: &str = "{\"version\":1,\"error\":{\"code\":\"not-found\",\"message\":\"no such VM\"}}\n";

#[test]
fn what_has_been_done_is_printed_for_people() {
    let (printed, result) = answered(&Request::AddVm(serde_json::Map::new()), false, VM_C);
    assert!(result.is_ok());
    assert_eq!(printed, "VM c is served on /run/c.sock, at remote core in slot 2\n");
    let (printed, _) = answered(&Request::RemoveVm("c".to_owned()), false, VM_C);
    assert_eq!(printed, "VM c is served no more\n");
    let (printed, _) = answered(&Request::ListVms, false, VMS);
    assert_eq!(
        printed,
        "NAME    REMOTE  SLOT  FRONT-END  SOCKET\n\
         a       core    0     connected  /run/a.sock\n\
         longer  r       126   -          file descriptor 7\n"
    );
}

#[test]
fn a_reply_is_printed_as_it_comes_where_that_is_asked_for() {
    for reply in [VM_C, VMS] {
        let (printed, result) = answered(&Request::ListVms, true, reply);
        assert!(result.is_ok());
        assert_eq!(printed, reply);
    }
    let (printed, result) = answered(&Request::ListVms, true, NO);
    assert_eq!(printed, NO);
    assert!(matches!(result, Err(CallError::Refused(_))));
}

#[test]
fn a_refusal_is_an_error_in_the_words_of_the_program() {
    let (printed, result) = answered(&Request::RemoveVm("c".to_owned()), false, NO);
    assert_eq!((printed.as_str(), result.unwrap_err().to_string().as_str()), ("", "no such VM"));
}

#[test]
fn a_reply_that_is_none_is_said_with_its_beginning() {
    for (reply, found) in [("hello\n", "\"hello\""), ("{\"version\":1}\n", "\"{\\\"version\\\":1}\"")] {
        let error = answered(&Request::ListVms, false, reply).1.unwrap_err().to_string();
        assert!(error.ends_with(&format!(": expected a reply in JSON, found {found}")), "{error}");
    }
    let (_, result) = answered(&Request::ListVms, false, VM_C);
    assert!(matches!(result, Err(CallError::NotAReply { .. })));
}

#[test]
fn a_program_that_ends_before_it_answers_is_said_to_give_no_reply() {
    let error = answered(&Request::ListVms, false, "").1.unwrap_err();
    assert!(error.to_string().ends_with("control: cannot read the reply"), "{error}");
}

#[test]
fn a_program_that_does_not_run_is_said_with_the_path() {
    let call = Call { control: "/no/such/control".into(), request: Request::ListVms, json: false };
    assert_eq!(
        call.run(&mut Vec::new()).unwrap_err().to_string(),
        "cannot connect to control socket /no/such/control; is the program running, with this path as `control` in \
         its configuration?"
    );
}
