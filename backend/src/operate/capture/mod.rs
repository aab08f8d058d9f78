//! Captures of messages for people to look at, in the format that Wireshark reads: pcapng.
//!
//! The program streams a capture over the control socket, and `vhost-device-rpmsg capture` writes it to files: the process
//! that talks to guests opens nothing, and whoever reads slowly holds up nobody but the thread that writes to him.
//!
//! | module | what is in it |
//! |---|---|
//! | `blocks` | records as blocks of pcapng; their layout is described in `backend/docs/capture.md` |
//! | `stream` | the program's side: a thread that writes what is captured to a client |
//! | [`client`] | `vhost-device-rpmsg capture` |
//! | `files` | a file or pipe, or files of a limited size of which the last are kept |
//! | [`extcap`] | what Wireshark asks of a program in its extcap folder |

mod blocks;
pub mod client;
pub mod extcap;
mod files;
mod stream;

pub(super) use files::Ring;
pub(super) use stream::stream;
