//! The options of a filesystem as fsconfig(2) takes them.

use std::ffi::CString;

use rsrun_init::step::Param;

use super::Planned;
use super::mount::OneMount;
use super::text::{entry, literal, text};
use crate::error::{Error, Result};
use crate::host::{Host, KernelVersion};

/// Filesystems whose superblock is one with others', or filled after it was mounted: read-only is
/// their mount, not they.
const READ_ONLY_BY_MOUNT: [&str; 6] = ["tmpfs", "proc", "sysfs", "mqueue", "devpts", "cgroup2"];

/// The longest value that fsconfig(2) takes.
const LONGEST: usize = 255;

impl OneMount<'_> {
    /// Words of every filesystem, then those of this one in their order.
    pub(super) fn params(&self, fstype: &str, host: &Host) -> Result<Vec<Param<Planned>>> {
        let mut params: Vec<Param<Planned>> = Vec::new();
        for word in &self.options.superblock {
            params.push(Param::Flag(literal(word)));
        }
        if self.options.own.read_only() && !READ_ONLY_BY_MOUNT.contains(&fstype) {
            params.push(Param::Flag(literal("ro")));
        }
        for (index, word) in &self.options.of_filesystem {
            let place = entry(&format!("{}/options", self.place), *index);
            match word.split_once('=') {
                None => params.push(Param::Flag(text(&place, word)?)),
                Some((name, value)) if value.len() <= LONGEST => {
                    params.push(Param::Text(text(&place, name)?, text(&place, value)?));
                }
                Some(("lowerdir", value)) if fstype == "overlay" => {
                    params.extend(layers(value, &place, host)?);
                }
                Some((name, _)) => {
                    return Err(Error::spec(
                        place,
                        format!("the value of {name:?} is longer than {LONGEST} bytes"),
                    ));
                }
            }
        }
        Ok(params)
    }
}

/// A list of layers that is too long for one value, layer by layer.
fn layers(list: &str, place: &str, host: &Host) -> Result<Vec<Param<Planned>>> {
    if host.kernel < KernelVersion(6, 7) {
        return Err(Error::unsupported(
            place,
            format!("{place}: a list of layers longer than {LONGEST} bytes needs linux 6.7"),
        ));
    }
    let mut layers = vec![String::new()];
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        let last = layers.len() - 1;
        match (character, layers.get_mut(last)) {
            (':', _) => layers.push(String::new()),
            ('\\', Some(layer)) => layer.extend(characters.next()),
            (other, Some(layer)) => layer.push(other),
            (_, None) => {}
        }
    }
    if layers.iter().any(String::is_empty) {
        return Err(Error::unsupported(
            place,
            format!("{place}: data-only layers in a list longer than {LONGEST} bytes"),
        ));
    }
    let param = |layer: String| {
        let name: CString = literal("lowerdir+");
        Ok(Param::Text(name, text(place, layer)?))
    };
    layers.into_iter().map(param).collect()
}
