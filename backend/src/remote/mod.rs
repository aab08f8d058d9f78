//! The remote core: its memory, its vrings, its mailbox and its life.
//!
//! To the firmware this room is the host, exactly what Linux remoteproc and virtio_rpmsg_bus would be: it reads
//! the resource table, places the vrings, does the status handshake and is the *driver* of both rings. It knows
//! nothing of guests: the bridge takes messages out here and puts messages in.
//!
//! | file | what is in it |
//! |---|---|
//! | [`core`] | the life of a remote core: starting, attaching, losing, recovering, stopping |
//! | [`config`] | what has to be known of it beforehand |
//! | [`host`] | the one door to files, devices and commands |
//! | `link` | reaching it: its mailbox and its memory |
//! | [`recovery`] | what is done about a crash, how often, how soon |
//! | [`watch`], `watchdog` | noticing that it is not well |
//! | [`presence`] | what a core on another thread needs to know of it |
//! | `chores` | the service thread, for all that may block |
//! | [`layout`] | how the vrings are found: by a resource table, or at places that both sides know |
//! | `locate` | where the resource table of a running core is |
//! | [`attach`] | from there to working vrings, and back |
//! | `placement` | where vrings and buffers go in the carveouts |
//! | [`resume`] | going on with what a program before this one had attached to |
//! | [`messages`] | the buffers of the two vrings |
//! | [`memory`] | carveouts, found by device address; with the mailboxes' registers the only `unsafe` of this room |
//! | [`resource_table`] | the codec of the resource table |
//! | [`vring`] | the driver's side of a split vring in carveout memory |
//! | [`mailbox`] | how host and remote ring each other's bell |
//! | [`firmware`] | an ELF file, loaded into the carveouts |
//! | [`dump`] | the carveouts as an ELF core file |
//! | [`trace`] | what the firmware writes to its trace buffers |
//! | [`power`] | starting and stopping a core: commands, Linux's remoteproc, a register |
//! | `text` | what programs and firmware say, fit for logs |

pub mod attach;
mod chores;
pub mod config;
pub mod core;
pub mod dump;
pub mod firmware;
pub mod host;
pub mod layout;
mod link;
mod locate;
pub mod mailbox;
pub mod memory;
pub mod messages;
mod placement;
pub mod power;
pub mod presence;
pub mod recovery;
pub mod resource_table;
pub mod resume;
mod text;
pub mod trace;
pub mod vring;
pub mod watch;
mod watchdog;

#[cfg(test)]
mod tests;
