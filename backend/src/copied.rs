//! For the tests: how many bytes were copied to and from shared memory on this thread.

use std::cell::Cell;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Counts a copy of `len` bytes.
pub(crate) fn add(len: usize) {
    BYTES.set(BYTES.get() + len);
}

/// What `action` copies, in bytes.
pub(crate) fn during(action: impl FnOnce()) -> usize {
    let before = BYTES.get();
    action();
    BYTES.get() - before
}
