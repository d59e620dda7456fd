//! What is still mounted beneath a root that could not be pivoted, and how it goes.
//!
//! The tree lies over `/`, so nobody comes to these mounts by a path; but a procfs among them that is
//! not masked would allow a user namespace of the container to mount one of its own (as runc says
//! at its `msMoveRoot`).

use crate::enter::Child;
use crate::procfs;
use crate::raw::{self, Outcome};
use crate::texts::PathBuffer;

/// More rounds than mounts can sensibly be stacked.
const MOST_ROUNDS: u32 = 64;

/// Detaches every mount below the old root. This process's own root still is the old one, so paths of
/// mountinfo lead there, also those of the container's mounts, which have the same names: they
/// lie over `/`, where a path from here does not go.
pub fn detach_all(child: &Child<'_>) -> Outcome<()> {
    for _ in 0..MOST_ROUNDS {
        if detach_once(child)? == 0 {
            break;
        }
    }
    Ok(())
}

/// One reading of mountinfo: how many mounts went. Those that do not go are no mount any more, or locked
/// together with their user namespace.
fn detach_once(child: &Child<'_>) -> Outcome<u32> {
    let mounts = procfs::own(child, c"self/mountinfo", libc::O_RDONLY)?;
    let (mut gone, mut line) = (0u32, Line::new());
    let mut buffer = [0u8; 1024];
    loop {
        let len = raw::read(mounts.at(), &mut buffer)?;
        if len == 0 {
            return Ok(gone);
        }
        for byte in buffer.iter().take(len) {
            if line.take(*byte) && line.detach()? {
                gone = gone.saturating_add(1);
            }
        }
    }
}

/// A line of mountinfo as far as it was read: its fifth field is the mount point.
struct Line {
    field: u32,
    point: [u8; 4096],
    len: usize,
}

impl Line {
    const fn new() -> Self {
        Self {
            field: 0,
            point: [0; 4096],
            len: 0,
        }
    }

    /// One byte more: whether the line is whole.
    fn take(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' => return true,
            b' ' => self.field = self.field.saturating_add(1),
            _ if self.field == 4 => {
                if let Some(place) = self.point.get_mut(self.len) {
                    *place = byte;
                    self.len = self.len.saturating_add(1);
                }
            }
            _ => {}
        }
        false
    }

    /// Ends the line: whether its mount was detached.
    fn detach(&mut self) -> Outcome<bool> {
        let raw_point = self.point.get(..self.len).unwrap_or_default();
        let mut path = [0u8; 4096];
        let len = unescape(raw_point, &mut path);
        (self.field, self.len) = (0, 0);
        let point = path.get(..len).unwrap_or_default();
        if point == b"/" {
            return Ok(false);
        }
        let mut buffer = PathBuffer::new();
        Ok(raw::detach(buffer.set(&[point])?).is_ok())
    }
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(escaped: &[u8], plain: &mut [u8]) -> usize {
    let (mut rest, mut len) = (escaped, 0usize);
    for place in plain.iter_mut() {
        let (byte, after) = match rest {
            [b'\\', a, b, c, after @ ..] => (octal(*a, *b, *c), after),
            [byte, after @ ..] => (*byte, after),
            [] => break,
        };
        (*place, rest, len) = (byte, after, len.saturating_add(1));
    }
    len
}

fn octal(a: u8, b: u8, c: u8) -> u8 {
    let digit = |byte: u8| byte.wrapping_sub(b'0') & 7;
    (digit(a) << 6) | (digit(b) << 3) | digit(c)
}
