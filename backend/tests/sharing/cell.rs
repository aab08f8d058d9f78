//! One cell of the life matrix: so many VMs share services in one mode, and the same thing happens to some of them while
//! all stream.
//!
//! It happens twice. First while the core hangs with messages of every VM in its ring: all of them are answered after the
//! event, so that there are answers to sessions that have ended for certain. Then while everything runs.

use std::path::PathBuf;

use vhost_device_rpmsg::rpmsg::address::{HostAddress, from_host};

use crate::harness::guest::Guest;
use crate::harness::options::GuestOptions;
use crate::harness::rig::{Plan, Rig};
use crate::ledger::Tally;
use crate::vm::{Burst, Role, Vm};

/// Messages that the core has room for.
const BUFFERS: u16 = 256;
/// Messages of each VM that are at the core when it hangs: no more than the share of one VM of 64.
const AT_THE_CORE: Burst = [1, 2];
/// Messages that each VM has just put into its ring when the core does not hang.
const IN_THE_RING: Burst = [4, 12];

/// How a service is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All have the same echo.
    Shared,
    /// Each has a latching echo of its own, which another VM takes over when it is gone.
    Exclusive,
    /// All have the same latching echo.
    Serialized,
    /// The first VM sends to an echo that all others listen to.
    Broadcast,
}

/// What happens to some of the VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The driver comes up anew and streams on.
    Reset,
    /// The driver goes, and a new one comes up while others have streamed on.
    Unbind,
    /// The driver comes up anew, streams on and announces its service again.
    Reboot,
    /// The connection is cut.
    Kill,
    /// The connection is cut, and a new one made at once, over which the VM announces and streams anew.
    Return,
}

/// The world of one cell.
pub(crate) struct Cell {
    rig: Rig,
    mode: Mode,
    event: Event,
    /// By number; `None` where one is gone.
    vms: Vec<Option<Vm>>,
    /// How often each VM's driver has come up, that of the heir last.
    sessions: Vec<u32>,
    tally: Tally,
}

impl Cell {
    /// Plays the cell to its end. What has become of all messages.
    pub(crate) fn play(count: u8, mode: Mode, event: Event) -> Tally {
        let mut cell = Cell::start(count, mode, event);
        cell.wave(true);
        cell.wave(false);
        for vm in std::mem::take(&mut cell.vms).into_iter().flatten() {
            cell.tally += vm.finish();
        }
        cell.tally
    }

    /// Starts core and program. The first VM is in slot 0, which has no sessions, and nothing ever happens to it; the
    /// last one of the plan is the heir.
    fn start(count: u8, mode: Mode, event: Event) -> Self {
        let plan = Plan { vms: count + 1, ..Plan::default() }.observed();
        let mut rig = Rig::start_with(plan, |config| config + mode.config());
        match mode {
            Mode::Shared | Mode::Serialized => {}
            Mode::Exclusive => (0..count).for_each(|vm| {
                rig.core().command(&format!("announce latching-echo:{}", mode.service(vm)));
            }),
            Mode::Broadcast => drop(rig.core().command("announce rpmsg-raw:stream")),
        }
        let vms = (0..count).map(|_| None).collect();
        Cell { rig, mode, event, vms, sessions: vec![0; usize::from(count) + 1], tally: Tally::default() }
    }

    /// The VMs that it happens to: one of 2, three of 8, eight of 64, never the first.
    fn victims(&self) -> Vec<u8> {
        let numbers = 1_u8..;
        let step = if self.vms.len() == 64 { 8 } else { 3 };
        numbers.zip(&self.vms[1..]).step_by(step).map(|(number, _)| number).collect()
    }

    fn vm(&mut self, number: u8) -> &mut Vm {
        self.vms[usize::from(number)].as_mut().expect("the VM is up")
    }

    fn heir(&self) -> u8 {
        u8::try_from(self.vms.len()).expect("at most 64 VMs")
    }

    fn socket(&self, number: u8) -> PathBuf {
        self.rig.socket(number)
    }

