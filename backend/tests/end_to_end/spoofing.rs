//! Guests that pretend to be others or reach for what is not theirs: nothing of it gets to the core or to another VM, and
//! every attempt is counted, as the program says when the guest is gone.

use std::collections::BTreeMap;

use vhost_device_rpmsg::rpmsg::address::{Session, Slot, to_host};
use vhost_device_rpmsg::rpmsg::{
    ANY_ADDRESS, Announcement, AnnouncementKind, NAME_SERVICE_ADDRESS, ServiceName,
};

use crate::harness::guest::Guest;
use crate::harness::rig::{Plan, Rig};

const HERE: u32 = 1024;
/// Addresses of services of the soft core.
const TTY: u32 = 0x401;
const RAW: u32 = 0x402;
const SINK: u32 = 0x403;
const LATCHING: u32 = 0x405;
/// Where the core has nothing.
const NOTHING: u32 = 0x900;
/// What the victim has announced at [`HERE`].
const VICTIMS_SERVICE: &str = "victims-own";

/// A VM that misbehaves, and one that has an endpoint and a service at [`HERE`] and minds its own business.
struct Stage {
    rig: Rig,
    spoofer: Guest,
    victim: Guest,
    /// The victim's slot.
    victims_slot: u8,
    /// Name service messages that the victim has heard before.
    news: usize,
}

impl Stage {
    fn set(plan: Plan, change: impl FnOnce(String) -> String) -> Self {
        let victims_slot = plan.first_slot + 1;
        let rig = Rig::start_with(Plan { vms: 2, ..plan }, change);
        let (mut spoofer, mut victim) = (rig.guest(0), rig.guest(1));
        victim.announce(VICTIMS_SERVICE, HERE);
        Rig::settle(&mut spoofer);
        Rig::settle(&mut victim);
        let news = victim.news().len();
        Stage { rig, spoofer, victim, victims_slot, news }
    }

    fn with_sessions() -> Self {
        Stage::set(Plan::with_sessions(2), |config| config)
    }

    /// Every address that the victim's endpoint has at the core, whatever its session.
    fn victims_addresses(&self) -> impl Iterator<Item = u32> + use<> {
        let slot = Slot::new(self.victims_slot).expect("a slot");
        (0..16).map(move |session| to_host(slot, Session::new(session), HERE).expect("a small address"))
    }

    /// A counter of the core as a whole, when everything that was sent so far has arrived.
    fn at_the_core(&mut self, counter: &str) -> u64 {
        self.spoofer.flush();
        Rig::settle(&mut self.spoofer);
        self.rig.core().total(counter)
    }

    /// Runs `attempt`, of which the core receives nothing.
    fn nothing_gets_through(&mut self, attempt: impl FnOnce(&mut Self)) {
        let before = self.at_the_core("received");
        attempt(self);
        // But for the question whether it has arrived.
        assert_eq!(self.at_the_core("received"), before + 1, "messages at the core");
    }

    /// The victim has noticed nothing, and all that was dropped of the spoofer's messages is this, by reason. What the
    /// program says of the spoofer at its end.
    fn ends_with(mut self, dropped: &[(&str, u64)]) -> String {
        Rig::settle(&mut self.victim);
        assert_eq!(self.victim.try_recv(), None, "messages to the victim");
        assert_eq!(self.victim.news().len(), self.news, "name service messages to the victim");
        let theirs: Vec<_> = self.victims_addresses().collect();
        let services = self.rig.core().host_services();
        let theirs: Vec<_> = services.iter().filter(|(_, address)| theirs.contains(address)).collect();
        assert!(matches!(theirs[..], [(name, _)] if name == VICTIMS_SERVICE), "{services:?}");
        drop(self.spoofer);
        let expected: BTreeMap<_, _> =
            dropped.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        assert_eq!(self.rig.program().wait_dropped("vm0", 1), expected);
        drop(self.victim);
        assert_eq!(self.rig.program().wait_dropped("vm1", 1), BTreeMap::new());
        self.rig.program().wait_log("vm vm0: front-end gone")
    }
}

fn news(guest: &mut Guest, src: u32, name: &str, addr: u32, kind: AnnouncementKind) {
    let news = Announcement { name: ServiceName::new(name).expect("a service name"), addr, kind };
    guest.send(src, NAME_SERVICE_ADDRESS, &news.to_bytes());
}

// ----- sources

