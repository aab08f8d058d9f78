//! The services: who sees which, how they share it, and which the remote has without announcing them.

use std::{collections::HashMap, time::Duration};

use toml::Spanned;

use super::{
    Holder, Resolver, absent, choice, line_at, list, named_remote, remote_address, start, take, time,
};
use crate::{
    bridge::policy::{Mode, Pattern, Reply, Rule, Slots, Turns, Unsolicited},
    operate::{
        config::{
            Fault,
            keys::{self, Key},
            raw,
        },
        plan::{RemotePlan, VmPlan},
    },
    rpmsg::ServiceName,
};

/// How long a VM has to wait for its answer at most where nothing is said, before the next has its turn.
const TIME_OUT: Duration = Duration::from_secs(1);
/// How long late answers are dropped where nothing is said.
const QUARANTINE: Duration = Duration::from_secs(5);

/// The word for [`Mode::Serialized`], which has keys of its own.
const SERIALIZED: &str = "serialized";

/// What is known of the services while they are resolved. Places are offsets in the text.
struct Services<'a> {
    text: &'a str,
    vms: &'a [VmPlan],
    remotes: &'a mut [RemotePlan],
    /// Where the rules of each remote stand, in their order.
    rules: Vec<Vec<usize>>,
    /// The addresses of the static services, by remote.
    addresses: HashMap<(usize, u32), Holder>,
}

impl Resolver<'_> {
    /// Puts the services into the policies of the remotes.
    pub(super) fn services(
        &self,
        services: &[Spanned<raw::Service>],
        remotes: &mut [RemotePlan],
        vms: &[VmPlan],
    ) -> Result<(), Fault> {
        let rules = vec![Vec::new(); remotes.len()];
        let mut all = Services { text: self.text, vms, remotes, rules, addresses: HashMap::new() };
        services.iter().try_for_each(|service| all.add(service.get_ref()))
    }
}

impl<'a> Services<'a> {
    fn add(&mut self, service: &raw::Service) -> Result<(), Fault> {
        let pattern = pattern(&service.name)?;
        let remotes = match &service.remote {
            Some(name) => vec![named_remote(&keys::SERVICE_REMOTE, name, self.remotes)?],
            None => (0..self.remotes.len()).collect(),
        };
        let visible = service.vms.as_ref().map(|names| self.members(names, service, &remotes)).transpose()?;
        let mode = self.mode(service, &remotes, visible.as_deref())?;
        self.add_static(service, &remotes)?;
        let Some(remotes) = self.not_shadowed(service, &pattern, remotes)? else { return Ok(()) };
        for remote in remotes {
            let visible_to = match &visible {
                None => Slots::ALL,
                Some(vms) => vms.iter().filter(|vm| vm.remote == remote).map(|vm| vm.slot).collect(),
            };
            let rule = Rule { pattern: pattern.clone(), visible_to, mode };
            self.remotes[remote].policy.rules.push(rule);
            self.rules[remote].push(start(&service.name));
        }
        Ok(())
    }

    /// Adds the service itself, where the table gives its address.
    fn add_static(&mut self, service: &raw::Service, remotes: &[usize]) -> Result<(), Fault> {
        let Some(value) = &service.address else { return Ok(()) };
        let name = service.name.get_ref();
        if name.contains(['*', '?']) {
            let fault = Fault::new(&keys::SERVICE_NAME, start(&service.name), format!("{name:?}"));
            return Err(fault.expected("a name without * and ? beside an `address`"));
        }
        let address = remote_address(&keys::SERVICE_ADDRESS, value)?;
        let plain = ServiceName::new(name)
            .map_err(|error| Fault::new(&keys::SERVICE_NAME, start(&service.name), error.to_string()))?;
        for remote in remotes {
            let place = (*remote, address);
            let written = format!("{address:#x}");
            take(&mut self.addresses, place, self.text, &keys::SERVICE_ADDRESS, start(value), &written)?;
            self.remotes[*remote].policy.static_services.push((plain, address));
        }
        Ok(())
    }

