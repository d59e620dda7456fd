//! Calls on files, directories and descriptors.

use core::ffi::CStr;
use core::mem::{size_of, zeroed};
use core::ptr::from_ref;

use super::{Fd, Outcome, call1, call2, call3, call4, call5, descriptor, text, word};

/// `struct open_how`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OpenHow {
    /// `O_*`.
    pub flags: u64,
    /// Permissions of a file that is created.
    pub mode: u64,
    /// `RESOLVE_*`.
    pub resolve: u64,
}

/// What `statx` says of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Inode number.
    pub ino: u64,
    /// Device of the filesystem.
    pub dev: (u32, u32),
    /// The device that a device node stands for.
    pub rdev: (u32, u32),
    /// Size in bytes.
    pub size: u64,
    /// Access and modification time: seconds and nanoseconds.
    pub times: [(i64, u32); 2],
}

impl Inode {
    /// The `S_IFMT` part of the mode.
    pub const fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }
}

/// `openat2(2)`.
pub fn openat2(dir: i32, path: &CStr, how: &OpenHow) -> Outcome<Fd> {
    let how_at = from_ref(how).expose_provenance();
    // SAFETY: `path` is NUL-terminated, `how` is a whole struct of the size that is named; the kernel
    //         only reads them and both outlive the call.
    descriptor(unsafe {
        call4(
            libc::SYS_openat2,
            word(dir),
            text(path),
            how_at,
            size_of::<OpenHow>(),
        )
    })
}

/// `openat(2)`, without creation.
pub fn openat(dir: i32, path: &CStr, flags: i32) -> Outcome<Fd> {
    // SAFETY: `path` is NUL-terminated and outlives the call, which only reads it.
    descriptor(unsafe { call4(libc::SYS_openat, word(dir), text(path), word(flags), 0) })
}

/// `mkdirat(2)`.
pub fn mkdirat(dir: i32, name: &CStr, mode: u32) -> Outcome<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call, which only reads it.
    unsafe { call3(libc::SYS_mkdirat, word(dir), text(name), mode as usize) }.map(drop)
}

/// `mknodat(2)`; `device` is (major, minor).
pub fn mknodat(dir: i32, name: &CStr, mode: u32, device: (u32, u32)) -> Outcome<()> {
    let (major, minor) = (device.0 as usize, device.1 as usize);
    // The kernel's own 32-bit coding of a device number (new_encode_dev).
    let number = (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12);
    // SAFETY: `name` is NUL-terminated and outlives the call, which only reads it.
    unsafe {
        call4(
            libc::SYS_mknodat,
            word(dir),
            text(name),
            mode as usize,
            number,
        )
    }
    .map(drop)
}

/// `symlinkat(2)`.
pub fn symlinkat(points_to: &CStr, dir: i32, name: &CStr) -> Outcome<()> {
    // SAFETY: both texts are NUL-terminated and outlive the call, which only reads them.
    unsafe { call3(libc::SYS_symlinkat, text(points_to), word(dir), text(name)) }.map(drop)
}

/// `unlinkat(2)` of something that is not a directory.
pub fn unlinkat(dir: i32, name: &CStr) -> Outcome<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call, which only reads it.
    unsafe { call3(libc::SYS_unlinkat, word(dir), text(name), 0) }.map(drop)
}

/// `readlinkat(2)`: how many bytes of `buffer` were written, without a NUL. An empty `name` reads the
/// link that `dir` itself is.
pub fn readlinkat(dir: i32, name: &CStr, buffer: &mut [u8]) -> Outcome<usize> {
    let (at, len) = (buffer.as_mut_ptr().expose_provenance(), buffer.len());
    // SAFETY: `name` is NUL-terminated; the kernel writes at most `len` bytes into `buffer`, which is
    //         borrowed for writing until it returns.
    unsafe { call4(libc::SYS_readlinkat, word(dir), text(name), at, len) }
}

/// `fchownat(fd, "", uid, gid, AT_EMPTY_PATH)`; -1 leaves an id alone. The descriptor may be O_PATH.
pub fn chown(fd: i32, uid: u32, gid: u32) -> Outcome<()> {
    // SAFETY: the path is a static empty text.
    unsafe {
        call5(
            libc::SYS_fchownat,
            word(fd),
            text(c""),
            uid as usize,
            gid as usize,
            word(libc::AT_EMPTY_PATH),
        )
    }
    .map(drop)
}

/// `statx(2)`; an empty `name` means `dir` itself, a link is not followed.
pub fn statx(dir: i32, name: &CStr) -> Outcome<Inode> {
    let raw = statx_of(
        dir,
        name,
        libc::AT_SYMLINK_NOFOLLOW,
        libc::STATX_BASIC_STATS,
    )?;
    Ok(Inode {
        mode: u32::from(raw.stx_mode),
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        ino: raw.stx_ino,
        dev: (raw.stx_dev_major, raw.stx_dev_minor),
        rdev: (raw.stx_rdev_major, raw.stx_rdev_minor),
        size: raw.stx_size,
        times: [
            (raw.stx_atime.tv_sec, raw.stx_atime.tv_nsec),
            (raw.stx_mtime.tv_sec, raw.stx_mtime.tv_nsec),
        ],
    })
}

