//! vhost-user messages and the file descriptors with them, through the real gate, device and bridge.
//!
//! The data are what a front-end sends: messages that are sensible, nearly so, or not at all, with descriptors of memory,
//! events or something else, broken off anywhere. Behind the bridge is the loopback core. Every so often another VM of the
//! same bridge has an echo sent back.

use std::fs::File;
use std::io::{IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;
use vhost_device_rpmsg::bridge::bench::Guest;
use vhost_device_rpmsg::bridge::policy::{Overflow, Policy, VmPolicy};
use vhost_device_rpmsg::bridge::{Bridge, State, VmConfig};
use vhost_device_rpmsg::guest::device::serve_one;
use vhost_device_rpmsg::guest::gate::Gate;
use vhost_device_rpmsg::guest::port::{QueueIndex, QueueOwner};
use vhost_device_rpmsg::log_limit::LogLimit;
use vhost_device_rpmsg::remote::config::{MailboxConfig, MemoryConfig, RemoteConfig, VringsConfig};
use vhost_device_rpmsg::remote::core::RemoteCore;
use vhost_device_rpmsg::rpmsg::address::Slot;
use vhost_device_rpmsg::rpmsg::{Announcement, NAME_SERVICE_ADDRESS};
use vhost_device_rpmsg::softcore::{Config, CoreThread, spawn_loopback};

use crate::log_to_nobody;

/// Size of the memory that front-ends share, in bytes.
const MEMORY: u64 = 0x1_0000;
/// Where front-ends say that it is mapped.
const USER: u64 = 0x7F00_0000_0000;
/// Runs between two looks at the other VM.
const LOOK_EVERY: u64 = 64;
/// How long any wait may take before the target is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program, without its command line: a bridge, a VM with a gate, and one that is always there.
struct House {
    path: PathBuf,
    gone: Mutex<Receiver<()>>,
    bystander: Mutex<Bystander>,
    _folder: TempDir,
    _core: CoreThread,
    _bridge: Bridge,
}

/// A VM that is up all the time.
struct Bystander {
    guest: Guest,
    owner: Arc<dyn QueueOwner>,
    echo: u32,
    runs: u64,
}

/// The bridge's way to a VM, and word of each end of a connection.
struct Told {
    owner: Arc<dyn QueueOwner>,
    gone: Sender<()>,
}

impl QueueOwner for Told {
    fn take(&self, index: QueueIndex, queue: vhost_device_rpmsg::guest::Queue) {
        self.owner.take(index, queue);
    }
    fn release(&self, index: QueueIndex) -> Option<u16> {
        self.owner.release(index)
    }
    fn call_by(&self, index: QueueIndex, call: Option<File>) {
        self.owner.call_by(index, call);
    }
    fn disconnected(&self) {
        self.owner.disconnected();
        self.gone.send(()).expect("somebody waits for it");
    }
}

fn house() -> &'static House {
    static HOUSE: OnceLock<House> = OnceLock::new();
    HOUSE.get_or_init(|| {
        let core = spawn_loopback(Config::default()).expect("a loopback core");
        let size = usize::try_from(core.size).expect("small");
        let remote = RemoteConfig::attached(
            "loopback",
            MailboxConfig::Stream(Some(core.doorbell)),
            vec![MemoryConfig::whole(core.memory, size, core.device_address.into())],
            VringsConfig::Table(core.table_address.into()),
        );
        let bridge = Bridge::start(
            RemoteCore::new(remote, Instant::now()),
            Policy::default(),
            State::forgetful().expect("memory"),
            Duration::from_micros(50),
        )
        .expect("a bridge");
        let add = |name: &str, slot| {
            let policy = VmPolicy::unlimited(Overflow::Drop);
            let slot = Slot::new(slot).expect("a slot");
            bridge
                .add_vm(VmConfig { name: name.to_owned(), slot, vdev: 0, policy, goes_on: false })
                .expect("a free slot")
        };
        let (gone, is_gone) = channel();
        let owner: Arc<dyn QueueOwner> = Arc::new(Told { owner: add("fuzzed", 1), gone });
        let bystander = Bystander::start(add("bystander", 2));
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("socket");
        let gate = Gate::new(UnixListener::bind(&path).expect("a socket")).expect("an event fd");
        thread::spawn(move || {
            let mut log = LogLimit::default();
            loop {
                // A front-end that breaks the protocol is what this is about.
                let _broken = serve_one("fuzzed", &gate, &owner, &mut log);
            }
        });
        House {
            path,
            gone: Mutex::new(is_gone),
            bystander: Mutex::new(bystander),
            _folder: folder,
            _core: core.thread,
            _bridge: bridge,
        }
    })
}

