//! A private containerd: how it is configured, started, killed and questioned.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

use crate::command::{self, eventually};
use crate::places::Places;
use crate::proc;
use crate::suite::{Check, fail};

/// The image's name in every private containerd.
pub const IMAGE: &str = "docker.io/library/busybox:latest";
/// The containerd namespace of all tests.
pub const CTR_NS: &str = "e2e";
/// The compiled-in place of shim sockets, private because `/run` is.
pub const SOCKETS: &str = "/run/containerd/s";

/// One daemon with root, state and socket of its own.
pub struct Containerd {
    /// Release line, as its directory is called: `1.6`, `1.7`, `2.4`.
    pub line: String,
    /// What is tested.
    pub places: Places,
    directory: PathBuf,
    daemon: Mutex<Option<Child>>,
}

impl Containerd {
    /// Starts the daemon of `line` in a directory named by `purpose`, with the image.
    pub fn start(places: &Places, line: &str, purpose: &str) -> Check<Self> {
        Self::start_logging(places, line, purpose, "debug")
    }

    /// The same with another level of its log: what [`Containerd::forwarded`] counts is told at `trace`.
    pub fn start_logging(places: &Places, line: &str, purpose: &str, level: &str) -> Check<Self> {
        let directory = PathBuf::from(format!("/run/rsrun-test-{line}-{purpose}"));
        fs::create_dir_all(&directory)?;
        let daemon = Self {
            line: line.into(),
            places: places.clone(),
            directory,
            daemon: Mutex::new(None),
        };
        places.shim(line)?;
        fs::write(daemon.directory.join("config.toml"), daemon.config(level))?;
        daemon.launch()?;
        let image = daemon.places.image.clone();
        let imported = daemon.ctr(&["images", "import", path(&image)])?.ok()?;
        let names = daemon.ctr(&["images", "ls", "-q"])?.ok()?.stdout;
        if !names.lines().any(|n| n == IMAGE) {
            return fail(format!(
                "no {IMAGE} in {}: {names} {imported:?}",
                image.display()
            ));
        }
        Ok(daemon)
    }

    /// How many events of `topic` the daemon has taken from shims since it was first started.
    pub fn forwarded(&self, topic: &str) -> usize {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let of_tests = format!("ns={CTR_NS}");
        let topic = format!("topic={topic}");
        log.lines()
            .filter(|l| l.contains("msg=\"event forwarded\""))
            .filter(|l| l.split(' ').any(|w| w == of_tests) && l.split(' ').any(|w| w == topic))
            .count()
    }

    /// Starts the daemon's process again after [`Containerd::kill`].
    pub fn launch(&self) -> Check {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let child = Command::new(self.bin().join("containerd"))
            .arg("--config")
            .arg(self.directory.join("config.toml"))
            .env_clear()
            .env("PATH", self.search_path())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        *self.daemon.lock().unwrap_or_else(|e| e.into_inner()) = Some(child);
        eventually("containerd answers", Duration::from_secs(20), || {
            self.ctr(&["version"]).is_ok_and(|o| o.code == 0)
        })
        .map_err(|_| {
            format!(
                "containerd {} does not come up: {}",
                self.line,
                self.log_tail(20)
            )
            .into()
        })
    }

    /// SIGKILLs the daemon; its shims stay.
    pub fn kill(&self) -> Check {
        match self.daemon.lock().unwrap_or_else(|e| e.into_inner()).take() {
            Some(mut child) => {
                child.kill()?;
                child.wait()?;
                Ok(())
            }
            None => fail("containerd does not run"),
        }
    }

    /// `ctr` with a minute's time.
    pub fn ctr(&self, args: &[&str]) -> Check<command::Outcome> {
        command::run(self.ctr_command().args(args), Duration::from_secs(60))
    }

    /// A `ctr` command line to be completed.
    pub fn ctr_command(&self) -> Command {
        let mut command = Command::new(self.bin().join("ctr"));
        command
            .arg("--address")
            .arg(self.address())
            .args(["--namespace", CTR_NS]);
        command
    }

