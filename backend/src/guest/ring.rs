//! A vring as vhost-user-backend wants it, which hands its queue over whenever it is ready to run.
//!
//! The daemon calls the setters one by one, in an order that each front-end chooses for itself. The rule here is
//! the same for all of them: before anything about a running ring changes, its owner lets go of it; after every
//! change, a ring that has all it needs is handed over again. So no order of messages can leave the owner with
//! something stale, and an enable on a live ring always makes it look anew.
//!
//! The exception is a new call descriptor on a live ring. It changes nothing about the ring, and a guest can bring it
//! about as often as it likes by masking an interrupt, so the owner keeps the ring: what arrives for a VM without a
//! ring counts against its share of the remote's buffers, and beyond that may be dropped.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::warn;
use vhost_user_backend::{VringMutex, VringState, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::{Error as QueueError, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};

use super::gate::Line;
use super::memory::GuestMemory;
use super::port::{QueueIndex, QueueOwner};
use super::queue::{Queue, QueueSetup, QueueSetupError};
use crate::causes::Causes;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

thread_local! {
    /// What the vrings of the daemon that is being made on this thread belong to: [`VringT::new`] has no room for it.
    static UNDER_CONSTRUCTION: RefCell<Option<Construction>> = const { RefCell::new(None) };
}

struct Construction {
    owner: Arc<dyn QueueOwner>,
    line: Arc<Line>,
    rings: Rings,
}

/// The rings of one connection, shared by the device and the daemon that made them.
pub(super) type Rings = Arc<Mutex<Vec<Ring>>>;

/// Makes a daemon by `make`, for the front-end on this line; its vrings are handed to `owner` and collected in `rings`.
pub(super) fn construct<T>(
    owner: Arc<dyn QueueOwner>,
    line: Arc<Line>,
    rings: Rings,
    make: impl FnOnce() -> T,
) -> T {
    UNDER_CONSTRUCTION.set(Some(Construction { owner, line, rings }));
    let made = make();
    UNDER_CONSTRUCTION.set(None);
    made
}

/// Locks what only one thread at a time uses anyway. A panic elsewhere cannot leave it half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One vring of one connection.
#[derive(Clone)]
pub(super) struct Ring(Arc<Inner>);

struct Inner {
    index: QueueIndex,
    owner: Arc<dyn QueueOwner>,
    line: Arc<Line>,
    memory: Memory,
    /// What the daemon sees; only its bookkeeping, it never works on the ring.
    state: VringMutex<Memory>,
    own: Mutex<Own>,
}

/// What `VringState` does not tell.
#[derive(Default)]
struct Own {
    size: u16,
    /// Descriptor table, used ring, available ring.
    addresses: Option<[u64; 3]>,
    kick: Option<File>,
    call: Option<File>,
    features: u64,
    event_idx: bool,
    handed_over: bool,
}

impl Ring {
    /// Makes `change` while the owner has let go of the ring, and hands the ring over if it can run.
    pub(super) fn change<T>(&self, change: impl FnOnce(&VringMutex<Memory>) -> T) -> T {
        self.withdraw();
        let result = change(&self.0.state);
        self.hand_over();
        result
    }

    /// The feature bits that the driver has accepted.
    pub(super) fn set_features(&self, features: u64) {
        self.change(|_| lock(&self.0.own).features = features);
    }

    /// The state after a device reset: neither ready nor enabled.
    pub(super) fn reset(&self) {
        self.withdraw();
        self.0.state.set_enabled(false);
        self.0.state.set_queue_ready(false);
        self.set_kick(None);
        self.set_call(None);
    }

    /// Makes the owner let go of the ring.
    pub(super) fn withdraw(&self) {
        if std::mem::take(&mut lock(&self.0.own).handed_over)
            && let Some(next) = self.0.owner.release(self.0.index)
        {
            self.0.state.set_queue_next_avail(next);
            self.0.state.set_queue_next_used(next);
        }
    }

    fn hand_over(&self) {
        let Some(setup) = self.setup() else { return };
        match setup.and_then(Queue::new) {
            Ok(queue) => {
                lock(&self.0.own).handed_over = true;
                self.0.owner.take(self.0.index, queue);
            }
            Err(error) => {
                warn!("queue {:?} of the front-end cannot be used: {}", self.0.index, Causes(&error));
            }
        }
    }

    /// All that makes the queue, if the ring has all it needs to run.
    fn setup(&self) -> Option<Result<QueueSetup, QueueSetupError>> {
        let state = self.0.state.get_ref();
        let own = lock(&self.0.own);
        let [descriptors, used, avail] = own.addresses?;
        if !state.is_enabled() || !state.get_queue().ready() {
            return None;
        }
        let duplicate = |part, file: &File| {
            file.try_clone().map_err(|source| QueueSetupError::Descriptor { part, source })
        };
        let kick = duplicate("kick", own.kick.as_ref()?);
        let call = own.call.as_ref().map(|call| duplicate("call", call)).transpose();
        Some(kick.and_then(|kick| {
            Ok(QueueSetup {
                memory: GuestMemory::new(self.0.memory.memory().into_inner()),
                size: own.size,
                descriptors,
                avail,
                used,
                event_idx: own.event_idx,
                features: own.features,
                kick,
                call: call?,
                line: Arc::clone(&self.0.line),
            })
        }))
    }
}

/// A descriptor of our own beside the one that the daemon keeps.
fn keep(file: Option<&File>, part: &str) -> Option<File> {
    let copy = file?.try_clone();
    copy.inspect_err(|error| warn!("cannot keep the front-end's {part} file descriptor: {error}")).ok()
}

impl<'a> VringStateGuard<'a, Memory> for Ring {
    type G = MutexGuard<'a, VringState<Memory>>;
}

impl<'a> VringStateMutGuard<'a, Memory> for Ring {
    type G = MutexGuard<'a, VringState<Memory>>;
}

impl VringT<Memory> for Ring {
    fn new(memory: Memory, max_queue_size: u16) -> Result<Self, QueueError> {
        let state = VringMutex::new(memory.clone(), max_queue_size)?;
        UNDER_CONSTRUCTION.with_borrow(|construction| {
            let Construction { owner, line, rings } =
                construction.as_ref().expect("vrings are made within `construct`");
            let mut rings = lock(rings);
            let index = QueueIndex::ALL[rings.len()];
            let own = Mutex::new(Own { size: max_queue_size, ..Own::default() });
            let (owner, line) = (Arc::clone(owner), Arc::clone(line));
            let ring = Ring(Arc::new(Inner { index, owner, line, memory, state, own }));
            rings.push(ring.clone());
            Ok(ring)
        })
    }

    fn get_ref(&self) -> <Self as VringStateGuard<'_, Memory>>::G {
        self.0.state.get_ref()
    }

    fn get_mut(&self) -> <Self as VringStateMutGuard<'_, Memory>>::G {
        self.0.state.get_mut()
    }

    fn add_used(&self, desc_index: u16, len: u32) -> Result<(), QueueError> {
        self.0.state.add_used(desc_index, len)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        self.0.state.signal_used_queue()
    }

    fn enable_notification(&self) -> Result<bool, QueueError> {
        self.0.state.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), QueueError> {
        self.0.state.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, QueueError> {
        self.0.state.needs_notification()
    }

    fn set_enabled(&self, enabled: bool) {
        self.change(|state| state.set_enabled(enabled));
    }

    fn set_queue_info(&self, desc_table: u64, avail_ring: u64, used_ring: u64) -> Result<(), QueueError> {
        self.change(|state| {
            lock(&self.0.own).addresses = Some([desc_table, used_ring, avail_ring]);
            state.set_queue_info(desc_table, avail_ring, used_ring)
        })
    }

    fn queue_next_avail(&self) -> u16 {
        self.0.state.queue_next_avail()
    }

    fn set_queue_next_avail(&self, base: u16) {
        self.0.state.set_queue_next_avail(base);
    }

    /// SET_VRING_ADDR has found the used index. A queue goes on there, so GET_VRING_BASE answers with it, too, also where
    /// the ring is stopped before it was ever handed over.
    fn set_queue_next_used(&self, idx: u16) {
        self.0.state.set_queue_next_avail(idx);
        self.0.state.set_queue_next_used(idx);
    }

    fn queue_used_idx(&self) -> Result<u16, QueueError> {
        self.0.state.queue_used_idx()
    }

    fn set_queue_size(&self, num: u16) {
        self.change(|state| {
            lock(&self.0.own).size = num;
            state.set_queue_size(num);
        });
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.change(|state| {
            lock(&self.0.own).event_idx = enabled;
            state.set_queue_event_idx(enabled);
        });
    }

    fn set_queue_ready(&self, ready: bool) {
        self.change(|state| state.set_queue_ready(ready));
    }

    fn set_kick(&self, file: Option<File>) {
        self.change(|state| {
            lock(&self.0.own).kick = keep(file.as_ref(), "kick");
            state.set_kick(file);
        });
    }

    fn read_kick(&self) -> io::Result<bool> {
        self.0.state.read_kick()
    }

    fn set_call(&self, file: Option<File>) {
        let set = |state: &VringMutex<Memory>| {
            lock(&self.0.own).call = keep(file.as_ref(), "call");
            state.set_call(file);
        };
        if !lock(&self.0.own).handed_over {
            return self.change(set);
        }
        set(&self.0.state);
        let call = keep(lock(&self.0.own).call.as_ref(), "call");
        self.0.owner.call_by(self.0.index, call);
    }

    fn set_err(&self, file: Option<File>) {
        self.0.state.set_err(file);
    }
}
