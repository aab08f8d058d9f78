use proptest::prelude::*;

use super::entry::replay;
use super::*;
use crate::bridge::counters::{Counters, Reason, Traffic};
use crate::bridge::directory::MAX_SERVICES;
use crate::bridge::parties::{Client, GuestService};
use crate::remote::memory::Access;
use crate::remote::memory::testing::carveouts;
use crate::remote::vring::Cursor;
use crate::rpmsg::ServiceName;
use crate::rpmsg::address::Slot;

fn slot(number: u8) -> Slot {
    Slot::new(number).unwrap()
}

/// Something of everything.
fn saved() -> Saved {
    let client = Client { slot: slot(1), session: 3.into(), address: 1024 };
    let desk = SavedDesk {
        owner: Some(slot(1)),
        turn: SavedTurn::Of(client),
        clients: vec![client],
        requests: vec![SavedRequest { client, flags: 0, payload: vec![1, 2, 3] }],
    };
    let service = |text: &str, changed| SavedService {
        name: ServiceName::new(text).unwrap(),
        addr: 30,
        live: true,
        incarnation: 1,
        changed,
        desk: Some(desk.clone()),
    };
    Saved {
        device: Some(SavedDevice { owners: vec![None; 8], ..SavedDevice::default() }),
        vms: [(slot(1), SavedVm::default()), (slot(126), SavedVm::default())].into(),
        services: vec![service("a", 1), service("b", 2)],
        last_change: 2,
        aliases: vec![None, Some((slot(1), 7))],
        free_aliases: vec![0],
        ..Saved::default()
    }
}

#[test]
fn every_entry_is_read_as_it_was_written() {
    let name = ServiceName::new("mine").unwrap();
    let service = GuestService { name, address: 9, told: true };
    let desk = SavedDesk { turn: SavedTurn::Quarantine, ..SavedDesk::default() };
    let cursor = Cursor { avail: 513, used: 0xFFFF };
    let held = |buffer| Entry::Held { slot: slot(126), buffer, header: [7; 16] };
    let entries = [
        Entry::Sent { owner: 127, buffer: 3 },
        Entry::Sent { owner: 1, buffer: 4 },
        Entry::Returned { buffer: 4 },
        held(5),
        held(6),
        Entry::Unheld { slot: slot(126) },
        Entry::Inbound(cursor),
        Entry::Outbound(Cursor { avail: 1, used: 2 }),
        Entry::Used { slot: slot(1), queue: 0, index: 0x1234 },
        Entry::Used { slot: slot(1), queue: 1, index: 0xFFFF },
        Entry::Told { slot: slot(1), service: 1, incarnation: 77 },
        Entry::Seen { slot: slot(1), change: 1 << 40 },
        Entry::GuestService { slot: slot(1), service: GuestService { told: false, ..service } },
        Entry::GuestService { slot: slot(1), service },
        Entry::GuestService { slot: slot(126), service },
        Entry::GuestServiceGone { slot: slot(126), name, address: 9 },
        Entry::Alias { slot: slot(126), entry: 0, address: 5 },
        Entry::Alias { slot: slot(126), entry: 2, address: 6 },
        Entry::Desk { service: 1, desk: &desk },
        Entry::Stray { is_malformed: true, count: 0xFFFF },
        Entry::Stray { is_malformed: false, count: 1 },
    ];
    let area = carveouts(1 << 20, 0, Access::Normal).slice(0, 1 << 20, 8).unwrap();
    let (mut journal, nothing) = Journal::open(Some(area.clone()));
    assert!(nothing.is_none());
    let mut expected = saved();
    journal.save(&expected);
    entries.iter().for_each(|entry| journal.append(entry));
    let mut counters = Counters::default();
    // More than fit into one entry.
    (0..700).for_each(|_| counters.sent(Some(MAX_SERVICES - 1), 0xFFFF));
    counters.delivered(None, 3);
    counters.drop_messages("a", Reason::NotAllowed, Some(0), 256, &"");
    counters.subscribed();
    counters.timed_out();
    counters.log(slot(126), &mut journal);
    assert_eq!(Journal::open(Some(area.clone())).1, Some(expected.clone()), "nothing is committed yet");
    journal.commit();

    let device = expected.device.as_mut().unwrap();
    device.owners[3] = Some(127);
    (device.inbound, device.outbound) = (cursor, Cursor { avail: 1, used: 2 });
    *expected.vms.get_mut(&slot(1)).unwrap() = SavedVm {
        used: [Some(0x1234), Some(0xFFFF)],
        told: vec![0, 77],
        seen: 1 << 40,
        services: vec![service],
        ..SavedVm::default()
    };
    let vm = expected.vms.get_mut(&slot(126)).unwrap();
    vm.waiting = vec![(6, [7; 16])];
    vm.figures = counters.figures().clone();
    assert_eq!(
        vm.figures.service(MAX_SERVICES - 1).to_remote,
        Traffic { messages: 700, bytes: 700 * 0xFFFF }
    );
    assert_eq!(vm.figures.elsewhere().to_guest, Traffic { messages: 1, bytes: 3 });
    assert_eq!((vm.figures.service(0).dropped, vm.figures.dropped(Reason::NotAllowed)), (256, 256));
    assert_eq!((vm.figures.subscriptions, vm.figures.time_outs), (1, 1));
    expected.strays = [1, 0xFFFF];
    expected.aliases = vec![Some((slot(126), 5)), Some((slot(1), 7)), Some((slot(126), 6))];
    expected.free_aliases.clear();
    expected.services[1].desk = Some(desk);
    assert_eq!(Journal::open(Some(area)).1, Some(expected));
}

#[test]
fn a_log_without_room_is_begun_anew_with_everything() {
    let area = carveouts(1 << 20, 0, Access::Normal).slice(0, 1 << 20, 8).unwrap();
    let (mut journal, _) = Journal::open(Some(area.clone()));
    let mut saved = saved();
    journal.save(&saved);
    for round in 0..10_000_u16 {
        let index = round % 8;
        journal.append(&Entry::Sent { owner: 5, buffer: index });
        saved.device.as_mut().unwrap().owners[usize::from(index)] = Some(5);
        match journal.wants_all() {
            true => journal.save(&saved),
            false => journal.commit(),
        }
    }
    assert_eq!(Journal::open(Some(area)).1, Some(saved));
}

proptest! {
    #[test]
    fn a_log_of_any_words_is_read_without_a_panic_and_makes_sense_or_is_refused(
        words in prop::collection::vec(prop_oneof![any::<u32>(), (0..40_u32, 0..200_u32).prop_map(|(kind, rest)| kind | rest << 8)], 0..200),
    ) {
        let mut saved = saved();
        if replay(&mut saved, &words).is_some() {
            let _ = saved.is_sound();
        }
    }

    #[test]
    fn a_half_of_any_bytes_is_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        flips in prop::collection::vec((0..400_usize, any::<u8>()), 0..4),
    ) {
        let area = carveouts(1 << 20, 0, Access::Normal).slice(0, 1 << 20, 8).unwrap();
        let (mut journal, _) = Journal::open(Some(area.clone()));
        journal.save(&saved());
        for (at, byte) in flips {
            area.write_u8(at, byte);
        }
        let _ = Journal::open(Some(area.clone()));
        area.write_bytes(68, &bytes);
        let _ = Journal::open(Some(area.clone()));
        let _ = CoreRecord::open(area);
    }
}
