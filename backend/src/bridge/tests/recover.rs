//! What a relay makes of state memory where things are not any more as they were.

use std::time::Instant;

use crate::bridge::counters::{Counters, Figures, Reason};
use crate::bridge::journal::{Journal, Saved, SavedDevice, SavedVm};
use crate::bridge::policy::{Overflow, Policy, VmPolicy};
use crate::bridge::relay::Relay;
use crate::bridge::vm::Vm;
use crate::remote::memory::testing::carveouts;
use crate::remote::memory::{Access, CarveoutSlice};
use crate::rpmsg::address::Slot;

const SLOT: Slot = Slot::ZERO;

fn vm(name: &str) -> Vm {
    Vm::new(name.to_owned(), SLOT, VmPolicy::unlimited(Overflow::Block))
}

fn figures() -> Figures {
    let (mut journal, _) = Journal::open(None);
    let mut counters = Counters::default();
    counters.sent(None, 3);
    counters.log(SLOT, &mut journal);
    counters.figures().clone()
}

/// State memory that a program has left.
fn left(saved: &Saved) -> CarveoutSlice {
    let area = carveouts(1 << 20, 0, Access::Normal).slice(0, 1 << 20, 8).unwrap();
    Journal::open(Some(area.clone())).0.save(saved);
    area
}

fn relay(saved: &Saved) -> Relay {
    Relay::new("core".to_owned(), Policy::default(), Some(left(saved)), Instant::now())
}

/// A VM of this name was in the session, and these messages waited for it.
fn saved(name: &str, waiting: Vec<(u16, [u8; 16])>) -> Saved {
    let vm = SavedVm {
        name: name.to_owned(),
        in_session: true,
        waiting,
        figures: figures(),
        ..SavedVm::default()
    };
    Saved { vms: [(SLOT, vm)].into(), ..Saved::default() }
}

#[test]
fn a_vm_goes_on_with_its_own_figures_and_not_with_those_of_another_in_its_slot() {
    for (name, expected) in [("a", figures()), ("b", Figures::default())] {
        let mut relay = relay(&saved("a", Vec::new()));
        assert!(relay.add_vm(vm(name), true));
        assert_eq!(relay.vm(SLOT).unwrap().account.counters.figures(), &expected, "{name}");
    }
}

#[test]
fn what_waited_in_the_buffers_of_a_core_that_has_booted_since_is_lost_and_counted_for_its_vm() {
    let mut bench = super::bench(&[0]);
    let device = bench.relay.device.take().unwrap();
    let owners = vec![Some(SLOT.number()), None];
    let before = SavedDevice { attachment: device.attachment + 1, owners, ..SavedDevice::default() };
    let waiting = vec![(3, [1; 16]), (255, [1; 16])];
    let mut relay = relay(&Saved { device: Some(before), ..saved("a", waiting) });

    relay.gone_meanwhile(bench.now);
    relay.attached(device, bench.now);
    // And killed once more, before the VM is there.
    let memory = relay.save();
    let mut relay = self::relay(&memory);
    assert!(relay.add_vm(vm("a"), true));
    relay.settle(bench.now);

    let account = &mut relay.vm(SLOT).unwrap().account;
    assert!(account.waiting.is_empty());
    relay.commit();
    let account = &relay.vm(SLOT).unwrap().account;
    assert_eq!(
        account.counters.figures().dropped(Reason::RemoteLost),
        3,
        "one on its way to the core, two from it"
    );
}

#[test]
fn strays_are_counted_on_from_any_number() {
    let mut relay = relay(&Saved { strays: [1 << 63, u64::MAX], ..Saved::default() });
    relay.count_misdirected();
    relay.count_malformed();
    let figures = relay.figures(Instant::now());
    assert_eq!((figures.misdirected, figures.malformed), ((1 << 63) + 1, 0));
    let saved = relay.save();
    assert_eq!(self::relay(&saved).save().strays, [(1 << 63) + 1, 0]);
}

#[test]
fn what_a_guest_has_not_taken_when_its_driver_goes_is_in_the_figures_at_once() {
    let mut bench = super::bench(&[0]);
    let echo = bench.service("rpmsg-raw");
    // More than there are receive buffers.
    for _ in 0..20 {
        while bench.guests[0].send(1024, echo, b"answer") {}
        bench.settle();
    }
    let waiting = bench.account(0).waiting.count() as u64;
    assert!(waiting > 0);
    bench.relay.end_session(SLOT);
    bench.relay.commit();
    assert_eq!(bench.account(0).counters.figures().dropped(Reason::SessionEnded), waiting);
}
