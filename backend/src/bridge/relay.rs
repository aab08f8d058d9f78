//! One sweep over all rings.
//!
//! A sweep takes what is there, in batches, until nothing is left, and only then asks for notifications again. Within
//! a batch everything is written first; then each index is published once and each peer notified at most once.
//!
//! The relay's parts are in files of their own: `from_remote` takes messages out of the remote's vring and finds whose
//! they are, `to_guest` and `to_remote` carry one message over, `services` keeps the directory and the desks, `life`
//! is what happens when VMs and remotes come and go.

use std::time::Instant;

use super::aliases::Aliases;
use super::attention::Attention;
use super::directory::Directory;
use super::fairness::{Fairness, bits};
use super::handover::{self, Handover};
use super::held::Held;
use super::journal::{Entry, Journal};
use super::life::Parked;
use super::policy::Policy;
use super::recover::Recovered;
use super::tap::Tap;
use super::to_remote::{Passage, Taken};
use super::vm::Vm;
use crate::guest::Queue;
use crate::guest::port::QueueIndex;
use crate::log_limit::LogLimit;
use crate::remote::attach::RpmsgVdev;
use crate::remote::mailbox::Mailbox;
use crate::remote::memory::CarveoutSlice;
use crate::remote::vring::{Cursor, VringFault};
use crate::remote::watch::Traffic;
use crate::rpmsg::ServiceName;
use crate::rpmsg::address::{Session, Slot};
use crate::torn;

/// Messages of either direction before they are published: more are hardly cheaper, and whoever gets them has to wait for the
/// last.
pub(super) const BATCH: usize = 32;

/// The mailbox of a remote that is attached.
pub(super) type Bell<'a> = Option<&'a mut dyn Mailbox>;

/// Everything that messages between one rpmsg device of a remote and its VMs pass through.
pub(super) struct Relay {
    /// What it is called, for people.
    pub(super) name: String,
    /// The remote's device, while the remote is attached.
    pub(super) device: Option<RpmsgVdev>,
    /// The device while the remote cannot be reached.
    pub(super) parked: Option<Parked>,
    /// The VMs, by slot.
    pub(super) vms: Vec<Option<Box<Vm>>>,
    /// Number of the last session in each slot, so that the next VM there is told from the last.
    pub(super) sessions: Vec<Session>,
    pub(super) directory: Directory,
    pub(super) aliases: Aliases,
    pub(super) static_services: Vec<(ServiceName, u32)>,
    pub(super) held: Held,
    /// Services of ended sessions, by host address, that the remote must still be told to forget.
    pub(super) farewells: Vec<(ServiceName, u32)>,
    /// Services whose next answers are to requests of their last client.
    pub(super) handovers: Vec<Handover>,
    /// Services of a remote whose line was cut.
    pub(super) suspended: Vec<(ServiceName, u32)>,
    pub(super) attention: Attention,
    pub(super) fairness: Fairness,
    /// Whether somebody has something for which there is no buffer of the remote's.
    pub(super) stalled: bool,
    /// Messages from the remote that were for nobody, and that were none.
    pub(super) strays: [u64; 2],
    /// How many of these the journal knows of.
    logged_strays: [u64; 2],
    /// How often a program has begun to serve the device, with this one.
    pub(super) programs: u64,
    /// VMs that wait for a buffer of the remote's.
    pub(super) without_buffer: u128,
    /// How often the remote's doorbell was rung.
    pub(super) rung: u64,
    /// Whether the last sweep has moved anything to the remote, and from it.
    pub(super) moved: (bool, bool),
    pub(super) log: LogLimit,
    /// Tears in shared memory up to which queues have been looked at.
    tears: usize,
    pub(super) journal: Journal,
    /// How far the journal knows the driver to be with the vrings from and to the remote.
    pub(super) logged: [Cursor; 2],
    /// What is still to come back of what there was before this program.
    pub(super) recovered: Option<Box<Recovered>>,
    /// Where messages are shown while somebody captures.
    pub(super) tap: Option<Box<Tap>>,
}

