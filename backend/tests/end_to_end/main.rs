//! Tests of the whole: guests, the program, and a remote core in another process, with nothing simulated in between.
#![forbid(unsafe_code)]

#[path = "../harness/mod.rs"]
mod harness;

mod harness_itself;