/// `statx(2)` of what is `wanted`; an empty `name` means `dir` itself, nothing is mounted by looking.
pub(super) fn statx_of(dir: i32, name: &CStr, flags: i32, wanted: u32) -> Outcome<libc::statx> {
    let flags = flags | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
    // SAFETY: all bytes zero is a valid `struct statx`.
    let mut raw: libc::statx = unsafe { zeroed() };
    let at = (&raw mut raw).expose_provenance();
    // SAFETY: `name` is NUL-terminated; `raw` is a whole `struct statx`, which the kernel fills.
    unsafe {
        call5(
            libc::SYS_statx,
            word(dir),
            text(name),
            word(flags),
            wanted as usize,
            at,
        )
    }?;
    Ok(raw)
}

/// The magic number of the filesystem that `fd` lies on (`fstatfs(2)`).
pub fn filesystem(fd: i32) -> Outcome<i64> {
    // SAFETY: all bytes zero is a valid `struct statfs`.
    let mut raw: libc::statfs = unsafe { zeroed() };
    let at = (&raw mut raw).expose_provenance();
    // SAFETY: `raw` is a whole `struct statfs`, which the kernel fills.
    unsafe { call2(libc::SYS_fstatfs, word(fd), at) }?;
    #[allow(
        clippy::useless_conversion,
        reason = "the field's type differs between C libraries"
    )]
    Ok(i64::from(raw.f_type))
}

/// `faccessat2(AT_FDCWD, path, X_OK, AT_EACCESS)`: may this process, as it is now, execute it?
pub fn may_execute(path: &CStr) -> Outcome<()> {
    // SAFETY: `path` is NUL-terminated and outlives the call, which only reads it.
    unsafe {
        call4(
            libc::SYS_faccessat2,
            word(libc::AT_FDCWD),
            text(path),
            word(libc::X_OK),
            word(libc::AT_EACCESS),
        )
    }
    .map(drop)
}

/// The type and permissions of what `path` leads to from the working directory.
pub fn mode_of(path: &CStr) -> Outcome<u32> {
    let target = openat(libc::AT_FDCWD, path, libc::O_PATH | libc::O_CLOEXEC)?;
    statx(target.at(), c"").map(|inode| inode.mode)
}

/// `read(2)`, begun again after a signal.
pub fn read(fd: i32, buffer: &mut [u8]) -> Outcome<usize> {
    let (at, len) = (buffer.as_mut_ptr().expose_provenance(), buffer.len());
    loop {
        // SAFETY: the kernel writes at most `len` bytes into `buffer`, borrowed for writing.
        match unsafe { call3(libc::SYS_read, word(fd), at, len) } {
            Err(failed) if failed.errno == libc::EINTR => {}
            other => return other,
        }
    }
}

/// `write(2)`, begun again after a signal: how many bytes went.
pub fn write(fd: i32, bytes: &[u8]) -> Outcome<usize> {
    loop {
        // SAFETY: the kernel reads `bytes`, which outlive the call.
        match unsafe {
            call3(
                libc::SYS_write,
                word(fd),
                bytes.as_ptr().expose_provenance(),
                bytes.len(),
            )
        } {
            Err(failed) if failed.errno == libc::EINTR => {}
            other => return other,
        }
    }
}

/// `dup3(fd, to, 0)`: `to` is inherited over execve.
pub fn dup_to(fd: i32, to: i32) -> Outcome<()> {
    // SAFETY: numbers only.
    unsafe { call3(libc::SYS_dup3, word(fd), word(to), 0) }.map(drop)
}

/// Clears close-on-exec.
pub fn inherit(fd: i32) -> Outcome<()> {
    // SAFETY: numbers only.
    unsafe { call3(libc::SYS_fcntl, word(fd), word(libc::F_SETFD), 0) }.map(drop)
}

/// Closes the number, if there is one. Those of streams stay taken: what is opened next must not get them.
pub fn close_birthplace(number: i32) {
    if number > 2 {
        drop(Fd::owning(number));
    }
}

/// `close_range(from, ~0, CLOSE_RANGE_CLOEXEC)`.
pub fn close_on_exec_from(from: u32) -> Outcome<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC as usize;
    // SAFETY: numbers only.
    unsafe {
        call3(
            libc::SYS_close_range,
            from as usize,
            u32::MAX as usize,
            flags,
        )
    }
    .map(drop)
}

/// `chdir(2)`.
pub fn chdir(path: &CStr) -> Outcome<()> {
    // SAFETY: `path` is NUL-terminated and outlives the call, which only reads it.
    unsafe { call1(libc::SYS_chdir, text(path)) }.map(drop)
}

/// `fchdir(2)`.
pub fn fchdir(fd: i32) -> Outcome<()> {
    // SAFETY: numbers only.
    unsafe { call1(libc::SYS_fchdir, word(fd)) }.map(drop)
}

