//! Records as blocks of pcapng.
//!
//! One interface stands for each VM, with its name. A packet is a header of our own, the rpmsg header as the guest knows it,
//! and the payload: link type `LINKTYPE_USER0`, for want of a number of rpmsg's. The layout is described in
//! `backend/docs/capture.md`, and taken apart by `backend/packaging/wireshark/rpmsg.lua`.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::warn;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};

use crate::bridge::capture::Writer;
use crate::bridge::counters::Reason;
use crate::bridge::tap::{Record, Seen, Way};
use crate::causes::Causes;
use crate::rpmsg::HEADER_LEN;
use crate::rpmsg::address::Slot;

/// `LINKTYPE_USER0`
pub(super) const LINK_TYPE: u32 = 147;
/// Bytes of our own header.
pub(super) const OWN_LEN: usize = 16;
/// Version of our own header, its first byte.
const VERSION: u8 = 1;
/// `if_tsresol`: nanoseconds.
const NANOSECONDS: u8 = 9;
/// `epb_flags`: the packet came in from the guest, or went out to it.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// A capture as it grows.
pub(super) struct Blocks {
    writer: PcapNgWriter<Vec<u8>>,
    remote: String,
    snap_length: usize,
    /// A pair of moments that are the same.
    origin: (Instant, SystemTime),
    interfaces: Vec<Interface>,
}

/// A VM in a capture.
struct Interface {
    slot: Slot,
    recorded: u64,
    /// Records that were lost, as it was last said.
    lost: u64,
}

impl Blocks {
    /// A capture that begins now.
    pub(super) fn new(remote: &str, snap_length: usize) -> Result<Self, PcapError> {
        let program = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::Little,
            options: vec![SectionHeaderOption::UserApplication(program.into())],
            ..SectionHeaderBlock::default()
        };
        Ok(Blocks {
            writer: PcapNgWriter::with_section_header(Vec::new(), section)?,
            remote: remote.to_owned(),
            snap_length,
            origin: (Instant::now(), SystemTime::now()),
            interfaces: Vec::new(),
        })
    }

    /// The bytes since this was last asked for.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }

    /// Says how many records each VM has lost, as `lost` knows it, where it was not said before; of every VM at the `end`.
    pub(super) fn statistics(&mut self, lost: impl Fn(Slot) -> u64, end: bool) {
        let now = self.time(Instant::now());
        let mut blocks = Vec::new();
        for (number, interface) in (0..).zip(&mut self.interfaces) {
            let lost = lost(interface.slot).max(interface.lost);
            if !end && lost == interface.lost {
                continue;
            }
            interface.lost = lost;
            let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
            blocks.push(InterfaceStatisticsBlock {
                interface_id: number,
                // The format has the upper half first, the crate the lower one.
                timestamp: nanoseconds.rotate_left(32),
                options: vec![
                    InterfaceStatisticsOption::IsbIfRecv(interface.recorded + lost),
                    InterfaceStatisticsOption::IsbIfDrop(lost),
                ],
            });
        }
        blocks.into_iter().for_each(|block| self.write(block));
    }

    /// A moment as time since 1970.
    fn time(&self, at: Instant) -> Duration {
        let (instant, time) = self.origin;
        let origin = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        match at.checked_duration_since(instant) {
            Some(since) => origin + since,
            None => origin.saturating_sub(instant.duration_since(at)),
        }
    }

    fn write<'a>(&mut self, block: impl PcapNgBlock<'a>) {
        // Memory takes everything, and interfaces are written before their packets.
        if let Err(error) = self.writer.write_pcapng_block(block) {
            warn!("capture: a block is left out: {}", Causes(&error));
        }
    }
}