    /// The remotes at which names are left for this pattern. `None` where there is none, and the table needs none.
    fn not_shadowed(
        &self,
        service: &raw::Service,
        pattern: &Pattern,
        remotes: Vec<usize>,
    ) -> Result<Option<Vec<usize>>, Fault> {
        let shadow = |remote: usize| {
            let rules = self.remotes[remote].policy.rules.iter().zip(&self.rules[remote]);
            rules.into_iter().find(|(rule, _)| rule.pattern.covers(pattern)).map(|(_, at)| *at)
        };
        let shadows: Vec<_> = remotes.iter().filter_map(|remote| shadow(*remote)).collect();
        if shadows.len() < remotes.len() {
            return Ok(Some(remotes.into_iter().filter(|remote| shadow(*remote).is_none()).collect()));
        }
        let only_an_address = service.address.is_some() && service.mode.is_none() && service.vms.is_none();
        if only_an_address {
            return Ok(None);
        }
        let line = line_at(self.text, shadows[0]);
        let name = service.name.get_ref();
        let fault = Fault::new(
            &keys::SERVICE_NAME,
            start(&service.name),
            format!("{name:?}, of which line {line} has matched every name before"),
        );
        let fault = fault.expected("a pattern that leaves it names of its own");
        Err(fault.remedy(format!("the first match holds: put it before line {line}, or remove one of them")))
    }

