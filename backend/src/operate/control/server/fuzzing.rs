//! For the fuzz target of the control socket: a client on a socket pair, without a thread.

use std::net::Shutdown;

use super::*;

/// Sends the pieces one after the other and serves each. Every line must be answered by one line, and every request
/// must be the same once written and read again.
///
/// # Panics
/// Where that is not so.
pub fn converse(pieces: &[&[u8]]) {
    let (mut peer, stream) = UnixStream::pair().expect("a socket pair");
    peer.set_nonblocking(true).expect("a socket of ours");
    let mut client = Client::new(stream).expect("a socket of ours");
    let handle = |request: Request| {
        let again = Request::parse(request.to_json().as_bytes());
        assert_eq!(again.as_ref(), Ok(&request), "a request written and read");
        Ok(Done::Reply(Value::Null))
    };
    let mut replies = Vec::new();
    for piece in pieces.iter().flat_map(|piece| piece.chunks(CHUNK)) {
        peer.write_all(piece).expect("room for a chunk");
        client.serve(&handle);
        let _nothing_more = peer.read_to_end(&mut replies);
    }
    peer.shutdown(Shutdown::Write).expect("a socket of ours");
    while !client.gone {
        client.serve(&handle);
        let _nothing_more = peer.read_to_end(&mut replies);
    }
    let sent = pieces.concat();
    let lines = sent.split_inclusive(|byte| *byte == b'\n').count();
    let replies = String::from_utf8(replies).expect("JSON");
    assert_eq!(replies.lines().count(), lines, "a reply for each line");
    for reply in replies.lines() {
        Reply::parse(reply).expect("a reply").err().inspect(|refusal| assert!(!refusal.message.is_empty()));
    }
}