/// Sources that stand for somebody else at the core, or have bits that no source of a guest's should: to the core they are
/// addresses of the guest itself, which gets the answers.
fn forged_sources_are_the_guests_own(plan: Plan) {
    let mut stage = Stage::set(plan, |config| config);
    let mut sources: Vec<_> = stage.victims_addresses().collect();
    sources.extend([1 << 20, 0x5A << 24 | HERE, 126 << 24 | HERE, 0x80_0000 | HERE, 1 << 31 | HERE]);
    // The host's own table, the one client of a service, and the last address that there is.
    sources.extend([127 << 24, 127 << 24 | 2, 127 << 24 | HERE, ANY_ADDRESS - 1]);
    // And the name service behind such bits, whose answers must not be taken for announcements.
    sources.extend([
        1 << 24 | NAME_SERVICE_ADDRESS,
        2 << 24 | NAME_SERVICE_ADDRESS,
        1 << 20 | NAME_SERVICE_ADDRESS,
    ]);
    for source in sources {
        stage.spoofer.echo(source, RAW, b"who am I?");
    }
    // The first client of firmware that latches it is the guest, too: the victim gets no answer in its place.
    let victim = stage.victims_addresses().nth(1).expect("its first session");
    stage.spoofer.echo(victim, LATCHING, b"for ever mine");
    stage.spoofer.echo(victim, LATCHING, b"still mine");
    stage.ends_with(&[]);
}

#[test]
fn a_source_in_another_vms_name_is_the_guests_own_at_the_core() {
    forged_sources_are_the_guests_own(Plan::with_sessions(2));
}

#[test]
fn a_source_in_another_vms_name_is_the_guests_own_at_the_core_in_slot_zero_too() {
    forged_sources_are_the_guests_own(Plan::default());
}

#[test]
fn a_source_in_another_vms_name_is_the_guests_own_at_a_core_of_16_bits_too() {
    let plan = Plan { core: vec!["--short-addresses"], ..Plan::with_sessions(2) };
    let mut stage = Stage::set(plan, |config| {
        config.replace("link = \"socket\"\n", "link = \"socket\"\naddress-bits = 16\n")
    });
    // All that a table of 16 bits can have given to the victim's few endpoints, and their own addresses.
    for source in (0x400..0x410).chain(0x800..0x810).chain([HERE, 2 << 24 | HERE]) {
        stage.spoofer.echo(source, RAW, b"who am I?");
    }
    Rig::settle(&mut stage.victim);
    assert_eq!(stage.victim.try_recv(), None);
    drop(stage.spoofer);
    assert_eq!(stage.rig.program().wait_dropped("vm0", 1), BTreeMap::new());
}

#[test]
fn sources_that_nobody_can_have_are_refused_and_counted() {
    let mut stage = Stage::with_sessions();
    stage.nothing_gets_through(|stage| {
        for dst in [RAW, SINK, TTY, LATCHING, NOTHING] {
            for src in [NAME_SERVICE_ADDRESS, ANY_ADDRESS] {
                stage.spoofer.send(src, dst, b"from nobody");
            }
        }
    });
    stage.ends_with(&[("impossible source address", 10)]);
}

#[test]
fn a_guest_that_makes_up_sources_runs_out_of_them_and_nobody_else_does() {
    let mut stage = Stage::with_sessions();
    let (room, more) = (480, 20);
    for source in 0..room + more {
        stage.spoofer.send(1 << 20 | source, SINK, b"one more");
    }
    Rig::settle(&mut stage.spoofer);
    assert_eq!(stage.rig.core().counter("sink", "received"), u64::from(room));
    stage.victim.echo(1 << 20, RAW, b"and I?");
    stage.ends_with(&[("impossible source address", more.into())]);
}

// ----- destinations

