//! bpf(2), for device programs of cgroups.
//!
//! Every call passes a zeroed attribute of full size: kernels 6.17 to 7.1 write `query.revision` into the
//! answer of BPF_PROG_QUERY however short the attribute is that they were given.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::checked;

/// Longer than `union bpf_attr` of any kernel yet (168 bytes in 6.18); the kernel takes a longer one
/// as long as what it does not know is zero.
const ATTR_WORDS: usize = 32;

/// `union bpf_attr`, aligned as its 64-bit members want.
#[repr(C, align(8))]
struct Attr([u64; ATTR_WORDS]);

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 1 << 1;
const F_REPLACE: u32 = 1 << 2;

/// How often the verifier may be interrupted by a signal (EAGAIN) before we give up.
const LOAD_TRIES: usize = 30;

/// The kernel's limit for programs attached to one cgroup (BPF_CGROUP_MAX_PROGS).
const MAX_PROGRAMS: usize = 64;

impl Attr {
    fn new() -> Self {
        Self([0; ATTR_WORDS])
    }

    /// Sets the 32-bit member at byte `offset`.
    fn word(mut self, offset: usize, value: u32) -> Self {
        let shift = if (offset.is_multiple_of(8)) == cfg!(target_endian = "little") {
            0
        } else {
            32
        };
        self.0[offset / 8] |= u64::from(value) << shift;
        self
    }

    /// Sets the 64-bit member at byte `offset`.
    fn long(mut self, offset: usize, value: u64) -> Self {
        self.0[offset / 8] = value;
        self
    }

    fn get_word(&self, offset: usize) -> u32 {
        let shift = if (offset.is_multiple_of(8)) == cfg!(target_endian = "little") {
            0
        } else {
            32
        };
        (self.0[offset / 8] >> shift) as u32
    }

    fn fd(self, offset: usize, fd: BorrowedFd<'_>) -> Self {
        self.word(offset, fd.as_raw_fd().cast_unsigned())
    }
}

fn bpf(command: libc::c_long, attr: &mut Attr) -> nix::Result<libc::c_long> {
    // SAFETY: `attr` is valid for reads and writes of the size that is passed, which is above what any
    //         kernel has, so none writes past it; pointers in it are to memory that its caller keeps
    //         alive and, where the kernel writes, holds mutably until this returns.
    checked(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<Attr>(),
        )
    })
}

fn owned(fd: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just returned this descriptor (close-on-exec) to us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `BPF_PROG_LOAD` of a cgroup device program: `struct bpf_insn` by `struct bpf_insn`.
pub fn load_device_program(code: &[u64]) -> nix::Result<OwnedFd> {
    load(code, &mut [])
}

/// What the verifier says about a program that it refused: its last line.
pub fn why_not_loaded(code: &[u64]) -> String {
    let mut log = vec![0_u8; 1 << 20];
    if load(code, &mut log).is_ok() {
        return String::new();
    }
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let log = String::from_utf8_lossy(&log[..end]);
    let said = |line: &&str| !line.is_empty() && !line.starts_with("processed");
    log.lines().rfind(said).unwrap_or_default().to_owned()
}

fn load(code: &[u64], log: &mut [u8]) -> nix::Result<OwnedFd> {
    const LICENSE: &std::ffi::CStr = c"Apache-2.0";
    const NAME: [u32; 2] = [
        u32::from_ne_bytes(*b"rsru"),
        u32::from_ne_bytes(*b"n\0\0\0"),
    ];
    let length = u32::try_from(code.len()).map_err(|_| Errno::E2BIG)?;
    for _ in 0..LOAD_TRIES {
        let mut attr = Attr::new()
            .word(0, PROG_TYPE_CGROUP_DEVICE)
            .word(4, length)
            .long(8, code.as_ptr() as u64)
            .long(16, LICENSE.as_ptr() as u64)
            .word(48, NAME[0])
            .word(52, NAME[1]);
        if !log.is_empty() {
            attr = attr
                .word(24, 1)
                .word(28, u32::try_from(log.len()).map_err(|_| Errno::E2BIG)?)
                .long(32, log.as_mut_ptr() as u64);
        }
        match bpf(PROG_LOAD, &mut attr) {
            Err(Errno::EAGAIN) => {}
            loaded => return owned(loaded?),
        }
    }
    Err(Errno::EAGAIN)
}

/// `BPF_PROG_ATTACH` to a cgroup beside others (`BPF_F_ALLOW_MULTI`), or in the place of one.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let attr = Attr::new()
        .fd(0, cgroup)
        .fd(4, program)
        .word(8, ATTACH_CGROUP_DEVICE);
    let mut attr = match replaced {
        Some(old) => attr.word(12, F_ALLOW_MULTI | F_REPLACE).fd(16, old),
        None => attr.word(12, F_ALLOW_MULTI),
    };
    bpf(PROG_ATTACH, &mut attr).map(drop)
}

/// `BPF_PROG_DETACH`.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> nix::Result<()> {
    let mut attr = Attr::new()
        .fd(0, cgroup)
        .fd(4, program)
        .word(8, ATTACH_CGROUP_DEVICE);
    bpf(PROG_DETACH, &mut attr).map(drop)
}

/// `BPF_PROG_QUERY`: ids of the device programs attached to this very cgroup.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> nix::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MAX_PROGRAMS];
    let mut attr = Attr::new()
        .fd(0, cgroup)
        .word(4, ATTACH_CGROUP_DEVICE)
        .long(16, ids.as_mut_ptr() as u64)
        .word(24, MAX_PROGRAMS as u32);
    bpf(PROG_QUERY, &mut attr)?;
    ids.truncate(attr.get_word(24) as usize);
    Ok(ids)
}

/// `BPF_PROG_GET_FD_BY_ID`.
pub fn program_by_id(id: u32) -> nix::Result<OwnedFd> {
    owned(bpf(PROG_GET_FD_BY_ID, &mut Attr::new().word(0, id))?)
}
