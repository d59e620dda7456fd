//! How a bundle is opened and its config.json becomes a typed spec, or an error that names the place.
//!
//! The file is trusted in what it asks, not in what it is: a fifo, a device or a file without end must
//! not hang or fill us. The types are those of oci-spec; where that crate is stricter or laxer than
//! the specification, the document is mended before (`mend`).

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use oci_spec::runtime::{LinuxNamespace, LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path as Track, Segment};

use crate::error::{Context, Error, ErrorKind, Result};
use objects::Objects;

mod mend;
mod objects;
#[cfg(test)]
mod tests;

/// The largest document that is read. Docker's longest are below 100 kB.
const LARGEST: u64 = 16 << 20;

/// A bundle, held by its directory: renaming or replacing the path does not change what is read.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    directory: OwnedFd,
}

/// A document with what had to be left out of it, in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded<T> {
    /// The document.
    pub document: T,
    /// Unknown capabilities, which the specification wants to be warned about and ignored.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Opens the directory; `path` is absolute.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_absolute() {
            return Err(Error::invalid(format!(
                "bundle {} is not an absolute path",
                path.display()
            )));
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        #[allow(
            clippy::disallowed_methods,
            reason = "I11: the bundle is the caller's; all in it is reached from here"
        )]
        let directory =
            open(path, flags, Mode::empty()).with(|| format!("open bundle {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            directory,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, O_PATH.
    #[must_use]
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Reads config.json.
    pub fn load(&self) -> Result<Loaded<Spec>> {
        let name = self.path.join("config.json");
        let text = self
            .read("config.json")
            .with(|| format!("read {}", name.display()))?;
        parse_spec(&text).with(|| format!("parse {}", name.display()))
    }

    /// The namespaces that are listed: for who prepares some of them. Of a document that can't be read there are none;
    /// `load` tells what is wrong with it.
    #[must_use]
    pub fn namespaces(&self) -> Vec<LinuxNamespace> {
        #[derive(serde::Deserialize)]
        struct Shallow {
            linux: ShallowLinux,
        }
        #[derive(serde::Deserialize)]
        struct ShallowLinux {
            namespaces: Vec<LinuxNamespace>,
        }
        let text = self.read("config.json").ok();
        text.and_then(|text| serde_json::from_slice(&text).ok())
            .map_or_else(Vec::new, |spec: Shallow| spec.linux.namespaces)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        // Not blocking: opening a fifo would wait for a writer, for ever.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let file = openat(&self.directory, name, flags, Mode::empty()).with(|| "open")?;
        let found = fstat(&file).with(|| "fstat")?;
        let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
        if kind != SFlag::S_IFREG {
            return Err(Error::spec("", "it is not a regular file"));
        }
        let limit = LARGEST + 1;
        // With room for the end to be found.
        let size = u64::try_from(found.st_size).unwrap_or(0).min(LARGEST) + 64;
        let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        File::from(file)
            .take(limit)
            .read_to_end(&mut text)
            .map_err(|cause| Error::new(ErrorKind::Internal, "read").caused_by(cause))?;
        if text.len() as u64 == limit {
            return Err(Error::spec("", "it is larger than 16 MiB"));
        }
        Ok(text)
    }
}

/// A config.json.
pub fn parse_spec(text: &[u8]) -> Result<Loaded<Spec>> {
    let resources = |spec: &Spec| spec.linux().as_ref()?.resources().clone();
    let sure = |spec: &Spec| resources(spec).is_none_or(|r| !may_lack_limit(&r));
    match plain(text, sure) {
        Some(document) => Ok(document),
        None => parse(text, mend::spec),
    }
}

/// A process document, as exec gets it.
pub fn parse_process(text: &[u8]) -> Result<Loaded<Process>> {
    match plain(text, |_| true) {
        Some(document) => Ok(document),
        None => parse(text, |value, warnings| mend::process(value, "", warnings)),
    }
}

/// A resources document, as update gets it.
pub fn parse_resources(text: &[u8]) -> Result<Loaded<LinuxResources>> {
    match plain(text, |resources| !may_lack_limit(resources)) {
        Some(document) => Ok(document),
        None => parse(text, |value, _| mend::resources(value)),
    }
}

/// Whether `pids` may have been there without a limit, which reads as the limit 0.
fn may_lack_limit(resources: &LinuxResources) -> bool {
    resources.pids().is_some_and(|pids| pids.limit() == 0)
}

/// The document read straight into its type, which takes a third of the time of a tree; `None` where
/// it may need mending, or an error needs its place.
fn plain<T: DeserializeOwned>(text: &[u8], sure: impl FnOnce(&T) -> bool) -> Option<Loaded<T>> {
    let commas = text.iter().filter(|byte| **byte == b',').count();
    if commas > mend::MOST_VALUES as usize {
        return None;
    }
    let mut from = serde_json::Deserializer::from_slice(text);
    let document = T::deserialize(Objects(&mut from)).ok().filter(sure)?;
    from.end().ok()?;
    Some(Loaded {
        document,
        warnings: Vec::new(),
    })
}

/// `mend` changes the document where the crate's types don't fit the specification.
fn parse<T: DeserializeOwned>(
    text: &[u8],
    mend: impl FnOnce(&mut Value, &mut Vec<String>),
) -> Result<Loaded<T>> {
    let mut from = serde_json::Deserializer::from_slice(text);
    let mut value = document(&mut from)?;
    let mut warnings = Vec::new();
    mend(&mut value, &mut warnings);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(Objects(value), &mut track);
    let document = T::deserialize(tracked).map_err(|error| misread(&track.path(), &error))?;
    Ok(Loaded { document, warnings })
}

/// What is missing has its place too: where it would stand.
fn misread(track: &Track, error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let missing = text.strip_prefix("missing field `");
    let place = match missing.and_then(|rest| rest.split_once('`')) {
        Some((field, _)) => format!("{}/{field}", pointer(track)),
        None => pointer(track),
    };
    Error::spec(place, text)
}

/// The whole text as a tree. A key that stands twice in one object is refused: which of the two
/// holds would depend on the reader.
fn document<'de>(
    from: &mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>,
) -> Result<Value> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut *from, &mut track);
    let read = <mend::Unambiguous as serde::Deserialize>::deserialize(tracked);
    let value = read.map_err(|error| Error::spec(pointer(&track.path()), error.to_string()))?;
    from.end()
        .map_err(|error| Error::spec("", error.to_string()))?;
    Ok(value.0)
}

/// The place as a JSON pointer (RFC 6901).
fn pointer(track: &Track) -> String {
    let mut pointer = String::new();
    for segment in track {
        match segment {
            Segment::Seq { index } => pointer += &format!("/{index}"),
            Segment::Map { key } => {
                pointer += &format!("/{}", key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}
