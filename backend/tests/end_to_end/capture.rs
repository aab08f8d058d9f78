//! Captures of messages, read by `tshark` with the dissector that comes with the program.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::guest::Guest;
use crate::harness::program::{EXECUTABLE, Program};
use crate::harness::rig::{Plan, Rig};

const HERE: u32 = 1024;
const PATIENCE: Duration = Duration::from_secs(20);

/// A rig whose program takes requests.
fn rig(vms: u8) -> Rig {
    Rig::start_with(Plan::with_sessions(vms), |config| {
        let folder = config.lines().find_map(|line| line.strip_prefix("doorbell = \"")).expect("a doorbell");
        let folder = Path::new(folder.trim_end_matches('"')).parent().expect("in a folder");
        format!("control = {:?}\n{config}", folder.join("control"))
    })
}

/// A client that captures.
struct Capture(Program);

impl Capture {
    /// Starts it, and waits until it captures.
    fn start(rig: &Rig, more: &[&str]) -> Self {
        let control = rig.path("control");
        let control = control.to_str().expect("UTF-8");
        let client = Program::spawn(["capture", "--control", control].iter().chain(more));
        client.wait_log("capturing");
        Capture(client)
    }

    /// Ends it as Ctrl-C does.
    fn end(mut self) {
        self.0.terminate();
        let status = self.0.wait_exit();
        assert!(status.success(), "{status}: {}", self.0.stderr());
    }
}

