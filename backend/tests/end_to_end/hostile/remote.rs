//! Remote cores that break their vrings: guests are given nothing but what is well formed, the core is given up where
//! nothing else is left, and the VMs of another core notice nothing.

use std::fs;

use vhost_device_rpmsg::rpmsg::{AnnouncementKind, Header, MAX_PAYLOAD};

use super::{HERE, beside};
use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::harness::rig::{Plan, Rig};
use crate::harness::rogue::{BUFFERS, RECEIVING, Rogue, SENDING};

/// Address of the service that the core has from the start.
const ONE: u32 = 0x400;

/// A rogue core with a guest that knows its service "one", a bystander in front of another core, and what they are in.
struct Scene {
    rogue: Rogue,
    guest: Guest,
    bystander: Guest,
    rig: Rig,
}

impl Scene {
    fn set() -> Self {
        let mut rig = Rig::prepare(Plan::default());
        let socket = rig.path("bystander.sock");
        let more = format!(
            "[[remote]]\nname = \"other\"\nlink = \"loopback\"\n\
             [[vm]]\nname = \"bystander\"\nsocket = {socket:?}\nremote = \"other\"\n"
        );
        fs::write(rig.config_path(), rig.config() + &more).unwrap();
        let mut rogue = Rogue::start(&rig.place());
        rig.start_program();
        rig.program().wait_log("remote core: attached");
        rogue.attached();
        let mut guest = rig.guest(0);
        rogue.tell("one", ONE, AnnouncementKind::Create);
        assert_eq!(guest.wait_service("one"), ONE);
        guest.open(HERE);
        let bystander = Guest::connect(&socket, GuestOptions::default());
        Scene { rogue, guest, bystander, rig }
    }

    /// The core and the guest understand each other, both ways.
    fn is_served(&mut self) {
        self.guest.send(HERE, ONE, b"question");
        let (header, payload) = self.rogue.hear();
        assert_eq!((header.dst, &payload[..]), (ONE, &b"question"[..]));
        self.rogue.say(ONE, header.src, b"answer");
        // What a buffer of zeroes holds may come before; other tests have no endpoint there.
        let answer = std::iter::repeat_with(|| self.guest.recv()).find(|message| message.dst != 0);
        assert_eq!(answer.unwrap().payload, b"answer");
    }
}

#[test]
fn a_core_that_returns_buffers_that_it_has_not_got() {
    let mut scene = Scene::set();
    let Scene { rogue, bystander, guest, .. } = &mut scene;
    // Where a buffer of zeroes goes to.
    guest.open(0);

    beside(bystander, || {
        // Some that there are not, and one that it has, twice.
        let last = u32::from(BUFFERS) - 1;
        for id in [u32::from(BUFFERS), u32::MAX, 0x1_0000, last, last] {
            rogue.put_used(SENDING, id, 16);
        }
        rogue.ring(SENDING);
        assert_eq!(guest.recv().dst, 0, "the one that it has");
    });

    scene.is_served();
}

#[test]
fn a_core_that_lies_about_lengths() {
    let mut scene = Scene::set();
    let Scene { rogue, bystander, .. } = &mut scene;

    beside(bystander, || {
        for (len, used) in
            [(600, 616), (u16::MAX, 512), (497, 512), (100, 115), (0, 15), (0, 0), (4, 513), (4, u32::MAX)]
        {
            rogue.send(
                Header { src: ONE, dst: HERE, reserved: 0, len, flags: 0 },
                &[0x66; MAX_PAYLOAD],
                used,
            );
        }
    });

    scene.is_served();
}

#[test]
fn a_core_that_floods_its_guests_with_services() {
    let mut scene = Scene::set();
    let Scene { rogue, bystander, guest, .. } = &mut scene;

    beside(bystander, || {
        for kind in [AnnouncementKind::Create, AnnouncementKind::Create, AnnouncementKind::Destroy] {
            // More than anybody remembers, each of them twice.
            for number in 0..1500 {
                rogue.tell(&format!("flood-{number}"), 0x1_0000 + number, kind);
            }
        }
        rogue.tell("after", 0x500, AnnouncementKind::Create);
        assert_eq!(guest.wait_service("after"), 0x500);
    });

    scene.is_served();
}

#[test]
fn a_core_whose_index_leaps_is_given_up_until_it_boots_anew() {
    for vring in [SENDING, RECEIVING] {
        let mut scene = Scene::set();
        let Scene { rogue, bystander, guest, rig } = &mut scene;

        beside(bystander, || {
            rogue.leap(vring, 1000);
            rogue.ring(vring);
            rig.program().wait_log("used index jumped");
            guest.wait_service_gone("one");
        });

        rogue.reboot();
        rig.program().wait_log_again("remote core: attached", 2);
        rogue.attached();
        rogue.tell("one", ONE, AnnouncementKind::Create);
        assert_eq!(guest.wait_service("one"), ONE);
        scene.is_served();
    }
}

#[test]
fn a_core_that_never_consumes_makes_its_own_guests_wait_only() {
    let mut scene = Scene::set();
    let Scene { rogue, bystander, guest, .. } = &mut scene;
    let mut sent = 0_u32;

    beside(bystander, || {
        while guest.try_send(HERE, ONE, &sent.to_le_bytes()) {
            sent += 1;
        }
    });

    assert!(sent >= 256, "as many as the guest has buffers for, found {sent}");
    for number in 0..sent {
        assert_eq!(rogue.hear().1, number.to_le_bytes(), "each once, in order");
    }
    guest.flush();
    scene.is_served();
}