impl Relay {
    /// A relay with this journal. What the journal knows from before is gone on with.
    pub(super) fn new(name: String, policy: Policy, memory: Option<CarveoutSlice>, now: Instant) -> Self {
        let (journal, saved) = Journal::open(memory);
        let mut relay = Self::empty(name, policy, journal, now);
        if let Some(saved) = saved {
            relay.restore(saved, now);
        }
        relay.programs = relay.programs.wrapping_add(1);
        relay.commit();
        relay
    }

    fn empty(name: String, policy: Policy, journal: Journal, now: Instant) -> Self {
        Relay {
            name,
            device: None,
            parked: None,
            vms: (0..Slot::COUNT).map(|_| None).collect(),
            sessions: vec![Session::default(); Slot::COUNT.into()],
            directory: Directory::new(policy.rules),
            aliases: Aliases::new(policy.address_bits),
            static_services: policy.static_services,
            held: Held::default(),
            farewells: Vec::new(),
            handovers: Vec::new(),
            suspended: Vec::new(),
            attention: Attention::default(),
            fairness: Fairness::new(now),
            stalled: false,
            strays: [0; 2],
            logged_strays: [0; 2],
            programs: 0,
            without_buffer: 0,
            rung: 0,
            moved: (false, false),
            log: LogLimit::default(),
            tears: torn::tears(),
            journal,
            logged: [Cursor::default(); 2],
            recovered: None,
            tap: None,
        }
    }

    /// The VM in this slot.
    pub(super) fn vm(&mut self, slot: Slot) -> Option<&mut Vm> {
        self.vms[usize::from(slot.number())].as_deref_mut()
    }

    /// Whether the VM in this slot is one of its own.
    #[inline]
    pub(super) fn has_vm(&self, slot: Slot) -> bool {
        self.vms[usize::from(slot.number())].is_some()
    }

    /// When [`on_timer`](Self::on_timer) is due.
    pub(super) fn timer(&self) -> Option<Instant> {
        let handover = handover::deadline(&self.handovers);
        let awaited = self.recovered.as_ref().and_then(|recovered| recovered.until());
        [self.directory.deadline(), self.fairness.next_look(), handover, awaited].into_iter().flatten().min()
    }

    /// Does what is due at the desks.
    pub(super) fn on_timer(&mut self, now: Instant) {
        self.tick_desks(now);
        self.wait_no_longer(now);
    }

    /// What can be seen of the remote here.
    #[inline]
    pub(super) fn traffic(&mut self) -> Traffic {
        let is_waited_for = self.stalled;
        self.device.as_mut().map_or(Traffic::default(), |device| Traffic {
            moved: device.progress(),
            in_flight: device.outbound.in_flight(),
            is_waited_for,
        })
    }

    /// Whether a driver of any VM is up.
    pub(super) fn is_used(&self) -> bool {
        self.vms.iter().flatten().any(|vm| vm.account.is_in_session())
    }

    /// Moves a batch of messages in each direction. `bell` is rung for the remote; there is none while it is not attached.
    /// Returns how many messages moved.
    ///
    /// # Errors
    /// A vring that the remote has made unusable.
    pub(super) fn sweep(&mut self, now: Instant, mut bell: Bell<'_>) -> Result<usize, VringFault> {
        if !self.is_settled() {
            return Ok(0);
        }
        if let Some(device) = &mut self.device {
            device.inbound.vring().want_interrupts(false);
        }
        if let Some(tap) = &mut self.tap {
            tap.at(now);
        }
        let moved = self.relay_batch(now);
        // Also what was moved before a fault: the guests' rings are sound.
        if moved != Ok(0) || self.attention.written != 0 || self.has_unpublished() {
            self.publish(&mut bell);
        } else {
            self.prepare();
        }
        if let Some(tap) = &mut self.tap {
            tap.flush();
        }
        moved
    }

