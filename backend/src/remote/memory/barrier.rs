//! Memory barriers towards a remote core.
//!
//! A remote core need not be in the CPU's inner-shareable domain: on arm64 the barriers are `dsb` over the full
//! system, as Linux uses for remoteproc (`rproc_virtio` sets `weak_barriers` to false). On x86-64, where
//! the remote is a process or an emulator, the hardware keeps the order and only a full fence costs anything.

use std::sync::atomic::{Ordering, fence};

/// Everything written before is visible to the remote before anything written after.
#[inline]
pub fn before_publish() {
    device_barrier();
    fence(Ordering::Release);
}

/// Everything read after is at least as new as what was read before.
#[inline]
pub fn after_observe() {
    fence(Ordering::Acquire);
    device_barrier();
}

/// Everything written before is visible to the remote before the mailbox register is touched.
#[inline]
pub fn before_kick() {
    full();
}

/// Reads and writes before come before reads and writes after. Between publishing an index and looking at the
/// other side's wish to be notified.
#[inline]
pub fn full() {
    device_barrier();
    fence(Ordering::SeqCst);
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn device_barrier() {
    // SAFETY: a barrier has no operands, touches no memory of its own and changes no flags.
    unsafe { std::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
}

#[cfg(not(target_arch = "aarch64"))]
#[inline]
fn device_barrier() {}
