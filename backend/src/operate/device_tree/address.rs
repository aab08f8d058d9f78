//! What buses make of addresses: `reg`, `#address-cells`, `#size-cells`, `ranges`, `dma-ranges`.

use super::{
    error::DeviceTreeError,
    found::Span,
    tree::{Node, Property},
};

/// An entry of `ranges` or `dma-ranges`: where what is `child` on a bus is on the bus above.
struct Range {
    child: u64,
    parent: u64,
    size: u64,
}

impl<'t> Node<'t> {
    /// How many numbers an address and a size on this bus consist of.
    fn widths(self) -> Result<(usize, usize), DeviceTreeError> {
        let width = |name, default, least, most| {
            let width = self.number_or(name, default)?;
            let width = usize::try_from(width).ok().filter(|width| (least..=most).contains(width));
            width.ok_or_else(|| DeviceTreeError::Wrong {
                node: self.path(),
                property: name.to_owned(),
                found: self.number_or(name, default).unwrap_or_default().to_string(),
                expected: format!("{least} to {most}, for a bus with memory"),
            })
        };
        // The defaults are the specification's.
        Ok((width("#address-cells", 2, 1, 2)?, width("#size-cells", 1, 0, 2)?))
    }

    /// Its places as its own bus has them: the property itself, and at least one span.
    pub(super) fn reg(self) -> Result<(Property<'t>, Vec<Span>), DeviceTreeError> {
        let property = self.require("reg", "its address and size")?;
        let bus = self.parent().ok_or_else(|| property.wrong("none: the root has no address"))?;
        let (address, size) = bus.widths()?;
        let groups = groups(property, &[address, size])?;
        let spans =
            groups.into_iter().map(|group| Span { address: group[0], size: group[1] }).collect::<Vec<_>>();
        if spans.is_empty() {
            return Err(property.wrong("an address and a size"));
        }
        Ok((property, spans))
    }

    /// Its `index`-th place, as the host's CPUs have it.
    pub(super) fn physical(self, index: usize) -> Result<Span, DeviceTreeError> {
        let (property, spans) = self.reg()?;
        let span = spans.get(index).copied();
        let span =
            span.ok_or_else(|| property.wrong(format!("at least {} addresses with sizes", index + 1)))?;
        self.translated(property, span)
    }

    /// What `span` of its own bus is for the host's CPUs.
    pub(super) fn translated(self, property: Property, mut span: Span) -> Result<Span, DeviceTreeError> {
        if span.size == 0 {
            return Err(property.wrong("sizes other than 0"));
        }
        for bus in self.ancestry().skip(1) {
            let Some(above) = bus.parent() else { break };
            let ranges = bus.require("ranges", format!("it, so that {} can be reached", self.path()))?;
            if ranges.value.is_empty() {
                continue;
            }
            let fitting = entries(ranges, bus, above)?.into_iter().find_map(|range| {
                let offset = within(range.child, range.size, span)?;
                range.parent.checked_add(offset)
            });
            span.address = fitting.ok_or_else(|| {
                ranges.wrong(format!(
                    "an entry for {:#x} bytes at {:#x}, where {} is",
                    span.size,
                    span.address,
                    self.path()
                ))
            })?;
        }
        match span.address.checked_add(span.size) {
            Some(_) => Ok(span),
            None => Err(property.wrong("an end within 64 bits")),
        }
    }

    /// Where a master on this bus sees what is `span` for the host's CPUs: by the bus's own `dma-ranges`; the same
    /// where it has none.
    pub(super) fn seen_from_bus(self, span: Span) -> Result<u64, DeviceTreeError> {
        let ranges = self.property("dma-ranges").filter(|ranges| !ranges.value.is_empty());
        let (Some(ranges), Some(above)) = (ranges, self.parent()) else { return Ok(span.address) };
        let seen = entries(ranges, self, above)?.into_iter().find_map(|range| {
            let offset = within(range.parent, range.size, span)?;
            range.child.checked_add(offset)
        });
        seen.ok_or_else(|| {
            ranges.wrong(format!("an entry for {:#x} bytes at {:#x}", span.size, span.address))
        })
    }
}

fn entries(ranges: Property, bus: Node, above: Node) -> Result<Vec<Range>, DeviceTreeError> {
    let (child, size) = bus.widths()?;
    let (parent, _) = above.widths()?;
    let groups = groups(ranges, &[child, parent, size])?.into_iter();
    Ok(groups.map(|group| Range { child: group[0], parent: group[1], size: group[2] }).collect())
}

/// How far into `start` and `size` the span is, if it is in there as a whole.
fn within(start: u64, size: u64, span: Span) -> Option<u64> {
    let offset = span.address.checked_sub(start)?;
    (offset.checked_add(span.size)? <= size).then_some(offset)
}

/// The property's numbers, each of as many cells as `widths` says (none makes it 0), as often as they fit.
fn groups<const N: usize>(property: Property, widths: &[usize; N]) -> Result<Vec<[u64; N]>, DeviceTreeError> {
    let cells = property.cells()?;
    let each = widths.iter().sum::<usize>();
    if each == 0 || !cells.len().is_multiple_of(each) {
        return Err(property.wrong(format!("groups of {each} numbers, as the cells of the buses say")));
    }
    let group = |mut cells: &[u32]| {
        widths.map(|width| {
            let (number, rest) = cells.split_at_checked(width).unwrap_or_default();
            cells = rest;
            number.iter().fold(0, |number, cell| number << 32 | u64::from(*cell))
        })
    };
    Ok(cells.chunks_exact(each).map(group).collect())
}
