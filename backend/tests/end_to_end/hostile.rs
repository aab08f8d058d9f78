//! Guests, front-ends and remote cores that do not play by the rules: what they do comes to nothing or costs them their
//! own connection, while the echoes of a bystander go on all the time.
//!
//! The harness holds the program to its invariants meanwhile: no guest is given a used length below that of a header or
//! above its buffer (`driver`), and no core a header that promises more than its message holds (the soft core counts such
//! messages, [`Rogue`](crate::harness::rogue::Rogue) refuses them).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::guest::Guest;
use crate::harness::rig::Rig;

mod front_end;
mod remote;
mod rings;

/// An endpoint of every guest's.
const HERE: u32 = 1024;

/// Does `act` while this guest has messages echoed without a pause; the last one is sent when `act` is over. Returns how
/// many there were.
fn beside(bystander: &mut Guest, act: impl FnOnce()) -> u64 {
    /// Ends the echoes also where `act` panics.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    Rig::settle(bystander);
    let is_over = AtomicBool::new(false);
    let echoes = thread::scope(|scope| {
        let echoing = scope.spawn(|| {
            let raw = bystander.wait_service("rpmsg-raw");
            let mut echoes = 0_u64;
            loop {
                let is_last = is_over.load(Ordering::SeqCst);
                bystander.echo(HERE, raw, &echoes.to_le_bytes());
                echoes += 1;
                if is_last {
                    return echoes;
                }
            }
        });
        let end = End(&is_over);
        act();
        drop(end);
        echoing.join().expect("the bystander is served")
    });
    // What `settle` has sent, too.
    echoes + 1
}
