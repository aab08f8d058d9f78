//! A guest's queue in memory that another thread changes all the while.
//!
//! Nothing can be said here about what the device finds, only that it stays within the guest's memory and comes to an
//! end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use vhost_device_rpmsg::guest::Direction;

use crate::guest_queue::Rig;

/// Steps of the device. The other thread makes its own over and over.
const STEPS: usize = 64;

/// The data are the queue and the steps of the other thread.
pub fn run(data: &[u8]) {
    let _ended = race(Unstructured::new(data));
}

fn race(mut data: Unstructured<'_>) -> Result<()> {
    let mut rig = Rig::new(&mut data)?;
    let guest = rig.guest.clone();
    let direction = if data.arbitrary()? { Direction::ToGuest } else { Direction::FromGuest };
    let script = data.take_rest();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let mut steps = Unstructured::new(script);
                while !steps.is_empty() && !is_over.load(Ordering::Relaxed) && guest.step(&mut steps).is_ok()
                {
                }
            }
        });
        let mut bytes = [0; 512];
        for _ in 0..STEPS {
            let Ok(found) = rig.queue.peek(direction) else { break };
            match found {
                Some(Ok(())) => {
                    rig.check_pieces();
                    let done = match direction {
                        Direction::FromGuest => rig.queue.read(0, &mut bytes),
                        Direction::ToGuest => rig.queue.write(0, &bytes),
                    };
                    assert_eq!(done, rig.queue.chain_len().min(bytes.len()));
                    rig.queue.complete(0);
                }
                Some(Err(_)) => rig.queue.complete(0),
                None => {
                    rig.queue.arm();
                    std::hint::spin_loop();
                }
            }
            rig.queue.publish();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    Ok(())
}
