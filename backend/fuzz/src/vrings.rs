//! What a remote core writes to its vrings and buffers, between any two steps of the host.
//!
//! The data are the steps. A model knows which buffers the remote holds; whatever the remote claims, the host never has a
//! buffer twice, loses none, and takes no message that does not fit its buffer.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use vhost_device_rpmsg::remote::memory::{Access, CarveoutSlice, Carveouts, Region};
use vhost_device_rpmsg::remote::messages::{Arrival, Buffers, Inbound, Outbound, Reserved};
use vhost_device_rpmsg::remote::vring::{Vring, VringLayout};
use vhost_device_rpmsg::rpmsg::{BUFFER_SIZE, HEADER_LEN, Header, MAX_PAYLOAD};
use vm_memory::VolatileSlice;

use crate::file_with;

const BASE: u64 = 0x1_0000;
const SIZE: usize = 0x2_0000;
/// Where the two vrings begin, behind one another; buffers lie behind them.
const VRINGS: [u64; 2] = [BASE, BASE + 0x2000];
const BUFFERS: [u64; 2] = [BASE + 0x4000, BASE + 0x1_0000];
const ALIGN: u32 = 64;

/// The data are the steps.
pub fn run(data: &[u8]) {
    let _ended = steps(&mut Unstructured::new(data));
}

/// The remote's side of a vring: it may write anything.
struct Remote {
    /// The whole vring.
    vring: CarveoutSlice,
    buffers: CarveoutSlice,
    num: u16,
    /// Offset of the used ring.
    used: usize,
    index: u16,
}

impl Remote {
    fn step(&mut self, data: &mut Unstructured<'_>) -> Result<()> {
        match data.int_in_range(0..=7)? {
            // A used entry, of whatever buffer and length, published as it should be.
            0..=3 => {
                let entry = self.used + 4 + 8 * usize::from(self.index % self.num);
                let id: u32 = if data.ratio(7, 8)? {
                    data.int_in_range(0..=u32::from(self.num))?
                } else {
                    data.arbitrary()?
                };
                let len: u32 =
                    if data.ratio(3, 4)? { data.int_in_range(0..=513)? } else { data.arbitrary()? };
                self.vring.write_u32(entry, id);
                self.vring.write_u32(entry + 4, len);
                self.index = self.index.wrapping_add(1);
                self.vring.write_u16(self.used + 2, self.index);
            }
            // A header that is nearly right, or anything.
            4 | 5 => {
                let buffer = usize::from(data.arbitrary::<u16>()? % self.num);
                let len = if data.ratio(7, 8)? { data.int_in_range(0..=497)? } else { data.arbitrary()? };
                let header =
                    Header { src: data.arbitrary()?, dst: data.arbitrary()?, reserved: 0, len, flags: 0 };
                self.buffers.write_bytes(buffer * BUFFER_SIZE, &header.to_bytes());
            }
            // An index that jumps.
            6 => {
                self.index = data.arbitrary()?;
                self.vring.write_u16(self.used + 2, self.index);
            }
            // Anything anywhere in the vring.
            _ => {
                let at = usize::from(data.arbitrary::<u16>()?) % (self.vring.len() - 1);
                self.vring.write_u16(at & !1, data.arbitrary()?);
            }
        }
        Ok(())
    }
}

fn side(carveouts: &Carveouts, number: usize, num: u16) -> (Vring, Buffers, Remote) {
    let layout = VringLayout::new(num.into(), ALIGN).expect("a sensible geometry");
    let slice = |address, len| carveouts.slice(address, len, 16).expect("within the region");
    let vring = slice(VRINGS[number], layout.size());
    let buffers = slice(BUFFERS[number], usize::from(num) * BUFFER_SIZE);
    let notifyid = u32::from(number != 0);
    let used = layout.size() - 6 - 8 * usize::from(num);
    let remote = Remote { vring: vring.clone(), buffers: buffers.clone(), num, used, index: 0 };
    (Vring::new(vring, layout, notifyid), Buffers::new(buffers, BUFFERS[number], num), remote)
}

