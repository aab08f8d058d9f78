//! Sockets as other programs find them.

use tempfile::{TempDir, tempdir};

use super::*;

fn any() -> Rights<'static> {
    Rights::default()
}

/// A folder and the path of a socket in it.
fn place() -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("s");
    (folder, path)
}

#[test]
fn a_socket_that_somebody_listens_on_is_left_alone() {
    let (_folder, path) = place();
    let _first = listen(&path, any()).unwrap();
    let error = listen(&path, any()).unwrap_err();
    assert!(matches!(error, SocketError::InUse { .. }), "{error}");
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn a_stale_socket_is_replaced_and_removed_in_the_end() {
    let (_folder, path) = place();
    drop(UnixListener::bind(&path).unwrap());
    let socket = open(&VmSocket::Path(path.clone()), any()).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_no_socket_is_never_removed() {
    let (_folder, path) = place();
    fs::write(&path, "precious").unwrap();
    assert!(matches!(listen(&path, any()), Err(SocketError::NotASocket { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_socket_that_has_taken_the_place_of_ours_is_not_removed() {
    let (_folder, path) = place();
    let (_listener, file) = listen(&path, any()).unwrap();
    fs::remove_file(&path).unwrap();
    let (_successor, _its_file) = listen(&path, any()).unwrap();
    drop(file);
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn permissions_are_those_asked_for_whatever_the_umask() {
    for mode in [0o600, 0o660, 0o777, 0o000] {
        let (_folder, path) = place();
        let _socket = listen(&path, Rights { mode: Some(mode), group: None }).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, mode);
    }
}

#[test]
fn a_group_may_be_given_by_number_or_by_name() {
    // One that whoever runs this is in.
    let own = nix::unistd::getegid();
    let name = Group::from_gid(own).unwrap().map(|group| GroupPlan::Name(group.name));
    for group in [Some(GroupPlan::Number(own.as_raw())), name].into_iter().flatten() {
        let (_folder, path) = place();
        let _socket = listen(&path, Rights { mode: Some(0o660), group: Some(&group) }).unwrap();
        let found = fs::symlink_metadata(&path).unwrap();
        assert_eq!((found.gid(), found.mode() & 0o7777), (own.as_raw(), 0o660));
    }
}

#[test]
fn a_group_that_is_not_there_is_said_and_no_socket_is_left() {
    let (_folder, path) = place();
    let group = GroupPlan::Name("no such group".to_owned());
    let error = listen(&path, Rights { mode: None, group: Some(&group) }).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "socket {}: expected a group of this host, found \"no such group\", which is none",
            path.display()
        )
    );
    assert!(!path.exists());
}

#[test]
fn a_group_that_the_program_may_not_give_to_is_said_and_no_socket_is_left() {
    if geteuid().is_root() {
        // The superuser may give a file to any group.
        return;
    }
    let (_folder, path) = place();
    let error = listen(&path, Rights { mode: None, group: Some(&GroupPlan::Number(0)) }).unwrap_err();
    assert!(matches!(error, SocketError::Group { .. }), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_socket_does_not_take_connections_before_it_has_its_rights() {
    let (_folder, path) = place();
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    let file = SocketFile::at(&path).unwrap();
    let refused = UnixStream::connect(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    drop(file);
    assert!(!path.exists());
}

#[test]
fn a_link_in_the_place_of_the_socket_is_not_followed() {
    let (folder, path) = place();
    let precious = folder.path().join("precious");
    fs::write(&precious, "").unwrap();
    std::os::unix::fs::symlink(&precious, &path).unwrap();
    assert!(matches!(SocketFile::at(&path), Err(SocketError::Replaced { .. })));
    assert!(matches!(listen(&path, any()), Err(SocketError::NotASocket { .. })));
    assert!(path.is_symlink() && precious.exists());
}

#[test]
fn inherited_descriptors_are_told_apart() {
    let (_folder, path) = place();
    let listener = UnixListener::bind(path).unwrap();
    let (stream, _peer) = UnixStream::pair().unwrap();
    let file = File::open("/dev/null").unwrap();
    assert!(matches!(take_over(listener.as_raw_fd()), Ok(VmListener::Listening(_, None))));
    assert!(matches!(take_over(stream.as_raw_fd()), Ok(VmListener::Connected(_))));
    assert!(matches!(take_over(file.as_raw_fd()), Err(SocketError::NotUnix { .. })));
    assert!(matches!(take_over(12345), Err(SocketError::NotOpen { .. })));
}
