//! A VM that streams to an echo of the core while the core comes and goes.

use std::path::Path;

use vhost_device_rpmsg::rpmsg::{Announcement, AnnouncementKind};

use crate::harness::driver::Driver;
use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::ledger::{Ledger, Stream, Tally};

/// The echo that is streamed to.
pub(crate) const ECHO: &str = "rpmsg-raw";
/// The endpoint that streams.
const ENDPOINT: u32 = 1024;
/// Services of the soft core when it is left to itself.
const SERVICES: usize = 6;

/// A VM whose driver is up, and what has become of its stream.
pub(crate) struct Vm {
    guest: Guest,
    ledger: Ledger,
    /// Most messages under way.
    window: u32,
    /// Times that the echo was withdrawn, as far as that was noticed.
    withdrawn: usize,
    /// Messages sent before the echo was withdrawn last: their answers may come or not.
    before: u32,
}

impl Vm {
    /// Boots VM `number` and waits until it knows the echo.
    pub(crate) fn connect(socket: &Path, number: u8, window: u32) -> Self {
        let mut guest = Guest::connect(socket, GuestOptions::default());
        guest.open(ENDPOINT);
        guest.wait_service(ECHO);
        let ledger = Ledger::new(Stream { vm: number, endpoint: ENDPOINT, session: 1 });
        Vm { guest, ledger, window, withdrawn: 0, before: 0 }
    }

    /// Waits until it has been told of so many changes, and receives meanwhile.
    pub(crate) fn wait_news(&mut self, count: usize) {
        let Vm { guest, ledger, .. } = self;
        guest.until("news of the services", |driver| {
            receive_all(driver, ledger);
            driver.news().len() >= count
        });
    }

    /// Waits until all services have been told for the `nth` time, from 1, or withdrawn after that.
    pub(crate) fn wait_told(&mut self, nth: usize) {
        self.wait_news((2 * nth - 1) * SERVICES);
    }

    /// Waits until all services have been withdrawn for the `nth` time, from 1.
    pub(crate) fn wait_withdrawn(&mut self, nth: usize) {
        self.wait_news(2 * nth * SERVICES);
    }

    /// Puts messages for the echo into the ring, whether it is there or not.
    pub(crate) fn send(&mut self, count: u32) {
        let address = self.echo();
        for _ in 0..count {
            let sequence = self.ledger.sent();
            self.guest.send(ENDPOINT, address, &self.ledger.stream().message(sequence));
            self.ledger.set_sent(sequence + 1);
        }
    }

    /// Waits until the device has taken everything that was sent.
    pub(crate) fn flush(&mut self) {
        self.guest.flush();
    }

    /// Streams until `count` more messages were sent, and at most `lag` have not come of those that may still come.
    pub(crate) fn run(&mut self, count: u32, lag: u32) {
        let address = self.echo();
        let Vm { guest, ledger, window, withdrawn, before } = self;
        let mut left = count;
        guest.until("answer of the echo", |driver| {
            loop {
                receive_all(driver, ledger);
                let [told, gone] = times(driver.news());
                if gone > *withdrawn {
                    (*withdrawn, *before) = (gone, ledger.sent());
                }
                let under_way = ledger.under_way().min(ledger.sent() - *before);
                if left == 0 || told == gone {
                    return left == 0 && under_way <= lag;
                }
                let sequence = ledger.sent();
                let message = ledger.stream().message(sequence);
                if under_way >= *window || !driver.try_send(ENDPOINT, address, &message) {
                    return false;
                }
                ledger.set_sent(sequence + 1);
                left -= 1;
            }
        });
    }

    /// Where the echo is, or was when it was there.
    fn echo(&self) -> u32 {
        let mut told = self.guest.news().iter().rev();
        told.find(|news| news.name.as_bytes() == ECHO.as_bytes()).expect("the echo was there once").addr
    }

    /// How often all services were withdrawn and told again. Each must have been told first, and told again exactly after
    /// it was withdrawn.
    pub(crate) fn cycles(&self) -> usize {
        let news = self.guest.news();
        for one in news {
            let kinds: Vec<_> =
                news.iter().filter(|other| other.name == one.name).map(|news| news.kind).collect();
            let expected = [AnnouncementKind::Create, AnnouncementKind::Destroy].into_iter().cycle();
            assert!(kinds.iter().copied().eq(expected.take(kinds.len())), "{}: {kinds:?}", one.name);
            assert_eq!(kinds.len() % 2, 1, "{} is there at the end", one.name);
        }
        assert_eq!(news.len() % (2 * SERVICES), SERVICES, "each service as often as the others: {news:?}");
        news.len() / (2 * SERVICES)
    }

    /// Ends. Messages sent, and what became of their answers.
    pub(crate) fn finish(mut self) -> (u64, Tally) {
        receive_all(&mut self.guest, &mut self.ledger);
        (self.ledger.sent().into(), self.ledger.close())
    }
}

fn receive_all(driver: &mut Driver, ledger: &mut Ledger) {
    while let Some(message) = driver.try_recv() {
        match message.dst {
            ENDPOINT => ledger.receive(&message.payload),
            _ => ledger.receive_misdirected(),
        }
    }
}

/// How often the echo was told, and withdrawn.
fn times(news: &[Announcement]) -> [usize; 2] {
    [AnnouncementKind::Create, AnnouncementKind::Destroy].map(|kind| {
        news.iter().filter(|news| news.kind == kind && news.name.as_bytes() == ECHO.as_bytes()).count()
    })
}
