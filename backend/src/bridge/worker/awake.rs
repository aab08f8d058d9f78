//! As long as the bridge is awake: messages are moved, more are looked for, and in the end everyone is asked to notify.
//!
//! Looking costs a core as long as it lasts, and falling asleep costs whoever comes next a wake-up. To look for about as long as
//! that takes, costs at most twice what the better choice would have, whenever the next message comes.

use std::time::{Duration, Instant};

use super::Worker;
use crate::bridge::relay::Relay;
use crate::remote::vring::VringFault;
use crate::remote::watch::Traffic;

/// How long the bridge goes on before it looks at its descriptors, while there is always something to do: what comes that way
/// can wait as long, and a system call costs as much as some messages.
const ATTENDED: Duration = Duration::from_micros(100);
/// How often it looks at VMs that were asked to kick meanwhile.
const GLANCE: Duration = Duration::from_micros(10);
/// What a sweep counts for until the clock is read again, in messages, and how many of these it takes.
const SWEEP_COSTS: usize = 4;
const CLOCK: usize = 64;

/// How soon a VM that found no buffer at the remote looks again: some firmware (rpmsg-lite) never tells of consumed
/// buffers.
const STALL_RETRY: Duration = Duration::from_millis(10);

impl Worker {
    /// Moves messages until it is time to look at the descriptors. Returns whether everyone has been asked to notify, and
    /// nothing is left to do: then it is time to wait for them.
    pub(super) fn relay_messages(&mut self) -> bool {
        let start = Instant::now();
        let (mut now, mut done) = (start, 0);
        let may_sleep = loop {
            let moved = match self.sweep(now) {
                Ok(moved) => moved,
                Err(fault) => {
                    self.ring_broke(fault, now);
                    break false;
                }
            };
            if moved > 0 {
                self.last_moved = Some(now);
                // The clock was read right before.
                if done == 0 {
                    self.sample(now);
                }
            }
            done += SWEEP_COSTS + moved;
            if done < CLOCK && self.last_moved.is_some() {
                continue;
            }
            done = 0;
            let before = std::mem::replace(&mut now, Instant::now());
            self.patience.at(before, now);
            let patience = self.patience.now();
            if moved == 0 && self.last_moved.is_none_or(|last| now.duration_since(last) >= patience) {
                self.last_moved = None;
                break !self.relays.iter_mut().any(Relay::rearm);
            }
            if now.duration_since(start) >= ATTENDED {
                break false;
            }
            if now.duration_since(self.parked) >= self.patience.most() {
                self.parked = now;
                self.relays.iter_mut().for_each(Relay::park_idle);
            }
            if now.duration_since(self.glanced) >= GLANCE {
                self.glanced = now;
                self.relays.iter_mut().for_each(Relay::look_at_parked);
            }
        };
        self.look_at_remote(now) && may_sleep
    }

    /// A sweep that began at this time has moved something.
    fn sample(&mut self, since: Instant) {
        let moved = self.relays.iter().map(|relay| relay.moved);
        let (to_remote, to_guest) = moved.fold((false, false), |all, one| (all.0 | one.0, all.1 | one.1));
        self.latency.add(since.elapsed(), to_remote, to_guest);
    }

    /// Looks at the rings of every device. Returns how many messages moved.
    #[inline]
    fn sweep(&mut self, now: Instant) -> Result<usize, VringFault> {
        let mut moved = 0;
        for relay in &mut self.relays {
            moved += relay.sweep(now, self.remote.bell())?;
        }
        Ok(moved)
    }

    /// The remote has made a vring unusable.
    #[cold]
    fn ring_broke(&mut self, fault: VringFault, now: Instant) {
        // Zeros in the place of what is gone make a fault of their own; the cause comes first.
        let change = self.remote.look_at_memory(now).or_else(|| self.remote.fault(now, fault));
        self.remote_changed(change, now);
    }

    /// What can be seen of the remote by the messages that have passed, or have not. Returns whether its memory is still there.
    fn look_at_remote(&mut self, now: Instant) -> bool {
        let torn = self.remote.look_at_memory(now);
        let is_there = torn.is_none();
        self.remote_changed(torn, now);
        let retry = self.stalled_until.filter(|due| *due > now).unwrap_or(now + STALL_RETRY);
        self.stalled_until = self.relays.iter().any(|relay| relay.stalled).then_some(retry);
        let traffic = self.relays.iter_mut().map(Relay::traffic).fold(Traffic::default(), Traffic::and);
        self.remote.see(traffic, now);
        is_there
    }
}
