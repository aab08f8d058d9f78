//! Copies between ordinary memory and a carveout.
//!
//! Into device memory only aligned accesses of 1, 2, 4 or 8 bytes are made, the widest that the address
//! allows; the ordinary side may be unaligned. A `memcpy` would fault there on arm64.

use super::Access;

/// Copies `len` bytes into a carveout.
///
/// # Safety
/// `source` must be readable and `target` writable for `len` bytes, and the ranges must not overlap. Either may
/// change or be read by others during the copy.
#[inline]
pub(super) unsafe fn into_carveout(target: *mut u8, source: *const u8, len: usize, access: Access) {
    #[cfg(test)]
    crate::copied::add(len);
    match access {
        Access::Normal => {
            #[cfg(test)]
            super::accesses::note(target.addr(), len);
            // SAFETY: as the caller promises.
            unsafe { std::ptr::copy_nonoverlapping(source, target, len) }
        }
        // SAFETY: as the caller promises.
        Access::Device => unsafe { into_device(target, source, len) },
    }
}

/// # Safety
/// As for [`into_carveout`].
unsafe fn into_device(target: *mut u8, source: *const u8, len: usize) {
    let mut done = 0;
    while done < len {
        // SAFETY: done < len, so both stay within what the caller promises.
        let (from, to) = unsafe { (source.add(done), target.add(done)) };
        let width = widest(to.addr(), len - done);
        #[cfg(test)]
        super::accesses::note(to.addr(), width);
        // SAFETY: `width` bytes remain on both sides; `to` is aligned to `width`.
        unsafe {
            match width {
                8 => to.cast::<u64>().write_volatile(from.cast::<u64>().read_unaligned()),
                4 => to.cast::<u32>().write_volatile(from.cast::<u32>().read_unaligned()),
                2 => to.cast::<u16>().write_volatile(from.cast::<u16>().read_unaligned()),
                _ => to.write_volatile(from.read()),
            }
        }
        done += width;
    }
}

/// Copies `len` bytes out of a carveout.
///
/// # Safety
/// `source` must be readable and `target` writable for `len` bytes, and the ranges must not overlap. Either may
/// change or be read by others during the copy.
#[inline]
pub(super) unsafe fn out_of_carveout(target: *mut u8, source: *const u8, len: usize, access: Access) {
    #[cfg(test)]
    crate::copied::add(len);
    match access {
        Access::Normal => {
            #[cfg(test)]
            super::accesses::note(source.addr(), len);
            // SAFETY: as the caller promises.
            unsafe { std::ptr::copy_nonoverlapping(source, target, len) }
        }
        // SAFETY: as the caller promises.
        Access::Device => unsafe { out_of_device(target, source, len) },
    }
}

/// # Safety
/// As for [`out_of_carveout`].
unsafe fn out_of_device(target: *mut u8, source: *const u8, len: usize) {
    let mut done = 0;
    while done < len {
        // SAFETY: done < len, so both stay within what the caller promises.
        let (from, to) = unsafe { (source.add(done), target.add(done)) };
        let width = widest(from.addr(), len - done);
        #[cfg(test)]
        super::accesses::note(from.addr(), width);
        // SAFETY: `width` bytes remain on both sides; `from` is aligned to `width`.
        unsafe {
            match width {
                8 => to.cast::<u64>().write_unaligned(from.cast::<u64>().read_volatile()),
                4 => to.cast::<u32>().write_unaligned(from.cast::<u32>().read_volatile()),
                2 => to.cast::<u16>().write_unaligned(from.cast::<u16>().read_volatile()),
                _ => to.write(from.read_volatile()),
            }
        }
        done += width;
    }
}

/// The widest access, in bytes, that is aligned at `address` and not longer than `left`.
fn widest(address: usize, left: usize) -> usize {
    [8, 4, 2].into_iter().find(|width| address.is_multiple_of(*width) && *width <= left).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_access_is_as_wide_as_address_and_rest_allow() {
        assert_eq!(widest(0x1000, 100), 8);
        assert_eq!(widest(0x1004, 100), 4);
        assert_eq!(widest(0x1002, 100), 2);
        assert_eq!(widest(0x1001, 100), 1);
        assert_eq!(widest(0x1000, 7), 4);
        assert_eq!(widest(0x1000, 1), 1);
    }

    proptest! {
        #[test]
        fn both_kinds_of_access_copy_every_byte_and_no_other(
            data in proptest::collection::vec(any::<u8>(), 0..100),
            device_at in 0usize..16,
            ordinary_at in 0usize..16,
        ) {
            for access in [Access::Normal, Access::Device] {
                let mut ordinary = [0xAA_u8; 128];
                ordinary[ordinary_at..ordinary_at + data.len()].copy_from_slice(&data);
                let mut device = [0x55_u8; 128];
                let mut back = [0xAA_u8; 128];
                // SAFETY: three separate arrays, each with at least 100 bytes from its start index on.
                unsafe {
                    into_carveout(device.as_mut_ptr().add(device_at), ordinary.as_ptr().add(ordinary_at), data.len(), access);
                    out_of_carveout(back.as_mut_ptr().add(ordinary_at), device.as_ptr().add(device_at), data.len(), access);
                }
                prop_assert_eq!(back, ordinary);
                prop_assert!(device[..device_at].iter().chain(&device[device_at + data.len()..]).all(|byte| *byte == 0x55));
            }
        }
    }
}
