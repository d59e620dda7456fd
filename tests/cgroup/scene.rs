//! What does a case have? A branch of the tree of its own, and processes to put there.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use rsrun_core::cgroup::{Cgroup, Changes, Controllers, Mount, writes};
use rsrun_tests::ground;
use rsrun_tests::suite::{Check, World, fail, skip};

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(10);

pub struct Scene {
    pub mount: Mount,
    /// Absolute, below the mount.
    pub branch: String,
    children: Mutex<Vec<Child>>,
}

impl Scene {
    pub fn new() -> Check<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !ground::privileged() {
            return skip("needs root");
        }
        let branch = format!(
            "/case-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Ok(Self {
            mount: Mount::find()?,
            branch,
            children: Mutex::default(),
        })
    }

    /// Ends the case as skipped where the tree lacks one of these.
    pub fn needs(&self, controllers: &[&str]) -> Check {
        match controllers
            .iter()
            .find(|name| !self.mount.controllers().has(name))
        {
            Some(name) => skip(format!("the unified tree has no {name} controller")),
            None => Ok(()),
        }
    }

    /// A new cgroup of the case.
    pub fn cgroup(&self, name: &str) -> Check<Cgroup> {
        Ok(Cgroup::create(&self.mount, &self.path(name))?)
    }

    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.branch)
    }

    /// Where a cgroup is in the file system.
    pub fn dir(&self, name: &str) -> PathBuf {
        self.mount
            .point()
            .join(self.path(name).trim_start_matches('/'))
    }

    pub fn read(&self, name: &str, file: &str) -> Check<String> {
        Ok(fs::read_to_string(self.dir(name).join(file))?
            .trim_end()
            .to_owned())
    }

    /// Starts a shell in the cgroup `name`; it has entered it when this returns.
    pub fn shell(&self, name: &str, script: &str) -> Check<u32> {
        let file = self.dir(name).join("cgroup.procs");
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("read go; {script}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pid = child.id();
        let entered = fs::write(&file, pid.to_string());
        let told = child.stdin.take().map(|mut go| go.write_all(b"\n"));
        self.children.lock().map_err(|_| "poisoned")?.push(child);
        entered?;
        told.transpose()?;
        Ok(pid)
    }

    /// Waits for a shell and gives its exit code, -1 for a signal.
    pub fn wait(&self, pid: u32) -> Check<i32> {
        let mut child = {
            let mut children = self.children.lock().map_err(|_| "poisoned")?;
            let Some(at) = children.iter().position(|child| child.id() == pid) else {
                return fail("no such child");
            };
            children.swap_remove(at)
        };
        Ok(child.wait()?.code().unwrap_or(-1))
    }

    /// The writes for resources in JSON, for a cgroup with these controllers.
    pub fn changes(&self, json: &str, controllers: &Controllers) -> Check<Changes> {
        let resources: LinuxResources = serde_json::from_str(json)?;
        Ok(writes(&resources, controllers)?)
    }

    /// Writes limits to a cgroup that is being made.
    pub fn apply(&self, cgroup: &Cgroup, json: &str) -> Check {
        Ok(cgroup.apply(&self.changes(json, cgroup.controllers())?)?)
    }

    /// Changes limits of a cgroup.
    pub fn update(&self, cgroup: &Cgroup, json: &str) -> Check<rsrun_core::Result<()>> {
        Ok(cgroup.update(&self.changes(json, cgroup.controllers())?))
    }
}

impl World for Scene {
    fn testimony(&self) -> String {
        let listed = Command::new("grep")
            .args([
                "-r",
                "",
                "--include=cgroup.procs",
                "--include=cgroup.freeze",
            ])
            .arg(self.dir(""))
            .output();
        let text = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned());
        text.unwrap_or_default()
            .lines()
            .take(30)
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn close(&self) {
        let root = self.dir("");
        // What a case has left ends with it; the ground removes the rest.
        let _ = fs::write(root.join("cgroup.kill"), "1");
        if let Ok(mut children) = self.children.lock() {
            for child in children.iter_mut() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        remove_tree(&root);
    }
}

fn remove_tree(dir: &std::path::Path) {
    // By the find of the system: the code under test shall not clean up after itself.
    let _ = Command::new("find")
        .arg(dir)
        .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
        .stderr(Stdio::null())
        .status();
}

/// Waits until `condition`, which is looked at every few milliseconds.
pub fn until(what: &str, mut condition: impl FnMut() -> Check<bool>) -> Check {
    let end = Instant::now() + LONG;
    while !condition()? {
        if Instant::now() > end {
            return fail(format!("{what} did not come"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// The kind of the error of a call that has to fail.
pub fn refused<T>(result: rsrun_core::Result<T>) -> Check<rsrun_core::Error> {
    match result {
        Ok(_) => fail("succeeded"),
        Err(error) => Ok(error),
    }
}

/// How many descriptors this process has.
pub fn open_descriptors() -> Check<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// Whether `fd` has something for POLLPRI within `timeout`.
pub fn polled(fd: impl AsFd, timeout: Duration) -> Check<bool> {
    let timeout = i32::try_from(timeout.as_millis())?;
    let mut all = [nix::poll::PollFd::new(
        fd.as_fd(),
        nix::poll::PollFlags::POLLPRI,
    )];
    let count = nix::poll::poll(&mut all, nix::poll::PollTimeout::try_from(timeout)?)?;
    Ok(count == 1)
}
