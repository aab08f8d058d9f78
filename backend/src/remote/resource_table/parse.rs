//! From bytes to a [`ResourceTable`].

use super::{
    ADDRESS_ANY, Carveout, Devmem, Entry, MAX_DESCRIPTORS, MAX_VRINGS, MIN_ALIGN, NAME_SIZE, Name, Opaque,
    Resource, ResourceTable, ResourceTableError, Trace, Vdev, Vring, region, trace, vdev, vring,
};

/// The only version there is.
const VERSION: u32 = 1;
/// Header without the offsets of the entries, in bytes (`sizeof(struct resource_table)`).
const HEADER_LEN: usize = 16;
/// Offset of the number of entries in the header.
const NUM: usize = 4;
/// Offsets of the reserved words in the header.
const RESERVED: [usize; 2] = [8, 12];
/// Bytes of an offset in the header, and of the type in front of each entry.
const WORD: usize = 4;

/// `RSC_CARVEOUT` and its siblings.
const TYPE_CARVEOUT: u32 = 0;
const TYPE_DEVMEM: u32 = 1;
const TYPE_TRACE: u32 = 2;
const TYPE_VDEV: u32 = 3;
/// `RSC_VENDOR_START` and `RSC_VENDOR_END`, both of which belong to the vendors.
const TYPE_VENDOR_FIRST: u32 = 128;
const TYPE_VENDOR_LAST: u32 = 512;

/// An entry whose type is known: all that its errors have to name.
#[derive(Clone, Copy)]
struct EntryBytes<'a> {
    /// The whole table.
    table: &'a [u8],
    index: usize,
    kind: &'static str,
    offset: usize,
}

impl ResourceTable {
    /// Decodes a private copy of a table. The copy may be longer than the table: [`ResourceTable::len`] says
    /// afterwards where it ends.
    ///
    /// # Errors
    /// A version other than 1, a reserved field that is not zero, an entry that does not lie between the header
    /// and the end of `bytes`, a region beyond 32 bits, more than [`MAX_VRINGS`] vrings, and vrings of an impossible
    /// size, alignment or address. The first fault found is reported.
    pub fn parse(bytes: &[u8]) -> Result<Self, ResourceTableError> {
        let offsets = entry_offsets(bytes)?;
        let mut starts = offsets.clone();
        starts.sort_unstable();
        let next_start = |offset: usize| {
            let after = starts.partition_point(|start| *start <= offset);
            starts.get(after).copied()
        };

        let header = HEADER_LEN + offsets.len() * WORD;
        let mut len = header;
        let mut entries = Vec::with_capacity(offsets.len());
        for (index, offset) in offsets.into_iter().enumerate() {
            if offset < header {
                return Err(ResourceTableError::EntryInHeader { entry: index, offset, header });
            }
            let (resource, entry_len) = parse_entry(bytes, index, offset, next_start(offset))?;
            len = len.max(offset + entry_len);
            entries.push(Entry { offset, resource });
        }
        Ok(ResourceTable { entries, len })
    }
}

/// Checks the header and takes the offsets out of it.
fn entry_offsets(bytes: &[u8]) -> Result<Vec<usize>, ResourceTableError> {
    if bytes.len() < HEADER_LEN {
        return Err(ResourceTableError::HeaderTruncated { found: bytes.len() });
    }
    let version = word(bytes, 0);
    if version != VERSION {
        return Err(ResourceTableError::Version { found: version });
    }
    for offset in RESERVED {
        let found = word(bytes, offset);
        if found != 0 {
            return Err(ResourceTableError::HeaderReserved { offset, found });
        }
    }
    let entries = word(bytes, NUM);
    let (words, _) = bytes[HEADER_LEN..].as_chunks::<WORD>();
    words
        .get(..index(entries))
        .map(|words| words.iter().map(|word| index(u32::from_le_bytes(*word))).collect())
        .ok_or(ResourceTableError::OffsetsTruncated {
            entries,
            needed: HEADER_LEN as u64 + u64::from(entries) * WORD as u64,
            found: bytes.len(),
        })
}