    /// The number of the session that VM `number` begins now, and what it does in it.
    fn begin(&mut self, number: u8) -> (u32, Role) {
        let session = &mut self.sessions[usize::from(number)];
        *session += 1;
        let role = match (self.mode, number) {
            (Mode::Broadcast, 1..) => {
                let (stream, sent) = self.vm(0).stream();
                Role::Listens(stream, sent)
            }
            _ => Role::Sends,
        };
        (self.sessions[usize::from(number)], role)
    }

    fn connect(&mut self, number: u8) {
        let (session, role) = self.begin(number);
        let vm = Vm::connect(&self.socket(number), &self.mode.service(number), number, session, role);
        self.vms[usize::from(number)] = Some(vm);
    }

    fn renew(&mut self, number: u8) {
        let (session, role) = self.begin(number);
        let service = self.mode.service(number);
        self.vm(number).renew(&service, number, session, role);
    }

    fn kill(&mut self, number: u8) {
        let vm = self.vms[usize::from(number)].take().expect("the VM is up");
        self.tally += vm.kill();
    }

    /// All VMs send `burst` more messages each; at most `lag` per line are under way afterwards.
    fn stream(&mut self, burst: Burst, lag: u32) {
        for number in 0..self.vms.len() {
            let sent = self.vms[0].as_ref().map_or(0, |vm| vm.stream().1);
            if let Some(vm) = &mut self.vms[number] {
                // Only listeners go by what another VM has sent.
                vm.expect(sent);
                vm.run(burst, lag);
            }
        }
    }

    fn wave(&mut self, core_hangs: bool) {
        for number in 0..self.heir() {
            if self.vms[usize::from(number)].is_none() {
                self.connect(number);
            }
            self.vm(number).announce();
        }
        for _ in 0..2 {
            self.stream(self.mode.burst(), 8);
        }
        let before = self.announced();
        let victims = self.victims();
        let bystanders: Vec<_> = (0..self.heir()).filter(|number| !victims.contains(number)).collect();
        if core_hangs {
            self.stream([0, 0], 0);
            self.rig.core().command("hang");
            // The victims first, so that one of them has the turn.
            for number in victims.into_iter().chain(bystanders) {
                self.vm(number).send_ahead(AT_THE_CORE);
                self.vm(number).flush_but(0);
            }
        } else {
            bystanders.into_iter().for_each(|number| self.vm(number).send_ahead(IN_THE_RING));
        }

        self.happen(core_hangs);

        for _ in 0..2 {
            self.stream(self.mode.burst(), 8);
        }
        self.stream([0, 0], 0);
        if core_hangs {
            self.late_messages_have_come();
        }
        self.announcements_are_those_of_the_living(&before);
        if self.event == Event::Kill {
            self.heirs_take_over();
        }
        self.all_buffers_are_back();
    }

    /// What the cell is about. The core runs afterwards.
    fn happen(&mut self, core_hangs: bool) {
        for number in self.victims() {
            if !core_hangs {
                self.vm(number).send_ahead(IN_THE_RING);
            }
            match self.event {
                Event::Reset => self.renew(number),
                Event::Unbind => self.vm(number).unbind(),
                Event::Reboot => {
                    self.renew(number);
                    self.vm(number).announce();
                }
                Event::Kill => {
                    self.kill(number);
                    self.wait_gone(number);
                }
                Event::Return => {
                    self.kill(number);
                    self.connect(number);
                    self.vm(number).announce();
                }
            }
            let is_up = !matches!(self.event, Event::Kill | Event::Unbind);
            if core_hangs && is_up {
                self.vm(number).send_ahead(AT_THE_CORE);
            }
        }
        if core_hangs {
            self.rig.core().command("resume");
        }
        if self.event == Event::Unbind {
            let victims = self.victims();
            let away: Vec<_> = victims.iter().map(|number| self.vms[usize::from(*number)].take()).collect();
            self.stream(self.mode.burst(), 0);
            for (number, vm) in victims.into_iter().zip(away) {
                self.vms[usize::from(number)] = vm;
                self.renew(number);
            }
        }
    }

    /// Waits until the program knows that the connection is gone: it serves the next one after that only.
    fn wait_gone(&self, number: u8) {
        drop(Guest::connect_only(&self.socket(number), GuestOptions::default()));
    }

