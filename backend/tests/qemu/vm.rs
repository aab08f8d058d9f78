//! One QEMU with one stock Linux guest, and the commands given to it.
//!
//! The guest's kernel log (its first serial line) goes to QEMU's standard error, so that it stands where QEMU's own
//! messages are. The agent in the guest (`guest-images/initramfs/agent`) has standard input and output: a shell command a
//! line in; out come its lines, and then `@@ ` with its exit code.
//!
//! **What the stock driver does to a guest.** Linux' `virtio_rpmsg_bus` takes mutexes, and adds and removes devices, in
//! the interrupt in which virtio calls it. Where that falls on a task of the same CPU that holds one of the locks, the
//! kernel complains or hangs; and it complains whenever it adds or removes a device node there, since that sleeps: when a
//! service appears whose driver is loaded, or one is withdrawn that has a driver. No device can help that, so:
//! - a guest has two CPUs, of which its init keeps programs off the one with the interrupt ([`Kind::of`]), or its interrupts
//!   are threads on a kernel that does not preempt ([`Kind::with_threaded_interrupts`]);
//! - the sample client, which sends from its receive callback, is loaded while the core holds its breath (`guests`);
//! - where services come and go in a running guest, they are none with device nodes, or their drivers are not loaded.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::complaints;
use super::driver::PATIENCE;
use super::process::Process;
use super::qmp::Qmp;

/// A guest's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Debian 12's.
    V6_1,
    /// The newest in Debian sid.
    Newest,
    /// The same with PREEMPT_RT.
    NewestRt,
    /// The newest, with `guest-images/patches`, and with the kernel's own checks of locks and of sleeping.
    NewestDebug,
}

impl Kernel {
    fn folder(self) -> &'static str {
        match self {
            Kernel::V6_1 => "6.1",
            Kernel::Newest => "newest",
            Kernel::NewestRt => "newest-rt",
            Kernel::NewestDebug => "newest-debug",
        }
    }
}

/// How the device is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A PCI device of a q35 machine.
    Pci,
    /// A virtio-mmio device of a microvm, which has no PCI.
    Mmio,
}

/// What kind of VM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// The guest's kernel.
    pub(crate) kernel: Kernel,
    /// How the device is attached.
    pub(crate) form: Form,
    /// Virtual CPUs.
    pub(crate) cpus: u8,
    /// More for the kernel's command line, see `guest-images/initramfs/init`.
    pub(crate) arguments: &'static str,
}

impl Kind {
    /// The usual VM with this kernel and transport.
    pub(crate) fn of(kernel: Kernel, form: Form) -> Self {
        Kind { kernel, form, cpus: 2, arguments: "rpmsg.noload=rpmsg_client_sample" }
    }

    /// A VM that can bear that services come and go, as long as the drivers with device nodes are not loaded; none
    /// is by itself before its service is there.
    pub(crate) fn with_threaded_interrupts(form: Form) -> Self {
        let arguments = "threadirqs rpmsg.noload=rpmsg_client_sample,rpmsg_ctrl";
        Kind { kernel: Kernel::V6_1, form, cpus: 1, arguments }
    }

    /// A VM whose guest needs none of this, because its kernel has the patches in `guest-images/patches`.
    pub(crate) fn patched(form: Form) -> Self {
        let arguments = "rpmsg.pin=no rpmsg.noload=rpmsg_client_sample";
        Kind { kernel: Kernel::NewestDebug, form, cpus: 2, arguments }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QEMU with {} over {:?}", self.kernel.folder(), self.form)
    }
}

/// A running VM. It is killed and reaped when dropped; its kernel must not have complained.
pub(crate) struct Vm {
    qemu: Process,
    qmp: PathBuf,
    form: Form,
    ended: bool,
}

