//! A remote core that does as it likes, with the whole relay and two guests behind it.
//!
//! The core comes up as it should and announces what it has; from then on the data play it: used entries, headers, name
//! service messages, bells, and anything anywhere in its memory. Guests send and receive as ever. What every guest relies
//! on is checked by the bench; here it is also that its news make sense, and that the host's endpoints are its own.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::time::Duration;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use vhost_device_rpmsg::bridge::bench::Bench;
use vhost_device_rpmsg::remote::memory::{Access, CarveoutSlice, Carveouts, Region};
use vhost_device_rpmsg::remote::resource_table::ResourceTable;
use vhost_device_rpmsg::rpmsg::{
    ANNOUNCEMENT_LEN, Announcement, AnnouncementKind, BUFFER_SIZE, Header, NAME_SERVICE_ADDRESS, ServiceName,
};
use vhost_device_rpmsg::softcore::{Config, Kind, ServiceSpec};

use crate::log_to_nobody;

/// Buffers per direction; few, so that they run out.
const BUFFERS: u16 = 8;
/// Services that the remote makes up.
const NAMES: [&str; 4] = ["rpmsg-raw", "a", "b", "a-name-that-is-31-bytes-long--!"];

/// The data are the steps.
pub fn run(data: &[u8]) {
    log_to_nobody();
    let _ended = steps(&mut Unstructured::new(data));
}

/// The core's memory, and where the host has put its vrings.
struct Remote {
    memory: CarveoutSlice,
    base: u64,
    vrings: [u64; 2],
    index: [u16; 2],
    next_avail: u16,
}

/// Bytes of the descriptor table and of the available ring: then comes the used ring, at the next multiple of 4096.
const USED: u64 = 4096;

impl Remote {
    fn new(bench: &Bench) -> Self {
        let memory = bench.core.memory();
        let (base, size) =
            (u64::from(memory.device_address()), usize::try_from(memory.size()).expect("small"));
        let region = Region::map(memory.file(), 0, size, base, Access::Normal).expect("the core's memory");
        let memory = Carveouts::new(vec![region]).slice(base, size, 1).expect("all of it");
        let mut bytes = vec![0; 1024];
        memory.read_into(0, &mut bytes);
        let table = ResourceTable::parse(&bytes).expect("the core's own table");
        let vdev = table.vdevs().next().expect("an rpmsg device");
        let at = |number: usize| {
            let offset = vdev.vrings[number].da_offset();
            let bytes = *bytes[offset..].first_chunk().expect("within the table");
            u64::from(u32::from_le_bytes(bytes)) - base
        };
        let vrings = [at(0), at(1)];
        let mut remote = Remote { memory, base, vrings, index: [0; 2], next_avail: 0 };
        remote.index = [0, 1].map(|number| remote.memory.read_u16(remote.at(number, USED + 2)));
        remote.next_avail = remote.index[0];
        remote
    }

    fn at(&self, vring: usize, offset: u64) -> usize {
        usize::try_from(self.vrings[vring] + offset).expect("small")
    }

    fn put_used(&mut self, vring: usize, id: u32, len: u32) {
        let entry = self.at(vring, USED + 4 + 8 * u64::from(self.index[vring] % BUFFERS));
        self.memory.write_u32(entry, id);
        self.memory.write_u32(entry + 4, len);
        self.index[vring] = self.index[vring].wrapping_add(1);
        self.memory.write_u16(self.at(vring, USED + 2), self.index[vring]);
    }

    /// Sends a message by the next buffer that the host has given, whatever the message is.
    fn send(&mut self, header: Header, payload: &[u8], used: u32) {
        let avail = self.at(0, 16 * u64::from(BUFFERS));
        if self.memory.read_u16(avail + 2) == self.next_avail {
            return;
        }
        let id = self.memory.read_u16(avail + 4 + 2 * usize::from(self.next_avail % BUFFERS)) % BUFFERS;
        self.next_avail = self.next_avail.wrapping_add(1);
        let address = self.memory.read_u64(self.at(0, 16 * u64::from(id))).wrapping_sub(self.base);
        let Ok(at) = usize::try_from(address) else { return };
        if at.saturating_add(BUFFER_SIZE) <= self.memory.len() {
            self.memory.write_bytes(at, &header.to_bytes());
            self.memory.write_bytes(at + 16, payload);
        }
        self.put_used(0, id.into(), used);
    }

