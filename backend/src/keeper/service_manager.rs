//! What the service manager is told that has started the program: systemd's `sd_notify(3)`. Where none listens, nothing is.

use log::warn;
use sd_notify::{NotifyState, notify};

/// What there is to tell.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// A worker serves everything.
    Serving,
    /// Another one is going to take over, as was asked for.
    Upgrading,
    /// The end has begun.
    Ending,
}

/// Tells it.
pub(super) fn tell(news: News) {
    let told = match news {
        News::Serving => notify(&[NotifyState::Ready]),
        News::Upgrading => {
            NotifyState::monotonic_usec_now().and_then(|now| notify(&[NotifyState::Reloading, now]))
        }
        News::Ending => notify(&[NotifyState::Stopping]),
    };
    if let Err(error) = told {
        warn!("cannot tell the service manager ({news:?}): {error}");
    }
}
