//! Where do the suites of the command line work, so that the machine stays as it was?
//!
//! On private ground, with a tmpfs of their own. What the machine's cgroup tree has on version 1 is missing in the
//! unified tree there; cases that need it are skipped by [`Ground::needs`].
use crate::cli::bundle::Bundle;
use crate::cli::runtime::Runtime;
use crate::cli::suite::Skip;
use nix::mount::{MsFlags, mount};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CGROUPS: &str = "/sys/fs/cgroup";

/// The machine as a suite sees it.
pub struct Ground {
    /// A tmpfs only this process and its children see.
    pub work: PathBuf,
    /// The program under test.
    pub runtime: Runtime,
    /// Controllers that the root of the unified tree has.
    pub controllers: Vec<String>,
    /// Every id of this process begins with it; so does the cgroup of every container.
    pub prefix: String,
    next: std::sync::Mutex<Cell<u32>>,
}

impl Ground {
    /// Lays it out; only on private ground, see [`crate::ground::on_private_ground`].
    pub fn enter() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("needs root".into());
        }
        if !crate::ground::privileged() {
            return Err("needs private ground".into());
        }
        let told = |what: &str| format!("needs {what}");
        let work = PathBuf::from("/run/rsrun-suite");
        fs::create_dir_all(&work).map_err(|e| told(&format!("{}: {e}", work.display())))?;
        mount(
            Some("suite"),
            &work,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=755"),
        )
        .map_err(|e| told(&format!("a tmpfs: {e}")))?;
        let root = work.join("root");
        fs::create_dir(&root).map_err(|e| told(&e.to_string()))?;
        let runtime = Runtime::find(&root)?;
        // Orphans of the runtime and containers that were detached become ours: nothing can hide from the oracle.
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|e| told(&format!("a subreaper: {e}")))?;
        let controllers =
            fs::read_to_string(format!("{CGROUPS}/cgroup.controllers")).unwrap_or_default();
        let prefix = format!("suite{}", std::process::id());
        let ground = Self {
            work,
            runtime,
            controllers: controllers.split_whitespace().map(String::from).collect(),
            prefix,
            next: std::sync::Mutex::new(Cell::new(0)),
        };
        crate::cli::bundle::lay_out_base(&ground)
            .map_err(|e| told(&format!("a busybox and the probe: {e}")))?;
        fs::create_dir(ground.cgroup_dir("")).map_err(|e| told(&format!("a cgroup: {e}")))?;
        Ok(ground)
    }

    /// A new bundle with a root file system and the base spec.
    pub fn bundle(&self) -> Bundle<'_> {
        Bundle::new(self, self.id())
    }

    /// A fresh container id.
    pub fn id(&self) -> String {
        let next = self.next.lock().expect("one thread");
        next.set(next.get() + 1);
        format!("{}-{}", self.prefix, next.get())
    }

    /// The directory of a cgroup below the one of this suite.
    pub fn cgroup_dir(&self, id: &str) -> PathBuf {
        Path::new(CGROUPS).join(&self.prefix).join(id)
    }

    /// Skips the case where a controller is not on version 2.
    pub fn needs(&self, controller: &str) -> Result<(), Skip> {
        match self.controllers.iter().any(|c| c == controller) {
            true => Ok(()),
            false => Err(Skip(format!("needs the v2 {controller} controller"))),
        }
    }

    /// Skips the case where root of this machine lacks a capability.
    pub fn may(&self, capability: &str) -> Result<(), Skip> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("CapEff:"))
            .unwrap_or_default();
        let bits = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
        match crate::cli::facts::CAPABILITIES
            .iter()
            .position(|name| *name == capability)
        {
            Some(number) if bits & (1 << number) != 0 => Ok(()),
            Some(_) | None => Err(Skip(format!(
                "needs {capability}, which root of this machine lacks"
            ))),
        }
    }

    /// Skips the case where the runtime under test is a runc older than this.
    pub fn since_runc(&self, major: u32, minor: u32, what: &str) -> Result<(), Skip> {
        match self.runtime.runc {
            Some(version) if version < (major, minor) => Err(Skip(format!(
                "runc has {what} since {major}.{minor}, this is {}",
                self.runtime.version
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Skips the case on every runc: rsrun differs, and this is the reason.
    pub fn differs_from_runc(&self, reason: &str) -> Result<(), Skip> {
        match self.runtime.runc {
            Some(_) => Err(Skip(format!("rsrun differs: {reason}"))),
            None => Ok(()),
        }
    }

    /// Skips the case on a kernel older than this.
    pub fn since_kernel(&self, major: u32, minor: u32, what: &str) -> Result<(), Skip> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split('.').map_while(|n| n.parse::<u32>().ok());
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        match found < (major, minor) {
            true => Err(Skip(format!(
                "{what} is in the kernel since {major}.{minor}, this is {}",
                release.trim()
            ))),
            false => Ok(()),
        }
    }

    /// Ends and removes whatever a failed case left.
    pub fn sweep(&self) {
        let _ = fs::write(self.cgroup_dir("").join("cgroup.kill"), "1");
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            crate::cli::oracle::reap();
            for pid in crate::cli::oracle::children() {
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            if crate::cli::oracle::children().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for dir in crate::cli::oracle::cgroups(&self.prefix).iter().rev() {
            let _ = fs::remove_dir(Path::new(CGROUPS).join(dir));
        }
        let _ = fs::create_dir(self.cgroup_dir(""));
        for entry in fs::read_dir(&self.runtime.root)
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }

    /// Takes the suite's cgroup away; the mounts go with the ground.
    pub fn leave(&self) {
        let _ = fs::remove_dir(self.cgroup_dir(""));
    }
}
