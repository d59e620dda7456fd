//! A parent for tests: builds frozen steps, clones the child, holds the other end of its wake socket.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unsafe_code,
    reason = "a test clones, maps and waits as the launch of the core does"
)]
#![allow(dead_code, reason = "each suite uses a part of it")]

use std::ffi::{CStr, CString, c_char};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rsrun_init::step::{InArena, MountAttributes, Param, TextList, Wake};
use rsrun_init::{Frozen, Page, Step};

pub type Steps = Vec<Step<InArena<'static>>>;

pub const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// A text that lives as long as the test process.
pub fn text(value: &str) -> &'static CStr {
    Box::leak(CString::new(value).unwrap().into_boxed_c_str())
}

pub fn texts(values: &[&str]) -> TextList<'static> {
    let items: Vec<&'static CStr> = values.iter().map(|value| text(value)).collect();
    let mut pointers: Vec<*const c_char> = items.iter().map(|item| item.as_ptr()).collect();
    pointers.push(std::ptr::null());
    TextList {
        items: Box::leak(items.into_boxed_slice()),
        pointers: Box::leak(pointers.into_boxed_slice()),
    }
}

pub fn params(values: &[(&str, &str)]) -> &'static [Param<InArena<'static>>] {
    let params: Vec<_> = values
        .iter()
        .map(|(key, value)| match *value {
            "" => Param::Flag(text(key)),
            value => Param::Text(text(key), text(value)),
        })
        .collect();
    Box::leak(params.into_boxed_slice())
}

/// `MountFilesystem` with nothing special.
pub fn mount(fstype: &str, target: &str, options: &[(&str, &str)]) -> Step<InArena<'static>> {
    Step::MountFilesystem {
        fstype: text(fstype),
        source: text(fstype),
        params: params(options),
        flags: 0,
        target: text(target),
        copy_up: false,
        after: MountAttributes::default(),
        becomes_proc: false,
    }
}

/// A root filesystem with a static busybox, removed at the end.
pub struct Rootfs {
    pub path: PathBuf,
}

impl Rootfs {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = beside_busybox().join(format!("rsrun-init-{}-{number}", std::process::id()));
        for dir in ["bin", "proc", "sys", "dev", "tmp", "etc", "work"] {
            fs::create_dir_all(path.join(dir)).unwrap();
        }
        // A copy would be open for writing in children that other threads clone (ETXTBSY).
        fs::hard_link("/bin/busybox", path.join("bin/busybox")).unwrap();
        for name in ["sh", "cat", "id", "sleep", "true", "stty"] {
            std::os::unix::fs::symlink("busybox", path.join("bin").join(name)).unwrap();
        }
        Self { path }
    }

    /// A detached clone of the tree, private.
    pub fn tree(&self) -> OwnedFd {
        clone_tree(&self.path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A directory on the filesystem of busybox, as a link can't leave it.
fn beside_busybox() -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|inode| inode.dev()).ok();
    let own = device(Path::new("/bin/busybox"));
    let mut places = [std::env::temp_dir(), "/var/tmp".into()].into_iter();
    let place = places.find(|place| device(place) == own);
    place.expect("a directory on the filesystem of /bin/busybox")
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

pub fn clone_tree(path: &Path) -> OwnedFd {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as u32;
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    assert!(fd >= 0, "open_tree: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel just gave us this descriptor.
    let tree = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    let private: [u64; 4] = [0, 0, libc::MS_PRIVATE, 0];
    // SAFETY: `private` is one `struct mount_attr` of 32 bytes.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            private.as_ptr(),
            32,
        )
    };
    assert_eq!(
        done,
        0,
        "mount_setattr: {}",
        std::io::Error::last_os_error()
    );
    tree
}

/// A pipe whose writing end the child can have.
pub fn pipe() -> (fs::File, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    assert_eq!(made, 0);
    // SAFETY: the kernel just gave us both.
    unsafe {
        (
            fs::File::from_raw_fd(ends[0]),
            OwnedFd::from_raw_fd(ends[1]),
        )
    }
}

/// A page as the core maps it.
pub fn page() -> &'static Page {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new anonymous mapping, zeroed (a valid page) and never unmapped.
    let page: &'static Page = unsafe {
        let at = libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED);
        &*at.cast()
    };
    page.listener.store(-1, Ordering::Relaxed);
    page.program.store(u32::MAX, Ordering::Relaxed);
    page
}

