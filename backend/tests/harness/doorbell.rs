//! Doorbells that are not quite right: a wire into which noise can be put, and a core that is none.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use super::driver::PATIENCE;

/// "State?", from the host.
pub const STATE_QUERY: u8 = 0xF6;
/// The answer of a core whose resource table is in place.
pub const RUNNING: u8 = 0xF7;

/// A listener whose connections are served by `serve` one after the other, until it is dropped.
struct Server {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    connection: Arc<Mutex<Option<UnixStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(path: &Path, mut serve: impl FnMut(UnixStream) + Send + 'static) -> Self {
        let listener = UnixListener::bind(path).expect("doorbell socket");
        let stop = Arc::new(AtomicBool::new(false));
        let connection = Arc::new(Mutex::new(None));
        let thread = thread::spawn({
            let (stop, connection) = (Arc::clone(&stop), Arc::clone(&connection));
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let stream = stream.expect("connection to the doorbell");
                    *connection.lock().unwrap() = Some(stream.try_clone().expect("clone of the doorbell"));
                    serve(stream);
                }
            }
        });
        Server { path: path.to_owned(), stop, connection, thread: Some(thread) }
    }

    fn write(&self, bytes: &[u8]) {
        let mut connection = self.connection.lock().unwrap();
        connection.as_mut().expect("a host is connected").write_all(bytes).expect("doorbell written");
    }

    fn close_connection(&self) {
        if let Some(stream) = self.connection.lock().unwrap().take() {
            let _gone_already = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.close_connection();
        let _wakes_the_listener = UnixStream::connect(&self.path);
        let _path_may_be_gone = std::fs::remove_file(&self.path);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// A wire between the host and a core's doorbell.
pub struct Wire {
    server: Server,
    to_core: Arc<Heard>,
}

/// How often each byte went by, and how many connections there were.
struct Heard {
    connections: AtomicUsize,
    counts: Mutex<[u64; 256]>,
    more: Condvar,
}

impl Heard {
    fn hear(&self, bytes: &[u8]) {
        let mut counts = self.counts.lock().unwrap();
        bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        self.more.notify_all();
    }
}

impl Wire {
    /// Listens at `front` for the host and passes everything on to and from the core at `back`.
    pub fn between(front: &Path, back: &Path) -> Self {
        let back = back.to_owned();
        let to_core = Arc::new(Heard {
            connections: AtomicUsize::new(0),
            counts: Mutex::new([0; 256]),
            more: Condvar::new(),
        });
        let heard = Arc::clone(&to_core);
        let server = Server::start(front, move |host| {
            heard.connections.fetch_add(1, Ordering::SeqCst);
            let core = UnixStream::connect(&back).expect("the core's doorbell");
            thread::scope(|scope| {
                scope.spawn(|| pass(&host, &core, |bytes| heard.hear(bytes)));
                pass(&core, &host, |_| {});
            });
        });
        Wire { server, to_core }
    }

    /// Waits until the host has rung so many times with this byte.
    pub fn wait_to_core(&self, byte: u8, times: u64) {
        let Heard { counts, more, .. } = &*self.to_core;
        let too_few = |counts: &mut [u64; 256]| counts[usize::from(byte)] < times;
        let (counts, _) = more.wait_timeout_while(counts.lock().unwrap(), PATIENCE, too_few).unwrap();
        assert!(
            counts[usize::from(byte)] >= times,
            "stuck: {byte:#04x} not rung {times} times within {PATIENCE:?}"
        );
    }

    /// How often the host has connected.
    pub fn connections(&self) -> usize {
        self.to_core.connections.load(Ordering::SeqCst)
    }

    /// Rings the host's bell with these bytes.
    pub fn put_to_host(&self, bytes: &[u8]) {
        self.server.write(bytes);
    }

    /// Breaks the connection between host and core.
    pub fn cut(&self) {
        self.server.close_connection();
    }
}

fn pass(mut from: &UnixStream, mut to: &UnixStream, heard: impl Fn(&[u8])) {
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        heard(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _gone_already = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// A core that is nothing but a doorbell: it says that it runs, and no more. What is in its memory is the test's business.
pub struct HollowCore {
    server: Server,
}

impl HollowCore {
    /// Listens at `doorbell`.
    pub fn start(doorbell: &Path) -> Self {
        HollowCore {
            server: Server::start(doorbell, |mut host| {
                let mut byte = [0];
                while let Ok(1) = host.read(&mut byte) {
                    if byte[0] == STATE_QUERY && host.write_all(&[RUNNING]).is_err() {
                        break;
                    }
                }
            }),
        }
    }
    /// Rings the host's bell with these bytes.
    pub fn ring(&self, bytes: &[u8]) {
        self.server.write(bytes);
    }
}
