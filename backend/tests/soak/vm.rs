//! A VM that streams to the core's echo while everything around it comes and goes, and begins anew when it is told to.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use vhost_device_rpmsg::rpmsg::AnnouncementKind;

use crate::account::Outcome;
use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::ledger::{Ledger, Stream};

/// The echo that is streamed to.
const ECHO: &str = "rpmsg-raw";
/// The endpoint that streams.
const ENDPOINT: u32 = 1024;
/// Most messages under way: a VM's share of the core's 256 buffers where there are eight.
const WINDOW: u32 = 32;
/// Messages from one look at the clock to the next.
const BURST: u32 = WINDOW / 2;
/// What is not sent for so long is not made up for: something has happened to the core or to this machine.
const FORGET: Duration = Duration::from_millis(50);

/// What a VM is told to do. It ends when nobody is there any more to tell it.
pub(crate) enum Order {
    /// Have the driver go, and another one come up on the same connection.
    Reset,
    /// Cut the connection with all that is under way, and come back with another one.
    Reconnect,
    /// Have nothing under way, say so, and wait for the next order.
    Settle(Sender<()>),
    /// Go on.
    GoOn,
}

/// What all VMs share.
#[derive(Default)]
pub(crate) struct Pace {
    /// Nanoseconds from one message of a VM to its next; none where it is as fast as it can.
    pub(crate) interval: AtomicU64,
    /// Messages that have come back to any of them.
    pub(crate) received: AtomicU64,
}

/// The life of VM `number`, until there are no more orders.
pub(crate) fn live(socket: &Path, number: u8, orders: &Receiver<Order>, pace: &Pace) -> Outcome {
    let mut vm = Vm::connect(socket, number);
    let mut next = Instant::now();
    loop {
        let received = vm.ledger.messages();
        match orders.try_recv() {
            Ok(Order::Reset) => vm.reset(),
            Ok(Order::Reconnect) => vm = vm.reconnect(socket),
            Ok(Order::Settle(settled)) => {
                vm.settle();
                // Nobody to tell, nobody to tell us more.
                let _ = settled.send(());
                let _ = orders.recv();
            }
            Ok(Order::GoOn) | Err(TryRecvError::Empty) => {
                vm.run(BURST, WINDOW - BURST);
                pace.received.fetch_add(vm.ledger.messages() - received, Ordering::Relaxed);
                next += Duration::from_nanos(pace.interval.load(Ordering::Relaxed)) * BURST;
                let now = Instant::now();
                sleep(next.saturating_duration_since(now));
                next = next.max(now - FORGET);
            }
            Err(TryRecvError::Disconnected) => break,
        }
    }
    vm.settle();
    vm.end_session(false);
    vm.past
}

/// A VM and what has become of its messages.
struct Vm {
    guest: Guest,
    number: u8,
    ledger: Ledger,
    /// Where the echo is, while it is there.
    echo: Option<u32>,
    /// How much of the news this has looked at.
    heard: usize,
    /// Messages that were under way when the core was lost: they may come back or not.
    doubtful: Vec<Range<u32>>,
    /// What became of the messages of earlier sessions.
    past: Outcome,
}

impl Vm {
    fn connect(socket: &Path, number: u8) -> Self {
        let mut guest = Guest::connect(socket, GuestOptions::default());
        guest.open(ENDPOINT);
        let ledger = Ledger::new(Stream { vm: number, endpoint: ENDPOINT, session: 0 });
        Vm { guest, number, ledger, echo: None, heard: 0, doubtful: Vec::new(), past: Outcome::default() }
    }

    /// Streams until `count` more messages were sent, and at most `lag` have not come back of those that must. Returns early,
    /// and false, if the core is lost meanwhile.
    fn run(&mut self, count: u32, lag: u32) -> bool {
        let Vm { guest, ledger, echo, heard, doubtful, .. } = self;
        let mut left = count;
        let mut is_done = false;
        guest.until("answer of the echo", |driver| {
            loop {
                let was_there = echo.is_some();
                while let Some(message) = driver.try_recv() {
                    match message.dst {
                        ENDPOINT => ledger.receive(&message.payload),
                        _ => ledger.receive_misdirected(),
                    }
                }
                for news in driver.news().iter().skip(std::mem::replace(heard, driver.news().len())) {
                    if news.name.as_bytes() != ECHO.as_bytes() {
                        continue;
                    }
                    *echo = (news.kind == AnnouncementKind::Create).then_some(news.addr);
                    if echo.is_none() {
                        doubtful.push(ledger.next()..ledger.sent());
                    }
                }
                let Some(address) = *echo else { return was_there };
                let certain = ledger.sent() - doubtful.last().map_or(0, |range| range.end);
                let under_way = ledger.under_way().min(certain);
                if left == 0 {
                    is_done = under_way <= lag;
                    return is_done;
                }
                let sequence = ledger.sent();
                let message = ledger.stream().message(sequence);
                if under_way >= WINDOW || !driver.try_send(ENDPOINT, address, &message) {
                    return false;
                }
                ledger.set_sent(sequence + 1);
                left -= 1;
            }
        });
        is_done
    }

    /// Waits until nothing is under way.
    fn settle(&mut self) {
        while !self.run(0, 0) {}
    }

    /// The driver goes, and another one comes up.
    fn reset(&mut self) {
        self.guest.pause();
        self.end_session(true);
        self.guest.reset_driver();
        self.guest.open(ENDPOINT);
    }

    /// The VM goes, and another one comes.
    fn reconnect(mut self, socket: &Path) -> Self {
        self.end_session(true);
        let Vm { guest, number, ledger, past, .. } = self;
        drop(guest);
        Vm { ledger, past, ..Vm::connect(socket, number) }
    }

    /// Takes account of the stream that ends, and makes another one. Where the VM has ended it, what was under way is gone.
    fn end_session(&mut self, by_vm: bool) {
        while let Some(message) = self.guest.try_recv() {
            match message.dst {
                ENDPOINT => self.ledger.receive(&message.payload),
                _ => self.ledger.receive_misdirected(),
            }
        }
        let stream = self.ledger.stream();
        let next = Ledger::new(Stream { vm: self.number, session: stream.session + 1, ..stream });
        let ledger = std::mem::replace(&mut self.ledger, next);
        let is_doubtful = |number: &u32| self.doubtful.iter().any(|range| range.contains(number));
        let tail = ledger.next()..ledger.sent();
        let lost_before = ledger.missing().filter(is_doubtful).count();
        let lost_last = tail.clone().filter(is_doubtful).count();
        self.past.with_core += (lost_before + lost_last) as u64;
        if by_vm {
            self.past.with_vm += (tail.len() - lost_last) as u64;
        }
        self.past.tally += ledger.close();
        (self.echo, self.heard) = (None, 0);
        self.doubtful.clear();
    }
}