/// A child in flight; killed and reaped at the end.
pub struct Running {
    pub pid: i32,
    pub page: &'static Page,
    pub wake: fs::File,
    reaped: Option<i32>,
}

/// Clones a child with `flags` and has it do `steps`.
pub fn launch(steps: Steps, flags: u64) -> Running {
    launch_with(steps, flags, page())
}

pub fn launch_with(steps: Steps, flags: u64, page: &'static Page) -> Running {
    let steps: &'static [_] = Box::leak(steps.into_boxed_slice());
    let (ours, theirs) = socket_pair();
    let wake = theirs.as_raw_fd();
    let frozen = Frozen {
        steps,
        page,
        wake,
        birthplace: -1,
    };
    let portable = Portable(frozen);
    let body = move || {
        let portable = portable;
        close_other_sockets(wake);
        clone3(portable.0, flags)
    };
    // The core's launch thread has no more stack either.
    let thread = std::thread::Builder::new()
        .stack_size(512 << 10)
        .spawn(body)
        .unwrap();
    let pid = thread.join().unwrap();
    drop(theirs);
    Running {
        pid,
        page,
        wake: ours,
        reaped: None,
    }
}

struct Portable(Frozen<'static>);
// SAFETY: its pointers lead into leaked memory that nobody writes.
unsafe impl Send for Portable {}

fn clone3(frozen: Frozen<'static>, flags: u64) -> i32 {
    let args: [u64; 8] = [flags, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    // SAFETY: `args` is a whole version 0 clone_args. Without CLONE_VM the child has copies of all memory;
    //         it calls `enter`, which uses neither heap nor libc and never returns.
    unsafe {
        let pid = libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args));
        if pid == 0 {
            rsrun_init::enter(frozen);
        }
        assert!(pid > 0, "clone3: {}", std::io::Error::last_os_error());
        pid as i32
    }
}

/// On this thread alone: a child that held the other end of its own socket would never see it closed.
fn close_other_sockets(wake: RawFd) {
    // SAFETY: a flag only; the descriptor table of this thread becomes its own.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
    let open: Vec<_> = fs::read_dir("/proc/thread-self/fd")
        .unwrap()
        .flatten()
        .collect();
    for entry in open {
        let number: RawFd = entry.file_name().to_str().unwrap().parse().unwrap();
        let is_socket = fs::read_link(entry.path())
            .is_ok_and(|link| link.to_string_lossy().starts_with("socket:"));
        if is_socket && number != wake {
            // SAFETY: the table is this thread's own, and nothing on it uses this number.
            unsafe { libc::close(number) };
        }
    }
}

