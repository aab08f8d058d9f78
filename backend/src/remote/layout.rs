//! Where a remote core's vrings are: its resource table says it, or a layout that host and firmware were built with.

/// How the vrings are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The resource table at this device address names them.
    Table {
        /// Device address of the table.
        address: u64,
    },
    /// There is no table.
    Static(StaticLayout),
}

/// Vrings at fixed places, as firmware without a resource table has them: the rpmsg driver of NXP's i.MX ("i.MX RFC",
/// 2019, and the vendor kernel's `drivers/rpmsg/imx_rpmsg.c`) and rpmsg-lite (`rpmsg_platform.h`, `VRING_SIZE`,
/// `RL_VRING_OVERHEAD`).
///
/// Device `n` has its first vring at `base + n * 0x10000` and its second one 0x8000 bytes further; both are aligned to
/// 4096 bytes. The notifyids are `2n` and `2n + 1`. There is no status: the link is up with the first kick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticLayout {
    base: u32,
    vdevs: u8,
    descriptors: u32,
}

impl StaticLayout {
    /// Bytes from one device's vrings to the next one's.
    pub const VDEV_STRIDE: u32 = 0x10000;
    /// Bytes from a device's first vring to its second.
    pub const VRING_STRIDE: u32 = 0x8000;
    /// Alignment of vrings and of their used rings, in bytes.
    pub const ALIGN: u32 = 0x1000;
    /// Most devices: the i.MX driver has a bit of a byte for each.
    pub const MAX_VDEVS: u8 = 8;
    /// Descriptors of a vring where nothing else is said.
    pub const DESCRIPTORS: u32 = 256;
    /// Most descriptors whose vring fits before the next one.
    pub const MAX_DESCRIPTORS: u32 = 1024;

    /// `vdevs` devices (1 to [`MAX_VDEVS`](Self::MAX_VDEVS)) from device address `base` on (a multiple of
    /// [`ALIGN`](Self::ALIGN)), with `descriptors` (a power of two from 2 to
    /// [`MAX_DESCRIPTORS`](Self::MAX_DESCRIPTORS)) in each vring. `None` where that is not so, or where the vrings
    /// would lie beyond 32 bits.
    pub fn new(base: u32, vdevs: u8, descriptors: u32) -> Option<Self> {
        let fits = base.is_multiple_of(Self::ALIGN)
            && (1..=Self::MAX_VDEVS).contains(&vdevs)
            && descriptors.is_power_of_two()
            && (2..=Self::MAX_DESCRIPTORS).contains(&descriptors)
            && base.checked_add(u32::from(vdevs) * Self::VDEV_STRIDE - 1).is_some();
        fits.then_some(StaticLayout { base, vdevs, descriptors })
    }

    /// Device address of the first vring.
    pub fn base(self) -> u32 {
        self.base
    }

    /// Number of devices.
    pub fn vdevs(self) -> u8 {
        self.vdevs
    }

    /// Descriptors of each vring.
    pub fn descriptors(self) -> u32 {
        self.descriptors
    }

    /// Device addresses of each device's two vrings.
    pub fn vrings(self) -> impl Iterator<Item = [u32; 2]> {
        (0..u32::from(self.vdevs)).map(move |vdev| {
            let first = self.base + vdev * Self::VDEV_STRIDE;
            [first, first + Self::VRING_STRIDE]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::vring::VringLayout;
    use super::*;

    #[test]
    fn devices_are_0x10000_apart_and_their_vrings_0x8000() {
        let layout = StaticLayout::new(0xB800_0000, 2, 256).unwrap();
        let vrings: Vec<_> = layout.vrings().collect();
        assert_eq!(vrings, [[0xB800_0000, 0xB800_8000], [0xB801_0000, 0xB801_8000]]);
    }

    #[test]
    fn the_largest_vring_fits_before_the_next_one() {
        let size = |descriptors| VringLayout::new(descriptors, StaticLayout::ALIGN).unwrap().size();
        assert!(size(StaticLayout::MAX_DESCRIPTORS) <= StaticLayout::VRING_STRIDE as usize);
        assert!(size(2 * StaticLayout::MAX_DESCRIPTORS) > StaticLayout::VRING_STRIDE as usize);
    }

    #[test]
    fn impossible_layouts_are_refused() {
        for (base, vdevs, descriptors) in
            [(0x800, 1, 256), (0, 0, 256), (0, 9, 256), (0, 1, 100), (0, 1, 2048), (0xFFFF_F000, 1, 256)]
        {
            assert_eq!(StaticLayout::new(base, vdevs, descriptors), None);
        }
    }
}
