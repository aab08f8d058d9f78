//! A process of our own program that answers by event fds, on the core it is told: blocking runs are between processes, as the
//! real ones are.
//!
//! It gets a socket as its standard input, and by that its event fds, one with each byte.

use std::env;
use std::fs::File;
use std::io::{Read, Write, stdin};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use clap::ValueEnum;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::process::{Signal, set_parent_process_death_signal};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::cores::pin;

/// A doorbell from one process to another.
pub(crate) struct Bell(File);

impl Bell {
    /// A new one.
    pub(crate) fn new() -> Self {
        Bell(File::from(eventfd(0, EventfdFlags::CLOEXEC).expect("event fd")))
    }

    /// Rings it.
    pub(crate) fn ring(&mut self) {
        self.0.write_all(&1_u64.to_ne_bytes()).expect("event fd written");
    }

    /// Waits until it has been rung.
    pub(crate) fn hear(&mut self) {
        self.0.read_exact(&mut [0; 8]).expect("event fd read");
    }
}

/// Waits for several bells at a time.
pub(crate) struct Ears {
    epoll: OwnedFd,
    bells: Vec<Bell>,
}

impl Ears {
    /// For these bells.
    pub(crate) fn of(bells: Vec<Bell>) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
        for (number, bell) in (0..).zip(&bells) {
            epoll::add(&epoll, &bell.0, epoll::EventData::new_u64(number), epoll::EventFlags::IN)
                .expect("event fd in epoll");
        }
        Ears { epoll, bells }
    }

    /// Waits until one of them has been rung, and says which.
    pub(crate) fn hear(&mut self) -> usize {
        let mut event =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
        epoll::wait(&self.epoll, &mut event, None).expect("epoll wait");
        let [event] = event;
        let number = usize::try_from(event.data.u64()).expect("the number of a bell");
        self.bells[number].hear();
        number
    }
}

/// What such a process does.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Part {
    /// Reads a bell and rings another one.
    Echo,
    /// Waits for a bell by epoll and rings another one.
    PollingEcho,
    /// Waits for two bells by epoll, and rings one of two others for each.
    Relay,
}

impl Part {
    /// Bells to hear, and as many to ring after them.
    fn pairs(self) -> usize {
        match self {
            Part::Echo | Part::PollingEcho => 1,
            Part::Relay => 2,
        }
    }

    /// Does it, until whoever has started this process ends it.
    pub(crate) fn play(self, core: usize) -> ! {
        set_parent_process_death_signal(Some(Signal::KILL)).expect("death signal");
        pin(core);
        let link = UnixStream::from(stdin().as_fd().try_clone_to_owned().expect("standard input"));
        let take = || -> Vec<_> { (0..self.pairs()).map(|_| receive(&link)).collect() };
        let (mut heard, mut rung) = (take(), take());
        (&link).write_all(&[0]).expect("ready");
        match self {
            Part::Echo => loop {
                heard[0].hear();
                rung[0].ring();
            },
            Part::PollingEcho | Part::Relay => {
                let mut ears = Ears::of(heard);
                loop {
                    let number = ears.hear();
                    rung[number].ring();
                }
            }
        }
    }
}

fn receive(link: &UnixStream) -> Bell {
    let (_, fd) = link.recv_with_fd(&mut [0]).expect("an event fd");
    Bell(fd.expect("an event fd with the byte"))
}

/// A running one. It is killed and reaped when dropped.
pub(crate) struct Peer(Child);

impl Peer {
    /// Starts it on a core, and waits until it is ready.
    pub(crate) fn start(part: Part, core: usize, hears: &[&Bell], rings: &[&Bell]) -> Self {
        assert!(hears.len() == part.pairs() && rings.len() == part.pairs(), "bells for {part:?}");
        let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let name = part.to_possible_value().expect("no part is hidden");
        let child = Command::new(env::current_exe().expect("the path of this program"))
            .args(["--part", name.get_name(), "--core", &core.to_string()])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .expect("this program once more");
        let peer = Peer(child);
        for bell in hears.iter().chain(rings) {
            ours.send_with_fd(&[0_u8][..], bell.0.as_raw_fd()).expect("an event fd sent");
        }
        ours.read_exact(&mut [0]).expect("a peer that is ready");
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It has ended by itself if it cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
