use std::io::Write;
use std::net::Shutdown;

use rustix::event::{EventfdFlags, eventfd};

use super::*;

fn message(request: FrontendReq, words: &[u64], fds: usize) -> Message {
    let body = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let fds = (0..fds).map(|_| eventfd(0, EventfdFlags::CLOEXEC).unwrap()).collect();
    Message { fds, ..Message::new(request, body) }
}

fn is_taken(request: FrontendReq, words: &[u64], fds: usize) -> bool {
    message(request, words, fds).change().is_ok()
}

/// What a stream of these bytes is taken for.
fn received(bytes: &[u8]) -> Result<Option<Message>, MessageError> {
    let (mut front_end, ours) = UnixStream::pair().unwrap();
    front_end.write_all(bytes).unwrap();
    front_end.shutdown(Shutdown::Write).unwrap();
    Message::receive(&ours)
}

fn header(request: u32, flags: u32, size: u32) -> Vec<u8> {
    [request, flags, size].map(u32::to_le_bytes).concat()
}

#[test]
fn a_message_is_passed_on_as_it_came_with_its_descriptors() {
    let (front_end, ours) = UnixStream::pair().unwrap();
    let sent = message(FrontendReq::SET_VRING_KICK, &[1], 1);
    sent.send(&front_end).unwrap();
    let first = Message::receive(&ours).unwrap().unwrap();
    first.send(&front_end).unwrap();
    let second = Message::receive(&ours).unwrap().unwrap();
    assert_eq!((second.request, second.flags, &second.body), (sent.request, sent.flags, &sent.body));
    assert_eq!(second.fds.len(), 1);
    assert_eq!(second.change().unwrap(), Change::Kick { ring: 1 });
}

#[test]
fn the_end_of_a_connection_is_told_from_one_that_breaks_off() {
    assert!(received(&[]).unwrap().is_none());
    let whole = [header(2, 1, 8), vec![0; 8]].concat();
    assert!(received(&whole).unwrap().is_some());
    for len in 1..whole.len() {
        assert!(matches!(received(&whole[..len]), Err(MessageError::BrokenOff { .. })), "{len} bytes");
    }
}

#[test]
fn headers_that_are_none_are_refused() {
    for (request, flags, size) in
        [(0, 1, 0), (1000, 1, 0), (1, 0, 0), (1, 2, 0), (1, 0x11, 0), (1, 1, 4097), (1, 1, u32::MAX)]
    {
        let found = received(&header(request, flags, size));
        assert!(matches!(found, Err(MessageError::Header { .. })), "{request} {flags:#x} {size}");
    }
}

#[test]
fn more_descriptors_than_any_message_has_are_refused() {
    let (front_end, ours) = UnixStream::pair().unwrap();
    let fds = message(FrontendReq::SET_OWNER, &[], 2 * MAX_FDS).fds;
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2 * MAX_FDS))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
    let bytes = header(3, 1, 0);
    let sent = [std::io::IoSlice::new(&bytes)];
    rustix::net::sendmsg(&front_end, &sent, &mut control, rustix::net::SendFlags::empty()).unwrap();
    assert!(matches!(Message::receive(&ours), Err(MessageError::TooManyFds)));
}

#[test]
fn every_request_has_one_shape() {
    let region = [0, 1, 2, 3, 4];
    for (request, words, fds) in [
        (FrontendReq::GET_FEATURES, &[][..], 0),
        (FrontendReq::GET_PROTOCOL_FEATURES, &[], 0),
        (FrontendReq::GET_QUEUE_NUM, &[], 0),
        (FrontendReq::GET_MAX_MEM_SLOTS, &[], 0),
        (FrontendReq::SET_OWNER, &[], 0),
        (FrontendReq::RESET_OWNER, &[], 0),
        (FrontendReq::RESET_DEVICE, &[], 0),
        (FrontendReq::SET_FEATURES, &[7], 0),
        (FrontendReq::SET_PROTOCOL_FEATURES, &[7], 0),
        (FrontendReq::SET_MEM_TABLE, &[1, 1, 2, 3, 4], 1),
        (FrontendReq::ADD_MEM_REG, &region, 1),
        (FrontendReq::SET_VRING_NUM, &[1], 0),
        (FrontendReq::SET_VRING_BASE, &[1], 0),
        (FrontendReq::GET_VRING_BASE, &[1], 0),
        (FrontendReq::SET_VRING_ENABLE, &[1], 0),
        (FrontendReq::SET_VRING_ADDR, &region, 0),
        (FrontendReq::SET_VRING_KICK, &[1], 1),
        (FrontendReq::SET_VRING_CALL, &[0x101], 0),
        (FrontendReq::SET_VRING_ERR, &[1], 1),
    ] {
        assert!(is_taken(request, words, fds), "{request:?}");
        assert!(!is_taken(request, words, fds + 1), "{request:?} with a descriptor more");
        assert!(!is_taken(request, &[words, &[0]].concat(), fds), "{request:?}, longer");
        assert!(fds == 0 || !is_taken(request, words, 0), "{request:?} without descriptors");
        if let Some((_, shorter)) = words.split_last() {
            assert!(!is_taken(request, &words[..shorter.len()], fds), "{request:?}, shorter");
        }
        let mut answer = message(request, words, fds);
        answer.flags |= VhostUserHeaderFlag::REPLY.bits();
        answer.change().unwrap_err();
    }
}

#[test]
fn what_the_device_does_not_offer_and_rings_that_it_has_not_are_refused() {
    for request in [FrontendReq::SET_LOG_BASE, FrontendReq::SET_BACKEND_REQ_FD, FrontendReq::GET_INFLIGHT_FD]
    {
        assert!(!is_taken(request, &[0], 0) && !is_taken(request, &[], 1), "{request:?}");
    }
    for ring in [2, 0xFF, u64::from(u32::MAX)] {
        assert!(!is_taken(FrontendReq::SET_VRING_NUM, &[ring], 0));
        assert!(!is_taken(FrontendReq::SET_VRING_KICK, &[ring & 0xFF], 1));
        assert!(!is_taken(FrontendReq::SET_VRING_ADDR, &[ring, 0, 0, 0, 0], 0));
    }
    assert!(!is_taken(FrontendReq::SET_VRING_ENABLE, &[2 << 32], 0));
    // More regions than it says, none, and more than there can be.
    assert!(!is_taken(FrontendReq::SET_MEM_TABLE, &[0], 0));
    assert!(!is_taken(FrontendReq::SET_MEM_TABLE, &[0, 1, 2, 3, 4], 1));
    assert!(!is_taken(FrontendReq::SET_MEM_TABLE, &[&[33][..], &[0; 132]].concat(), 33));
}

#[test]
fn a_descriptor_with_a_region_that_goes_is_put_up_with() {
    for fds in [0, 1] {
        assert!(is_taken(FrontendReq::REM_MEM_REG, &[0, 1, 2, 3, 4], fds));
    }
    assert!(!is_taken(FrontendReq::REM_MEM_REG, &[0, 1, 2, 3, 4], 2));
}
