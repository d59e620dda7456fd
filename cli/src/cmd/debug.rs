//! `debug`: which call of a container's shim waits for what, since when.
//!
//! The shim is asked over its own socket, in ttrpc written by hand: one request without a message, one answer
//! with a line in each field 1. The core and this program know no more of the protocol than that.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rsrun_core::{ContainerId, Containers, Error, ErrorKind, Result};

use super::{absolute, print};
use crate::args::{Debug, Global};

/// A shim answers at once or not at all: it asks nobody for what it tells.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer, which is ttrpc's limit.
const LONGEST: usize = 4 << 20;

/// `debug`
pub fn run(global: &Global, debug: &Debug) -> Result<()> {
    let socket = match &debug.address {
        Some(address) => PathBuf::from(address.trim_start_matches("unix://")),
        None => socket_of(global, debug)?,
    };
    let lines = ask(&socket)
        .map_err(|e| Error::not_found("shim", format!("no shim at {}: {e}", socket.display())))?;
    print(&(lines.join("\n") + "\n"))
}

/// Where the shim that has this container listens.
fn socket_of(global: &Global, debug: &Debug) -> Result<PathBuf> {
    let Some(id) = &debug.id else {
        return Err(Error::invalid(
            "debug: a container is needed (or --address)",
        ));
    };
    let root = match &debug.namespace {
        Some(namespace) => global.root_of(namespace),
        None => global.root().to_owned(),
    };
    let containers = Containers::open(&absolute(&root)?)?;
    let found = containers.get(&ContainerId::parse(id)?);
    let container = found.map_err(|e| match (e.kind(), &debug.namespace) {
        (ErrorKind::NotFound { .. }, None) => Error::not_found(
            "container",
            format!(
                "{e} in {}; of a container of containerd, --namespace is needed",
                root.display()
            ),
        ),
        _ => e,
    })?;
    let record = container.record();
    if record.group.is_none() {
        let text = format!("container {id} has no shim: it was made by the command line");
        return Err(Error::not_found("shim", text));
    }
    let file = record.bundle.join("address");
    let address = std::fs::read_to_string(&file).map_err(|e| {
        let text = format!("container {id} has no shim: {}: {e}", file.display());
        Error::not_found("shim", text)
    })?;
    Ok(PathBuf::from(address.trim().trim_start_matches("unix://")))
}

fn ask(socket: &Path) -> std::io::Result<Vec<String>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&request())?;
    let mut header = [0; 10];
    stream.read_exact(&mut header)?;
    let [a, b, c, d, ..] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > LONGEST {
        return Err(unreadable());
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    lines_of(&answer)
}

/// Request 1: service (field 1) and method (field 2).
fn request() -> Vec<u8> {
    let mut message = Vec::new();
    for (tag, text) in [(0x0a, "rsrun.shim.v1.Debug"), (0x12, "Describe")] {
        message.extend([tag, u8::try_from(text.len()).unwrap_or_default()]);
        message.extend(text.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or_default();
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(1u32.to_be_bytes());
    frame.extend([1, 0]);
    frame.extend(message);
    frame
}

/// The lines in a response: status {1 code, 2 message} in field 1, the payload in field 2.
fn lines_of(answer: &[u8]) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for (number, value) in fields(answer)? {
        match number {
            1 => refused(value)?,
            2 => {
                let texts = fields(value)?
                    .into_iter()
                    .filter(|(number, _)| *number == 1);
                lines.extend(texts.map(|(_, text)| String::from_utf8_lossy(text).into_owned()));
            }
            _ => {}
        }
    }
    Ok(lines)
}

/// A status with a message is a refusal.
fn refused(status: &[u8]) -> std::io::Result<()> {
    match fields(status)?.into_iter().find(|(number, _)| *number == 2) {
        Some((_, text)) => Err(std::io::Error::other(
            String::from_utf8_lossy(text).into_owned(),
        )),
        None => Ok(()),
    }
}

/// Fields that hold bytes, with their numbers; numbers themselves are passed over.
fn fields(mut message: &[u8]) -> std::io::Result<Vec<(u64, &[u8])>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = varint(&mut message)?;
        match tag & 7 {
            0 => {}
            2 => {
                let length = usize::try_from(value).map_err(|_| unreadable())?;
                let (bytes, rest) = message.split_at_checked(length).ok_or_else(unreadable)?;
                found.push((tag >> 3, bytes));
                message = rest;
            }
            _ => return Err(unreadable()),
        }
    }
    Ok(found)
}

fn varint(message: &mut &[u8]) -> std::io::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().ok_or_else(unreadable)?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(unreadable())
}

fn unreadable() -> std::io::Error {
    std::io::Error::other("its answer can't be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_a_refusal_is_told() {
        let answer = [0x0a, 2, 0x08, 0, 0x12, 6, 0x0a, 1, b'x', 0x0a, 1, b'y'];
        assert_eq!(lines_of(&answer).unwrap(), ["x", "y"]);
        let refusal = [0x0a, 4, 0x12, 2, b'n', b'o'];
        assert_eq!(lines_of(&refusal).unwrap_err().to_string(), "no");
        for broken in [&[0x12, 9, 0][..], &[0x80; 12], &[0x0d, 1], &[0x12]] {
            assert!(lines_of(broken).is_err());
        }
    }
}
