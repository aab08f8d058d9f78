//! Models of the mailbox controllers, for tests: they behave as manuals and drivers say, seen from both sides.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | a controller between its two sides: the host's registers, the interrupt lines, the remote's doings |
//! | `bench.rs` | plays both sides in any order and keeps the books: what was said, and whether it was heard |
//! | others | one controller each |
//!
//! The remote does not wait for the host: a script lets it act between any two register accesses of the host, so that every
//! race there is on hardware is played by one thread and can be played again.

pub(super) mod bench;
pub(super) mod imx_mu;
pub(super) mod omap_mailbox;
pub(super) mod stm32_ipcc;
pub(super) mod zynqmp_ipi;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Interrupt, Registers, Request};
use bench::Books;

/// Vrings that the models' remotes know of: notifyids from 0 on.
pub(in crate::remote::mailbox) const VRINGS: usize = 2;

/// What a remote says besides kicks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::remote::mailbox) enum Word {
    Ready,
    Crashed,
    Echo,
    ShutDown,
    Detached,
}

impl Word {
    pub(in crate::remote::mailbox) const ALL: [Word; 5] =
        [Word::Ready, Word::Crashed, Word::Echo, Word::ShutDown, Word::Detached];
}

/// What a remote takes out of its mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::remote::mailbox) enum Heard {
    Vring(u32),
    Request(Request),
}

/// Something that a remote does.
#[derive(Clone, Copy, Debug)]
pub(in crate::remote::mailbox) enum RemoteOp {
    Kick(u32),
    Take,
    Say(Word),
}

/// A controller with both its sides.
pub(in crate::remote::mailbox) trait Controller: Debug + Send + 'static {
    /// Whether the remote takes requests out like kicks. Otherwise they stand in channels until it says that it is done.
    const TAKES_REQUESTS: bool;

    /// The host reads a register. An offset that is none, or is not to be read, fails the test.
    fn read(&mut self, offset: usize) -> u32;

    /// The host writes a register. What the hardware would lose or mistake then fails the test.
    fn write(&mut self, offset: usize, value: u32);

    /// Levels of the interrupt lines to the host.
    fn lines(&self) -> [bool; 2];

    /// The remote kicks a vring. False where its hardware has no room now.
    fn kick(&mut self, vring: u32) -> bool;

    /// The remote says something else. False where it has no word for it, nothing to answer, or no room now.
    fn say(&mut self, word: Word) -> bool;

    /// The remote takes the next thing that the host has said.
    fn take(&mut self) -> Option<Heard>;

    /// Fails the test unless only the interrupts of reception are enabled.
    fn assert_idle(&self);
}

/// An interrupt line as `uio_pdrv_genirq` serves it: switched off by an interrupt until a 1 is written.
#[derive(Debug)]
struct Line {
    driver: UnixStream,
    count: u32,
    on: bool,
}

impl Line {
    fn new() -> (Self, Interrupt) {
        let (driver, device) = UnixStream::pair().unwrap();
        driver.set_nonblocking(true).unwrap();
        (Line { driver, count: 0, on: false }, Interrupt::new(device.into()).unwrap())
    }

    fn step(&mut self, level: bool) {
        let mut written = [0; 4];
        while self.driver.read(&mut written).is_ok_and(|len| len > 0) {
            assert_eq!(u32::from_ne_bytes(written), 1, "only a 1 switches the line on");
            self.on = true;
        }
        if self.on && level {
            self.on = false;
            self.count += 1;
            self.driver.write_all(&self.count.to_ne_bytes()).unwrap();
        }
    }
}

/// A controller, its lines, and what its remote is going to do.
#[derive(Debug)]
pub(in crate::remote::mailbox) struct World<C> {
    pub(in crate::remote::mailbox) controller: C,
    lines: [Line; 2],
    /// What the remote does before each of the next register accesses of the host.
    script: VecDeque<Option<RemoteOp>>,
    /// Register accesses that the host still lives to do, if it is going to be killed.
    life: Option<usize>,
    books: Books,
}

/// How a host ends that is killed.
struct Killed;

impl<C: Controller> World<C> {
    /// Lets the lines follow the controller.
    fn settle_lines(&mut self) {
        for (line, level) in self.lines.iter_mut().zip(self.controller.lines()) {
            line.step(level);
        }
    }

    fn remote(&mut self, op: RemoteOp) {
        match op {
            RemoteOp::Kick(vring) => {
                if self.controller.kick(vring) {
                    self.books.remote_kicked();
                } else {
                    self.books.refused.push(vring);
                }
            }
            RemoteOp::Take => {
                if let Some(heard) = self.controller.take() {
                    self.books.remote_heard(heard);
                }
            }
            RemoteOp::Say(word) => {
                if self.controller.say(word) {
                    self.books.remote_said(word);
                }
            }
        }
    }

    /// What happens before the host gets to a register. The lines are slower than that: a level that the host takes back
    /// at once goes unnoticed.
    fn meanwhile(&mut self) {
        self.settle_lines();
        if let Some(Some(op)) = self.script.pop_front() {
            self.remote(op);
        }
    }
}

/// A window of registers of a controller.
#[derive(Debug)]
struct Window<C> {
    world: Arc<Mutex<World<C>>>,
    /// Added to offsets, for controllers with several windows.
    base: usize,
}

impl<C: Controller> Window<C> {
    /// What it is like when the host gets to a register, if it lives to get there.
    fn world(&self) -> MutexGuard<'_, World<C>> {
        let mut world = self.world.lock().unwrap();
        if world.life == Some(0) {
            drop(world);
            resume_unwind(Box::new(Killed));
        }
        world.life = world.life.map(|life| life - 1);
        world.meanwhile();
        world
    }
}

impl<C: Controller> Registers for Window<C> {
    fn read32(&self, offset: usize) -> u32 {
        self.world().controller.read(self.base + offset)
    }

    fn write32(&self, offset: usize, value: u32) {
        self.world().controller.write(self.base + offset, value);
    }
}

/// What the host's side is made of: windows of registers that start at multiples of [`WINDOWS_APART`], and the lines.
pub(in crate::remote::mailbox) struct Parts<C> {
    world: Arc<Mutex<World<C>>>,
    interrupts: [Option<Interrupt>; 2],
}

/// Between two windows of one controller, in a model's offsets.
pub(in crate::remote::mailbox) const WINDOWS_APART: usize = 0x1000;

impl<C: Controller> Parts<C> {
    pub(in crate::remote::mailbox) fn new(controller: C) -> Self {
        let (first, one) = Line::new();
        let (second, two) = Line::new();
        let (script, books) = (VecDeque::new(), Books::default());
        let world = World { controller, lines: [first, second], script, life: None, books };
        Parts { world: Arc::new(Mutex::new(world)), interrupts: [Some(one), Some(two)] }
    }

    /// The same controller as the next host finds it: its lines are as they were, and what was not read of them is gone.
    fn again(world: &Arc<Mutex<World<C>>>) -> Self {
        let interrupts = world.lock().unwrap().lines.each_mut().map(|line| {
            let (next, interrupt) = Line::new();
            *line = Line { on: line.on, count: line.count, ..next };
            Some(interrupt)
        });
        Parts { world: Arc::clone(world), interrupts }
    }

    pub(in crate::remote::mailbox) fn window(&self, number: usize) -> Box<dyn Registers> {
        Box::new(Window { world: Arc::clone(&self.world), base: number * WINDOWS_APART })
    }

    pub(in crate::remote::mailbox) fn interrupt(&mut self, line: usize) -> Interrupt {
        self.interrupts[line].take().expect("a line has one interrupt")
    }
}
