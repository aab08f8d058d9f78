//! A VM that streams: over a service shared in the mode under test, and over a plain echo beside it.

use std::path::Path;

use crate::harness::driver::Message;
use crate::harness::guest::Guest;
use crate::harness::options::{DriverOptions, GuestOptions};
use crate::ledger::{Ledger, Stream, Tally};

/// The endpoint that talks to the service under test.
const ENDPOINT: u32 = 1024;
/// The endpoint that talks to the plain echo.
const ECHO_ENDPOINT: u32 = 1025;
/// Where the VM's own service is, which it announces to the core.
const OWN_SERVICE: (&str, u32) = ("mine", 2000);
/// The plain echo of the core, shared by all.
const ECHO: &str = "rpmsg-raw";
/// Entries of its rings: room for as many messages as the core has buffers, and for news of services besides.
const RING: u16 = 512;
/// Most messages under way per line.
const WINDOW: u32 = 16;

/// What a VM does with the service under test.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// Sends, and has it back.
    Sends,
    /// Listens to this stream, of which so many messages were sent so far.
    Listens(Stream, u32),
}

/// One of the VM's endpoints and what it has received.
struct Line {
    endpoint: u32,
    service: u32,
    sends: bool,
    ledger: Ledger,
}

/// Messages to send: to the service under test, and to the plain echo.
pub(crate) type Burst = [u32; 2];

/// A VM whose driver is up.
pub(crate) struct Vm {
    guest: Guest,
    lines: [Line; 2],
    /// What became of the streams of earlier sessions.
    past: Tally,
    announced: bool,
}

impl Vm {
    /// Boots VM `number` for the `session`-th time, on a new connection.
    pub(crate) fn connect(socket: &Path, service: &str, number: u8, session: u32, role: Role) -> Self {
        let driver = DriverOptions { ring_size: RING, buffers: RING, ..DriverOptions::default() };
        let mut guest = Guest::connect(socket, GuestOptions::with_driver(driver));
        let lines = lines(&mut guest, service, Stream { vm: number, endpoint: ENDPOINT, session }, role);
        Vm { guest, lines, past: Tally::default(), announced: false }
    }

    /// The driver goes, and another one comes up on the same connection.
    pub(crate) fn renew(&mut self, service: &str, number: u8, session: u32, role: Role) {
        self.guest.reset_driver();
        let stream = Stream { vm: number, endpoint: ENDPOINT, session };
        let ended = std::mem::replace(&mut self.lines, lines(&mut self.guest, service, stream, role));
        for line in ended {
            self.past += line.ledger.abandon();
        }
        self.announced = false;
    }

    /// The driver goes: all that a back-end sees of it is GET_VRING_BASE.
    pub(crate) fn unbind(&mut self) {
        self.guest.pause();
    }

    /// The VM is cut off in the middle of everything. What became of its streams until then.
    pub(crate) fn kill(self) -> Tally {
        self.lines.into_iter().fold(self.past, |mut tally, line| {
            tally += line.ledger.abandon();
            tally
        })
    }

    /// The VM ends with nothing under way. What became of its streams.
    pub(crate) fn finish(self) -> Tally {
        self.lines.into_iter().fold(self.past, |mut tally, line| {
            tally += line.ledger.close();
            tally
        })
    }

    /// Announces a service of its own to the core, unless it has.
    pub(crate) fn announce(&mut self) {
        if !std::mem::replace(&mut self.announced, true) {
            self.guest.announce(OWN_SERVICE.0, OWN_SERVICE.1);
        }
    }

    /// Whether its service is announced.
    pub(crate) fn has_announced(&self) -> bool {
        self.announced
    }

    /// The name under which every VM announces its service.
    pub(crate) fn own_service() -> &'static str {
        OWN_SERVICE.0
    }

    /// The stream to the service under test, and how many of its messages were sent.
    pub(crate) fn stream(&self) -> (Stream, u32) {
        (self.lines[0].ledger.stream(), self.lines[0].ledger.sent())
    }

    /// Tells a listener how many messages were sent by now.
    pub(crate) fn expect(&mut self, sent: u32) {
        if !self.lines[0].sends {
            self.lines[0].ledger.set_sent(sent);
        }
    }

    /// Puts messages into the ring and waits for nothing.
    pub(crate) fn send_ahead(&mut self, burst: Burst) {
        for (line, count) in self.lines.iter_mut().zip(burst) {
            for _ in 0..count {
                assert!(line.try_send(&mut self.guest), "room for a message; {}", self.guest.state());
            }
        }
    }

    /// Waits until the device has taken all but so many of the messages in the ring.
    pub(crate) fn flush_but(&mut self, most: usize) {
        self.guest.flush_but(most);
    }

    /// Streams until `burst` more messages were sent, and at most `lag` of each line have not come yet.
    pub(crate) fn run(&mut self, burst: Burst, lag: u32) {
        let Vm { guest, lines, .. } = self;
        let mut left = burst;
        guest.until("message of a stream", |driver| {
            loop {
                let before = left;
                for (line, left) in lines.iter_mut().zip(&mut left) {
                    while *left > 0 && line.ledger.under_way() < WINDOW && line.try_send(driver) {
                        *left -= 1;
                    }
                    *left = if line.sends { *left } else { 0 };
                }
                let message = driver.try_recv();
                if message.is_none() && before == left {
                    break;
                }
                message.iter().for_each(|message| receive(lines, message));
            }
            left == [0; 2] && lines.iter().all(|line| line.ledger.under_way() <= lag)
        });
    }
}

impl Line {
    /// Sends the next message, if there is room; a listener has none to send.
    fn try_send(&mut self, driver: &mut crate::harness::driver::Driver) -> bool {
        if !self.sends {
            return true;
        }
        let sequence = self.ledger.sent();
        let sent = driver.try_send(self.endpoint, self.service, &self.ledger.stream().message(sequence));
        self.ledger.set_sent(sequence + u32::from(sent));
        sent
    }
}

/// The endpoints of a driver that has just come up. They are open before anything can arrive, so that what is not for
/// them is counted.
fn lines(guest: &mut Guest, service: &str, stream: Stream, role: Role) -> [Line; 2] {
    guest.open(ENDPOINT);
    guest.open(ECHO_ENDPOINT);
    let service = guest.wait_service(service);
    let (sends, ledger) = match role {
        Role::Sends => (true, Ledger::new(stream)),
        Role::Listens(to, sent) => {
            guest.send(ENDPOINT, service, b"subscribe");
            guest.flush();
            (false, Ledger::joining(to, sent))
        }
    };
    let echo = Line {
        endpoint: ECHO_ENDPOINT,
        service: guest.wait_service(ECHO),
        sends: true,
        ledger: Ledger::new(Stream { endpoint: ECHO_ENDPOINT, ..stream }),
    };
    [Line { endpoint: ENDPOINT, service, sends, ledger }, echo]
}

fn receive(lines: &mut [Line; 2], message: &Message) {
    let line = lines.iter_mut().find(|line| (line.service, line.endpoint) == (message.src, message.dst));
    match line {
        Some(line) => line.ledger.receive(&message.payload),
        None => lines[0].ledger.receive_misdirected(),
    }
}