/// `getcwd(2)`: how many bytes were written, the NUL among them.
pub fn getcwd(buffer: &mut [u8]) -> Outcome<usize> {
    let (at, len) = (buffer.as_mut_ptr().expose_provenance(), buffer.len());
    // SAFETY: the kernel writes at most `len` bytes into `buffer`, borrowed for writing.
    unsafe { call2(libc::SYS_getcwd, at, len) }
}

/// `ioctl(fd, request, value)` of a request that takes a number.
pub fn ioctl_number(fd: i32, request: IoctlNumber, value: i32) -> Outcome<usize> {
    // SAFETY: the requests of `IoctlNumber` take a number, so no memory is touched.
    unsafe { call3(libc::SYS_ioctl, word(fd), request as usize, word(value)) }
}

/// Requests whose argument is a number.
#[allow(
    clippy::cast_possible_truncation,
    reason = "request numbers have 32 bits"
)]
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum IoctlNumber {
    /// The peer of a pseudo-terminal's master; argument: open flags.
    TerminalPeer = libc::TIOCGPTPEER as u32,
    /// Make this the controlling terminal of the session.
    ControllingTerminal = libc::TIOCSCTTY as u32,
}

/// `ioctl(TIOCSPTLCK, 0)`: lets the peer be opened.
pub fn unlock_terminal(master: i32) -> Outcome<()> {
    let unlocked: i32 = 0;
    let at = from_ref(&unlocked).expose_provenance();
    // SAFETY: TIOCSPTLCK reads one int, which outlives the call.
    unsafe { call3(libc::SYS_ioctl, word(master), libc::TIOCSPTLCK as usize, at) }.map(drop)
}

/// `ioctl(TIOCSWINSZ)`.
pub fn resize_terminal(terminal: i32, rows: u16, columns: u16) -> Outcome<()> {
    let size: [u16; 4] = [rows, columns, 0, 0];
    let at = from_ref(&size).expose_provenance();
    // SAFETY: TIOCSWINSZ reads one `struct winsize`, four 16-bit words, which outlives the call.
    unsafe {
        call3(
            libc::SYS_ioctl,
            word(terminal),
            libc::TIOCSWINSZ as usize,
            at,
        )
    }
    .map(drop)
}

/// A datagram socket of AF_INET: what interfaces are configured through.
pub fn inet_socket() -> Outcome<Fd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: only numbers are passed.
    descriptor(unsafe { call3(libc::SYS_socket, word(libc::AF_INET), word(kind), 0) })
}

/// `struct ifreq` as SIOCSIFFLAGS reads it.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: i16,
    unused: [u8; 22],
}

/// `ioctl(SIOCSIFFLAGS)` with `IFF_UP`.
pub fn set_interface_up(socket: i32, name: &CStr) -> Outcome<()> {
    let mut request = InterfaceFlags {
        name: [0; 16],
        flags: 1,
        unused: [0; 22],
    };
    for (to, from) in request.name.iter_mut().take(15).zip(name.to_bytes()) {
        *to = *from;
    }
    let at = from_ref(&request).expose_provenance();
    // SAFETY: SIOCSIFFLAGS reads one `struct ifreq` of 40 bytes, which outlives the call.
    unsafe {
        call3(
            libc::SYS_ioctl,
            word(socket),
            libc::SIOCSIFFLAGS as usize,
            at,
        )
    }
    .map(drop)
}

/// `fchmod(2)`.
pub fn fchmod(fd: i32, mode: u32) -> Outcome<()> {
    // SAFETY: numbers only.
    unsafe { call2(libc::SYS_fchmod, word(fd), mode as usize) }.map(drop)
}

/// `utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW)`.
pub fn utimensat(dir: i32, name: &CStr, times: [(i64, u32); 2]) -> Outcome<()> {
    let times = times.map(|(seconds, nanos)| [seconds, i64::from(nanos)]);
    let at = times.as_ptr().expose_provenance();
    // SAFETY: `name` is NUL-terminated; `times` is two `struct timespec` of two 64-bit words each;
    //         the kernel only reads them and both outlive the call.
    unsafe {
        call4(
            libc::SYS_utimensat,
            word(dir),
            text(name),
            at,
            word(libc::AT_SYMLINK_NOFOLLOW),
        )
    }
    .map(drop)
}

/// `getdents64(2)`: how many bytes of `buffer` hold entries.
pub fn getdents(fd: i32, buffer: &mut [u8]) -> Outcome<usize> {
    let (at, len) = (buffer.as_mut_ptr().expose_provenance(), buffer.len());
    // SAFETY: the kernel writes at most `len` bytes into `buffer`, borrowed for writing.
    unsafe { call3(libc::SYS_getdents64, word(fd), at, len) }
}

/// `sendfile(to, from)` from where `from` stands: how many bytes went, 0 at the end.
pub fn sendfile(to: i32, from: i32) -> Outcome<usize> {
    // SAFETY: numbers only; without an offset to read or write.
    unsafe { call4(libc::SYS_sendfile, word(to), word(from), 0, 1 << 20) }
}
