//! Message headers, name service messages and addresses: what is read is what was written, or is refused.

use vhost_device_rpmsg::rpmsg::address::{HostAddress, Session, Slot, from_host, to_host};
use vhost_device_rpmsg::rpmsg::{
    ANNOUNCEMENT_LEN, Announcement, HEADER_LEN, Header, MAX_PAYLOAD, ServiceName,
};

/// The first 16 bytes are a header of a message of that many bytes, all are an announcement, and a name.
pub fn run(data: &[u8]) {
    if let Some(bytes) = data.first_chunk::<HEADER_LEN>() {
        let header = Header::from_bytes(bytes);
        assert_eq!(header.to_bytes(), *bytes);
        assert_eq!(header.message_len() as usize, HEADER_LEN + header.payload_len());
        match header.check(data.len()) {
            Ok(()) => assert!(header.payload_len() <= MAX_PAYLOAD.min(data.len() - HEADER_LEN)),
            Err(error) => assert!(
                header.payload_len() > MAX_PAYLOAD || HEADER_LEN + header.payload_len() > data.len(),
                "refused without a reason: {error}"
            ),
        }
        address(header.dst);
    }
    if let Ok(announcement) = Announcement::from_bytes(data) {
        assert_eq!(data.len(), ANNOUNCEMENT_LEN);
        let written = announcement.to_bytes();
        assert_eq!(Announcement::from_bytes(&written).expect("our own"), announcement);
        assert_eq!(written[31], 0, "terminated");
        assert_eq!(announcement.header().check(HEADER_LEN + ANNOUNCEMENT_LEN), Ok(()));
        assert!(!announcement.name.to_string().contains(char::is_control), "fit for logs");
    }
    if let Ok(name) =
        std::str::from_utf8(data).map_err(drop).and_then(|text| ServiceName::new(text).map_err(drop))
    {
        assert_eq!(name.as_bytes(), data);
    }
}

/// Whatever the remote takes for a guest's address leads back to that guest.
fn address(host: u32) {
    if let HostAddress::Guest { slot, session, address } = from_host(host) {
        assert_eq!(to_host(slot, session, address), Some(host));
    }
    let [slot, session, ..] = host.to_be_bytes();
    if let Some(slot) = Slot::new(slot)
        && let Some(host) = to_host(slot, Session::new(session & 15), host)
    {
        assert!(host < 1 << 31, "Linux keeps addresses in an int");
    }
}
