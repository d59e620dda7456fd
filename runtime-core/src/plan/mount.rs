//! One entry of `mounts`: read, and refused where its text already shows that it makes no sense.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use rsrun_init::step::Step;

use super::PlanStep;
use super::options::Options;
use super::text::{entry, inside, text};
use crate::error::{Error, Result};

const PLACE: &str = "/mounts";

/// What below /proc may be covered: files that say how much of the host there is (lxcfs and its
/// like). Anything else there could fake what we and the container's program rely on.
const COVERABLE_IN_PROC: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// An entry of `mounts`.
pub(super) struct OneMount<'a> {
    pub(super) given: &'a Mount,
    pub(super) place: String,
    pub(super) target: PathBuf,
    pub(super) fstype: String,
    pub(super) options: Options,
}

impl<'a> OneMount<'a> {
    pub(super) fn read(index: usize, given: &'a Mount) -> Result<Self> {
        let place = entry(PLACE, index);
        let destination = given.destination();
        if destination.as_os_str().is_empty() {
            return Err(Error::spec(
                format!("{place}/destination"),
                "there is no destination",
            ));
        }
        text(&format!("{place}/destination"), destination)?;
        let options = Options::read(given.options().as_deref().unwrap_or_default());
        let mount = Self {
            target: inside(destination),
            fstype: given.typ().clone().unwrap_or_default(),
            given,
            place,
            options,
        };
        mount.check()?;
        Ok(mount)
    }

    pub(super) fn is_bind(&self) -> bool {
        self.options.bind.is_some() || self.fstype == "bind"
    }

    pub(super) fn target_text(&self) -> Result<std::ffi::CString> {
        text(&format!("{}/destination", self.place), &self.target)
    }

    fn check(&self) -> Result<()> {
        let place = format!("{}/destination", self.place);
        if self.target == Path::new("/") {
            return Err(Error::spec(place, "the root itself can't be mounted over"));
        }
        if !self.is_bind() && !self.options.remount && matches!(self.fstype.as_str(), "" | "none") {
            return Err(Error::spec(
                format!("{}/type", self.place),
                "a mount is of a type, or has the option bind, rbind or remount",
            ));
        }
        let Ok(in_proc) = self.target.strip_prefix("/proc") else {
            return Ok(());
        };
        let shown = self.target.to_string_lossy();
        let allowed = match in_proc.as_os_str().is_empty() {
            // A clone of a procfs is what a user namespace needs that may not mount its own; that it is
            // one is checked where it is attached.
            true => self.fstype == "proc" || self.is_bind() || self.options.remount,
            false => COVERABLE_IN_PROC.contains(&shown.as_ref()),
        };
        if allowed {
            return Ok(());
        }
        Err(Error::spec(
            place,
            format!("{shown} cannot be mounted because it is inside /proc"),
        ))
    }

    /// A change of what is mounted there, without a new mount.
    pub(super) fn remount(&self) -> Result<Vec<PlanStep>> {
        let words = self
            .options
            .of_filesystem
            .first()
            .map(|(_, word)| word.as_str());
        if let Some(word) = words.or(self.options.superblock.first().copied()) {
            return Err(Error::unsupported(
                format!("{}/options", self.place),
                format!(
                    "{}/options: {word:?} of a filesystem can't be changed by remount",
                    self.place
                ),
            ));
        }
        let target = self.target_text()?;
        let step = |change| Step::SetMountAttributes {
            target: target.clone(),
            change,
        };
        Ok(self.options.changes().into_iter().map(step).collect())
    }
}
