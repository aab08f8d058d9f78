//! Nodes, their properties, and what these refer to.

use std::fmt::Write;

use super::{
    blob::{self, RawNode},
    error::DeviceTreeError,
};

/// Most cells or bytes of a property that a message shows.
const SHOWN: usize = 12;

/// A device tree.
pub(super) struct Tree<'a> {
    nodes: Vec<RawNode<'a>>,
}

/// A node of a tree.
#[derive(Clone, Copy)]
pub(super) struct Node<'t> {
    tree: &'t Tree<'t>,
    index: usize,
    raw: &'t RawNode<'t>,
}

/// A property of a node.
#[derive(Clone, Copy)]
pub(super) struct Property<'t> {
    pub(super) node: Node<'t>,
    pub(super) name: &'t str,
    pub(super) value: &'t [u8],
}

/// A node that a property refers to, and what else it says about it.
pub(super) struct Reference<'t> {
    pub(super) target: Node<'t>,
    pub(super) arguments: Vec<u32>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(blob: &'a [u8]) -> Result<Self, DeviceTreeError> {
        Ok(Tree { nodes: blob::parse(blob)? })
    }

    pub(super) fn nodes(&self) -> impl DoubleEndedIterator<Item = Node<'_>> {
        self.nodes.iter().enumerate().map(|(index, raw)| Node { tree: self, index, raw })
    }

    fn node(&self, index: usize) -> Option<Node<'_>> {
        self.nodes.get(index).map(|raw| Node { tree: self, index, raw })
    }

    /// The node of this path, alias or label.
    pub(super) fn find(&self, wanted: &str) -> Result<Node<'_>, DeviceTreeError> {
        if wanted.starts_with('/') {
            return self.by_path(wanted, wanted);
        }
        let tables = ["aliases", "__symbols__"]
            .map(|name| self.nodes().skip(1).find(|node| node.raw.parent == Some(0) && node.name() == name));
        let entry = tables.iter().flatten().find_map(|table| table.property(wanted));
        let Some(entry) = entry else {
            let labels = if tables[1].is_some() {
                "or a label"
            } else {
                "and for labels, of which this tree has none, one that was compiled with dtc -@"
            };
            let expected = format!("a path that starts with '/', an alias of /aliases, {labels}");
            return Err(DeviceTreeError::NoSuchNode { wanted: wanted.to_owned(), expected });
        };
        match entry.strings()?.as_slice() {
            [path] => self.by_path(path, wanted),
            _ => Err(entry.wrong("one path")),
        }
    }

    fn by_path(&self, path: &str, wanted: &str) -> Result<Node<'_>, DeviceTreeError> {
        let mut fitting: Vec<_> = self.nodes().take(1).collect();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let within: Vec<_> = fitting.iter().map(|node| node.index).collect();
            let children =
                self.nodes().filter(|node| node.raw.parent.is_some_and(|parent| within.contains(&parent)));
            let children: Vec<_> =
                children.filter(|node| node.name() == part || node.base_name() == part).collect();
            let exact: Vec<_> = children.iter().copied().filter(|node| node.name() == part).collect();
            let found = if exact.is_empty() { children } else { exact };
            if found.is_empty() {
                let expected = format!("a node '{part}' below {}", fitting[0].path());
                return Err(DeviceTreeError::NoSuchNode { wanted: wanted.to_owned(), expected });
            }
            fitting = found;
        }
        match fitting.as_slice() {
            [node] => Ok(*node),
            _ => Err(DeviceTreeError::Ambiguous {
                wanted: wanted.to_owned(),
                nodes: fitting.iter().map(|node| node.path()).collect(),
            }),
        }
    }
}

impl<'t> Node<'t> {
    /// With its address.
    pub(super) fn name(self) -> &'t str {
        self.raw.name
    }

    /// Without its address.
    pub(super) fn base_name(self) -> &'t str {
        self.name().split('@').next().unwrap_or_default()
    }

    pub(super) fn parent(self) -> Option<Node<'t>> {
        self.raw.parent.and_then(|index| self.tree.node(index))
    }

    /// Itself, its parent and so on up to the root.
    pub(super) fn ancestry(self) -> impl Iterator<Item = Node<'t>> {
        std::iter::successors(Some(self), |node| node.parent())
    }

    pub(super) fn children(self) -> impl Iterator<Item = Node<'t>> {
        self.tree.nodes().filter(move |node| node.raw.parent == Some(self.index))
    }

    pub(super) fn path(self) -> String {
        let mut names: Vec<_> = self.ancestry().map(Node::name).collect();
        names.reverse();
        if names.len() == 1 { "/".to_owned() } else { names.join("/") }
    }

    pub(super) fn is(self, other: Node) -> bool {
        self.index == other.index
    }

    pub(super) fn properties(self) -> impl Iterator<Item = Property<'t>> {
        self.raw.properties.iter().map(move |(name, value)| Property { node: self, name, value })
    }

    pub(super) fn property(self, name: &str) -> Option<Property<'t>> {
        self.properties().find(|property| property.name == name)
    }

    /// The property `name`, or an error that says what it should have said.
    pub(super) fn require(
        self,
        name: &str,
        expected: impl Into<String>,
    ) -> Result<Property<'t>, DeviceTreeError> {
        self.property(name).ok_or_else(|| DeviceTreeError::Missing {
            node: self.path(),
            property: name.to_owned(),
            expected: expected.into(),
        })
    }

    /// The number in property `name`; `default` where there is none.
    pub(super) fn number_or(self, name: &str, default: u32) -> Result<u32, DeviceTreeError> {
        self.property(name).map_or(Ok(default), Property::cell)
    }

    /// What it is compatible with, the most specific first. Nothing where it does not say.
    pub(super) fn compatible(self) -> Result<Vec<&'t str>, DeviceTreeError> {
        self.property("compatible").map_or(Ok(Vec::new()), Property::strings)
    }

    /// Whether its `status` says that it is not to be used.
    pub(super) fn is_disabled(self) -> bool {
        self.property("status").is_some_and(|status| !matches!(status.value, b"okay\0" | b"ok\0"))
    }

    fn phandle(self) -> Option<u32> {
        let property = self.property("phandle").or_else(|| self.property("linux,phandle"));
        property.and_then(|property| property.cell().ok())
    }
}