fn socket_pair() -> (fs::File, OwnedFd) {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` has room for two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) };
    assert_eq!(made, 0);
    // SAFETY: the kernel just gave us both.
    unsafe {
        (
            fs::File::from_raw_fd(ends[0]),
            OwnedFd::from_raw_fd(ends[1]),
        )
    }
}

impl Running {
    /// A process that a child made in our name; its wake socket is with the child.
    pub fn adopt(pid: i32, page: &'static Page) -> Self {
        let (nobody, _) = pipe();
        Self {
            pid,
            page,
            wake: nobody,
            reaped: None,
        }
    }

    /// The next byte must be `wake`.
    pub fn expect(&mut self, wake: Wake) {
        let mut byte = [0; 1];
        let count = self.wake.read(&mut byte).unwrap();
        assert_eq!(
            (count, byte[0]),
            (1, wake as u8),
            "the child said {:?}",
            self.page.failure()
        );
    }

    pub fn answer(&mut self, wake: Wake) {
        self.wake.write_all(&[wake as u8]).unwrap();
    }

    /// `expect` and `answer`.
    pub fn agree(&mut self, wake: Wake) {
        self.expect(wake);
        self.answer(wake);
    }

    /// The terminal's master, which comes with `Wake::Console`.
    pub fn receive_console(&mut self) -> fs::File {
        let mut byte = [0u8; 1];
        let mut control = [0u64; 8];
        let mut vector = libc::iovec {
            iov_base: byte.as_mut_ptr().cast(),
            iov_len: 1,
        };
        // SAFETY: all bytes zero is a valid msghdr; the buffers outlive the call; the control message is
        //         checked before its descriptor is read.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut vector;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control);
            let fd = self.wake.as_raw_fd();
            let count = libc::recvmsg(fd, &raw mut message, libc::MSG_CMSG_CLOEXEC);
            assert_eq!(count, 1, "the child said {:?}", self.page.failure());
            assert_eq!(byte[0], Wake::Console as u8);
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            assert!(!header.is_null());
            assert_eq!((*header).cmsg_type, libc::SCM_RIGHTS);
            fs::File::from_raw_fd(*libc::CMSG_DATA(header).cast::<i32>())
        }
    }

    /// A file of the child's /proc directory, as text.
    pub fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid)).unwrap()
    }

    /// A path in the child's root.
    pub fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// A line of /proc/PID/status.
    pub fn status(&self, key: &str) -> String {
        let status = self.proc("status");
        let line = status
            .lines()
            .find(|line| line.starts_with(&format!("{key}:")))
            .unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    }

    pub fn kill(&self, signal: i32) {
        // SAFETY: numbers only; the pid is our unreaped child.
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0);
    }

    /// Waits until it has ended: the wait status.
    pub fn wait(&mut self) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut status = 0;
            // SAFETY: `status` outlives the call; the pid is our unreaped child.
            if unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) } == self.pid {
                self.reaped = Some(status);
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the child lives at {:?}",
                self.page.step
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for its failure: (step, errno), with exit status 1.
    pub fn failure(&mut self) -> (usize, i32) {
        let status = self.wait();
        assert_eq!(libc::WEXITSTATUS(status), 1, "status {status:x}");
        let failure = self.page.failure().expect("a failure in the page");
        (failure.step as usize, failure.errno)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped.is_none() {
            self.kill(libc::SIGKILL);
            // SAFETY: the pid is our unreaped child; no status is asked for.
            unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
        }
    }
}

/// Up to an attached root: `steps` come after.
pub fn in_root(tree: &OwnedFd, steps: Steps) -> Steps {
    let mut all = vec![
        Step::ResetSignals,
        Step::OpenProc,
        Step::AttachRoot {
            tree: tree.as_raw_fd(),
            at: c"/",
        },
    ];
    all.extend(steps);
    all
}

/// Does `steps` in `rootfs` and gives the index among them of the one that failed, and its errno; None if
/// all went well.
pub fn failure_in(rootfs: &Rootfs, steps: Steps) -> Option<(usize, i32)> {
    let tree = rootfs.tree();
    let count = steps.len();
    let mut child = launch(in_root(&tree, steps), NEW_NAMESPACES);
    let (step, errno) = child.failure();
    // A plan that ends without Execute fails with ENOEXEC at its last step.
    let whole = step == count + 2 && errno == libc::ENOEXEC;
    (!whole).then(|| (step - 3, errno))
}

pub fn attach(tree: &OwnedFd, target: &str) -> Step<InArena<'static>> {
    Step::AttachTree {
        tree: tree.as_raw_fd(),
        target: text(target),
    }
}

/// A directory of the host that nothing may touch.
pub struct Canary {
    pub path: PathBuf,
}

impl Canary {
    pub fn new() -> Self {
        let place = Rootfs::new();
        let path = place.path.with_extension("canary");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("sentinel"), "alive").unwrap();
        Self { path }
    }

    pub fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    pub fn assert_untouched(&self) {
        let names: Vec<_> = fs::read_dir(&self.path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["sentinel"]);
        assert_eq!(
            fs::read_to_string(self.path.join("sentinel")).unwrap(),
            "alive"
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.text()), "{mounts}");
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

pub fn pidfd(pid: i32) -> OwnedFd {
    // SAFETY: numbers only; the descriptor is ours if there is one.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as RawFd)
    }
}

/// `/dev/null` and its like.
pub fn null_node(path: &str) -> Step<InArena<'static>> {
    Step::MakeNode {
        path: text(path),
        mode: libc::S_IFCHR | 0o666,
        major: 1,
        minor: 3,
        uid: 0,
        gid: 0,
    }
}