#[test]
fn services_of_others_cannot_be_reached_by_their_addresses() {
    let services = "[[service]]\nname = \"sink\"\nvms = [\"vm1\"]\n\
                    [[service]]\nname = \"latching-echo\"\nmode = \"exclusive\"\nowner = \"vm1\"\n\
                    [[service]]\nname = \"rpmsg-tty\"\nmode = \"exclusive\"\n\
                    [[service]]\nname = \"source\"\nvms = []\n";
    let mut stage = Stage::set(Plan::with_sessions(2), |config| config + services);
    stage.victim.echo(HERE, TTY, b"the first user");
    stage.spoofer.wait_service_gone("rpmsg-tty");
    let source = 0x404;
    let sources: Vec<_> = stage.victims_addresses().chain([HERE, SINK, TTY]).collect();

    let attempts = 4 * sources.len() as u64;
    stage.nothing_gets_through(|stage| {
        for src in sources {
            for dst in [SINK, LATCHING, TTY, source] {
                stage.spoofer.send(src, dst, &[1, 0, 0, 0, 4, 0, 0, 0]);
            }
        }
    });

    for (service, received) in [("sink", 0), ("latching-echo", 0), ("rpmsg-tty", 1), ("source", 0)] {
        assert_eq!(stage.rig.core().counter(service, "received"), received, "{service}");
    }
    assert!(stage.spoofer.news().iter().all(|news| ![SINK, LATCHING, source].contains(&news.addr)));
    stage.ends_with(&[("not allowed", attempts)]);
}

#[test]
fn only_the_owner_of_a_broadcast_is_heard_by_the_core() {
    let services = "[[service]]\nname = \"sink\"\nmode = \"broadcast\"\nowner = \"vm1\"\n";
    let mut stage = Stage::set(Plan::with_sessions(2), |config| config + services);
    stage.nothing_gets_through(|stage| {
        for src in stage.victims_addresses().chain([HERE, SINK]) {
            stage.spoofer.send(src, SINK, b"let me speak");
        }
    });
    stage.victim.send(HERE, SINK, b"I may");
    Rig::settle(&mut stage.victim);
    assert_eq!(stage.rig.core().counter("sink", "received"), 1);
    let report = stage.ends_with(&[]);
    assert!(report.contains(", 18 that only subscribed"), "{report}");
}

/// Addresses where a guest has no business: where nothing is, other VMs', its own, the host's table, and name services
/// behind all kinds of bits.
fn nobodys_addresses(stage: &Stage) -> Vec<u32> {
    let bits =
        [1 << 20, 1 << 24, 1 << 24 | 1 << 20, 2 << 24, 2 << 24 | 1 << 20, 126 << 24, 127 << 24, 1 << 31];
    let name_services = bits.map(|bits| bits | NAME_SERVICE_ADDRESS);
    let own = 1 << 24 | 1 << 20 | HERE;
    let others = [NOTHING + 1, 0, HERE, own, 127 << 24, 127 << 24 | HERE, ANY_ADDRESS - 1];
    stage.victims_addresses().chain(name_services).chain(others).filter(|address| *address != RAW).collect()
}

#[test]
fn a_strict_vm_reaches_what_it_sees_and_what_is_listed_and_nothing_else() {
    let mut stage = Stage::set(Plan::with_sessions(2), |config| {
        let strict = format!("name = \"vm0\"\nstrict = true\naddresses = [{NOTHING:#x}]\n");
        config.replace("name = \"vm0\"\n", &strict)
    });
    let addresses: Vec<_> =
        nobodys_addresses(&stage).into_iter().filter(|address| !(0x400..0x406).contains(address)).collect();
    let attempts = addresses.len() as u64;
    stage.nothing_gets_through(|stage| {
        for dst in addresses {
            stage.spoofer.send(HERE, dst, b"anybody there?");
        }
    });

    stage.spoofer.send(HERE, NOTHING, b"this is listed");
    stage.spoofer.echo(HERE, TTY, b"this is announced");
    assert_eq!(stage.at_the_core("unknown_dst"), 1);
    stage.ends_with(&[("not allowed", attempts)]);
}

#[test]
fn what_a_vm_that_is_not_strict_sends_anywhere_gets_to_the_core_and_never_to_another_vm() {
    let mut stage = Stage::with_sessions();
    let addresses: Vec<_> =
        nobodys_addresses(&stage).into_iter().filter(|address| !(0x400..0x406).contains(address)).collect();
    let count = addresses.len() as u64;
    for dst in addresses {
        // 40 bytes that would be an announcement if they were taken for one.
        let forged = Announcement {
            name: ServiceName::new("forged").unwrap(),
            addr: RAW,
            kind: AnnouncementKind::Create,
        };
        stage.spoofer.send(HERE, dst, &forged.to_bytes());
    }
    stage.spoofer.send(HERE, ANY_ADDRESS, b"everybody");
    assert_eq!(stage.at_the_core("unknown_dst"), count);
    assert_eq!(stage.rig.core().total("announcements"), 1, "that of the victim");
    stage.ends_with(&[("impossible source address", 1)]);
}