impl<'t> Property<'t> {
    /// An error that says what is there and what was expected.
    pub(super) fn wrong(self, expected: impl Into<String>) -> DeviceTreeError {
        DeviceTreeError::Wrong {
            node: self.node.path(),
            property: self.name.to_owned(),
            found: self.shown(),
            expected: expected.into(),
        }
    }

    /// Its 32-bit numbers.
    pub(super) fn cells(self) -> Result<Vec<u32>, DeviceTreeError> {
        let (cells, rest) = self.value.as_chunks();
        if !rest.is_empty() {
            return Err(self.wrong("numbers of 4 bytes each"));
        }
        Ok(cells.iter().map(|cell| u32::from_be_bytes(*cell)).collect())
    }

    /// Its only number.
    pub(super) fn cell(self) -> Result<u32, DeviceTreeError> {
        match self.cells()?.as_slice() {
            [cell] => Ok(*cell),
            _ => Err(self.wrong("one number")),
        }
    }

    /// Its only number, which must be one of `range`.
    pub(super) fn cell_up_to(self, most: u8) -> Result<u8, DeviceTreeError> {
        let number = u8::try_from(self.cell()?).ok().filter(|number| *number <= most);
        number.ok_or_else(|| self.wrong(format!("a number from 0 to {most}")))
    }

    /// Its strings, all printable.
    pub(super) fn strings(self) -> Result<Vec<&'t str>, DeviceTreeError> {
        let text = str::from_utf8(self.value).ok().and_then(|text| text.strip_suffix('\0'));
        let strings: Vec<_> = text.map(|text| text.split('\0').collect()).unwrap_or_default();
        let printable =
            |string: &&str| !string.is_empty() && string.bytes().all(|b| matches!(b, b' '..=b'~'));
        if strings.is_empty() || !strings.iter().all(printable) {
            return Err(self.wrong("printable strings, each ended by a NUL"));
        }
        Ok(strings)
    }

    /// The node that has this phandle.
    pub(super) fn target(self, phandle: u32) -> Result<Node<'t>, DeviceTreeError> {
        // 0 and 0xffffffff are reserved: a reference that was left open.
        let valid = !matches!(phandle, 0 | u32::MAX);
        let mut nodes = self.node.tree.nodes().filter(|node| valid && node.phandle() == Some(phandle));
        let target = nodes.next().ok_or_else(|| DeviceTreeError::NoTarget {
            node: self.node.path(),
            property: self.name.to_owned(),
            phandle,
        })?;
        match nodes.next() {
            Some(second) => {
                Err(DeviceTreeError::SharedPhandle { phandle, first: target.path(), second: second.path() })
            }
            None => Ok(target),
        }
    }

    /// The nodes that its numbers refer to.
    pub(super) fn targets(self) -> Result<Vec<Node<'t>>, DeviceTreeError> {
        self.cells()?.into_iter().map(|phandle| self.target(phandle)).collect()
    }

    /// The nodes that it refers to, each followed by as many arguments as the node's property `counted_by` says.
    pub(super) fn references(self, counted_by: &str) -> Result<Vec<Reference<'t>>, DeviceTreeError> {
        let cells = self.cells()?;
        let mut rest = cells.as_slice();
        let mut references = Vec::new();
        while let Some((phandle, after)) = rest.split_first() {
            let target = self.target(*phandle)?;
            let count = target.require(
                counted_by,
                format!("it, since '{}' of {} refers here", self.name, self.node.path()),
            )?;
            let count = count.cell()?;
            let arguments = usize::try_from(count).ok().and_then(|count| after.split_at_checked(count));
            let (arguments, after) = arguments.ok_or_else(|| {
                self.wrong(format!("{count} numbers after the phandle {phandle:#x} of {}", target.path()))
            })?;
            references.push(Reference { target, arguments: arguments.to_vec() });
            rest = after;
        }
        Ok(references)
    }

    /// Its value for a message, as a source would have it.
    fn shown(self) -> String {
        if self.value.is_empty() {
            return "empty".to_owned();
        }
        if self.value.ends_with(b"\0")
            && self.value.iter().all(|byte| matches!(byte, b' '..=b'~' | 0))
            && self.value[0] != 0
        {
            let strings = self.value[..self.value.len() - 1].split(|byte| *byte == 0);
            let strings: Vec<_> =
                strings.take(SHOWN).map(|text| format!("\"{}\"", text.escape_ascii())).collect();
            return strings.join(", ");
        }
        let (cells, rest) = self.value.as_chunks();
        let mut shown = String::new();
        let (items, open, close): (Vec<String>, _, _) = if rest.is_empty() {
            (
                cells.iter().take(SHOWN).map(|cell| format!("{:#x}", u32::from_be_bytes(*cell))).collect(),
                '<',
                '>',
            )
        } else {
            (self.value.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect(), '[', ']')
        };
        let all = if rest.is_empty() { cells.len() } else { self.value.len() };
        let more = if all > SHOWN { " ..." } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(shown, "{open}{}{more}{close}", items.join(" "));
        shown
    }
}