impl Bystander {
    fn start(owner: Arc<dyn QueueOwner>) -> Self {
        let guest = Guest::default();
        for index in QueueIndex::ALL {
            owner.take(index, guest.queue(index));
        }
        let mut bystander = Bystander { guest, owner, echo: 0, runs: 0 };
        while bystander.echo == 0 {
            let (header, payload) = bystander.receive();
            assert_eq!(header.dst, NAME_SERVICE_ADDRESS);
            let announcement = Announcement::from_bytes(&payload).expect("an announcement");
            if announcement.name.as_bytes() == b"rpmsg-raw" {
                bystander.echo = announcement.addr;
            }
        }
        bystander
    }

    fn receive(&mut self) -> (vhost_device_rpmsg::rpmsg::Header, Vec<u8>) {
        let start = Instant::now();
        loop {
            if let Some(received) = self.guest.receive() {
                return received;
            }
            assert!(start.elapsed() < PATIENCE, "the bystander is not served");
            thread::yield_now();
        }
    }

    /// Has a message sent back.
    fn look(&mut self) {
        self.runs += 1;
        if !self.runs.is_multiple_of(LOOK_EVERY) {
            return;
        }
        let number = self.runs.to_le_bytes();
        assert!(self.guest.send(1024, self.echo, &number));
        // The bridge looks at a queue that it is handed; kicks are not this target's matter.
        self.owner.call_by(QueueIndex::FromGuest, None);
        loop {
            let (header, payload) = self.receive();
            if header.dst != NAME_SERVICE_ADDRESS {
                assert_eq!((header.src, &payload[..]), (self.echo, &number[..]));
                return;
            }
        }
    }
}

/// The data are the messages.
pub fn run(data: &[u8]) {
    log_to_nobody();
    let house = house();
    let mut stream = UnixStream::connect(&house.path).expect("the gate is open");
    let _ended = talk(&stream, &mut Unstructured::new(data));
    // It may have hung up already.
    let _gone_before = stream.shutdown(Shutdown::Write);
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket of ours");
    let mut answers = Vec::new();
    let _reset = stream.read_to_end(&mut answers);
    let gone = house.gone.lock().expect("one thread").recv_timeout(PATIENCE);
    gone.expect("the connection comes to its end");
    house.bystander.lock().expect("one thread").look();
}

/// Descriptors that a front-end may send.
struct Files {
    memory: File,
    event: File,
    pipe: File,
}

fn talk(stream: &UnixStream, data: &mut Unstructured<'_>) -> Result<()> {
    let memory = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).expect("a memfd"));
    memory.set_len(MEMORY).expect("a memfd grows");
    let event = File::from(eventfd(0, EventfdFlags::CLOEXEC).expect("an event fd"));
    let pipe = File::open("/dev/null").expect("the null device");
    let files = Files { memory, event, pipe };
    if data.arbitrary()? {
        for message in sensible_start() {
            if !message.send(stream, &files) {
                return Ok(());
            }
        }
    }
    for _ in 0..64 {
        if data.is_empty() || !Message::arbitrary(data)?.send(stream, &files) {
            break;
        }
    }
    Ok(())
}

/// A message: number, flags, size where it is not that of the body, body, descriptors by kind.
struct Message {
    request: u32,
    flags: u32,
    size: Option<u32>,
    body: Vec<u8>,
    files: Vec<u8>,
}

/// vhost-user protocol, "Message types".
mod request {
    pub const SET_FEATURES: u32 = 2;
    pub const SET_OWNER: u32 = 3;
    pub const SET_MEM_TABLE: u32 = 5;
    pub const SET_VRING_NUM: u32 = 8;
    pub const SET_VRING_ADDR: u32 = 9;
    pub const SET_VRING_BASE: u32 = 10;
    pub const SET_VRING_KICK: u32 = 12;
    pub const SET_VRING_CALL: u32 = 13;
    pub const SET_PROTOCOL_FEATURES: u32 = 16;
    pub const SET_VRING_ENABLE: u32 = 18;
    /// The last one that is known.
    pub const LAST: u32 = 44;
}