/// Decodes one entry. Returns it with its length in bytes.
fn parse_entry(
    table: &[u8],
    index: usize,
    offset: usize,
    next_start: Option<usize>,
) -> Result<(Resource, usize), ResourceTableError> {
    let entry = |kind| EntryBytes { table, index, kind, offset };
    let kind = word(entry("type unknown").take(WORD as u64)?, 0);
    Ok(match kind {
        TYPE_CARVEOUT => (Resource::Carveout(parse_carveout(entry("carveout"))?), region::LEN),
        TYPE_DEVMEM => (Resource::Devmem(parse_devmem(entry("devmem"))?), region::LEN),
        TYPE_TRACE => (Resource::Trace(parse_trace(entry("trace"))?), trace::LEN),
        TYPE_VDEV => {
            let vdev = parse_vdev(entry("vdev"))?;
            let len = vdev.config_offset() + self::index(vdev.config_len) - offset;
            (Resource::Vdev(vdev), len)
        }
        _ => {
            let opaque = Opaque { kind, len: next_start.map(|next| next - offset) };
            let is_vendors = (TYPE_VENDOR_FIRST..=TYPE_VENDOR_LAST).contains(&kind);
            let resource = if is_vendors { Resource::Vendor(opaque) } else { Resource::Unknown(opaque) };
            (resource, WORD)
        }
    })
}

fn parse_carveout(entry: EntryBytes<'_>) -> Result<Carveout, ResourceTableError> {
    let bytes = entry.take(region::LEN as u64)?;
    entry.check_reserved(region::RESERVED, word(bytes, region::RESERVED))?;
    let da = address(word(bytes, region::DA));
    let size = word(bytes, region::SIZE);
    entry.check_end(region::DA, da, size)?;
    Ok(Carveout {
        offset: entry.offset,
        da,
        pa: word(bytes, region::PA),
        size,
        flags: word(bytes, region::FLAGS),
        name: name(bytes, region::NAME),
    })
}

fn parse_devmem(entry: EntryBytes<'_>) -> Result<Devmem, ResourceTableError> {
    let bytes = entry.take(region::LEN as u64)?;
    entry.check_reserved(region::RESERVED, word(bytes, region::RESERVED))?;
    Ok(Devmem {
        da: word(bytes, region::DA),
        pa: word(bytes, region::PA),
        size: word(bytes, region::SIZE),
        flags: word(bytes, region::FLAGS),
        name: name(bytes, region::NAME),
    })
}

fn parse_trace(entry: EntryBytes<'_>) -> Result<Trace, ResourceTableError> {
    let bytes = entry.take(trace::LEN as u64)?;
    entry.check_reserved(trace::RESERVED, word(bytes, trace::RESERVED))?;
    let da = address(word(bytes, trace::DA));
    let size = word(bytes, trace::SIZE);
    entry.check_end(trace::DA, da, size)?;
    Ok(Trace { da, size, name: name(bytes, trace::NAME) })
}

fn parse_vdev(entry: EntryBytes<'_>) -> Result<Vdev, ResourceTableError> {
    let bytes = entry.take(vdev::VRINGS as u64)?;
    let reserved = u16::from_le_bytes([bytes[vdev::RESERVED], bytes[vdev::RESERVED + 1]]);
    entry.check_reserved(vdev::RESERVED, u32::from(reserved))?;
    let vrings = bytes[vdev::NUM_OF_VRINGS];
    if usize::from(vrings) > MAX_VRINGS {
        return Err(ResourceTableError::TooManyVrings {
            entry: entry.index,
            offset: entry.offset + vdev::NUM_OF_VRINGS,
            found: vrings,
        });
    }
    let config_len = word(bytes, vdev::CONFIG_LEN);
    let vrings_end = vdev::VRINGS + usize::from(vrings) * vring::LEN;
    let bytes = entry.take(vrings_end as u64 + u64::from(config_len))?;
    Ok(Vdev {
        offset: entry.offset,
        id: word(bytes, vdev::ID),
        notifyid: word(bytes, vdev::NOTIFYID),
        dfeatures: word(bytes, vdev::DFEATURES),
        gfeatures: word(bytes, vdev::GFEATURES),
        config_len,
        status: bytes[vdev::STATUS],
        vrings: (0..usize::from(vrings))
            .map(|vring| parse_vring(entry, vring, &bytes[vdev::VRINGS + vring * vring::LEN..]))
            .collect::<Result<_, _>>()?,
    })
}