    /// Whether the remote does not see yet what it was given.
    #[inline]
    fn has_unpublished(&mut self) -> bool {
        self.device
            .as_mut()
            .is_some_and(|device| device.inbound.vring().is_behind() || device.outbound.vring().is_behind())
    }

    fn relay_batch(&mut self, now: Instant) -> Result<usize, VringFault> {
        self.look_at_watched();
        let most = if self.awaits_queues() { 0 } else { BATCH };
        let taken = self.take_from_remote(now, most)?;
        let received = taken + self.serve_receivers();
        let mut moved = 0;
        if let Some(device) = &mut self.device {
            device.outbound.reclaim(|buffer| {
                self.fairness.returned(buffer);
                self.journal.append(&Entry::Returned { buffer });
                self.handovers.iter_mut().for_each(|handover| handover.returned(buffer));
            })?;
        }
        self.stalled = false;
        if !self.handovers.is_empty() {
            moved += self.hand_over(now, taken, taken < BATCH);
        }
        moved += self.say_farewells();
        moved += self.serve_desks(now);
        moved += self.take_from_guests(now);
        self.moved = (moved > 0, received > 0);
        Ok(moved + received)
    }

    /// A batch of what the guests send. Returns how many messages moved.
    fn take_from_guests(&mut self, now: Instant) -> usize {
        if self.attention.sending == 0 && !self.fairness.is_occupied() {
            if self.without_buffer != 0 {
                self.stalls_changed(0, now);
            }
            return 0;
        }
        let (mut moved, mut before) = (0, None);
        // A few VMs may have several turns each: nobody waits meanwhile.
        while before != Some(moved) && moved < BATCH {
            before = Some(moved);
            self.fairness.begin(self.attention.sending, now);
            while let Some(index) = self.fairness.next() {
                moved += self.take_from_guest(index, now);
            }
            if self.attention.sending == 0 {
                break;
            }
        }
        let without_buffer = self.fairness.without_buffer();
        if without_buffer != self.without_buffer {
            self.stalls_changed(without_buffer, now);
        }
        self.stalled |= without_buffer != 0;
        moved
    }

    /// One VM's turn. Returns how many messages moved.
    fn take_from_guest(&mut self, index: usize, now: Instant) -> usize {
        let outbound = self.device.as_mut().map(|device| &mut device.outbound);
        let mut passage = Passage {
            outbound,
            directory: &mut self.directory,
            aliases: &mut self.aliases,
            fairness: &mut self.fairness,
            journal: &mut self.journal,
            tap: self.tap.as_deref_mut(),
            now,
            rights_changed: false,
        };
        let Some(Vm { to_guest: Some(_), from_guest: Some(queue), account }) = self.vms[index].as_deref_mut()
        else {
            passage.fairness.emptied(index);
            self.attention.waits(index);
            return 0;
        };
        let mut moved = 0;
        if !account.has_told_remote() && passage.outbound.is_some() {
            moved += passage.tell_remote(account);
            if !account.has_told_remote() {
                self.stalled = true;
                passage.fairness.emptied(index);
                return moved;
            }
        }
        queue.disarm();
        account.waits_for_turn = false;
        while passage.fairness.turn_goes_on() {
            match passage.take_message(queue, account) {
                Taken::Done => moved += 1,
                Taken::Nothing => {
                    passage.fairness.emptied(index);
                    self.attention.emptied(index);
                }
                // The scheduler has ended its turn, and knows why.
                Taken::NotNow => {}
                Taken::NotItsTurn => {
                    account.waits_for_turn = true;
                    passage.fairness.emptied(index);
                    self.attention.waits(index);
                }
            }
        }
        let rights_changed = passage.rights_changed;
        if moved > 0 {
            self.attention.took(index);
        }
        if rights_changed {
            self.news();
        }
        moved
    }