    /// The runtime's part of `ctr run`.
    pub fn run_flags(&self) -> Vec<&'static str> {
        let mut flags = vec!["--runtime", leak(&self.places.runtime)];
        // ctr's default spec states the kernel's default weight, for which runc
        // wants a controller all the same.
        if self.places.is_runc() && !crate::ground::has_controllers() {
            flags.extend(["--cpu-shares", "0"]);
        }
        flags
    }

    /// Where all of the daemon's files are, and a case may put its own.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The daemon's gRPC socket.
    pub fn address(&self) -> PathBuf {
        self.directory.join("c.sock")
    }

    /// The bundle of a container.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.directory
            .join("state/io.containerd.runtime.v2.task")
            .join(CTR_NS)
            .join(id)
    }

    /// The socket of the shim that serves `group`.
    pub fn socket(&self, group: &str) -> PathBuf {
        Path::new(SOCKETS).join(socket_name(&self.address(), CTR_NS, group))
    }

    /// The serving shim processes that were started for `id`.
    pub fn shims_of(&self, id: &str) -> Vec<Pid> {
        let address = self.address();
        proc::all()
            .into_iter()
            .filter(|p| {
                let line = proc::command_line(*p);
                let has = |flag: &str, value: &str| {
                    line.windows(2).any(|w| w[0] == flag && w[1] == value)
                };
                line.first()
                    .is_some_and(|a| a.ends_with(&self.places.shim_name()))
                    && has("-id", id)
                    && (has("-address", path(&address)) || line.iter().any(|a| a.contains(SOCKETS)))
                    && !line.iter().any(|a| a == "start" || a == "delete")
            })
            .collect()
    }

    /// The end of the daemon's log, with what its shims logged.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// What it and its shims have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Asks the shims of `ids` for their state (SIGUSR1) and shows the log's end.
    pub fn testimony(&self, ids: &[String]) -> String {
        let shims: Vec<Pid> = ids.iter().flat_map(|id| self.shims_of(id)).collect();
        for shim in &shims {
            let _ = kill(*shim, Signal::SIGUSR1);
        }
        if !shims.is_empty() {
            std::thread::sleep(Duration::from_millis(300));
        }
        let noise = [
            "get snapshot mounts",
            "prepare snapshot",
            "activating mount",
            "failed to watch oom events",
        ];
        let about = |line: &&str| {
            ids.iter().any(|id| line.contains(id.as_str()))
                && !noise.iter().any(|n| line.contains(n))
        };
        let log = self.log();
        let relevant: Vec<String> = log
            .lines()
            .filter(about)
            .map(|l| l.chars().take(2000).collect())
            .collect();
        let from = relevant.len().saturating_sub(30);
        format!(
            "--- log of containerd {} and its shims ---\n{}",
            self.line,
            relevant[from..].join("\n")
        )
    }

    fn bin(&self) -> PathBuf {
        self.places.containerd.join(&self.line).join("bin")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn search_path(&self) -> String {
        let own = [
            self.places.bin.clone(),
            self.bin(),
            self.places.runc_for(&self.line),
        ];
        let own: Vec<&str> = own.iter().map(|p| path(p)).collect();
        format!(
            "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            own.join(":")
        )
    }

    fn config(&self, level: &str) -> String {
        let at = self.directory.display();
        let (version, foreign) = match self.line.starts_with("1.") {
            true => (2, ""),
            false => (
                3,
                "'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', ",
            ),
        };
        format!(
            "version = {version}\nroot = '{at}/root'\nstate = '{at}/state'\n\
             disabled_plugins = [{foreign}'io.containerd.grpc.v1.cri', 'io.containerd.nri.v1.nri', \
             'io.containerd.internal.v1.opt', 'io.containerd.tracing.processor.v1.otlp', 'io.containerd.internal.v1.tracing']\n\
             [grpc]\naddress = '{at}/c.sock'\n[debug]\nlevel = '{level}'\n"
        )
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// The lines installed, of those that the suites run against.
pub fn installed_lines(places: &Places) -> Vec<(&'static str, bool)> {
    ["1.6", "1.7", "2.4"]
        .into_iter()
        .map(|line| {
            (
                line,
                places.containerd.join(line).join("bin/containerd").exists(),
            )
        })
        .collect()
}

/// A socket's file name: SHA-256 of address, namespace and group, as paths joined.
pub fn socket_name(address: &Path, ctr_ns: &str, group: &str) -> String {
    let joined = address.join(ctr_ns).join(group);
    let digest = Sha256::digest(joined.as_os_str().as_encoded_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// Lives as long as the suite: a handful of names.
fn leak(text: &str) -> &'static str {
    Box::leak(text.to_string().into_boxed_str())
}
