//! What was made, removed, moved, written or given away on the machine's file systems, even for a moment?
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};

use nix::libc;

/// The disk, and the host's devices. On the latter a write is everyday business.
const WATCHED: [(&str, u64); 2] = [("/srv", libc::FAN_MODIFY), ("/dev", 0)];

const ALWAYS: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MOVED_FROM
    | libc::FAN_MOVED_TO
    | libc::FAN_ATTRIB
    | libc::FAN_ONDIR;

const METADATA: usize = size_of::<libc::fanotify_event_metadata>();

/// A watch on whole file systems.
pub(super) struct Touched(File);

impl Touched {
    pub(super) fn watch() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_NOTIF
            | libc::FAN_NONBLOCK
            | libc::FAN_CLOEXEC
            | libc::FAN_REPORT_DFID_NAME;
        // SAFETY: no pointer is passed; a result that is no error is a new descriptor that nobody else knows.
        let watch = unsafe {
            match libc::fanotify_init(flags, libc::O_RDONLY as u32) {
                -1 => return Err(io::Error::last_os_error()),
                fd => File::from_raw_fd(fd),
            }
        };
        for (place, more) in WATCHED {
            let place = std::ffi::CString::new(place)?;
            let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
            // SAFETY: `watch` is open for the call, `place` ends with a NUL and outlives it.
            let marked = unsafe {
                libc::fanotify_mark(
                    watch.as_raw_fd(),
                    flags,
                    ALWAYS | more,
                    libc::AT_FDCWD,
                    place.as_ptr(),
                )
            };
            if marked < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self(watch))
    }

    /// What happened since the last call, each once.
    pub(super) fn since(&mut self) -> Vec<String> {
        let mut found = std::collections::BTreeSet::new();
        let mut buffer = vec![0u8; 64 << 10];
        while let Ok(length @ 1..) = self.0.read(&mut buffer) {
            let mut events = buffer.get(..length).unwrap_or_default();
            while let Some((mask, event, rest)) = next(events) {
                found.insert(format!("touched {:?}: {}", name_of(event), words(mask)));
                events = rest;
            }
        }
        found.into_iter().collect()
    }
}

/// Splits off one event: its mask, its bytes, the others.
fn next(events: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(events.get(..4)?.try_into().ok()?) as usize;
    let mask = u64::from_ne_bytes(events.get(8..16)?.try_into().ok()?);
    Some((mask, events.get(..length)?, events.get(length..)?))
}

/// The name in the first record: after its header, the file system's id and the directory's handle.
fn name_of(event: &[u8]) -> String {
    let record = event.get(METADATA..).unwrap_or_default();
    let handle = record
        .get(12..16)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_ne_bytes);
    let name = record.get(20 + handle as usize..).unwrap_or_default();
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}

fn words(mask: u64) -> String {
    let all = [
        (libc::FAN_CREATE, "made"),
        (libc::FAN_DELETE, "removed"),
        (libc::FAN_MOVED_FROM, "moved away"),
        (libc::FAN_MOVED_TO, "moved here"),
        (libc::FAN_ATTRIB, "owner or rights changed"),
        (libc::FAN_MODIFY, "written"),
        (libc::FAN_Q_OVERFLOW, "and more than can be told"),
    ];
    let said: Vec<&str> = all
        .iter()
        .filter(|(bit, _)| mask & bit != 0)
        .map(|(_, word)| *word)
        .collect();
    said.join(", ")
}
