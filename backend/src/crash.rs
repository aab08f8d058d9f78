//! Where a program can be killed: between any two of its stores to memory that others see.
//!
//! For the tests only. Whoever tests says [what happens](during) at each such point; a store is preceded by a call of
//! [`point`]. To be killed is to unwind there, with all that was private lost and all that is shared as it is.

use std::cell::{Cell, RefCell};

type Hook = Box<dyn FnMut()>;

thread_local! {
    static IS_LATE: Cell<bool> = const { Cell::new(false) };
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// What a program that is killed unwinds with.
pub(crate) struct Killed;

/// The program is about to store something where others see it.
pub(crate) fn point() {
    // What happens at a point has no points of its own.
    let Some(mut hook) = HOOK.take() else { return };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut hook));
    HOOK.set(Some(hook));
    if let Err(killed) = result {
        std::panic::resume_unwind(killed);
    }
}

/// Runs the program with `hook` being called at every point. Returns `None` if it was killed.
pub(crate) fn during<T>(hook: impl FnMut() + 'static, program: impl FnOnce() -> T) -> Option<T> {
    HOOK.set(Some(Box::new(hook)));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(program));
    HOOK.set(None);
    match result {
        Ok(value) => Some(value),
        Err(cause) if cause.is::<Killed>() => None,
        Err(cause) => std::panic::resume_unwind(cause),
    }
}

/// Kills the program here.
pub(crate) fn kill() -> ! {
    std::panic::resume_unwind(Box::new(Killed))
}

/// Runs something with programs that publish before they commit, which is wrong: the tests must notice.
pub(crate) fn committing_late<T>(run: impl FnOnce() -> T) -> T {
    IS_LATE.set(true);
    let result = run();
    IS_LATE.set(false);
    result
}

/// Whether programs are to be wrong in that way.
pub(crate) fn commits_late() -> bool {
    IS_LATE.get()
}
