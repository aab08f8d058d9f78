//! Tests of the whole: guests, the program, and a remote core in another process, with nothing simulated in between.
#![forbid(unsafe_code)]

#[path = "../harness/mod.rs"]
mod harness;

mod bad_input;
mod capture;
mod control;
mod echo;
mod exactly_once;
mod exclusive;
mod frontends;
mod harness_itself;
mod hostile;
mod keeper;
mod life;
mod polling;
mod program;
mod remote;
mod sandbox;
mod service_manager;
mod service_restart;
mod services;
mod sharing;
mod spoofing;
mod stats;
mod streaming;
mod streams;
mod terminal;
mod top;
mod torn;
