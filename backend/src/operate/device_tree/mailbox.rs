//! Channels, `mboxes` and `mbox-names` of a node, and the controllers that they lead to.

use super::{
    error::DeviceTreeError,
    found::{Family, Interrupt, Mailbox, Span},
    tree::{Node, Property, Reference},
};
use crate::remote::mailbox::MuVersion;

/// IPI agents of Zynq UltraScale+ by number: the registers' address of each, and its bit in those of the others.
/// Source: UG1085, table "IPI Channel and Message Buffer Default Associations"; Trusted Firmware-A
/// `plat/xilinx/zynqmp/zynqmp_ipi.c`, whose numbers `xlnx,ipi-id` has.
const IPI_AGENTS: [(u64, u8); 11] = [
    (0xff30_0000, 0),  // APU
    (0xff31_0000, 8),  // RPU 0
    (0xff32_0000, 9),  // RPU 1
    (0xff33_0000, 16), // PMU 0 to 3
    (0xff33_1000, 17),
    (0xff33_2000, 18),
    (0xff33_3000, 19),
    (0xff34_0000, 24), // PL 0 to 3
    (0xff35_0000, 25),
    (0xff36_0000, 26),
    (0xff37_0000, 27),
];
/// Bytes from one agent's registers to those of the next, where they are closest.
const IPI_REGISTERS: u64 = 0x1000;

/// The channels that a node uses.
pub(super) struct Channels<'t> {
    property: Property<'t>,
    channels: Vec<Channel<'t>>,
}

/// A channel that a node uses.
pub(super) struct Channel<'t> {
    property: Property<'t>,
    name: Option<&'t str>,
    reference: Reference<'t>,
}

impl<'t> Channels<'t> {
    /// Those of a node, if it has any.
    pub(super) fn of(node: Node<'t>) -> Result<Option<Self>, DeviceTreeError> {
        node.property("mboxes").map(Self::read).transpose()
    }

    /// Those of a node, which must have some.
    pub(super) fn required(node: Node<'t>) -> Result<Self, DeviceTreeError> {
        Self::read(node.require("mboxes", "the mailbox channels to the core")?)
    }

    fn read(property: Property<'t>) -> Result<Self, DeviceTreeError> {
        let references = property.references("#mbox-cells")?;
        let mut names = Vec::new();
        if let Some(property) = property.node.property("mbox-names") {
            names = property.strings()?;
            if names.len() != references.len() {
                return Err(
                    property.wrong(format!("{} names, as many as there are 'mboxes'", references.len()))
                );
            }
        }
        let names = names.into_iter().map(Some).chain(std::iter::repeat(None));
        let channels = references.into_iter().zip(names);
        let channels = channels.map(|(reference, name)| Channel { property, name, reference }).collect();
        Ok(Channels { property, channels })
    }

    pub(super) fn named(&self, name: &str) -> Option<&Channel<'t>> {
        self.channels.iter().find(|channel| channel.name == Some(name))
    }

    pub(super) fn required_name(&self, name: &str) -> Result<&Channel<'t>, DeviceTreeError> {
        self.named(name).ok_or_else(|| {
            let names = self.property.node.property("mbox-names").unwrap_or(self.property);
            names.wrong(format!("a channel named \"{name}\" in 'mbox-names'"))
        })
    }

    /// The controller of all channels.
    pub(super) fn controller(&self) -> Result<Node<'t>, DeviceTreeError> {
        let first = self.channels.first().ok_or_else(|| self.property.wrong("at least one channel"))?;
        let controller = first.reference.target;
        if self.channels.iter().all(|channel| channel.reference.target.is(controller)) {
            Ok(controller)
        } else {
            Err(self
                .property
                .wrong(format!("channels of one controller, as the first is of {}", controller.path())))
        }
    }
}

impl Channel<'_> {
    /// Its only argument, a number of at most `most`.
    pub(super) fn number(&self, most: u8) -> Result<u8, DeviceTreeError> {
        let number = match self.reference.arguments.as_slice() {
            [number] => u8::try_from(*number).ok().filter(|number| *number <= most),
            _ => None,
        };
        number.ok_or_else(|| self.property.wrong(format!("one number from 0 to {most} for each channel")))
    }

    /// Its number, if its kind is the expected one.
    fn number_of_kind(&self, kind: u32, what: &str) -> Result<u8, DeviceTreeError> {
        let number = match self.reference.arguments.as_slice() {
            [found, number] if *found == kind => u8::try_from(*number).ok().filter(|number| *number <= 3),
            _ => None,
        };
        let name = self.name.unwrap_or_default();
        number.ok_or_else(|| {
            self.property.wrong(format!("\"{name}\" to be {what}: {kind} and a number from 0 to 3"))
        })
    }
}

