//! What one remote core needs to know of another, on another thread: whether it is up, and who counts on it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// One core as others see it.
#[derive(Debug)]
pub struct Presence {
    name: String,
    is_up: AtomicBool,
    users: AtomicUsize,
    /// Wakes the core's own thread when the number of users changes.
    wake: EventFd,
}

impl Presence {
    /// A core that is not up yet and that nobody uses.
    ///
    /// # Errors
    /// No event descriptor to be had.
    pub fn new(name: &str) -> io::Result<Self> {
        Ok(Presence {
            name: name.to_owned(),
            is_up: AtomicBool::new(false),
            users: AtomicUsize::new(0),
            wake: EventFd::new(EFD_NONBLOCK)?,
        })
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it can be talked to.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    pub(super) fn set_up(&self, up: bool) {
        self.is_up.store(up, Ordering::Release);
    }

    /// Counts on it from now on.
    pub(super) fn enter(&self) {
        self.users.fetch_add(1, Ordering::AcqRel);
        self.wake();
    }

    /// Counts on it no longer.
    pub(super) fn leave(&self) {
        self.users.fetch_sub(1, Ordering::AcqRel);
        self.wake();
    }

    /// Whether another core counts on it.
    pub(super) fn is_used(&self) -> bool {
        self.users.load(Ordering::Acquire) > 0
    }

    /// Becomes readable when the users have changed.
    pub fn changes(&self) -> &EventFd {
        &self.wake
    }

    fn wake(&self) {
        // A counter that cannot take more is readable already.
        let _ = self.wake.write(1);
    }
}
