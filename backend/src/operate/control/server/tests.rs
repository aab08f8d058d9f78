//! The protocol as a client sees it, over real sockets.

use std::io::{BufRead, BufReader};
use std::net::Shutdown;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;

use super::*;

const LIST: &str = "{\"version\":1,\"request\":\"vm-list\"}";
const LISTED: &str = "{\"version\":1,\"result\":\"list\"}";
/// Longer than what a socket holds for its reader.
const LONG_NAME: usize = 60_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of which `vm-list` gets "list", and `vm-remove` the name as often as it takes for a long reply.
struct Bench {
    _folder: TempDir,
    path: PathBuf,
    _control: Control,
}

fn served() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let control = Control::start(listener, |request| match request {
        Request::ListVms => Ok(Done::Reply(json!("list"))),
        Request::RemoveVm(name) => Ok(Done::Reply(json!(name.repeat(20)))),
        Request::Capture(_) => Ok(Done::Stream(json!("stream"), Box::new(stream))),
        _ => Err(Refusal::new(Code::Vm, "no")),
    });
    Bench { _folder: folder, path, _control: control.unwrap() }
}

/// Streams what the client sends next.
fn stream(mut connection: UnixStream, line: Vec<u8>) {
    connection.set_nonblocking(false).unwrap();
    thread::spawn(move || {
        connection.write_all(&line).unwrap();
        let mut echo = [0; 4];
        connection.read_exact(&mut echo).unwrap();
        connection.write_all(&echo).unwrap();
    });
}

/// A client that gives up sooner or later.
struct Peer(BufReader<UnixStream>);

impl Bench {
    fn connect(&self) -> Peer {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Peer(BufReader::new(stream))
    }
}

impl Peer {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// The next line, without its end; nothing where there is none.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    fn refusal(&mut self) -> Refusal {
        Reply::parse(&self.line()).unwrap().unwrap_err()
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\n"));
        self.line()
    }
}

#[test]
fn a_request_gets_its_reply_and_so_does_the_next() {
    let bench = served();
    let mut peer = bench.connect();
    assert_eq!(peer.ask(LIST), LISTED);
    assert_eq!(peer.ask(LIST), LISTED);
    assert_eq!(
        peer.ask("{\"version\":1,\"request\":\"vm-add\",\"vm\":{}}"),
        "{\"version\":1,\"error\":{\"code\":\"vm\",\"message\":\"no\"}}"
    );
}

#[test]
fn requests_that_come_at_once_are_answered_in_their_order() {
    let bench = served();
    let mut peer = bench.connect();
    peer.send(format!("{LIST}\n{{\"version\":1,\"request\":\"vm-remove\",\"name\":\"\"}}\r\n{LIST}\n"));
    assert_eq!([peer.line(), peer.line(), peer.line()], [LISTED, "{\"version\":1,\"result\":\"\"}", LISTED]);
}

#[test]
fn a_request_in_pieces_is_answered_once_it_is_whole() {
    let bench = served();
    let mut peer = bench.connect();
    for byte in LIST.bytes() {
        peer.send([byte]);
    }
    assert_eq!(bench.connect().ask(LIST), LISTED);
    assert_eq!(peer.ask(""), LISTED);
}

#[test]
fn a_line_that_is_no_request_gets_an_error_and_the_next_an_answer() {
    let bench = served();
    let mut peer = bench.connect();
    for (line, code) in [
        ("", Code::Syntax),
        ("hello", Code::Syntax),
        ("[1]", Code::Syntax),
        ("{\"version\":2,\"request\":\"vm-list\"}", Code::Version),
        ("{\"version\":1,\"request\":\"halt\"}", Code::Request),
        ("{\"version\":1,\"request\":\"vm-list\",\"all\":true}", Code::Request),
    ] {
        peer.send(format!("{line}\n"));
        assert_eq!(peer.refusal().code, code, "{line}");
    }
    peer.send(b"\xff\xfe\0\n");
    assert_eq!(peer.refusal().code, Code::Syntax);
    assert_eq!(peer.ask(LIST), LISTED);
}