    /// Makes visible what was written, and notifies those who want it.
    fn publish(&mut self, bell: &mut Bell<'_>) {
        #[cfg(test)]
        if crate::crash::commits_late() {
            self.publish_committed(bell);
            return self.commit();
        }
        self.commit();
        self.publish_committed(bell);
    }

    fn publish_committed(&mut self, bell: &mut Bell<'_>) {
        if let (Some(device), Some(bell)) = (&mut self.device, bell) {
            if device.outbound.vring().publish() {
                self.rung += 1;
                bell.kick(device.outbound.notifyid());
            }
            if device.inbound.vring().publish() {
                self.rung += 1;
                bell.kick(device.inbound.notifyid());
            }
        }
        for index in bits(std::mem::take(&mut self.attention.written)) {
            if let Some(vm) = &mut self.vms[index] {
                for queue in [&mut vm.to_guest, &mut vm.from_guest].into_iter().flatten() {
                    queue.publish();
                }
            }
        }
        let tears = torn::tears();
        if tears != self.tears {
            self.tears = tears;
            self.give_up_torn();
        }
    }

    /// Has the journal know everything that has changed. What is shared is changed only after that.
    #[inline]
    pub(super) fn commit(&mut self) {
        let journal = &mut self.journal;
        if let Some(device) = &mut self.device {
            let [inbound, outbound] = [device.inbound.vring().cursor(), device.outbound.vring().cursor()];
            if inbound != self.logged[0] {
                journal.append(&Entry::Inbound(inbound));
            }
            if outbound != self.logged[1] {
                journal.append(&Entry::Outbound(outbound));
            }
            self.logged = [inbound, outbound];
        }
        let counted = std::mem::take(&mut self.attention.counted);
        for index in bits(self.attention.written | counted) {
            let Some(vm) = &mut self.vms[index] else { continue };
            let slot = vm.account.slot();
            vm.account.counters.log(slot, journal);
            for (number, queue) in [&vm.to_guest, &vm.from_guest].into_iter().enumerate() {
                if let Some(queue) = queue.as_ref().filter(|queue| queue.is_behind()) {
                    journal.append(&Entry::Used { slot, queue: number, index: queue.next_index() });
                }
            }
        }
        if self.strays != self.logged_strays {
            self.log_strays();
        }
        self.directory.log_desks(&mut self.journal);
        self.aliases.log(&mut self.journal);
        if self.journal.wants_all() {
            let saved = self.save();
            self.journal.save(&saved);
        } else {
            self.journal.commit();
        }
    }

    /// Counts a message from the remote that was for nobody.
    pub(super) fn count_misdirected(&mut self) {
        self.strays[0] = self.strays[0].wrapping_add(1);
    }

    /// Counts a message from the remote that was none.
    pub(super) fn count_malformed(&mut self) {
        self.strays[1] = self.strays[1].wrapping_add(1);
    }

    #[cold]
    fn log_strays(&mut self) {
        let logged = std::mem::replace(&mut self.logged_strays, self.strays);
        for (which, (count, logged)) in self.strays.into_iter().zip(logged).enumerate() {
            let mut rest = count.wrapping_sub(logged);
            while rest > 0 {
                let count = u16::try_from(rest).unwrap_or(u16::MAX);
                self.journal.append(&Entry::Stray { is_malformed: which == 1, count });
                rest -= u64::from(count);
            }
        }
    }

    /// The same for changes of which there are no entries.
    pub(super) fn commit_all(&mut self) {
        self.journal.change();
        self.commit();
    }

    /// Gives up front-ends that have torn their guests' memory away.
    #[cold]
    pub(super) fn give_up_torn(&mut self) {
        for Vm { to_guest, from_guest, account } in self.vms.iter_mut().flatten().map(Box::as_mut) {
            for (which, queue) in [(QueueIndex::ToGuest, to_guest), (QueueIndex::FromGuest, from_guest)] {
                if let Some(fault) = queue.as_mut().and_then(Queue::give_up_torn) {
                    account.queue_broke(which, fault);
                }
            }
        }
    }
}
