//! Loop devices: a file as a block device (loop(4)), with `LOOP_CONFIGURE` (Linux 5.8).

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use super::checked;

const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// Others look for a free device at the same time; each try asks for another one.
const TRIES: u32 = 100;

/// `struct loop_info64` of <linux/loop.h>.
#[repr(C)]
#[derive(Clone, Copy)]
struct Status {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of <linux/loop.h>.
#[repr(C)]
#[derive(Clone, Copy)]
struct Config {
    fd: u32,
    block_size: u32,
    status: Status,
    reserved: [u64; 8],
}

/// A loop device that was attached. It goes away by itself with its last user: once it is mounted this may be dropped.
#[derive(Debug)]
pub struct LoopDevice {
    _device: File,
    path: String,
}

impl LoopDevice {
    /// Path of its node.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Attaches `file` to a free loop device.
#[allow(
    clippy::disallowed_methods,
    reason = "I11: a file that containerd names, and devices of the host"
)]
pub fn attach(file: &Path, read_only: bool, direct_io: bool) -> nix::Result<LoopDevice> {
    let backing = OpenOptions::new()
        .read(true)
        .write(!read_only)
        .open(file)
        .map_err(errno)?;
    let backing = OwnedFd::from(backing);
    for _ in 0..TRIES {
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/loop-control")
            .map_err(errno)?;
        // SAFETY: the request takes no argument.
        let number =
            checked(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) }.into())?;
        let path = format!("/dev/loop{number}");
        let device = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(&path)
            .map_err(errno)?;
        let config = config(&backing, read_only, direct_io);
        // SAFETY: `config` is a whole struct loop_config that outlives the call; the kernel copies it.
        let done =
            unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
        match checked(done.into()) {
            Ok(_) => {
                return Ok(LoopDevice {
                    _device: device,
                    path,
                });
            }
            // Somebody was quicker.
            Err(Errno::EBUSY) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EBUSY)
}

fn config(backing: &OwnedFd, read_only: bool, direct_io: bool) -> Config {
    let mut flags = LO_FLAGS_AUTOCLEAR;
    if read_only {
        flags |= LO_FLAGS_READ_ONLY;
    }
    if direct_io {
        flags |= LO_FLAGS_DIRECT_IO;
    }
    let status = Status {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    Config {
        fd: backing.as_raw_fd().unsigned_abs(),
        block_size: 0,
        status,
        reserved: [0; 8],
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structs_have_the_size_that_the_kernel_copies() {
        assert_eq!(size_of::<Status>(), 232);
        assert_eq!(size_of::<Config>(), 304);
    }
}