#[test]
fn a_line_that_is_too_long_gets_an_error_and_the_next_an_answer() {
    let bench = served();
    let mut peer = bench.connect();
    let padded = |length: usize| format!("{LIST}{}", " ".repeat(length - LIST.len()));
    assert_eq!(peer.ask(&padded(MAX_LINE)), LISTED);
    for length in [MAX_LINE + 1, MAX_LINE + CHUNK, 5 * MAX_LINE] {
        peer.send(format!("{}\n{LIST}\n", padded(length)));
        let expected =
            Refusal::new(Code::TooLong, "expected a line of at most 65536 bytes, found a longer one");
        assert_eq!(peer.refusal(), expected);
        assert_eq!(peer.line(), LISTED);
    }
    peer.send("x".repeat(MAX_LINE + 1));
    assert_eq!(peer.refusal().code, Code::TooLong);
    peer.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(peer.line(), "");
}

#[test]
fn half_a_line_and_a_hang_up_gets_an_error_and_the_end() {
    let bench = served();
    let mut peer = bench.connect();
    peer.send(format!("{LIST}\n{LIST}"));
    peer.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(peer.line(), LISTED);
    let message = "expected a newline behind the request, found the end of the connection";
    assert_eq!(peer.refusal(), Refusal::new(Code::Syntax, message));
    assert_eq!(peer.line(), "");
}

#[test]
fn clients_that_hang_up_at_any_time_do_no_harm() {
    let bench = served();
    for sent in ["", "{", LIST, &format!("{LIST}\n"), &format!("{LIST}\n").repeat(1000)] {
        bench.connect().send(sent);
    }
    assert_eq!(bench.connect().ask(LIST), LISTED);
}

#[test]
fn a_client_that_takes_no_replies_is_not_read_from_and_holds_nobody_up() {
    let bench = served();
    let mut lazy = bench.connect();
    lazy.0.get_mut().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let name = "x".repeat(LONG_NAME);
    let request = format!("{{\"version\":1,\"request\":\"vm-remove\",\"name\":\"{name}\"}}\n");
    let mut sent = 0;
    // The socket's own buffers fill, and no more is taken.
    while lazy.0.get_mut().write_all(request.as_bytes()).is_ok() {
        sent += 1;
        assert!(sent < 1000);
    }
    assert_eq!(bench.connect().ask(LIST), LISTED);
    for _ in 0..sent {
        assert_eq!(lazy.line().len(), 20 * LONG_NAME + "{\"version\":1,\"result\":\"\"}".len());
    }
}

#[test]
fn of_a_thousand_clients_the_first_are_served_and_the_others_told_to_come_again() {
    let bench = served();
    let mut seated: Vec<_> = (0..MAX_CLIENTS).map(|_| bench.connect()).collect();
    assert!(seated.iter_mut().all(|peer| peer.ask(LIST) == LISTED));
    for _ in MAX_CLIENTS..1000 {
        let mut late = bench.connect();
        assert_eq!(late.refusal().code, Code::Busy);
        assert_eq!(late.line(), "");
    }
    assert!(seated.iter_mut().all(|peer| peer.ask(LIST) == LISTED));
    drop(seated);
    let start = Instant::now();
    while bench.connect().line_of(LIST) != LISTED {
        assert!(start.elapsed() < PATIENCE);
    }
}

impl Peer {
    /// The reply to a request, which may be that there is no room.
    fn line_of(&mut self, request: &str) -> String {
        // Whoever is turned away may find the connection closed already.
        let _ = self.0.get_mut().write_all(format!("{request}\n").as_bytes());
        self.line()
    }
}

#[test]
fn the_end_of_the_server_is_the_end_of_its_connections() {
    let bench = served();
    let mut peer = bench.connect();
    assert_eq!(peer.ask(LIST), LISTED);
    drop(bench);
    assert_eq!(peer.line(), "");
}

#[test]
fn a_connection_that_streams_is_somebody_elses_and_others_are_served_on() {
    let bench = served();
    let mut streaming = bench.connect();
    streaming.send("{\"version\":1,\"request\":\"capture\"}\n");
    assert_eq!(streaming.line(), "{\"version\":1,\"result\":\"stream\"}");
    let mut other = bench.connect();
    other.send(format!("{LIST}\n"));
    assert_eq!(other.line(), LISTED);
    streaming.send("more");
    assert_eq!(streaming.line(), "more");
}