fn steps(data: &mut Unstructured<'_>) -> Result<()> {
    let num = 1 << data.int_in_range(1..=6)?;
    let access = if data.arbitrary()? { Access::Normal } else { Access::Device };
    let (file, _) = file_with(&[]);
    file.set_len(SIZE as u64).expect("a memfd grows");
    let region = Region::map(&file, 0, SIZE, BASE, access).expect("a memfd that is long enough");
    let carveouts = Carveouts::new(vec![region]);
    let (vring, buffers, mut sender) = side(&carveouts, 0, num);
    let mut inbound = Inbound::new(vring, buffers);
    let (vring, buffers, mut receiver) = side(&carveouts, 1, num);
    let mut outbound = Outbound::new(vring, buffers);
    inbound.vring().publish();
    // Messages that were taken and not released, and buffers that the remote was sent.
    let mut taken: Vec<u16> = Vec::new();
    let mut sent = vec![false; num.into()];
    while !data.is_empty() {
        match data.int_in_range(0..=7)? {
            0 | 1 => sender.step(data)?,
            2 => receiver.step(data)?,
            3 | 4 => match inbound.take() {
                Ok(Some(Arrival::Message(message))) => {
                    assert!(message.id < num && !taken.contains(&message.id), "buffer {} twice", message.id);
                    let len = message.header.payload_len();
                    assert!(len <= MAX_PAYLOAD, "payload of {len} bytes");
                    let mut payload = [0; MAX_PAYLOAD];
                    inbound.copy_payload(message.id, 0, &VolatileSlice::from(&mut payload[..len]));
                    inbound.read_payload(message.id, &mut payload[..len]);
                    taken.push(message.id);
                }
                Ok(None | Some(Arrival::Malformed(_))) => {}
                Err(_) => return Ok(()),
            },
            5 => {
                if let Some(id) = taken.pop() {
                    inbound.release(id);
                }
                if data.arbitrary()? {
                    inbound.release_all();
                    taken.clear();
                }
                inbound.vring().publish();
                inbound.vring().want_interrupts(data.arbitrary()?);
            }
            6 => {
                while let Some(buffer) = data.arbitrary::<bool>()?.then(|| outbound.reserve()).flatten() {
                    send(&mut outbound, buffer, &mut sent, &receiver, data)?;
                }
                outbound.vring().publish();
            }
            _ => {
                let back = outbound.reclaim(|id| {
                    assert!(std::mem::take(&mut sent[usize::from(id)]), "buffer {id} comes back twice");
                });
                if back.is_err() {
                    return Ok(());
                }
            }
        }
        let out = sent.iter().filter(|sent| **sent).count();
        assert_eq!(outbound.in_flight(), out, "no buffer is lost");
        assert_eq!(outbound.unconsumed().count(), out);
        let with_host = (0..num).filter(|id| !inbound.vring().is_with_remote(*id)).count();
        assert_eq!(with_host, taken.len(), "the host has what it has taken");
    }
    Ok(())
}

/// Sends a message, which must stand in the buffer as it was meant.
fn send(
    outbound: &mut Outbound,
    buffer: Reserved,
    sent: &mut [bool],
    remote: &Remote,
    data: &mut Unstructured<'_>,
) -> Result<()> {
    let id = usize::from(buffer.id());
    assert!(!std::mem::replace(&mut sent[id], true), "buffer {id} given twice");
    let len = data.int_in_range(0..=496)?;
    let header = Header { src: 1, dst: 2, reserved: 0, len, flags: 0 };
    let payload = vec![0x77; len.into()];
    outbound.write_payload(&buffer, &payload);
    outbound.send(buffer, header);
    let mut written = vec![0; HEADER_LEN + payload.len()];
    remote.buffers.read_into(id * BUFFER_SIZE, &mut written);
    assert_eq!(written[..HEADER_LEN], header.to_bytes());
    assert_eq!(written[HEADER_LEN..], payload);
    assert_eq!(remote.vring.read_u32(16 * id + 8), header.message_len(), "length of the descriptor");
    Ok(())
}
