//! The real program between guests and a remote core.
//!
//! | file | what is in it |
//! |---|---|
//! | `world` | the program and what it runs between, in this process |
//! | `stepped` | the remote core until its vrings are taken over |
//! | `sides` | guests and remote core, played in turn by one thread |
//! | `round_trip` | one message there and back, and then the next one |
//! | `load` | as many messages as there can be: what one costs, and how many there are a second |
//! | `in_process` | what a message costs the relay alone |
//! | `scale` | the same with many VMs, endpoints and services |
//! | `quiet` | notifications, system calls, wake-ups: what should not happen |
//! | `calls` | counts the system calls of a thread |
//! | `sharing` | many VMs that want more than there is |

mod calls;
mod in_process;
mod load;
mod quiet;
mod round_trip;
mod scale;
mod sharing;
mod sides;
mod stepped;
mod world;

pub(crate) use scale::VMS;
pub(crate) use sharing::VMS as FLOODED_VMS;

use crate::floors;
use crate::report::Report;
use crate::steady::steadily;

/// Bytes of payload: few, so that it is the message that counts, and as many as there can be.
const SMALL: usize = 16;
/// See [`SMALL`].
const LARGE: usize = vhost_device_rpmsg::rpmsg::MAX_PAYLOAD;

/// Measures it, and what of the machine's it is held against.
pub(crate) fn measure(report: &mut Report) {
    steadily(report, |report| {
        floors::spinning(report);
        round_trip::spinning(report);
    });
    steadily(report, |report| {
        floors::copying(report);
        load::measure(report);
    });
    steadily(report, |report| {
        floors::virtqueue(report);
        in_process::measure(report);
    });
    steadily(report, |report| {
        floors::blocking(report);
        round_trip::blocking(report);
    });
    for part in
        [scale::vms, scale::endpoints, scale::services, quiet::idle_vms, sharing::measure, quiet::measure]
    {
        steadily(report, part);
    }
}