/// Version 1 of the protocol.
const VERSION: u32 = 1;

/// What a front-end sends until the rings run.
fn sensible_start() -> Vec<Message> {
    use request::*;
    let plain = |request, body: Vec<u8>, files: &[u8]| Message {
        request,
        flags: VERSION,
        size: None,
        body,
        files: files.to_vec(),
    };
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let mut messages = vec![
        plain(SET_OWNER, Vec::new(), &[]),
        plain(SET_PROTOCOL_FEATURES, words(&[0x1 | 0x8 | 0x8000 | 0x2000 | 0x200]), &[]),
        plain(SET_FEATURES, words(&[1 << 32 | 1 << 30 | 1]), &[]),
        // One region, at guest address 0.
        plain(SET_MEM_TABLE, words(&[1, 0, MEMORY, USER, 0]), &[0]),
    ];
    for ring in 0..2_u64 {
        let base = USER + 0x1000 * ring;
        messages.extend([
            plain(SET_VRING_NUM, words(&[ring | 16 << 32]), &[]),
            plain(SET_VRING_BASE, words(&[ring]), &[]),
            plain(SET_VRING_ADDR, words(&[ring, base, base + 0x400, base + 0x800, 0]), &[]),
            plain(SET_VRING_CALL, words(&[ring]), &[1]),
            plain(SET_VRING_KICK, words(&[ring]), &[1]),
            plain(SET_VRING_ENABLE, words(&[ring | 1 << 32]), &[]),
        ]);
    }
    messages
}

impl Message {
    fn arbitrary(data: &mut Unstructured<'_>) -> Result<Self> {
        let request =
            if data.ratio(15, 16)? { data.int_in_range(1..=request::LAST)? } else { data.arbitrary()? };
        // With and without the wish for an acknowledgement.
        let flags = if data.ratio(7, 8)? {
            VERSION | u32::from(data.arbitrary::<bool>()?) << 3
        } else {
            data.arbitrary()?
        };
        let size = if data.ratio(1, 8)? { Some(data.arbitrary::<u16>()?.into()) } else { None };
        let mut body = Vec::new();
        for _ in 0..data.int_in_range(0..=12)? {
            body.extend_from_slice(&word(data)?.to_le_bytes());
        }
        if data.ratio(1, 8)? {
            body.truncate(body.len() - body.len().min(data.int_in_range(0..=8)?));
        }
        let count = if data.ratio(7, 8)? { data.int_in_range(0..=2)? } else { data.int_in_range(0..=40)? };
        let files = (0..count).map(|_| data.int_in_range(0..=2)).collect::<Result<_>>()?;
        Ok(Message { request, flags, size, body, files })
    }

    /// Sends it in one piece. Returns false if nobody listens any more.
    fn send(&self, stream: &UnixStream, files: &Files) -> bool {
        let size = self.size.unwrap_or(u32::try_from(self.body.len()).expect("a short body"));
        let mut bytes = Vec::new();
        for word in [self.request, self.flags, size] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.body);
        let descriptors: Vec<BorrowedFd<'_>> = self
            .files
            .iter()
            .map(|kind| match kind {
                0 => files.memory.as_fd(),
                1 => files.event.as_fd(),
                _ => files.pipe.as_fd(),
            })
            .collect();
        let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "room for them");
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(stream, &[IoSlice::new(&bytes)], &mut control, flags).is_ok_and(|sent| sent == bytes.len())
    }
}

/// A number that may mean something.
fn word(data: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match data.int_in_range(0..=6)? {
        // A ring, and a state or size.
        0 | 1 => u64::from(data.int_in_range(0..=2_u8)?) | u64::from(data.arbitrary::<u8>()?) << 32,
        2 => u64::from(data.arbitrary::<u8>()?),
        // An address of the front-end's.
        3 | 4 => {
            USER + u64::from(data.int_in_range(0..=0x11_u8)?) * 0x1000
                + u64::from(data.arbitrary::<u8>()? & 0x1F)
        }
        5 => u64::from(data.int_in_range(0..=0x11_u8)?) * 0x1000,
        _ => data.arbitrary()?,
    })
}