/// The messaging unit that a core of i.MX names.
pub(super) fn imx_mu(core: Node) -> Result<(Node, Mailbox), DeviceTreeError> {
    let channels = Channels::required(core)?;
    let controller = channels.controller()?;
    let versions = [
        ("fsl,imx6sx-mu", MuVersion::V1),
        ("fsl,imx8ulp-mu", MuVersion::V2),
        ("fsl,imx95-mu", MuVersion::V2),
    ];
    let version = compatible_with(controller, &versions)?;
    let transmit = channels.required_name("tx")?.number_of_kind(0, "a transmit channel")?;
    let receive = channels.required_name("rx")?.number_of_kind(1, "a receive channel")?;
    let doorbell = channels.named("rxdb").map(|channel| channel.number_of_kind(3, "a receive doorbell"));
    let family = Family::ImxMu { version, transmit, receive, doorbell: doorbell.transpose()? };
    Ok((controller, mailbox(controller, family)?))
}

/// The communication controller of all `channels`, which may be of several nodes.
pub(super) fn stm32_ipcc<'t>(
    core: Node<'t>,
    channels: &[Channels<'t>],
) -> Result<(Node<'t>, Mailbox), DeviceTreeError> {
    let Some((first, others)) = channels.split_first() else {
        return Channels::required(core).and_then(|own| stm32_ipcc(core, &[own]));
    };
    let controller = first.controller()?;
    for channels in others {
        if !channels.controller()?.is(controller) {
            return Err(channels.property.wrong(format!("channels of {}, as elsewhere", controller.path())));
        }
    }
    compatible_with(controller, &[("st,stm32mp1-ipcc", ())])?;
    let processor =
        controller.require("st,proc-id", "which of the two processors the host is")?.cell_up_to(1)?;
    let named = |name| channels.iter().find_map(|channels| channels.named(name));
    let number = |name| named(name).map(|channel| channel.number(15)).transpose();
    let family = Family::Stm32Ipcc { processor, shutdown: number("shutdown")?, detach: number("detach")? };
    Ok((controller, mailbox(controller, family)?))
}

/// The pair of FIFOs that a core of TI names: the argument of its channel is the phandle of their node.
pub(super) fn omap(core: Node) -> Result<(Node, Mailbox), DeviceTreeError> {
    let channels = Channels::required(core)?;
    let controller = channels.controller()?;
    compatible_with(
        controller,
        &[("ti,am64-mailbox", ()), ("ti,am654-mailbox", ()), ("ti,omap4-mailbox", ())],
    )?;
    let [channel] = channels.channels.as_slice() else {
        return Err(channels.property.wrong("one pair of FIFOs, for all vrings"));
    };
    let pair = match channel.reference.arguments.as_slice() {
        [phandle] => channels.property.target(*phandle)?,
        _ => {
            return Err(channels
                .property
                .wrong("the phandle of a pair of FIFOs after that of the controller"));
        }
    };
    if !pair.parent().is_some_and(|parent| parent.is(controller)) {
        let expected = format!("a child of {}, which {} is not", controller.path(), pair.path());
        return Err(channels.property.wrong(expected));
    }
    let fifos = controller.number_or("ti,mbox-num-fifos", 16)?.min(16);
    let users = controller.number_or("ti,mbox-num-users", 4)?.min(4);
    let descriptor = |name, what| {
        let property =
            pair.require(name, format!("the FIFO that the host {what}, its interrupt and its user"))?;
        match property.cells()?.as_slice() {
            [fifo, interrupt, user] if *fifo < fifos && *user < users => {
                Ok((property, *fifo, *interrupt, *user))
            }
            _ => Err(property
                .wrong(format!("a FIFO below {fifos}, an interrupt's index and a user below {users}"))),
        }
    };
    let (_, transmit, ..) = descriptor("ti,mbox-tx", "writes")?;
    let (property, receive, index, user) = descriptor("ti,mbox-rx", "reads")?;
    let byte = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    let family =
        Family::OmapMailbox { receive_fifo: byte(receive), transmit_fifo: byte(transmit), user: byte(user) };
    let mut mailbox = mailbox(controller, family)?;
    // The cluster's other interrupts belong to others.
    let interrupt = usize::try_from(index).ok().filter(|index| *index < mailbox.interrupts.len());
    let interrupt = interrupt.ok_or_else(|| {
        property.wrong(format!(
            "an interrupt's index below {}, the number that the cluster has",
            mailbox.interrupts.len()
        ))
    })?;
    mailbox.interrupts = vec![mailbox.interrupts.swap_remove(interrupt)];
    Ok((controller, mailbox))
}