    /// The VMs that a table names.
    fn members(
        &self,
        names: &[Spanned<String>],
        service: &raw::Service,
        remotes: &[usize],
    ) -> Result<Vec<&'a VmPlan>, Fault> {
        let mut members: Vec<&VmPlan> = Vec::new();
        for name in names {
            let vm = self.vm(&keys::SERVICE_VMS, name, "")?;
            if members.iter().any(|earlier| earlier.name == vm.name) {
                let found = format!("{:?} again", name.get_ref());
                return Err(Fault::new(&keys::SERVICE_VMS, start(name), found));
            }
            if service.remote.is_some() || self.remotes.len() == 1 {
                self.check_remote(&keys::SERVICE_VMS, name, vm, remotes)?;
            }
            members.push(vm);
        }
        Ok(members)
    }

    /// The VM that stands out among those that see a service: it has to see it, at every remote of the table.
    fn one_of(
        &self,
        key: &Key,
        name: &Spanned<String>,
        besides: &str,
        remotes: &[usize],
        visible: Option<&[&VmPlan]>,
    ) -> Result<&'a VmPlan, Fault> {
        let vm = self.vm(key, name, besides)?;
        self.check_remote(key, name, vm, remotes)?;
        match visible {
            Some(vms) if !vms.iter().any(|other| other.name == vm.name) => {
                let members = list(vms.iter().map(|vm| vm.name.as_str()));
                let expected =
                    format!("{besides}a VM that `vms` lets see the service, of which there are: {members}");
                Err(Fault::new(key, start(name), format!("{:?}", vm.name)).expected(expected))
            }
            _ => Ok(vm),
        }
    }

    /// The VM of this name. `besides`: what else could have stood there.
    fn vm(&self, key: &Key, name: &Spanned<String>, besides: &str) -> Result<&'a VmPlan, Fault> {
        self.vms.iter().find(|vm| vm.name == *name.get_ref()).ok_or_else(|| {
            let known = list(self.vms.iter().map(|vm| vm.name.as_str()));
            let expected = format!("{besides}the name of a VM, of which there are: {known}");
            Fault::new(key, start(name), format!("{:?}", name.get_ref())).expected(expected)
        })
    }

    /// Demands that a VM is at every remote that a table is for.
    fn check_remote(
        &self,
        key: &Key,
        name: &Spanned<String>,
        vm: &VmPlan,
        remotes: &[usize],
    ) -> Result<(), Fault> {
        if remotes == [vm.remote] {
            return Ok(());
        }
        let its = &self.remotes[vm.remote].name;
        let found = format!("{:?}, which is a VM of {its}", vm.name);
        let names = list(remotes.iter().map(|remote| self.remotes[*remote].name.as_str()));
        let fault = Fault::new(key, start(name), found);
        Err(match remotes {
            [_] => fault.expected(format!("a VM of {names}")),
            _ => fault
                .expected(format!("a VM of every remote that the table is for: {names}"))
                .remedy(format!("say remote = {its:?}")),
        })
    }

    fn mode(
        &self,
        service: &raw::Service,
        remotes: &[usize],
        visible: Option<&[&VmPlan]>,
    ) -> Result<Mode, Fault> {
        let words = ["shared", "exclusive", SERIALIZED, "broadcast"].map(|word| (word, word));
        let mode = choice(&keys::SERVICE_MODE, service.mode.as_ref(), &words)?;
        let with = format!("mode = {mode:?}");
        if mode != SERIALIZED {
            let turns = [
                (&keys::SERVICE_TIME_OUT, service.time_out.as_ref().map(start)),
                (&keys::SERVICE_QUARANTINE, service.quarantine.as_ref().map(start)),
                (&keys::SERVICE_REPLY, service.reply.as_ref().map(start)),
                (&keys::SERVICE_UNSOLICITED, service.unsolicited.as_ref().map(start)),
            ];
            absent(&turns, &with, "mode = \"serialized\"")?;
        }
        let owner = || {
            let name = service.owner.as_ref();
            let vm = name.map(|name| self.one_of(&keys::SERVICE_OWNER, name, "", remotes, visible));
            Ok(vm.transpose()?.map(|vm| vm.slot))
        };
        match mode {
            "exclusive" => Ok(Mode::Exclusive { owner: owner()? }),
            "broadcast" => Ok(Mode::Broadcast { owner: owner()? }),
            _ => {
                let owner = [(&keys::SERVICE_OWNER, service.owner.as_ref().map(start))];
                absent(&owner, &with, "mode = \"exclusive\" or \"broadcast\"")?;
                match mode {
                    SERIALIZED => Ok(Mode::Serialized(self.turns(service, remotes, visible)?)),
                    _ => Ok(Mode::Shared),
                }
            }
        }
    }

    fn turns(
        &self,
        service: &raw::Service,
        remotes: &[usize],
        visible: Option<&[&VmPlan]>,
    ) -> Result<Turns, Fault> {
        let words = [("one", Reply::One), ("none", Reply::None), ("several", Reply::Several)];
        let reply = choice(&keys::SERVICE_REPLY, service.reply.as_ref(), &words)?;
        let time_out = (&keys::SERVICE_TIME_OUT, service.time_out.as_ref());
        let quarantine = (&keys::SERVICE_QUARANTINE, service.quarantine.as_ref());
        let place = |(key, value): (_, Option<&_>)| (key, value.map(start));
        let say = "reply = \"one\"";
        match reply {
            Reply::One => {}
            Reply::Several => absent(&[place(quarantine)], "reply = \"several\"", say)?,
            Reply::None => absent(&[place(time_out), place(quarantine)], "reply = \"none\"", say)?,
        }
        let duration =
            |(key, value): (_, Option<&_>), default| value.map_or(Ok(default), |value| time(key, value));
        let unsolicited = match &service.unsolicited {
            None => Unsolicited::Drop,
            Some(word) => match word.get_ref().as_str() {
                "drop" => Unsolicited::Drop,
                "all" => Unsolicited::All,
                _ => {
                    let key = &keys::SERVICE_UNSOLICITED;
                    let vm = self.one_of(key, word, "\"drop\", \"all\" or ", remotes, visible)?;
                    Unsolicited::Vm(vm.slot)
                }
            },
        };
        Ok(Turns {
            reply,
            time_out: duration(time_out, TIME_OUT)?,
            quarantine: duration(quarantine, QUARANTINE)?,
            unsolicited,
        })
    }
}

/// A pattern that a service name can match.
fn pattern(name: &Spanned<String>) -> Result<Pattern, Fault> {
    let text = name.get_ref();
    let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !printable || ServiceName::new(text).is_err() {
        let found = match text.len() {
            length @ 32.. => format!("{text:?}, which has {length}"),
            _ => format!("{text:?}"),
        };
        return Err(Fault::new(&keys::SERVICE_NAME, start(name), found));
    }
    Ok(Pattern::new(text))
}
