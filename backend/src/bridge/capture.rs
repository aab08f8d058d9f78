//! A capture as the thread that empties its rings knows it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::{Receiver, TryRecvError};

use rtrb::Consumer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use super::tap::{Event, Record, Shared};
use super::thread::Commands;
use crate::rpmsg::address::Slot;

/// Most records that are taken at a time.
const BATCH: usize = 256;

/// A capture that goes on until this is dropped.
#[derive(Debug)]
pub struct Capture {
    commands: Commands,
    events: Receiver<Event>,
    rings: Vec<Consumer<Record>>,
    shared: Arc<Shared>,
    /// Whether nothing new will come.
    is_over: bool,
}

/// Who is to be told of what was captured.
pub trait Writer {
    /// A VM, whose records have this number from now on: one more than the last VM's.
    fn interface(&mut self, slot: Slot, name: &str);
    /// A message.
    fn record(&mut self, record: &Record);
}

/// What has come of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// There may be something to be taken.
    News,
    /// The reader has said something, or is gone.
    Reader,
    /// The bridge has ended, and everything was taken.
    Over,
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.commands.end_capture();
    }
}

impl Capture {
    pub(super) fn new(commands: Commands, events: Receiver<Event>, shared: Arc<Shared>) -> Self {
        Capture { commands, events, rings: Vec::new(), shared, is_over: false }
    }

    /// Takes some of what there is. Returns how many records that were.
    pub fn take(&mut self, writer: &mut impl Writer) -> usize {
        let mut taken = 0;
        // A VM is told of before the first of its records can be seen, and these are counted before VMs are looked for.
        let ready: Vec<usize> = self.rings.iter().map(|ring| ring.slots().min(BATCH)).collect();
        self.hear(writer);
        for (ring, count) in self.rings.iter_mut().zip(ready) {
            for record in std::iter::from_fn(|| ring.pop().ok()).take(count) {
                writer.record(&record);
                taken += 1;
            }
        }
        taken
    }

    fn hear(&mut self, writer: &mut impl Writer) {
        loop {
            match self.events.try_recv() {
                Ok(Event::Ring(ring)) => self.rings.push(ring),
                Ok(Event::Interface(slot, name)) => writer.interface(slot, &name),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.is_over = true;
                    return;
                }
            }
        }
    }

    /// Records of the VM in this slot that were dropped for want of room.
    pub fn lost(&self, slot: Slot) -> u64 {
        self.shared.lost[usize::from(slot.number())].load(Ordering::Relaxed)
    }

    /// Waits until there is something to be taken, or until something comes from the reader. Where `at_once`, it only looks.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(&self, reader: &impl AsFd, at_once: bool) -> io::Result<Waited> {
        let shared = &*self.shared;
        let has_records = || self.rings.iter().any(|ring| !ring.is_empty());
        shared.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let at_once = at_once || has_records();
        if !at_once && self.is_over {
            return Ok(Waited::Over);
        }
        let timeout = at_once.then_some(Timespec { tv_sec: 0, tv_nsec: 0 });
        let mut waiting = [
            PollFd::new(reader, PollFlags::IN | PollFlags::RDHUP),
            PollFd::new(&shared.doorbell, PollFlags::IN),
        ];
        retry_on_intr(|| poll(&mut waiting, timeout.as_ref()))?;
        let [from_reader, news] = waiting.map(|fd| !fd.revents().is_empty());
        shared.asleep.store(false, Ordering::Relaxed);
        if news {
            // Only whether it was written matters.
            let _ = rustix::io::read(&shared.doorbell, &mut [0; 8]);
        }
        Ok(if from_reader { Waited::Reader } else { Waited::News })
    }
}
