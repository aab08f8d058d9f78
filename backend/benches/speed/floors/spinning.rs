//! What passes between two cores that never sleep.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::cores::{FAR, NEAR, pin};
use crate::repeat::{Samples, repeat};
use crate::report::Report;

/// Bytes of a message's buffer.
const BUFFER: usize = 512;
/// Buffers in one direction.
const BUFFERS: usize = 256;
/// What ends the other side.
const END: u64 = u64::MAX;

/// Measures cache lines that go back and forth.
pub(crate) fn measure(report: &mut Report) {
    pin(NEAR);
    let what = "cache line, there and back";
    report.floor("cache_line_ping_pong", what, &ping_pong(|run| repeat(what, run)));
    let what = "spinning relay, 4 hops";
    report.floor("spinning_relay", what, &relay(what));
}

/// How far apart the cores are now: nanoseconds of a cache line there and back.
pub(crate) fn distance() -> f64 {
    /// A look takes about a tenth of a millisecond.
    const TRIPS: u32 = 500;
    const LOOKS: usize = 101;

    pin(NEAR);
    let looks = |run: &mut dyn FnMut(u32) -> Duration| {
        let nanoseconds = (0..LOOKS).map(|_| run(TRIPS).as_secs_f64() * 1e9 / f64::from(TRIPS)).collect();
        Samples::new(nanoseconds, TRIPS)
    };
    ping_pong(looks).typical()
}

/// Measures copying from one core to the other.
pub(crate) fn copying(report: &mut Report) {
    pin(NEAR);
    let what = "copy of 512 bytes from the other core";
    report.floor("copy_512", what, &copy(what));
}

/// A cache line, and the one that is fetched along with it.
#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU64);

impl Line {
    fn set(&self, number: u64) {
        self.0.store(number, Ordering::Release);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn wait_for(&self, number: u64) {
        while self.get() != number {}
    }
}

/// One writes to a line, the other one answers in another line. `measure` is given what does that so many times.
fn ping_pong(measure: impl FnOnce(&mut dyn FnMut(u32) -> Duration) -> Samples) -> Samples {
    let (there, back) = (Line::default(), Line::default());
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(FAR);
            let mut last = 0;
            while last != END {
                let number = there.get();
                if number != last {
                    last = number;
                    back.set(number);
                }
            }
        });
        let mut number = 0;
        let samples = measure(&mut |operations| {
            let start = Instant::now();
            for _ in 0..operations {
                number += 1;
                there.set(number);
                back.wait_for(number);
            }
            start.elapsed()
        });
        there.set(END);
        samples
    })
}

/// What stands between guest and remote looks at a line of each, and tells the other one. This side is both in turn.
fn relay(what: &str) -> Samples {
    let [from_guest, to_remote, from_remote, to_guest] = [(); 4].map(|()| Line::default());
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(FAR);
            let (mut sent, mut answered) = (0, 0);
            while sent != END {
                let number = from_guest.get();
                if number != sent {
                    sent = number;
                    to_remote.set(number);
                }
                let number = from_remote.get();
                if number != answered {
                    answered = number;
                    to_guest.set(number);
                }
            }
        });
        let mut number = 0;
        let samples = repeat(what, |operations| {
            let start = Instant::now();
            for _ in 0..operations {
                number += 1;
                from_guest.set(number);
                to_remote.wait_for(number);
                from_remote.set(number);
                to_guest.wait_for(number);
            }
            start.elapsed()
        });
        from_guest.set(END);
        samples
    })
}

type Buffers = Vec<[u8; BUFFER]>;

/// This side fills all the buffers of a direction, the other one copies them to memory of its own, and ends with the channel.
/// Only the copying is timed.
fn copy(what: &str) -> Samples {
    thread::scope(|scope| {
        let (to_far, filled) = channel::<Buffers>();
        let (to_near, copied) = channel::<(Buffers, Duration)>();
        scope.spawn(move || {
            pin(FAR);
            let mut own = vec![[0; BUFFER]; BUFFERS];
            while let Some(buffers) = spin(&filled) {
                let start = Instant::now();
                for (own, theirs) in own.iter_mut().zip(&buffers) {
                    own.copy_from_slice(black_box(theirs));
                }
                let time = start.elapsed();
                black_box(&mut own);
                to_near.send((buffers, time)).expect("the other side waits for it");
            }
        });
        let mut buffers = vec![[0; BUFFER]; BUFFERS];
        let mut number = 0_u8;
        repeat(what, |operations| {
            let mut time = Duration::ZERO;
            for _ in 0..operations as usize / BUFFERS {
                number = number.wrapping_add(1);
                buffers.iter_mut().for_each(|buffer| buffer.fill(number));
                to_far.send(std::mem::take(&mut buffers)).expect("the other side waits for it");
                let (back, taken) = spin(&copied).expect("the other side lives as long as this one");
                buffers = back;
                time += taken;
            }
            time
        })
    })
}

/// Receives without sleeping; nothing when the sender is gone.
fn spin<T>(receiver: &Receiver<T>) -> Option<T> {
    loop {
        match receiver.try_recv() {
            Ok(value) => return Some(value),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return None,
        }
    }
}
