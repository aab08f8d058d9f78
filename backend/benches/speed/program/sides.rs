//! Both sides of the program, played in turn, and what they do together.
//!
//! | | what is timed |
//! |---|---|
//! | round trip | one message to the echo and back |
//! | burst | what is between: from where many messages are made visible to where the last of them is at the other side |
//! | stream | everything: both sides as fast as they can, one thread for both |
//!
//! A burst is timed as the floor's copy is: its messages are written before, and read after it. A stream is what the machine
//! does as a whole, and as fast as the slower one of its two cores.

use std::time::{Duration, Instant};

use super::stepped::{ECHO, SINK};
use crate::lean::{Guest, Remote, spin_until};

/// The first endpoint that each guest uses.
pub(super) const HERE: u32 = 1024;
/// Messages of a burst: as many as the remote core has buffers.
pub(super) const BURST: u32 = 256;

/// Which messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Messages {
    /// Bytes of payload.
    pub(super) payload: usize,
    /// Whether they are sent back.
    pub(super) echo: bool,
    /// How many endpoints of a guest send them, in turn.
    pub(super) endpoints: u32,
    /// To how many services they go, in turn. Not for the echo.
    pub(super) services: u32,
}

impl Messages {
    /// To the remote core.
    pub(super) fn one_way(payload: usize) -> Self {
        Messages { payload, echo: false, endpoints: 1, services: 1 }
    }

    /// And back.
    pub(super) fn echo(payload: usize) -> Self {
        Messages { echo: true, ..Messages::one_way(payload) }
    }

    /// Writes the one with this number.
    #[inline]
    pub(super) fn put(&self, guest: &mut Guest<'_>, number: u32) -> bool {
        let src = HERE + number % self.endpoints;
        let dst = if self.echo { ECHO } else { SINK + number % self.services };
        guest.put(src, dst, self.payload, self.echo)
    }
}

/// All guests and the remote core.
pub(super) struct Sides<'w> {
    pub(super) guests: Vec<Guest<'w>>,
    pub(super) remote: Remote<'w>,
}

impl Sides<'_> {
    /// One message of the first guest's to the echo and back.
    pub(super) fn round_trip(&mut self, payload: usize) {
        let Sides { guests, remote } = self;
        let guest = &mut guests[0];
        assert!(Messages::echo(payload).put(guest, 0), "a transmit buffer, of which one is in use");
        guest.publish();
        spin_until("message at the remote", || {
            remote.hear();
            remote.waiting() != 0
        });
        remote.serve(1);
        remote.publish();
        spin_until("answer", || guest.arrived() != 0);
        guest.drain();
    }

    /// So many of these, and how long they took.
    pub(super) fn round_trips(&mut self, payload: usize, count: u32) -> Duration {
        let start = Instant::now();
        (0..count).for_each(|_| self.round_trip(payload));
        start.elapsed()
    }

    /// Sends [`BURST`] messages, as many of each guest's, and says how long they took in all.
    pub(super) fn burst(&mut self, messages: Messages, first: u32) -> Duration {
        let Sides { guests, remote } = self;
        let each = BURST / u32::try_from(guests.len()).expect("few guests");
        let all =
            u16::try_from(each).expect("few messages") * u16::try_from(guests.len()).expect("few guests");
        for number in 0..each {
            for guest in &mut *guests {
                assert!(messages.put(guest, first.wrapping_add(number)), "a transmit buffer");
            }
        }
        let start = Instant::now();
        guests.iter_mut().for_each(Guest::publish);
        spin_until("messages at the remote", || remote.waiting() == all);
        let mut time = start.elapsed();
        assert_eq!(remote.serve(all), u32::from(all), "messages of a burst");
        let start = Instant::now();
        remote.publish();
        if messages.echo {
            for guest in &mut *guests {
                spin_until("answers", || u32::from(guest.arrived()) == each);
            }
            time += start.elapsed();
            for guest in &mut *guests {
                assert_eq!(guest.drain(), each, "answers of a burst");
            }
        }
        for guest in guests {
            spin_until("used buffers", || guest.is_sent());
        }
        remote.hear();
        time
    }

    /// Sends and receives until so many messages are where they are to go, and says how long that took. As many are under
    /// way before as after it.
    pub(super) fn stream(&mut self, messages: Messages, count: u32) -> Duration {
        let start = Instant::now();
        let (mut done, mut number) = (0, 0);
        while done < count {
            for guest in &mut self.guests {
                while messages.put(guest, number) {
                    number = number.wrapping_add(1);
                }
                guest.publish();
            }
            done += self.carry(messages.echo);
        }
        start.elapsed()
    }

    /// Has the remote core serve, and the guests take what is there. Returns how many messages have arrived where they are to
    /// go.
    pub(super) fn carry(&mut self, echo: bool) -> u32 {
        self.remote.hear();
        let served = self.remote.serve(u16::MAX);
        self.remote.publish();
        let answers: u32 = self.guests.iter_mut().map(Guest::drain).sum();
        if echo { answers } else { served }
    }

    /// Waits until nothing is under way.
    pub(super) fn settle(&mut self) {
        let mut quiet = 0;
        spin_until("rest", || {
            let moved = self.carry(false);
            let sent = self.guests.iter().all(|guest| guest.is_sent() && guest.is_answered());
            quiet = if moved == 0 && sent { quiet + 1 } else { 0 };
            quiet > 2
        });
    }
}