    fn step(&mut self, data: &mut Unstructured<'_>) -> Result<()> {
        match data.int_in_range(0..=8)? {
            0..=2 => {
                let len = data.int_in_range(0..=64)?;
                let dst = if data.ratio(7, 8)? {
                    // An endpoint of a guest's that is there, of any session.
                    u32::from(data.int_in_range(0..=3_u8)?) << 24
                        | u32::from(data.int_in_range(0..=2_u8)?) << 20
                        | 1024
                } else {
                    data.arbitrary()?
                };
                let src = 0x400 + u32::from(data.int_in_range(0..=8_u8)?);
                let lie = if data.ratio(1, 8)? { data.arbitrary()? } else { len };
                let used = if data.ratio(1, 8)? { data.arbitrary()? } else { 16 + u32::from(len) };
                let payload = vec![0xC3; len.into()];
                self.send(
                    Header { src, dst, reserved: data.arbitrary()?, len: lie, flags: 0 },
                    &payload,
                    used,
                );
            }
            3 | 4 => {
                let name = ServiceName::new(data.choose(&NAMES)?).expect("a name");
                let kind =
                    if data.arbitrary()? { AnnouncementKind::Create } else { AnnouncementKind::Destroy };
                let addr = if data.ratio(7, 8)? {
                    0x400 + u32::from(data.int_in_range(0..=8_u8)?)
                } else {
                    data.arbitrary()?
                };
                let announcement = Announcement { name, addr, kind };
                let mut payload = announcement.to_bytes();
                if data.ratio(1, 8)? {
                    payload[usize::from(data.arbitrary::<u8>()?) % ANNOUNCEMENT_LEN] = data.arbitrary()?;
                }
                self.send(announcement.header(), &payload, announcement.header().message_len());
            }
            5 => self.put_used(1, data.int_in_range(0..=u32::from(BUFFERS))?, data.arbitrary()?),
            6 => {
                let vring = usize::from(data.arbitrary::<bool>()?);
                self.put_used(vring, data.arbitrary()?, data.arbitrary()?);
            }
            7 => {
                let vring = usize::from(data.arbitrary::<bool>()?);
                self.index[vring] = data.arbitrary()?;
                self.memory.write_u16(self.at(vring, USED + 2), self.index[vring]);
            }
            _ => {
                let at = data.int_in_range(0..=self.memory.len() - 4)?;
                self.memory.write_bytes(at, &data.arbitrary::<[u8; 4]>()?);
            }
        }
        Ok(())
    }
}

/// What a guest has been told of services.
#[derive(Default)]
struct News(HashSet<(ServiceName, u32)>);

impl News {
    fn hear(&mut self, payload: &[u8]) {
        assert_eq!(payload.len(), ANNOUNCEMENT_LEN, "length of a name service message");
        assert_eq!(payload[31], 0, "a terminated name");
        let Announcement { name, addr, kind } = Announcement::from_bytes(payload).expect("an announcement");
        match kind {
            AnnouncementKind::Create => assert!(self.0.insert((name, addr)), "{name} at {addr:#x} twice"),
            AnnouncementKind::Destroy => {
                assert!(self.0.remove(&(name, addr)), "{name} at {addr:#x} was not there")
            }
        }
    }
}

fn steps(data: &mut Unstructured<'_>) -> Result<()> {
    let services = vec![ServiceSpec::of_kind(Kind::Raw)];
    let config = Config { buffers: BUFFERS, services, ..Config::default() };
    let slots = if data.arbitrary()? { [0, 3] } else { [1, 2] };
    let mut bench = Bench::new(config, &slots);
    let mut remote = Remote::new(&bench);
    let mut news = [News::default(), News::default()];
    let start = bench.now;
    while !data.is_empty() {
        match data.int_in_range(0..=9)? {
            0..=4 => remote.step(data)?,
            5 => {
                // A bell, which may be one that says that the core has booted or crashed.
                let byte = if data.ratio(7, 8)? { 0 } else { data.arbitrary()? };
                bench.doorbell.write_all(&[byte]).expect("room for a byte");
                bench.hear();
            }
            6 => {
                let vm = usize::from(data.arbitrary::<bool>()?);
                let dst = 0x400 + u32::from(data.int_in_range(0..=8_u8)?);
                bench.guests[vm].send(1024, dst, &[7; 40]);
            }
            7 => {
                if data.ratio(1, 4)? {
                    bench.now += Duration::from_millis(data.arbitrary::<u16>()?.into());
                    bench.pass_time();
                }
            }
            _ => sweep(&mut bench),
        }
        for ((guest, news), slot) in bench.guests.iter_mut().zip(&mut news).zip(slots) {
            while let Some((header, payload)) = guest.receive() {
                match header.dst {
                    NAME_SERVICE_ADDRESS => news.hear(&payload),
                    // Addresses of slot 0 are the remote's own.
                    dst => assert!(dst >> if slot == 0 { 24 } else { 20 } == 0, "{dst:#x} is no guest's"),
                }
            }
        }
    }
    // Time enough for anything that was left to be done.
    bench.now = start + Duration::from_secs(3600);
    bench.pass_time();
    sweep(&mut bench);
    Ok(())
}

/// A turn of the relay; a vring that is broken costs the remote its life. Nobody hears what the host rings.
fn sweep(bench: &mut Bench) {
    if let Err(fault) = bench.try_sweep() {
        bench.fault(fault);
    }
    let mut bytes = [0; 256];
    while bench.doorbell.read(&mut bytes).is_ok_and(|count| count > 0) {}
}