impl Writer for Blocks {
    fn interface(&mut self, slot: Slot, name: &str) {
        let description = format!("slot {} at remote {}", slot.number(), self.remote);
        self.interfaces.push(Interface { slot, recorded: 0, lost: 0 });
        let snaplen = u32::try_from(OWN_LEN + self.snap_length).unwrap_or(0);
        self.write(InterfaceDescriptionBlock {
            linktype: DataLink::from(LINK_TYPE),
            snaplen,
            options: vec![
                InterfaceDescriptionOption::IfName(name.into()),
                InterfaceDescriptionOption::IfDescription(description.into()),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        });
    }

    fn record(&mut self, record: &Record) {
        let Record { at, interface, seen, .. } = record;
        let whole = OWN_LEN + HEADER_LEN + seen.header.payload_len();
        let mut data = own_header(seen).to_vec();
        data.extend(record.bytes());
        let mut options = vec![EnhancedPacketOption::Flags(match seen.way {
            Way::ToRemote => INBOUND,
            Way::ToGuest => OUTBOUND,
        })];
        if let Some(service) = seen.service {
            options.push(EnhancedPacketOption::Comment(format!("service {service}").into()));
        }
        if let Some(reason) = seen.dropped {
            options.push(EnhancedPacketOption::Comment(format!("dropped: {reason}").into()));
        }
        let mut block = EnhancedPacketBlock::default();
        block.interface_id = *interface;
        block.timestamp = self.time(*at);
        block.original_len = u32::try_from(whole).unwrap_or(0);
        block.data = Cow::Owned(data);
        block.options = options;
        self.write(block);
        let counted = usize::try_from(*interface).ok().and_then(|number| self.interfaces.get_mut(number));
        if let Some(interface) = counted {
            interface.recorded += 1;
        }
    }
}

/// What stands before the rpmsg header.
fn own_header(seen: &Seen) -> [u8; OWN_LEN] {
    let guest = match seen.way {
        Way::ToRemote => seen.header.src,
        Way::ToGuest => seen.header.dst,
    };
    let dropped =
        seen.dropped.and_then(|reason| Reason::ALL.iter().zip(1..).find(|(one, _)| **one == reason));
    let mut bytes = [0; OWN_LEN];
    bytes[0] = VERSION;
    bytes[1] = u8::from(seen.way == Way::ToGuest);
    bytes[2] = seen.slot.number();
    bytes[3] = seen.session.number();
    bytes[4] = dropped.map_or(0, |(_, number)| number);
    bytes[8..12].copy_from_slice(&seen.host.to_le_bytes());
    bytes[12..].copy_from_slice(&guest.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;
    use crate::rpmsg::address::Session;
    use crate::rpmsg::{Header, ServiceName};

    fn seen(way: Way, dropped: Option<Reason>) -> Seen {
        Seen {
            way,
            slot: Slot::new(5).unwrap(),
            session: Session::new(2),
            host: 0x0520_0400,
            header: Header { src: 0x400, dst: 0x35, reserved: 7, len: 100, flags: 3 },
            service: Some(ServiceName::new("rpmsg-raw").unwrap()),
            dropped,
        }
    }

    #[test]
    fn a_reader_finds_vms_messages_and_losses() {
        let mut blocks = Blocks::new("core", 24).unwrap();
        let mut written = blocks.take();
        blocks.interface(Slot::new(5).unwrap(), "a");
        let at = blocks.origin.0 + Duration::from_nanos(1_234_567_891);
        let mut record = Record::new(at, 0, seen(Way::ToRemote, Some(Reason::NotAllowed)), 24);
        record.payload().copy_from_slice(b"12345678");
        blocks.record(&record);
        blocks.record(&Record::new(at, 0, seen(Way::ToGuest, None), 24));
        blocks.statistics(|_| 0, false);
        blocks.statistics(|_| 9, false);
        blocks.statistics(|_| 9, false);
        written.extend(blocks.take());

        let mut reader = PcapNgReader::new(&written[..]).unwrap();
        let mut next = || reader.next_block().map(|block| block.unwrap().into_owned());
        let Some(Block::InterfaceDescription(vm)) = next() else { panic!("no interface") };
        assert_eq!((vm.linktype, vm.snaplen), (DataLink::from(147), 40));
        assert!(vm.options.contains(&InterfaceDescriptionOption::IfName("a".into())), "{vm:?}");
        let Some(Block::EnhancedPacket(packet)) = next() else { panic!("no packet") };
        assert_eq!(packet.original_len, 132);
        let header = [1, 0, 5, 2, 12, 0, 0, 0, 0, 4, 0x20, 5, 0, 4, 0, 0];
        let wire = [0, 4, 0, 0, 0x35, 0, 0, 0, 0, 0, 0, 0, 100, 0, 3, 0];
        assert_eq!(packet.data[..], [&header[..], &wire[..], b"12345678"].concat());
        let time = blocks.origin.1.duration_since(UNIX_EPOCH).unwrap();
        assert_eq!(packet.timestamp, time + Duration::from_nanos(1_234_567_891));
        let comment = |text: &'static str| EnhancedPacketOption::Comment(text.into());
        let said =
            [EnhancedPacketOption::Flags(1), comment("service rpmsg-raw"), comment("dropped: not allowed")];
        assert_eq!(packet.options, said);
        let Some(Block::EnhancedPacket(packet)) = next() else { panic!("no packet") };
        assert_eq!((packet.data[1], packet.data[4], &packet.data[12..16]), (1, 0, &[0x35, 0, 0, 0][..]));
        let Some(Block::InterfaceStatistics(losses)) = next() else { panic!("no statistics") };
        let counted = [InterfaceStatisticsOption::IsbIfRecv(11), InterfaceStatisticsOption::IsbIfDrop(9)];
        assert_eq!(losses.options, counted);
        assert!(next().is_none(), "said once");
    }
}