    /// Whatever was on its way to the sessions that have ended did come, and was kept from those after them.
    fn late_messages_have_come(&mut self) {
        // Nobody can tell a driver that is gone from a pause: what comes meanwhile is held for it, as far as its share goes.
        let reason = match self.event {
            Event::Unbind => "",
            _ => "for an ended session",
        };
        for number in self.victims() {
            self.rig.program().wait_log(&format!("vm vm{number}: message dropped, {reason}"));
        }
    }

    /// Slot and host address of each VM's own service, as the core knows them.
    fn announced(&mut self) -> Vec<(u8, u32)> {
        self.rig.settle_all();
        let services = self.rig.core().host_services();
        let mut found: Vec<_> = services
            .into_iter()
            .map(|(name, address)| {
                let HostAddress::Guest { slot, .. } = from_host(address) else {
                    panic!("{name} at {address:#x} is no guest's");
                };
                assert_eq!(name, Vm::own_service());
                (slot.number(), address)
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// The core knows the service of each VM that has announced one in its present session, and none else.
    fn announcements_are_those_of_the_living(&mut self, before: &[(u8, u32)]) {
        let after = self.announced();
        let slots: Vec<_> = after.iter().map(|(slot, _)| *slot).collect();
        let has_announced =
            |number: &u8| self.vms[usize::from(*number)].as_ref().is_some_and(Vm::has_announced);
        let expected: Vec<_> = (0..self.heir()).filter(has_announced).collect();
        assert_eq!(slots, expected, "VMs whose services the core knows: {after:#x?}");
        let victims = self.victims();
        for (slot, address) in after {
            let is_new = !before.contains(&(slot, address));
            assert_eq!(is_new, victims.contains(&slot), "VM {slot} has its service at {address:#x}");
        }
    }

    /// What the dead had for themselves is free: another VM streams over it.
    fn heirs_take_over(&mut self) {
        let inherited = match self.mode {
            Mode::Exclusive => self.victims(),
            _ => vec![self.heir()],
        };
        for number in inherited {
            let (session, role) = self.begin(self.heir());
            let service = self.mode.service(number);
            let mut heir = Vm::connect(&self.socket(self.heir()), &service, self.heir(), session, role);
            heir.run(self.mode.burst(), 0);
            self.tally += heir.finish();
        }
        self.wait_gone(self.heir());
    }

    /// One VM gets all the buffers of the core but those that are kept for the others, one each; and the stream goes on.
    fn all_buffers_are_back(&mut self) {
        let others = self.vms.iter().flatten().count() - 1;
        self.rig.core().command("hang");
        self.vm(0).send_ahead([0, BUFFERS.into()]);
        self.vm(0).flush_but(others);
        self.rig.core().command("resume");
        self.stream([0, 0], 0);
    }
}

impl Mode {
    /// All modes, in the order of the table.
    pub(crate) const ALL: [Mode; 4] = [Mode::Shared, Mode::Exclusive, Mode::Serialized, Mode::Broadcast];

    /// The tables of the configuration that it takes. No turn ends by time: how long a hang lasts is up to the machine.
    fn config(self) -> &'static str {
        match self {
            Mode::Shared => "",
            Mode::Exclusive => "[[service]]\nname = \"own-*\"\nmode = \"exclusive\"\n",
            Mode::Serialized => {
                "[[service]]\nname = \"latching-echo\"\nmode = \"serialized\"\ntime-out = \"60min\"\n"
            }
            Mode::Broadcast => "[[service]]\nname = \"stream\"\nmode = \"broadcast\"\nowner = \"vm0\"\n",
        }
    }

    /// The service under test, as VM `number` uses it.
    fn service(self, number: u8) -> String {
        match self {
            Mode::Shared => "rpmsg-tty".to_owned(),
            Mode::Exclusive => format!("own-{number}"),
            Mode::Serialized => "latching-echo".to_owned(),
            Mode::Broadcast => "stream".to_owned(),
        }
    }

    /// Messages that a VM sends at a time; one that waits for its turn takes a round trip for each.
    fn burst(self) -> Burst {
        match self {
            Mode::Serialized => [24, 48],
            _ => [64, 64],
        }
    }
}

impl Event {
    /// All events, in the order of the table.
    pub(crate) const ALL: [Event; 5] =
        [Event::Reset, Event::Unbind, Event::Reboot, Event::Kill, Event::Return];
}