/// The inter-processor interrupt that a core of Zynq UltraScale+ names.
pub(super) fn zynqmp_ipi(core: Node) -> Result<(Node, Mailbox), DeviceTreeError> {
    let channels = Channels::required(core)?;
    let destination = channels.controller()?;
    channels.required_name("tx")?;
    channels.required_name("rx")?;
    let host = destination.parent().unwrap_or(destination);
    compatible_with(host, &[("xlnx,zynqmp-ipi-mailbox", ())])?;
    let agent = |node: Node, whose| {
        let property =
            node.require("xlnx,ipi-id", format!("the number of the {whose} IPI agent, 0 to 10"))?;
        let number = property.cell_up_to(10)?;
        let agent = IPI_AGENTS.get(usize::from(number)).ok_or_else(|| property.wrong("0 to 10"))?;
        Ok((number, *agent))
    };
    let (local, (registers, _)) = agent(host, "host's")?;
    let (remote, (_, remote_bit)) = agent(destination, "remote's")?;
    let names = destination.require("reg-names", "the names of the message buffers")?;
    let buffer = |name: &str| {
        let index = names.strings()?.iter().position(|found| *found == name);
        let index = index.ok_or_else(|| names.wrong(format!("\"{name}\" among them")))?;
        destination.physical(index)
    };
    let family = Family::ZynqmpIpi {
        local,
        remote,
        remote_bit,
        request: buffer("local_request_region")?,
        remote_request: buffer("remote_request_region")?,
    };
    let registers = Span { address: registers, size: IPI_REGISTERS };
    Ok((destination, Mailbox { node: destination.path(), registers, family, interrupts: interrupts(host)? }))
}

fn mailbox(controller: Node, family: Family) -> Result<Mailbox, DeviceTreeError> {
    Ok(Mailbox {
        node: controller.path(),
        registers: controller.physical(0)?,
        family,
        interrupts: interrupts(controller)?,
    })
}

/// What the controller's kind stands for.
fn compatible_with<T: Copy>(controller: Node, kinds: &[(&str, T)]) -> Result<T, DeviceTreeError> {
    let found = controller.compatible()?;
    if let Some((_, meaning)) = kinds.iter().find(|(kind, _)| found.contains(kind)) {
        return Ok(*meaning);
    }
    let kinds: Vec<_> = kinds.iter().map(|(kind, _)| format!("\"{kind}\"")).collect();
    let expected = format!("a mailbox of a kind that is known here: {}", kinds.join(" or "));
    Err(controller.require("compatible", expected.clone())?.wrong(expected))
}

/// The node's interrupts, at least one.
fn interrupts(node: Node) -> Result<Vec<Interrupt>, DeviceTreeError> {
    let names = node.property("interrupt-names").map_or(Ok(Vec::new()), Property::strings)?;
    let mut names = names.into_iter();
    let mut interrupt = |controller: String, cells: &[u32]| Interrupt {
        name: names.next().map(str::to_owned),
        controller,
        cells: cells.to_vec(),
    };
    if let Some(property) = node.property("interrupts-extended") {
        let references = property.references("#interrupt-cells")?;
        return Ok(references.iter().map(|each| interrupt(each.target.path(), &each.arguments)).collect());
    }
    let property = node.require("interrupts", "the interrupts of the mailbox")?;
    let parent = match node.ancestry().find_map(|node| node.property("interrupt-parent")) {
        Some(parent) => parent,
        None => node.require("interrupt-parent", "the interrupt controller, here or in a parent")?,
    };
    let parent = parent.target(parent.cell()?)?;
    let cells =
        parent.require("#interrupt-cells", format!("it, since interrupts of {} come here", node.path()))?;
    let each = usize::from(cells.cell_up_to(8)?);
    let numbers = property.cells()?;
    if each == 0 || numbers.is_empty() || !numbers.len().is_multiple_of(each) {
        return Err(property.wrong(format!("groups of {each} numbers, as {} has them", parent.path())));
    }
    Ok(numbers.chunks_exact(each).map(|cells| interrupt(parent.path(), cells)).collect())
}
