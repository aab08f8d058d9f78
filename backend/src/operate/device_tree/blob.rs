//! The flattened format (Devicetree Specification, chapter 5): a header, a block of tokens, a block of names.

use super::error::DeviceTreeError;

/// First word of a blob.
const MAGIC: u32 = 0xd00d_feed;
/// The version that is read here; later ones say in `last_comp_version` whether they still can be.
const VERSION: u32 = 17;
/// Size of the header in bytes.
const HEADER: usize = 40;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// A node as the blob has it.
#[derive(Debug)]
pub(super) struct RawNode<'a> {
    /// Its name with its address; empty for the root.
    pub(super) name: &'a str,
    /// Index of its parent, which is smaller than its own; none for the root.
    pub(super) parent: Option<usize>,
    /// Names and values.
    pub(super) properties: Vec<(&'a str, &'a [u8])>,
}

/// Reads all nodes in the order of the blob. The first is the root, which is always there.
pub(super) fn parse(blob: &[u8]) -> Result<Vec<RawNode<'_>>, DeviceTreeError> {
    let (mut tokens, strings) = blocks(blob)?;
    let mut nodes: Vec<RawNode> = Vec::new();
    let mut open = None;
    // A node's properties come before its children.
    let mut properties_may_come = false;
    loop {
        let offset = tokens.at;
        let token = tokens.word("token")?;
        let wrong = |expected| malformed("token", offset, format!("{token:#x}"), expected);
        match token {
            BEGIN_NODE => {
                let name = tokens.name("node's name")?;
                tokens.align();
                match (nodes.is_empty(), open) {
                    (true, _) if !name.is_empty() => {
                        return Err(malformed("root's name", offset + 4, format!("'{name}'"), "none"));
                    }
                    (false, None) => return Err(wrong("the end (0x9) after the root")),
                    (false, Some(_)) if name.is_empty() || name.contains('/') => {
                        return Err(malformed(
                            "node's name",
                            offset + 4,
                            format!("'{name}'"),
                            "a name without '/'",
                        ));
                    }
                    _ => {}
                }
                nodes.push(RawNode { name, parent: open, properties: Vec::new() });
                open = Some(nodes.len() - 1);
                properties_may_come = true;
            }
            END_NODE => {
                let node = open.and_then(|index: usize| nodes.get(index));
                open = node.ok_or_else(|| wrong("a node's begin (0x1)"))?.parent;
                properties_may_come = false;
            }
            PROP => {
                let node = open.filter(|_| properties_may_come).and_then(|index| nodes.get_mut(index));
                let node =
                    node.ok_or_else(|| wrong("no property (0x3) after a node's children or outside of one"))?;
                let len = tokens.word("property's length")? as usize;
                let name_offset = tokens.word("property's name")? as usize;
                let value = tokens.take(len, "property's value")?;
                tokens.align();
                let mut name = strings.from(name_offset);
                node.properties.push((name.name("property's name")?, value));
            }
            NOP => {}
            END if open.is_none() && !nodes.is_empty() => return Ok(nodes),
            _ => {
                return Err(wrong("a begin (0x1) or end (0x2) of a node, a property (0x3) or nothing (0x4)"));
            }
        }
    }
}

/// Checks the header and finds the two blocks.
fn blocks(blob: &[u8]) -> Result<(Block<'_>, Block<'_>), DeviceTreeError> {
    let mut header = Block { bytes: blob, at: 0, end: blob.len().min(HEADER) };
    let mut word = |what| header.word(what);
    let magic = word("magic")?;
    if magic != MAGIC {
        return Err(malformed("magic", 0, format!("{magic:#x}"), "0xd00dfeed"));
    }
    let total = word("size of the whole")? as usize;
    let [structure, strings] =
        [word("offset of the structure")? as usize, word("offset of the strings")? as usize];
    let _reservations = word("offset of the memory reservations")?;
    let [version, compatible] = [word("version")?, word("last compatible version")?];
    if compatible > VERSION || version < VERSION {
        let found = format!("{version} (compatible with {compatible})");
        return Err(malformed("version", 0x14, found, "17 or compatible with it"));
    }
    let _boot_cpu = word("boot CPU")?;
    let [strings_size, structure_size] =
        [word("size of the strings")? as usize, word("size of the structure")? as usize];
    // Boot loaders leave room behind the tree; `total` includes it, a file or memory may have more.
    if total > blob.len() {
        let found = format!("{total:#x} in {:#x} bytes", blob.len());
        return Err(malformed("size of the whole", 4, found, "no more than is there"));
    }
    let block = |what, field, offset: usize, size: usize| {
        let end = offset.checked_add(size).filter(|end| offset >= HEADER && *end <= total);
        let end = end.ok_or_else(|| {
            malformed(
                what,
                field,
                format!("{size:#x} bytes at {offset:#x}"),
                "a place between the header and the end",
            )
        })?;
        Ok(Block { bytes: blob, at: offset, end })
    };
    if !structure.is_multiple_of(4) {
        return Err(malformed("offset of the structure", 8, format!("{structure:#x}"), "a multiple of 4"));
    }
    Ok((block("structure", 8, structure, structure_size)?, block("strings", 0xc, strings, strings_size)?))
}

fn malformed(what: &'static str, offset: usize, found: String, expected: &'static str) -> DeviceTreeError {
    DeviceTreeError::Malformed { what, offset, found, expected }
}

/// What is still to be read of a block.
#[derive(Clone, Copy)]
struct Block<'a> {
    bytes: &'a [u8],
    /// From the start of the blob.
    at: usize,
    end: usize,
}

impl<'a> Block<'a> {
    fn rest(self) -> &'a [u8] {
        self.bytes.get(self.at..self.end).unwrap_or_default()
    }

    fn from(self, offset: usize) -> Self {
        Block { at: self.at.saturating_add(offset), ..self }
    }

    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DeviceTreeError> {
        let rest = self.rest();
        let taken = rest.get(..len).ok_or_else(|| {
            malformed(what, self.at, format!("{} bytes up to the end of its block", rest.len()), "more bytes")
        })?;
        self.at += len;
        Ok(taken)
    }

    fn word(&mut self, what: &'static str) -> Result<u32, DeviceTreeError> {
        Ok(self.take(4, what)?.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)))
    }

    /// Bytes up to a NUL, which may be none. They end up in messages, so they must be printable.
    fn name(&mut self, what: &'static str) -> Result<&'a str, DeviceTreeError> {
        let offset = self.at;
        let len = self.rest().iter().position(|byte| *byte == 0);
        let len =
            len.ok_or_else(|| malformed(what, offset, "no end".to_owned(), "a NUL within its block"))?;
        let name = self.take(len + 1, what)?.get(..len).unwrap_or_default();
        match str::from_utf8(name) {
            Ok(name) if name.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(name),
            _ => Err(malformed(
                what,
                offset,
                format!("\"{}\"", name.escape_ascii()),
                "printable ASCII without blanks",
            )),
        }
    }

    /// Goes on at the next multiple of 4. The structure starts at one.
    fn align(&mut self) {
        self.at = self.at.next_multiple_of(4);
    }
}
