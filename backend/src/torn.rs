//! Shared memory that is torn away: whoever else has the file truncates it, and touching what is gone is a bus error.
//!
//! That must cost those who did it their connection, and nobody else anything. So a bus error in memory that a [`Guard`]
//! is on puts empty private memory in the place of what is gone, and marks the guard; the access goes on with zeros, which
//! are as good or bad as anything that the other side may have written. Whoever uses the memory looks at the mark
//! now and then and gives it up. A bus error anywhere else ends the program, as it would without this.

use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use log::{error, warn};
use nix::libc::{c_int, c_void, siginfo_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::param::page_size;

/// Guards that there can be at a time: 127 VMs with 509 memory regions would take more, as they do nowhere.
const GUARDS: usize = 8192;

/// A stretch of memory under guard. Its length is written last and taken away first.
struct Entry {
    start: AtomicUsize,
    /// In bytes; 0 where there is no guard.
    len: AtomicUsize,
    is_taken: AtomicBool,
    is_torn: AtomicBool,
}

/// What the signal handler looks at, so all of it is atomic and nothing is allocated.
static ENTRIES: [Entry; GUARDS] = [const {
    Entry {
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        is_taken: AtomicBool::new(false),
        is_torn: AtomicBool::new(false),
    }
}; GUARDS];

/// Below this are all entries that were ever used.
static USED: AtomicUsize = AtomicUsize::new(0);

/// How often something was torn away.
static TEARS: AtomicUsize = AtomicUsize::new(0);

/// Size of a page in bytes, for the handler.
static PAGE: AtomicUsize = AtomicUsize::new(0);

/// Has bus errors handled as this module says, in the whole process and until its end.
///
/// # Errors
/// Whatever `sigaction` says.
pub fn handle_bus_errors() -> io::Result<()> {
    PAGE.store(page_size(), Ordering::Relaxed);
    let action = SigAction::new(SigHandler::SigAction(on_bus_error), SaFlags::SA_ONSTACK, SigSet::empty());
    // SAFETY: the handler only uses atomics and the system calls mmap and sigaction, all of which may be used there.
    unsafe { sigaction(Signal::SIGBUS, &action) }?;
    Ok(())
}

extern "C" fn on_bus_error(_signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo, whose si_addr is the address for this signal.
    let address = unsafe { (*info).si_addr() }.addr();
    let mut is_guarded = false;
    for entry in &ENTRIES[..USED.load(Ordering::Acquire)] {
        let len = entry.len.load(Ordering::Acquire);
        let start = entry.start.load(Ordering::Relaxed);
        let Some(offset) = address.checked_sub(start).filter(|offset| *offset < len) else { continue };
        // Others may guard the same memory.
        entry.is_torn.store(true, Ordering::Release);
        if !is_guarded {
            let first = address & !(PAGE.load(Ordering::Relaxed) - 1);
            is_guarded = fill(first.max(start), len - offset + (address - first.max(start)));
        }
    }
    TEARS.fetch_add(1, Ordering::Release);
    if !is_guarded {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action has no handler; the access is made again and ends the program.
        let _ = unsafe { sigaction(Signal::SIGBUS, &default) };
    }
}

/// Puts private memory in the place of a mapping from `start` on. Returns whether that worked.
fn fill(start: usize, len: usize) -> bool {
    let at = null_mut::<c_void>().with_addr(start);
    let flags = MapFlags::PRIVATE | MapFlags::FIXED;
    // SAFETY: the range lies in a mapping that its guard says is there, and that is only used through accesses that bear
    // any content at any time; what it is replaced by lives as long as the mapping would have.
    unsafe { mmap_anonymous(at, len, ProtFlags::READ | ProtFlags::WRITE, flags) }.is_ok()
}

/// How often something was torn away in this process: while it stays the same, no guard need be looked at.
#[inline]
pub fn tears() -> usize {
    TEARS.load(Ordering::Acquire)
}

/// A guard on mapped memory, for as long as it lives.
#[derive(Debug)]
pub struct Guard {
    /// Which entry; none where there was none left.
    entry: Option<usize>,
}

impl Guard {
    /// Guards the `len` bytes from `start` on, which must stay mapped as long as the guard lives, and begin with a page.
    pub(crate) fn new(start: *const u8, len: usize) -> Self {
        let free = ENTRIES.iter().position(|entry| !entry.is_taken.swap(true, Ordering::AcqRel));
        match free {
            Some(index) => {
                USED.fetch_max(index + 1, Ordering::AcqRel);
                let entry = &ENTRIES[index];
                entry.is_torn.store(false, Ordering::Relaxed);
                entry.start.store(start.addr(), Ordering::Relaxed);
                entry.len.store(len, Ordering::Release);
            }
            None => warn!("{GUARDS} stretches of shared memory are guarded, no more can be"),
        }
        Guard { entry: free }
    }

    /// Whether some of the memory was torn away.
    #[inline]
    pub fn is_torn(&self) -> bool {
        self.entry.is_some_and(|index| ENTRIES[index].is_torn.load(Ordering::Acquire))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(index) = self.entry {
            let entry = &ENTRIES[index];
            if entry.len.swap(0, Ordering::AcqRel) == 0 {
                error!("a guard without memory");
            }
            entry.is_taken.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    use super::*;

    fn mapped(pages: usize) -> (File, GuestMemoryMmap, Guard) {
        handle_bus_errors().unwrap();
        let file = tempfile::tempfile().unwrap();
        let len = pages * page_size();
        file.set_len(len as u64).unwrap();
        let offset = FileOffset::new(file.try_clone().unwrap(), 0);
        let memory = GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), len, Some(offset))]).unwrap();
        let start = memory.iter().next().unwrap().as_ptr();
        let guard = Guard::new(start, len);
        (file, memory, guard)
    }

    #[test]
    fn memory_that_is_torn_away_reads_as_zeros_and_is_marked() {
        let (file, memory, guard) = mapped(4);
        let (_other_file, other, other_guard) = mapped(4);
        let page = page_size() as u64;
        memory.write_obj(7_u32, GuestAddress(3 * page)).unwrap();
        memory.write_obj(8_u32, GuestAddress(0)).unwrap();
        other.write_obj(9_u32, GuestAddress(3 * page)).unwrap();
        assert!(!guard.is_torn());

        file.set_len(page).unwrap();

        assert_eq!(memory.read_obj::<u32>(GuestAddress(3 * page + 100)).unwrap(), 0);
        assert!(guard.is_torn());
        assert_eq!(memory.read_obj::<u32>(GuestAddress(0)).unwrap(), 8, "what is left is as it was");
        memory.write_obj(1_u64, GuestAddress(2 * page)).unwrap();
        assert!(!other_guard.is_torn());
        assert_eq!(other.read_obj::<u32>(GuestAddress(3 * page)).unwrap(), 9);
    }

    #[test]
    fn everyone_who_guards_the_same_memory_is_told() {
        let (file, memory, first) = mapped(2);
        let start = memory.iter().next().unwrap().as_ptr();
        let second = Guard::new(start, 2 * page_size());
        file.set_len(0).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(page_size() as u64)).unwrap(), 0);
        assert!(first.is_torn() && second.is_torn());
    }
}
