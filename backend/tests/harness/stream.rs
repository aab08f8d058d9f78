//! Streams of messages that show what became of each: every message carries its number and bytes that follow from it
//! and from the stream, so that a loss, a double, a swap, a mix-up of streams and a changed byte all differ.

use vhost_device_rpmsg::rpmsg::MAX_PAYLOAD;

use super::driver::Message;
use super::guest::Guest;

/// Bytes of the number at the start of each message, `u32` little-endian.
const NUMBER_LEN: usize = 4;

/// Writes message `number` of a stream and returns it. Lengths go through all from 4 to 496.
fn fill(stream: u64, number: u32, buffer: &mut [u8; MAX_PAYLOAD]) -> &[u8] {
    let len = NUMBER_LEN + number as usize * 37 % (MAX_PAYLOAD - NUMBER_LEN + 1);
    // splitmix64: one multiplication apart from the next, and every seed a stream of its own
    let mut state = (stream << 32 | u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for chunk in buffer[NUMBER_LEN..len].chunks_mut(8) {
        state = (state ^ state >> 27).wrapping_mul(0x94D0_49BB_1331_11EB).wrapping_add(1);
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    buffer[..NUMBER_LEN].copy_from_slice(&number.to_le_bytes());
    &buffer[..len]
}

/// A stream from an endpoint of a guest to an echo service and back.
#[derive(Clone, Debug)]
pub struct EchoStream {
    /// Makes the bytes of this stream differ from those of all others.
    pub stream: u64,
    /// The guest's endpoint.
    pub src: u32,
    /// The echo service.
    pub dst: u32,
    /// Most messages under way.
    window: u32,
    sent: u32,
    received: u32,
}

impl EchoStream {
    /// A stream that has not begun.
    pub fn new(stream: u64, src: u32, dst: u32) -> Self {
        EchoStream { stream, src, dst, window: u32::MAX, sent: 0, received: 0 }
    }

    /// Has at most so many messages under way: no more than there is room for where the core does not wait for the guest.
    pub fn window(self, window: u32) -> Self {
        EchoStream { window, ..self }
    }

    /// Messages sent.
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// Messages received, in order, each once, as they were sent.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// Sends and receives until so many messages were sent and at least so many received in all. What the guest's ring
    /// takes is sent ahead, so that some messages are under way when this returns.
    pub fn run(&mut self, guest: &mut Guest, sent: u32, received: u32) {
        let mut buffer = [0; MAX_PAYLOAD];
        guest.until("answer of the echo", |guest| {
            loop {
                while self.sent < sent && self.sent - self.received < self.window {
                    if !guest.try_send(self.src, self.dst, fill(self.stream, self.sent, &mut buffer)) {
                        break;
                    }
                    self.sent += 1;
                }
                let Some(answer) = guest.try_recv() else { break };
                self.check(&answer, &mut buffer);
                self.received += 1;
            }
            self.sent >= sent && self.received >= received
        });
    }

    fn check(&self, answer: &Message, buffer: &mut [u8; MAX_PAYLOAD]) {
        assert_eq!((answer.src, answer.dst), (self.dst, self.src), "addresses of an answer");
        let expected = fill(self.stream, self.received, buffer);
        assert!(
            answer.payload == expected,
            "answer {} of stream {}: expected {expected:02x?}, found {:02x?}",
            self.received,
            self.stream,
            answer.payload
        );
    }

    /// Sends `count` more messages and receives all that were ever sent.
    pub fn finish(&mut self, guest: &mut Guest, count: u32) {
        let total = self.sent + count;
        self.run(guest, total, total);
    }
}

/// So many messages in a release build, and a tenth without optimization, which is for looking for errors.
pub fn scaled(count: u32) -> u32 {
    if cfg!(debug_assertions) { count / 10 } else { count }
}