impl Vm {
    /// Starts QEMU. `socket` is the program's vhost-user socket for it, `qmp` a path for QEMU's control socket.
    pub(crate) fn start(kind: Kind, socket: &Path, qmp: PathBuf) -> Self {
        let guest = built("guests").join(kind.kernel.folder());
        let mut command = Command::new(built("qemu/bin/qemu-system-x86_64"));
        let (machine, transport): (&[&str], _) = match kind.form {
            Form::Pci => (&["-machine", "q35,memory-backend=mem"], "pci"),
            Form::Mmio => (
                &[
                    "-machine",
                    "microvm,isa-serial=on,acpi=off,memory-backend=mem",
                    "-cpu",
                    "max",
                    "-no-reboot",
                ],
                "device",
            ),
        };
        let rpmsg = match kind.form {
            Form::Pci => "vhost-user-test-device-pci",
            Form::Mmio => "vhost-user-test-device",
        };
        command
            .args(["-accel", "tcg", "-nodefaults", "-display", "none"])
            .args(machine)
            .args(["-m", "256", "-smp", &kind.cpus.to_string()])
            .args(["-object", "memory-backend-memfd,id=mem,size=256M,share=on"])
            .arg("-kernel")
            .arg(guest.join("bzImage"))
            .arg("-initrd")
            .arg(guest.join("initramfs.cpio.gz"))
            .args(["-append", &format!("console=ttyS0 no_timer_check {}", kind.arguments)])
            .args(["-serial", "file:/dev/stderr"])
            .args(["-device", &format!("virtio-serial-{transport}"), "-device", "virtconsole,chardev=agent"])
            .args(["-chardev", "stdio,id=agent,signal=off"])
            .args(["-chardev", &format!("socket,id=rpmsg,path={}", socket.display())])
            .args(["-device", &format!("{rpmsg},chardev=rpmsg,virtio-id=7,num_vqs=2,vq_size=256")])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", qmp.display())]);
        Vm {
            qemu: Process::spawn(&kind.to_string(), Stdio::piped(), command),
            qmp,
            form: kind.form,
            ended: false,
        }
    }

    /// Waits until the guest is up, for the first time or again.
    pub(crate) fn wait_ready(&mut self) {
        while self.qemu.next_line() != "@@ ready" {}
    }

    /// Has the guest carry out a shell command, which must succeed, and returns what it printed.
    pub(crate) fn run(&mut self, command: &str) -> String {
        self.begin(command);
        self.end(command)
    }

    /// Starts a command without waiting for its end.
    pub(crate) fn begin(&mut self, command: &str) {
        writeln!(self.qemu.stdin(), "{command}").expect("the agent takes commands");
    }

    /// Waits for the end of the command that was begun, which must succeed, and returns what it printed.
    pub(crate) fn end(&mut self, command: &str) -> String {
        let mut lines = Vec::new();
        loop {
            let line = self.qemu.next_line();
            let Some(code) = line.strip_prefix("@@ ") else {
                lines.push(line);
                continue;
            };
            let said = lines.join("\n");
            assert_eq!(code, "0", "exit code of {command:?}, which said:\n{said}");
            return said;
        }
    }

    /// Waits until the kernel has said so for the `count`-th time since the guest's start. The guest looks in its kernel
    /// log: looking in sysfs would get in the driver's way.
    pub(crate) fn wait_for_kernel(&mut self, text: &str, count: usize) {
        let looks = PATIENCE.as_millis() / 20;
        self.run(&format!(
            "for i in $(seq {looks}); do \
             [ $(dmesg | grep -c '{text}') -ge {count} ] && exit; usleep 20000; done; \
             echo not said {count} times: {text}; exit 1"
        ));
    }

    /// Waits until the kernel log has a line with this text.
    pub(crate) fn wait_log(&self, text: &str) {
        self.qemu.wait_log(text);
    }

    /// The kernel log so far.
    pub(crate) fn log(&self) -> String {
        self.qemu.stderr()
    }

    /// A connection to QEMU itself. The guest must have been up.
    pub(crate) fn qmp(&self) -> Qmp {
        Qmp::connect(&self.qmp)
    }

    /// Has the guest restart within the same QEMU, and waits until it is up again.
    pub(crate) fn reboot(&mut self) {
        assert_eq!(self.form, Form::Pci, "a microvm's QEMU ends when its guest restarts");
        self.begin("reboot -f");
        self.wait_ready();
    }

    /// Has the guest restart, which is the end of a microvm's QEMU.
    pub(crate) fn reboot_and_end(mut self) {
        assert_eq!(self.form, Form::Mmio, "a PC's guest restarts within the same QEMU");
        self.begin("reboot -f");
        let status = self.qemu.wait_exit();
        self.ended = true;
        assert!(status.success(), "QEMU ended with {status}");
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if !self.ended {
            self.qemu.kill();
        }
        if let Some(complaint) = complaints::find(&self.log()) {
            panic!("the guest's kernel complains:\n{complaint}\n\nits whole log:\n{}", self.log());
        }
    }
}

/// Something that `ci/setup` has made.
pub(crate) fn built(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(path);
    fs::canonicalize(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; `ci/setup test` makes it", path.display()))
}