/// Decodes a vring of a vdev entry, of which `bytes` holds at least the vring.
fn parse_vring(entry: EntryBytes<'_>, vring: usize, bytes: &[u8]) -> Result<Vring, ResourceTableError> {
    let offset = entry.offset + vdev::VRINGS + vring * vring::LEN;
    let align = word(bytes, vring::ALIGN);
    if !align.is_power_of_two() || align < MIN_ALIGN {
        return Err(ResourceTableError::VringAlignment {
            entry: entry.index,
            vring,
            offset: offset + vring::ALIGN,
            found: align,
        });
    }
    let num = word(bytes, vring::NUM);
    if !num.is_power_of_two() || num > MAX_DESCRIPTORS {
        return Err(ResourceTableError::VringSize {
            entry: entry.index,
            vring,
            offset: offset + vring::NUM,
            found: num,
        });
    }
    let da = address(word(bytes, vring::DA));
    if let Some(found) = da
        && found % align != 0
    {
        return Err(ResourceTableError::VringAddress {
            entry: entry.index,
            vring,
            offset: offset + vring::DA,
            found,
            align,
        });
    }
    Ok(Vring { offset, da, align, num, notifyid: word(bytes, vring::NOTIFYID), pa: word(bytes, vring::PA) })
}

impl<'a> EntryBytes<'a> {
    /// The first `needed` bytes of the entry, its type included.
    fn take(self, needed: u64) -> Result<&'a [u8], ResourceTableError> {
        let there = self.table.get(self.offset..).unwrap_or_default();
        usize::try_from(needed).ok().and_then(|needed| there.get(..needed)).ok_or(
            ResourceTableError::EntryTruncated {
                entry: self.index,
                kind: self.kind,
                offset: self.offset,
                needed,
                found: there.len(),
            },
        )
    }

    /// Demands that the reserved field at `field` is zero.
    fn check_reserved(self, field: usize, found: u32) -> Result<(), ResourceTableError> {
        if found == 0 {
            return Ok(());
        }
        Err(ResourceTableError::EntryReserved {
            entry: self.index,
            kind: self.kind,
            offset: self.offset + field,
            found,
        })
    }

    /// Demands that a region whose device address is at `field` ends within 32 bits.
    fn check_end(self, field: usize, da: Option<u32>, size: u32) -> Result<(), ResourceTableError> {
        match da {
            Some(da) if u64::from(da) + u64::from(size) > 1 << 32 => Err(ResourceTableError::RegionWraps {
                entry: self.index,
                kind: self.kind,
                offset: self.offset + field,
                da,
                size,
            }),
            _ => Ok(()),
        }
    }
}

/// The little-endian word at `at`, which the caller has checked to be there.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The name at `at`, with what follows its first NUL cleared, so that equal names are equal bytes.
fn name(bytes: &[u8], at: usize) -> Name {
    let mut name = [0; NAME_SIZE];
    for (to, from) in name.iter_mut().zip(&bytes[at..]).take_while(|(_, from)| **from != 0) {
        *to = *from;
    }
    Name(name)
}

fn address(word: u32) -> Option<u32> {
    (word != ADDRESS_ANY).then_some(word)
}

/// A number of the table as an index; one that a small host cannot index is beyond any table.
fn index(word: u32) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}
