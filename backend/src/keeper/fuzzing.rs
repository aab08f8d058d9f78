//! For the fuzz target of the keeper: a front-end on a socket pair, and a session that is replayed at any time.

use std::fs::File;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::fs::{MemfdFlags, memfd_create};

use super::message::Message;
use super::session::Session;
use super::wire;

/// Sends each piece with so many descriptors, and reads messages as long as there are any. After each the session is
/// replayed: what comes of that must be messages that a front-end could have sent, to a session without any.
///
/// # Panics
/// Where that is not so.
pub fn converse(pieces: &[(usize, &[u8])]) {
    let (front_end, keeper) = UnixStream::pair().expect("a socket pair");
    let file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a memfd"));
    for (fds, piece) in pieces {
        let fds: Vec<_> = (0..*fds).map(|_| file.as_fd()).collect();
        if !piece.is_empty() {
            wire::send(&front_end, piece, &fds).expect("room for a piece");
        }
    }
    front_end.shutdown(Shutdown::Write).expect("a socket of ours");
    let mut session = Session::default();
    while let Ok(Some(message)) = Message::receive(&keeper) {
        let Ok(change) = message.change() else { return };
        // What a worker answers is the front-end's message given back, which is as good as anything.
        let reply = session.expects_reply(&message, &change).then(|| answer(&message));
        session.apply(change, message.fds, reply.as_ref());
        replay(&mut session);
    }
}

fn answer(message: &Message) -> Message {
    Message::new(message.request, message.body.clone())
}

fn replay(session: &mut Session) {
    let regions = session.regions();
    let (sender, receiver) = UnixStream::pair().expect("a socket pair");
    let mut again = Session::default();
    for (message, fds) in session.replay() {
        message.send_with(&sender, &fds).expect("room for one message");
        let received = Message::receive(&receiver).expect("a message of ours").expect("one message");
        let change = received.change().expect("what is replayed is what a front-end may say");
        let reply = received.is_question().then(|| answer(&received));
        again.apply(change, received.fds, reply.as_ref());
    }
    assert_eq!(again.regions(), regions, "the same memory");
    for message in session.overdue() {
        message.change().expect("what is overdue is what a front-end may say");
    }
}
