//! Dumps that are read back.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use object::read::elf::{FileHeader, ProgramHeader};

use super::super::memory::{Access, Region};
use super::*;
use crate::causes::Causes;
use crate::remote::host::{Answer, Request, Told};

/// A host whose files cannot be written to.
#[derive(Debug)]
struct ReadOnly(Mutex<Shelf>, PathBuf);

impl Host for ReadOnly {
    fn ask(&self, request: &Request) -> Result<Answer, HostError> {
        let mut shelf = self.0.lock().unwrap();
        match request {
            Request::BeginDump => {
                shelf.begin(Timestamp::now())?;
                let name = self.1.join(&names(&self.1)[0]);
                Ok(Answer { told: Told::Done, file: Some(File::open(name).unwrap().into()) })
            }
            Request::EndDump { is_whole: true } => Ok(Told::Path(shelf.end()?).into()),
            _ => {
                shelf.discard();
                Ok(Told::Done.into())
            }
        }
    }
}

/// Regions with these addresses and sizes, every byte of which depends on where it is.
fn memory(places: &[(u64, usize)], access: Access) -> Carveouts {
    let regions = places.iter().map(|(address, size)| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(*size as u64).unwrap();
        Region::map(&file, 0, *size, *address, access).unwrap()
    });
    let carveouts = Carveouts::new(regions.collect());
    for (address, memory) in carveouts.slices() {
        memory.write_bytes(0, &content(address, memory.len()));
    }
    carveouts
}

fn content(address: u64, len: usize) -> Vec<u8> {
    let byte = |at: u64| ((address + at) % 251).to_le_bytes()[0];
    (0..len as u64).map(byte).collect()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A dump as a host would make it at this time.
fn dump(carveouts: &Carveouts, remote: &str, directory: &Path, now: Timestamp) -> Result<PathBuf, DumpError> {
    let mut shelf = Shelf::new(remote, directory);
    let regions: Vec<_> = carveouts.slices().collect();
    let image = Image { headers: headers(&regions, &note(remote, now))?, regions };
    let mut file = shelf.begin(now)?;
    image.write_to(&mut file).unwrap();
    assert_eq!(file.metadata().unwrap().len(), image.len());
    shelf.end()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_dump_holds_each_region_at_its_device_address() {
    for access in [Access::Normal, Access::Device] {
        let places = [(0x2100_0000, 2 * CHUNK), (0, 0x1000), (0x9_0000_0000, CHUNK + 0x1000)];
        let carveouts = memory(&places, access);
        let directory = tempfile::tempdir().unwrap();
        let path = dump(&carveouts, "m4", directory.path(), time("2026-11-20T13:47:32.6Z")).unwrap();
        assert_eq!(path, directory.path().join("m4-20261120-134732.core"));
        assert_eq!(names(directory.path()), ["m4-20261120-134732.core"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);

        let bytes = fs::read(&path).unwrap();
        let header = FileHeader64::<LittleEndian>::parse(&*bytes).unwrap();
        assert_eq!((header.e_type(LittleEndian), header.e_machine(LittleEndian)), (ET_CORE, EM_NONE));
        let programs = header.program_headers(LittleEndian, &*bytes).unwrap();
        let (note, loads) = programs.split_first().unwrap();
        let mut notes = note.notes(LittleEndian, &*bytes).unwrap().unwrap();
        let note = notes.next().unwrap().unwrap();
        assert_eq!((note.name(), note.n_type(LittleEndian)), (NOTE_NAME, NOTE_TYPE));
        assert_eq!(note.desc(), b"remote m4, 2026-11-20T13:47:32Z\0");
        assert!(notes.next().unwrap().is_none());

        assert_eq!(loads.len(), places.len());
        for (load, (address, size)) in loads.iter().zip(places) {
            assert_eq!(load.p_type(LittleEndian), PT_LOAD);
            assert_eq!((load.p_paddr(LittleEndian), load.p_vaddr(LittleEndian)), (address, address));
            assert_eq!(load.p_memsz(LittleEndian), size as u64);
            assert!(load.data(LittleEndian, &*bytes).unwrap() == content(address, size));
        }
        let end = loads.last().map(|load| load.p_offset(LittleEndian) + load.p_filesz(LittleEndian));
        assert_eq!(end, Some(bytes.len() as u64));
    }
}

#[test]
fn the_oldest_dumps_of_the_same_remote_go_and_nothing_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let others = [
        ".m4-abc123.party",
        ".m4-x-abc123.part",
        "m4-20200101-000000.txt",
        "m4-r5-20200101-000000.core",
        "m4.core",
    ];
    for name in others.iter().chain(&[".m4-abc123.part", "m4-20200101-000000.core"]) {
        fs::write(directory.path().join(name), name).unwrap();
    }
    let carveouts = memory(&[(0, 0x1000)], Access::Normal);
    let dump_at = |now| dump(&carveouts, "m4", directory.path(), time(now)).unwrap();
    for number in 1..=MAX_DUMPS + 7 {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = dump_at("2026-02-28T23:59:59Z");
        assert_eq!(path, directory.path().join(format!("m4-20260228-235959{suffix}.core")));
    }
    dump_at("2026-03-01T00:00:00Z");
    dump_at("1970-01-01T00:00:12Z");
    let dumps: Vec<_> =
        names(directory.path()).into_iter().filter(|name| !others.contains(&name.as_str())).collect();
    assert_eq!(
        dumps,
        [
            "m4-19700101-000012.core",
            "m4-20260228-235959-10.core",
            "m4-20260228-235959-11.core",
            "m4-20260228-235959-12.core",
            "m4-20260301-000000.core"
        ]
    );
    for name in others {
        assert_eq!(fs::read_to_string(directory.path().join(name)).unwrap(), name);
    }
}

#[test]
fn a_directory_that_is_not_there_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none");
    let error = dump(&memory(&[(0, 0x1000)], Access::Normal), "m4", &missing, Timestamp::UNIX_EPOCH);
    let text = Causes(&error.unwrap_err()).to_string();
    assert!(text.contains("core dump in") && text.contains("none; is it a directory"), "{text}");
}

#[test]
fn a_dump_that_cannot_be_written_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let carveouts = memory(&[(0, 0x1000)], Access::Normal);
    let host: &dyn Host =
        &ReadOnly(Mutex::new(Shelf::new("m4", directory.path())), directory.path().to_owned());
    let error = super::dump(host, &carveouts, "m4", directory.path()).unwrap_err();
    assert!(matches!(error, DumpError::Write { .. }), "{error}");
    assert_eq!(names(directory.path()), [""; 0]);
    assert!(matches!(host.keep_dump(), Err(HostError::Dump(DumpError::NotBegun { .. }))));
}
