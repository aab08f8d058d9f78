//! Lets virtual machines share a physical coprocessor over rpmsg.
//!
//! See the repository's `README.md` for what the program does; this is the map of the house.
//!
//! | room | what is in it |
//! |---|---|
//! | [`rpmsg`] | what rpmsg is: header, name service, addresses. No I/O, no `unsafe`, no virtio |
//! | [`softcore`] | the built-in remote core: a simulated firmware, the embedded default and the tests' peer |

pub mod rpmsg;
pub mod softcore;
