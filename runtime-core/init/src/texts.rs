//! Short texts that the child makes itself, on its stack.

use core::ffi::CStr;

use crate::raw::{self, Failed, Outcome};

/// Room for one component with its NUL.
pub struct Name([u8; 256]);

impl Name {
    /// ENAMETOOLONG for a component that no filesystem takes.
    pub fn new(component: &[u8]) -> Outcome<Self> {
        let mut bytes = [0u8; 256];
        fill(&mut bytes, component.iter())?;
        Ok(Self(bytes))
    }

    /// The component as a C string.
    pub fn text(&self) -> &CStr {
        raw::until_nul(&self.0)
    }
}

/// Room for one path with its NUL.
pub struct PathBuffer {
    bytes: [u8; 4096],
    len: usize,
}

impl PathBuffer {
    /// An empty path.
    pub const fn new() -> Self {
        Self {
            bytes: [0; 4096],
            len: 0,
        }
    }

    /// Holds `parts` one after the other, with a slash where two meet; `/` if there is nothing.
    pub fn set(&mut self, parts: &[&[u8]]) -> Outcome<&CStr> {
        let joined = parts
            .iter()
            .filter(|part| !part.is_empty())
            .flat_map(|part| b"/".iter().chain(part.iter()));
        self.len = fill(&mut self.bytes, joined)?;
        if self.len == 0 {
            self.len = fill(&mut self.bytes, b"/".iter())?;
        }
        Ok(raw::until_nul(&self.bytes))
    }

    /// The path.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// How many bytes went in; a NUL follows them.
fn fill<'b>(buffer: &mut [u8], bytes: impl Iterator<Item = &'b u8>) -> Outcome<usize> {
    let mut places = buffer.iter_mut();
    let mut len = 0usize;
    for byte in bytes {
        let Some(place) = places.next() else {
            return Err(Failed::check(libc::ENAMETOOLONG));
        };
        *place = *byte;
        len = len.saturating_add(1);
    }
    match places.next() {
        Some(place) => *place = 0,
        None => return Err(Failed::check(libc::ENAMETOOLONG)),
    }
    Ok(len)
}

/// A number in digits.
pub struct Digits([u8; 12]);

impl Digits {
    /// As file names of /proc have it.
    #[allow(clippy::integer_division, reason = "the divisor is ten")]
    #[allow(clippy::cast_possible_truncation, reason = "a digit is below ten")]
    pub fn decimal(number: u32) -> Self {
        let mut count = 1usize;
        let mut rest = number;
        while rest >= 10 {
            rest /= 10;
            count = count.saturating_add(1);
        }
        let mut bytes = [0u8; 12];
        rest = number;
        for place in bytes.iter_mut().take(count).rev() {
            *place = b'0'.wrapping_add((rest % 10) as u8);
            rest /= 10;
        }
        Self(bytes)
    }

    /// Permissions as the `mode` option of a filesystem has them.
    #[allow(clippy::cast_possible_truncation, reason = "a digit is below eight")]
    pub fn permissions(mode: u32) -> Self {
        let digit = |shift: u32| b'0'.wrapping_add(((mode >> shift) & 7) as u8);
        let mut bytes = [0u8; 12];
        let digits = [b'0', digit(9), digit(6), digit(3), digit(0)];
        bytes
            .iter_mut()
            .zip(digits)
            .for_each(|(place, digit)| *place = digit);
        Self(bytes)
    }

    /// The digits as a C string.
    pub fn text(&self) -> &CStr {
        raw::until_nul(&self.0)
    }
}
