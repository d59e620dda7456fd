//! What of the machine may an attack not change, and how is a change seen?
//!
//! One oracle for all attacks. It takes a look at the whole machine once, and after each attack it tells what
//! differs: the canary tree (names, inodes, owners, times, contents), the mounts, every setting of `/proc/sys`,
//! the product's own binaries, the cgroups and the limits above them, the processes, and every file that was
//! made, removed, written or given away on the machine's disk meanwhile, also if it is gone again (fanotify).
//! [`inside`] compares a process of a container with its spec, [`created`] an init before its gate.
//!
//! A suite that attacks runs in the guest only ([`guest`]): a product that fails can rewrite `core_pattern`.

pub mod canary;
pub mod created;
pub mod guest;
pub mod inside;
mod look;
pub mod scene;
mod settings;
pub mod suite;
mod touched;

use std::path::Path;

use canary::Canary;
use look::Look;
use settings::Settings;
use touched::Touched;

/// The oracle: the machine as it has to stay.
pub struct Containment {
    prefix: String,
    work: std::path::PathBuf,
    binaries: Vec<std::path::PathBuf>,
    canary: Canary,
    settings: Settings,
    touched: Touched,
    before: Look,
}

impl Containment {
    /// Makes the canary tree and remembers the machine; `prefix` is what own cgroups are called by, `work` where
    /// the cases may write.
    pub fn watch(
        prefix: &str,
        work: &Path,
        binaries: &[std::path::PathBuf],
    ) -> std::io::Result<Self> {
        let canary = Canary::make()?;
        let mut made = Self {
            prefix: prefix.into(),
            work: work.into(),
            binaries: binaries.to_vec(),
            settings: Settings::open()?,
            touched: Touched::watch()?,
            before: Look::default(),
            canary,
        };
        made.before = made.look();
        Ok(made)
    }

    /// The tree that no container may reach.
    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    /// All that differs from the machine as it was, a line each; nothing when the attack was contained.
    pub fn differences(&mut self) -> Vec<String> {
        let mut found = self.quick();
        found.extend(self.settings.differences());
        found
    }

    /// The same without the eight hundred settings: for many looks in a second.
    pub fn quick(&mut self) -> Vec<String> {
        let mut found = self.before.differences(&self.look());
        found.extend(self.touched.since());
        found.extend(self.settings.dangerous());
        found
    }

    /// Puts the machine back after an attack that is known to succeed, so that the next case sees only its own.
    pub fn mend(&mut self) -> std::io::Result<()> {
        self.settings.restore()?;
        self.before.undo(&self.look());
        self.canary = Canary::make()?;
        self.before = self.look();
        self.touched.since();
        Ok(())
    }

    fn look(&self) -> Look {
        Look::take(&self.prefix, &self.work, &self.binaries, &self.canary)
    }
}