// ----- name service

#[test]
fn what_is_anothers_cannot_be_withdrawn() {
    use AnnouncementKind::Destroy;
    let mut stage = Stage::with_sessions();
    let victims: Vec<_> = stage.victims_addresses().chain([HERE]).collect();
    let remotes = [("rpmsg-tty", TTY), ("rpmsg-raw", RAW), ("sink", SINK), ("latching-echo", LATCHING)];
    // In one's own name, in that of the service, of the name service, of the victim, and of nobody.
    let sources = [HERE, RAW, NAME_SERVICE_ADDRESS, victims[1], ANY_ADDRESS];

    let attempts = (sources.len() * (victims.len() + remotes.len())) as u64;
    stage.nothing_gets_through(|stage| {
        for src in sources {
            for address in &victims {
                news(&mut stage.spoofer, src, VICTIMS_SERVICE, *address, Destroy);
            }
            for (name, address) in remotes {
                news(&mut stage.spoofer, src, name, address, Destroy);
            }
        }
    });

    stage.victim.echo(HERE, TTY, b"as ever");
    stage.ends_with(&[("malformed name service message", attempts)]);
}

#[test]
fn services_announced_as_if_by_the_core_or_another_vm_are_the_guests_own() {
    use AnnouncementKind::{Create, Destroy};
    let mut stage = Stage::with_sessions();
    let victim = stage.victims_addresses().nth(1).expect("its first session");
    // Names of the core's services and of the victim's, at addresses of theirs, from sources of theirs.
    let forged = [
        (RAW, "rpmsg-raw", RAW),
        (NAME_SERVICE_ADDRESS, "rpmsg-raw", HERE),
        (victim, VICTIMS_SERVICE, victim),
        (HERE, VICTIMS_SERVICE, HERE),
        (ANY_ADDRESS, "forged", 1 << 31 | NAME_SERVICE_ADDRESS),
    ];
    for (src, name, address) in forged {
        news(&mut stage.spoofer, src, name, address, Create);
    }
    Rig::settle(&mut stage.spoofer);
    let services = stage.rig.core().host_services();
    assert_eq!(services.len(), 1 + forged.len(), "{services:x?}");
    let own = to_host(Slot::new(1).unwrap(), Session::new(1), HERE).unwrap();
    for name in ["rpmsg-raw", VICTIMS_SERVICE] {
        assert!(services.contains(&(name.to_owned(), own)), "{name} in {services:x?}");
    }
    let (core, table) = (0x400..0x500, 127 << 24..128 << 24);
    assert!(services.iter().all(|(_, address)| !core.contains(address)), "{services:x?}");
    assert_eq!(services.iter().filter(|(_, address)| table.contains(address)).count(), 2, "{services:x?}");

    // Twice, at no address, and at the name service's own.
    news(&mut stage.spoofer, HERE, VICTIMS_SERVICE, HERE, Create);
    news(&mut stage.spoofer, HERE, VICTIMS_SERVICE, ANY_ADDRESS, Create);
    news(&mut stage.spoofer, HERE, VICTIMS_SERVICE, NAME_SERVICE_ADDRESS, Create);
    Rig::settle(&mut stage.spoofer);
    assert_eq!(stage.rig.core().host_services(), services);

    for (src, name, address) in forged {
        news(&mut stage.spoofer, src, name, address, Destroy);
    }
    Rig::settle(&mut stage.spoofer);
    assert_eq!(stage.rig.core().host_services().len(), 1, "that of the victim");
    stage.ends_with(&[("malformed name service message", 2), ("impossible source address", 1)]);
}

#[test]
fn a_guest_that_announces_without_end_gets_no_further_than_its_share() {
    let mut stage = Stage::with_sessions();
    let (room, more) = (256, 30);
    for number in 0..room + more {
        stage.spoofer.announce(&format!("service-{number}"), HERE);
    }
    Rig::settle(&mut stage.spoofer);
    assert_eq!(stage.rig.core().host_services().len(), 1 + room);
    stage.victim.announce("another", HERE + 1);
    Rig::settle(&mut stage.victim);
    assert_eq!(stage.rig.core().host_services().len(), 2 + room);
    stage.ends_with(&[("too many announcements", more as u64)]);
}
