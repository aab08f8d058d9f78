//! For the tests: which accesses were made to carveouts on this thread. Mappings begin at a page, so that what is aligned
//! here is aligned there.

use std::cell::RefCell;

thread_local! {
    static NOTED: RefCell<Option<Vec<Noted>>> = const { RefCell::new(None) };
}

/// An access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// Where, in this process.
    pub(crate) address: usize,
    /// How many bytes at once.
    pub(crate) width: usize,
}

impl Noted {
    /// Whether device memory bears it on arm64.
    pub(crate) fn is_fit_for_devices(self) -> bool {
        self.width <= 8 && self.address.is_multiple_of(self.width)
    }
}

/// Notes an access, if somebody wants to know.
pub(super) fn note(address: usize, width: usize) {
    NOTED.with_borrow_mut(|noted| noted.iter_mut().for_each(|noted| noted.push(Noted { address, width })));
}

/// The accesses that `action` makes.
pub(crate) fn during(action: impl FnOnce()) -> Vec<Noted> {
    NOTED.replace(Some(Vec::new()));
    action();
    NOTED.take().unwrap_or_default()
}
