//! The device nodes and links of the container's /dev.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};
use rsrun_init::step::{MountAttributes, Step};

use super::draft::Draft;
use super::options::PRIVATE;
use super::text::{entry, inside, literal, text};
use super::{FdSource, PlanStep};
use crate::error::{Error, Result};
use crate::host::Host;

const PLACE: &str = "/linux/devices";

const S_IFMT: u32 = 0o170_000;
const S_IFIFO: u32 = 0o010_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;

/// Devices that the specification promises to every container.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// How nodes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// mknod
    Make,
    /// A user namespace may not: the host's node is attached.
    Attach,
}

#[derive(Clone, Debug, PartialEq)]
struct Node {
    path: PathBuf,
    kind: u32,
    permissions: u32,
    major: u32,
    minor: u32,
    uid: u32,
    gid: u32,
}

/// The steps for nodes and links, defaults first; a device of the spec replaces a default one.
pub(super) fn steps(draft: &mut Draft, spec: &Spec, host: &Host, way: Way) -> Result<()> {
    let linux = spec.linux().as_ref();
    let given = linux
        .and_then(|l| l.devices().as_deref())
        .unwrap_or_default();
    let given: Vec<Node> = given
        .iter()
        .enumerate()
        .map(|(index, device)| read(device, &entry(PLACE, index)))
        .collect::<Result<_>>()?;
    let defaults = DEFAULTS.iter().map(|(path, major, minor)| Node {
        path: PathBuf::from(path),
        kind: S_IFCHR,
        permissions: 0o666,
        major: *major,
        minor: *minor,
        uid: 0,
        gid: 0,
    });
    let replaced = |node: &Node| given.iter().any(|other| other.path == node.path);
    for node in defaults.filter(|node| !replaced(node)) {
        make(draft, &node, way)?;
    }
    // The one of devpts: a node of the host would open the host's terminals.
    for node in given.iter().filter(|n| n.path != Path::new("/dev/ptmx")) {
        make(draft, node, way)?;
    }
    draft.steps(links(host));
    Ok(())
}

fn links(host: &Host) -> impl Iterator<Item = PlanStep> {
    let core = host.has_kcore.then_some(("/dev/core", "/proc/kcore"));
    let link = |path: &str, points_to: &str, replace| Step::MakeLink {
        path: literal(path),
        points_to: literal(points_to),
        replace,
    };
    LINKS
        .into_iter()
        .chain(core)
        .map(move |(path, points_to)| link(path, points_to, false))
        .chain([link("/dev/ptmx", "pts/ptmx", true)])
}

fn make(draft: &mut Draft, node: &Node, way: Way) -> Result<()> {
    let path = text(PLACE, &node.path)?;
    if way == Way::Attach && node.kind != S_IFIFO {
        let tree = draft.fd(FdSource::Tree {
            path: node.path.clone(),
            recursive: false,
            changes: vec![MountAttributes {
                propagation: PRIVATE,
                ..MountAttributes::default()
            }],
            idmap: None,
            idmap_recursive: false,
        });
        draft.step(Step::AttachTree { tree, target: path });
        return Ok(());
    }
    draft.step(Step::MakeNode {
        path,
        mode: node.kind | node.permissions,
        major: node.major,
        minor: node.minor,
        uid: node.uid,
        gid: node.gid,
    });
    Ok(())
}

fn read(device: &LinuxDevice, place: &str) -> Result<Node> {
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => S_IFCHR,
        LinuxDeviceType::B => S_IFBLK,
        LinuxDeviceType::P => S_IFIFO,
        LinuxDeviceType::A => {
            return Err(Error::spec(
                format!("{place}/type"),
                "\"a\" is a type of rules, not of a device",
            ));
        }
    };
    let number = |value: i64, field: &str| {
        u32::try_from(value).map_err(|_| {
            Error::spec(
                format!("{place}/{field}"),
                format!("{value} is no device number"),
            )
        })
    };
    let path = format!("{place}/path");
    text(&path, device.path())?;
    if !device.path().is_absolute() {
        return Err(Error::spec(
            path,
            format!("{} is not an absolute path", device.path().display()),
        ));
    }
    let fifo = kind == S_IFIFO;
    if !fifo && (device.major(), device.minor()) == (0, 0) {
        return Err(Error::spec(place, "it has no major and minor number"));
    }
    let mode = device.file_mode().unwrap_or(0o666);
    if mode & !(S_IFMT | 0o7777) != 0 {
        return Err(Error::spec(
            format!("{place}/fileMode"),
            format!("{mode} is no file mode"),
        ));
    }
    Ok(Node {
        path: inside(device.path()),
        kind,
        permissions: mode & 0o7777,
        major: if fifo {
            0
        } else {
            number(device.major(), "major")?
        },
        minor: if fifo {
            0
        } else {
            number(device.minor(), "minor")?
        },
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}