/// What `tshark` prints with these arguments and the dissector.
fn tshark(arguments: &[&str]) -> String {
    let dissector = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/wireshark/rpmsg.lua");
    let output = Command::new("tshark")
        .args(["-X", &format!("lua_script:{dissector}")])
        .args(arguments)
        .output()
        .expect("tshark, which ci/setup installs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("Lua"), "{}: {said}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// These fields of the packets that a filter lets pass, a line for each.
fn fields(file: &Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut arguments = vec!["-r", file.to_str().expect("UTF-8"), "-Y", filter, "-T", "fields"];
    arguments.extend(fields.iter().flat_map(|field| ["-e", *field]));
    tshark(&arguments).lines().map(str::to_owned).collect()
}

fn count(file: &Path, filter: &str) -> usize {
    fields(file, filter, &["frame.number"]).len()
}

/// Echoes so many messages, of 0, 1, 2... bytes.
fn echo(guest: &mut Guest, service: &str, messages: usize) {
    let service = guest.wait_service(service);
    for size in 0..messages {
        guest.echo(HERE, service, &vec![0x5A; size]);
    }
}

fn file(rig: &Rig) -> (PathBuf, String) {
    let path = rig.path("a.pcapng");
    let text = path.to_str().expect("UTF-8").to_owned();
    (path, text)
}

#[test]
fn tshark_reads_every_message_of_two_vms_with_the_names_of_vm_and_service() {
    let rig = rig(2);
    let (path, text) = file(&rig);
    let capture = Capture::start(&rig, &["--file", &text]);
    let mut guests = [rig.guest(0), rig.guest(1)];
    echo(&mut guests[0], "rpmsg-raw", 100);
    echo(&mut guests[1], "rpmsg-raw", 50);
    let raw = guests[0].wait_service("rpmsg-raw");
    capture.end();

    for (vm, slot, messages) in [("vm0", 1_u8, 100), ("vm1", 2, 50)] {
        let of_vm = format!("frame.interface_name == \"{vm}\" && rpmsg.vm.slot == {slot}");
        let to_remote = format!("{of_vm} && rpmsg.src == {HERE} && rpmsg.dst == {raw}");
        let to_guest = format!("{of_vm} && rpmsg.dst == {HERE} && rpmsg.src == {raw}");
        let lengths: Vec<String> = (0..messages).map(|size: usize| size.to_string()).collect();
        for (way, direction) in [(&to_remote, "0"), (&to_guest, "1")] {
            assert_eq!(fields(&path, way, &["rpmsg.len"]), lengths, "{way}");
            let same = fields(&path, way, &["rpmsg.vm.direction", "frame.comment", "rpmsg.flags"]);
            assert!(
                same.iter().all(|line| *line == format!("{direction}\tservice rpmsg-raw\t0x0000")),
                "{same:?}"
            );
        }
        let host = u32::from(slot) << 24 | 1 << 20 | HERE;
        let addressed = format!(
            "{to_remote} && rpmsg.vm.host_address == {host} && rpmsg.vm.guest_address == {HERE} && frame.packet_flags == 1"
        );
        assert_eq!(count(&path, &addressed), messages);
        // What it is told of the core's services.
        let told = fields(
            &path,
            &format!("{of_vm} && rpmsg.ns.name == \"rpmsg-raw\" && rpmsg.ns.flags == 0"),
            &["rpmsg.ns.addr"],
        );
        assert_eq!(told, [format!("0x{raw:08x}")]);
    }
    assert_eq!(count(&path, "rpmsg && rpmsg.payload"), 2 * (99 + 49), "payloads");
    assert_eq!(count(&path, "!rpmsg || _ws.malformed || rpmsg.cut_short || rpmsg.vm.other_version"), 0);
}

#[test]
fn a_filter_lets_pass_one_vm_and_one_service_and_snap_length_cuts() {
    let rig = rig(2);
    let (path, text) = file(&rig);
    let filter = ["--vm", "vm1", "--service", "rpmsg-raw", "--snap-length", "20", "--file", &text];
    let capture = Capture::start(&rig, &filter);
    let mut guests = [rig.guest(0), rig.guest(1)];
    for guest in &mut guests {
        echo(guest, "rpmsg-raw", 30);
    }
    capture.end();

    assert_eq!(count(&path, "frame.interface_name != \"vm1\""), 0);
    assert_eq!(count(&path, "frame.comment != \"service rpmsg-raw\""), 0);
    assert_eq!(count(&path, "rpmsg.dst != 53"), 60);
    let lengths = fields(&path, "rpmsg.len == 29", &["frame.len", "frame.cap_len"]);
    assert_eq!(lengths, ["61\t36", "61\t36"]);
}

#[test]
fn what_is_dropped_is_captured_with_its_reason() {
    let rig = rig(1);
    let (path, text) = file(&rig);
    let capture = Capture::start(&rig, &["--file", &text]);
    let mut guest = rig.guest(0);
    let raw = guest.wait_service("rpmsg-raw");
    guest.send(u32::MAX, raw, b"from nobody");
    echo(&mut guest, "rpmsg-raw", 1);
    capture.end();

    let dropped = fields(&path, "rpmsg.vm.dropped != 0", &["rpmsg.vm.dropped", "rpmsg.payload"]);
    let payload: String = b"from nobody".iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(dropped, [format!("5\t{payload}")]);
}

#[test]
fn a_ring_of_files_keeps_the_last_ones_and_each_can_be_read() {
    let rig = rig(1);
    let (_, text) = file(&rig);
    let capture = Capture::start(&rig, &["--file", &text, "--files", "3", "--file-size", "8K"]);
    let mut guest = rig.guest(0);
    echo(&mut guest, "rpmsg-raw", 200);
    capture.end();

    let mut files: Vec<PathBuf> = fs::read_dir(rig.path("a").parent().expect("a folder"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcapng"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    let mut lengths = Vec::new();
    for file in &files {
        assert!(fs::metadata(file).expect("a file").len() <= 8 << 10);
        lengths.extend(fields(
            file,
            "frame.interface_name == \"vm0\" && rpmsg.vm.direction == 0",
            &["rpmsg.len"],
        ));
    }
    let last: Vec<_> = (0..200).map(|size| size.to_string()).collect();
    assert!(lengths.len() > 10 && last.ends_with(&lengths), "{lengths:?}");
}

#[test]
fn a_stuck_reader_loses_records_that_are_counted_and_no_message() {
    let rig = rig(1);
    let mut guest = rig.guest(0);
    let mut reader = UnixStream::connect(rig.path("control")).unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    reader.write_all(b"{\"version\":1,\"request\":\"capture\"}\n").unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    assert_eq!(line, b"{\"version\":1,\"result\":{\"remote\":\"core\"}}\n");

    // More than the ring of records, the socket and a batch hold.
    let raw = guest.wait_service("rpmsg-raw");
    let messages = 6000;
    for _ in 0..messages {
        guest.echo(HERE, raw, &[0x5A; 400]);
    }
    reader.shutdown(std::net::Shutdown::Write).unwrap();
    let mut capture = Vec::new();
    reader.read_to_end(&mut capture).unwrap();

    let path = rig.path("stuck.pcapng");
    fs::write(&path, &capture).unwrap();
    let captured = count(&path, "rpmsg.len == 400");
    let lost = dropped(&capture);
    assert!(captured > 1000 && lost > 1000, "{captured} captured, {lost} lost");
    assert_eq!(captured as u64 + lost, 2 * messages, "captured and lost");
}

/// `isb_ifdrop` of the last statistics of a capture.
fn dropped(capture: &[u8]) -> u64 {
    let word = |at: usize| u32::from_le_bytes(capture[at..at + 4].try_into().unwrap());
    let (mut at, mut dropped) = (0, None);
    while at < capture.len() {
        let len = word(at + 4) as usize;
        if word(at) == 5 {
            // Behind type, length, interface and time: isb_ifrecv with its 8 bytes, then isb_ifdrop.
            assert_eq!((word(at + 20), word(at + 32)), (0x0008_0004, 0x0008_0005));
            dropped = Some(u64::from_le_bytes(capture[at + 36..at + 44].try_into().unwrap()));
        }
        at += len;
    }
    dropped.expect("statistics")
}

#[test]
fn one_capture_goes_on_at_a_time_and_its_end_makes_room_for_the_next() {
    let rig = rig(1);
    let (path, text) = file(&rig);
    let first = Capture::start(&rig, &["--file", "/dev/null"]);
    let control = rig.path("control");
    let said = Program::failing(["capture", "--control", control.to_str().unwrap(), "--file", &text]);
    assert!(said.contains("one capture of a remote at a time"), "{said}");
    let said = Program::failing(["capture", "--control", control.to_str().unwrap(), "--vm", "nobody"]);
    assert!(said.contains("of which there are: vm0, found \"nobody\""), "{said}");
    first.end();

    let second = Capture::start(&rig, &["--file", &text]);
    echo(&mut rig.guest(0), "rpmsg-raw", 3);
    second.end();
    assert_eq!(count(&path, "rpmsg.vm.direction == 0"), 3);
}

#[test]
fn wireshark_captures_through_the_extcap() {
    let rig = rig(1);
    let extcap = rig.path("rpmsg-extcap");
    std::os::unix::fs::symlink(EXECUTABLE, &extcap).unwrap();
    let fifo = rig.path("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let asked = |arguments: &[&str]| {
        let output = Command::new(&extcap).args(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(asked(&["--extcap-interfaces", "--extcap-version=4.0"]).contains("interface {value=rpmsg}"));

    let mut arguments = ["--capture", "--extcap-interface", "rpmsg", "--fifo"].map(str::to_owned).to_vec();
    arguments.push(fifo.to_str().unwrap().to_owned());
    arguments.extend(["--control".to_owned(), rig.path("control").to_str().unwrap().to_owned()]);
    let mut client = Program::spawn_from(&extcap, std::process::Stdio::null(), &arguments);
    // As dumpcap does: it opens the pipe, and closes it when it has had enough.
    let mut pipe = fs::File::open(&fifo).unwrap();
    let mut guest = rig.guest(0);
    echo(&mut guest, "rpmsg-raw", 1);
    let mut begin = [0; 4];
    pipe.read_exact(&mut begin).unwrap();
    assert_eq!(begin, [0x0A, 0x0D, 0x0D, 0x0A]);
    drop(pipe);
    let start = Instant::now();
    // The next message finds nobody who reads.
    echo(&mut guest, "rpmsg-raw", 1);
    let status = client.wait_exit();
    assert!(status.success() && start.elapsed() < PATIENCE, "{status}");
}
