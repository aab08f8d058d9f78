//! What a guest has been told of the services on the other side, and the rules by which it may be told.

use std::collections::BTreeSet;

use vhost_device_rpmsg::rpmsg::{Announcement, AnnouncementKind, ServiceName};

/// The guest's view of the services.
#[derive(Default)]
pub struct Directory {
    services: BTreeSet<(ServiceName, u32)>,
    news: Vec<Announcement>,
}

impl Directory {
    /// `rpmsg_ns_cb()`: a name-service message. One that Linux would not take, that creates what exists or withdraws what
    /// does not, violates an invariant.
    pub fn hear(&mut self, payload: &[u8]) {
        let news = Announcement::from_bytes(payload)
            .unwrap_or_else(|e| panic!("INVARIANT VIOLATION: name service: {e}: {payload:02x?}"));
        let service = (news.name, news.addr);
        match news.kind {
            AnnouncementKind::Create => assert!(
                self.services.insert(service),
                "INVARIANT VIOLATION: service {} at {:#x} created twice",
                news.name,
                news.addr
            ),
            AnnouncementKind::Destroy => assert!(
                self.services.remove(&service),
                "INVARIANT VIOLATION: service {} at {:#x} withdrawn, which does not exist",
                news.name,
                news.addr
            ),
        }
        self.news.push(news);
    }

    /// The address of a service by its name.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.services.iter().find(|(known, _)| known.as_bytes() == name.as_bytes()).map(|(_, addr)| *addr)
    }

    /// Everything that was ever told, in order.
    pub fn news(&self) -> &[Announcement] {
        &self.news
    }
}
