//! A shim driven without containerd: bundles, the two ways of being started, `delete`.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use containerd_shim_protos::api;
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protobuf::Message;
use serde_json::Value;

use crate::command::{self, Outcome, spawn};
use crate::events::Endpoint;
use crate::places::Places;
use crate::suite::{Check, World, fail, order_broken};
use crate::task::{self, Task};
use crate::ttrpc::{Client, locked};
use crate::{proc, spec};

/// How a shim is started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Manner {
    /// Flags, environment and an optional Any on stdin: containerd 1.6 to 2.2.
    Legacy,
    /// Flags and a BootstrapParams message on stdin: containerd 2.3 and later.
    Bootstrap,
}

/// What `start` answered.
#[derive(Clone, Debug)]
pub struct Started {
    /// The socket, without scheme.
    pub socket: PathBuf,
    /// The Task version announced; 2 for a plain address.
    pub version: i32,
}

/// The part of containerd in a test: its directory, its event socket, its shims.
pub struct ByHand {
    /// What is tested.
    pub places: Places,
    /// How shims are started.
    pub manner: Manner,
    /// Where the events arrive.
    pub events: Endpoint,
    name: String,
    directory: PathBuf,
    logs: Arc<Mutex<String>>,
    shims: Mutex<Vec<Pid>>,
}

impl ByHand {
    /// A containerd's directory named by `purpose`, with its event socket open.
    pub fn new(places: &Places, manner: Manner, purpose: &str) -> Check<Self> {
        let name = format!(
            "{}-{purpose}",
            if manner == Manner::Legacy {
                "legacy"
            } else {
                "bootstrap"
            }
        );
        let directory = PathBuf::from("/run/rsrun-by-hand").join(&name);
        fs::create_dir_all(&directory)?;
        // containerd makes it so; where it is missing a shim may make it itself.
        fs::create_dir_all(crate::containerd::SOCKETS)?;
        fs::set_permissions(
            crate::containerd::SOCKETS,
            fs::Permissions::from_mode(0o700),
        )?;
        // Short, because a socket's path is.
        let events = Endpoint::open(&address(&name).with_extension("sock.ttrpc"))?;
        Ok(Self {
            places: places.clone(),
            manner,
            events,
            name,
            directory,
            logs: Arc::default(),
            shims: Mutex::default(),
        })
    }

    /// What the shims have logged.
    pub fn log(&self) -> String {
        locked(&self.logs).clone()
    }

    /// Where a case may put its own files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The containerd namespace: one per case, for state on disk goes by it.
    pub fn ctr_ns(&self) -> &str {
        &self.name
    }

    /// The cgroup below which all containers are, as the specification writes it.
    pub fn cgroup(&self, id: &str) -> String {
        format!("/{}/{id}", self.name)
    }

    /// The bundle of `id`.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.directory
            .join("io.containerd.runtime.v2.task")
            .join(&self.name)
            .join(id)
    }

    /// A spec that runs `args`, to be changed and given to [`ByHand::prepare`].
    pub fn spec(&self, id: &str, args: &[&str]) -> Value {
        let mut spec = spec::minimal(Path::new("rootfs"), &self.cgroup(id), args);
        spec["root"]["readonly"] = false.into();
        spec
    }

    /// The rootfs for Create: the shared image, read-only.
    pub fn rootfs(&self) -> Vec<api::Mount> {
        vec![api::Mount {
            type_: "bind".into(),
            source: self.places.rootfs.display().to_string(),
            options: vec!["rbind".into(), "ro".into()],
            ..Default::default()
        }]
    }

    /// Makes the bundle of `id` as containerd does.
    pub fn prepare(&self, id: &str, spec: &Value) -> Check {
        let bundle = self.bundle(id);
        let _ = fs::remove_dir_all(&bundle);
        fs::create_dir_all(bundle.join("rootfs"))?;
        fs::set_permissions(&bundle, fs::Permissions::from_mode(0o700))?;
        let work = self.directory.join("work").join(id);
        fs::create_dir_all(&work)?;
        std::os::unix::fs::symlink(&work, bundle.join("work"))?;
        fs::write(bundle.join("config.json"), spec.to_string())?;
        Ok(())
    }

    /// Runs `start` for a prepared bundle.
    pub fn start(&self, id: &str) -> Check<Started> {
        self.keep_log(id)?;
        let started = read_answer(&self.start_raw(id)?.ok()?.bytes)?;
        self.adopt(started, id)
    }

    /// Makes the log of a shim and keeps what is written to it, as containerd does before it starts one.
    pub fn keep_log(&self, id: &str) -> Check {
        let log = self.bundle(id).join("log");
        if !log.exists() {
            nix::unistd::mkfifo(&log, nix::sys::stat::Mode::from_bits_truncate(0o700))?;
            self.drain(&log)?;
        }
        Ok(())
    }

    /// Takes note of the process that serves after a `start`.
    pub fn adopt(&self, started: Started, id: &str) -> Check<Started> {
        let client = Client::connect(&started.socket)?;
        let connected: api::ConnectResponse = client
            .call(
                task::V2,
                "Connect",
                &api::ConnectRequest {
                    id: id.into(),
                    ..Default::default()
                },
            )
            .or_else(|_| {
                client.call(
                    task::V3,
                    "Connect",
                    &api::ConnectRequest {
                        id: id.into(),
                        ..Default::default()
                    },
                )
            })?;
        locked(&self.shims).push(Pid::from_raw(connected.shim_pid.try_into()?));
        Ok(started)
    }

    /// `start` as a program: what it printed and its exit code.
    pub fn start_raw(&self, id: &str) -> Check<Outcome> {
        let mut shim = self.shim_command(id)?;
        let mut running = spawn(shim.arg("start").stdin(Stdio::piped()))?;
        if self.manner == Manner::Bootstrap {
            running.write(&self.bootstrap(id).write_to_bytes()?)?;
        }
        running.close_stdin();
        running.finish(Duration::from_secs(20))
    }

    /// The message of [`Manner::Bootstrap`].
    pub fn bootstrap(&self, id: &str) -> BootstrapParams {
        let grpc = address(&self.name);
        BootstrapParams {
            instance_id: id.into(),
            namespace: self.name.clone(),
            containerd_version: "2.4.2".into(),
            containerd_ttrpc_address: format!("{}.ttrpc", grpc.display()),
            containerd_grpc_address: grpc.display().to_string(),
            containerd_binary: "/bin/true".into(),
            ..Default::default()
        }
    }

    /// A connected task for a started shim.
    pub fn task(&self, started: &Started, id: &str) -> Check<Task> {
        Ok(self.task_on(Arc::new(Client::connect(&started.socket)?), id))
    }

    /// A task on a connection that exists.
    pub fn task_on(&self, client: Arc<Client>, id: &str) -> Task {
        let service = if self.manner == Manner::Legacy {
            task::V2
        } else {
            task::V3
        };
        Task {
            client,
            service,
            id: id.into(),
            bundle: self.bundle(id),
        }
    }

    /// Prepares, starts a shim for and connects to a container that will run `args`.
    pub fn fresh(&self, id: &str, args: &[&str]) -> Check<Task> {
        self.prepare(id, &self.spec(id, args))?;
        let started = self.start(id)?;
        self.task(&started, id)
    }

    /// The same, created and started without streams.
    pub fn running(&self, id: &str, args: &[&str]) -> Check<Task> {
        let task = self.fresh(id, args)?;
        task.create(&self.rootfs(), &task::Streams::default())?;
        task.start(task::INIT)?;
        Ok(task)
    }

    /// Runs `delete` for `id` and reads its answer.
    pub fn delete(&self, id: &str) -> Check<(api::DeleteResponse, Outcome)> {
        let mut shim = self.shim_command(id)?;
        shim.arg("-bundle").arg(self.bundle(id)).arg("delete");
        let outcome = command::run(&mut shim, Duration::from_secs(10))?.ok()?;
        Ok((
            api::DeleteResponse::parse_from_bytes(&outcome.bytes)?,
            outcome,
        ))
    }

    /// The shim's command line, up to the action, in the bundle and with containerd's environment.
    pub fn shim_command(&self, id: &str) -> Check<Command> {
        let line = if self.manner == Manner::Legacy {
            "1.6"
        } else {
            "2.4"
        };
        let address = address(&self.name);
        let mut shim = Command::new(self.places.shim(line)?);
        shim.args(["-namespace", &self.name, "-address"])
            .arg(&address)
            .args(["-publish-binary", "/bin/true", "-id", id]);
        shim.current_dir(self.bundle(id)).env_clear();
        let runc = self.places.runc_for(line);
        shim.env(
            "PATH",
            format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", runc.display()),
        )
        .env("TTRPC_ADDRESS", format!("{}.ttrpc", address.display()))
        .env("GRPC_ADDRESS", &address)
        .env("NAMESPACE", &self.name)
        .env("MAX_SHIM_VERSION", "2")
        .env("RSRUN_STDIO_CONF", self.directory.join("stdio.conf"))
        .env("GOMAXPROCS", "2");
        Ok(shim)
    }

    /// The address of the daemon that this one plays.
    pub fn address(&self) -> PathBuf {
        address(&self.name)
    }

    /// What of a container is still on the host, in words.
    pub fn remains(&self, id: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let groups = proc::cgroups_named(id);
        let alive = groups
            .iter()
            .flat_map(|g| proc::pids_in(g))
            .map(|p| format!("process {p}"));
        found.extend(alive);
        found.extend(groups.iter().map(|g| format!("cgroup {}", g.display())));
        found.extend(
            proc::mounts_below(&self.bundle(id))
                .iter()
                .map(|m| format!("mount {}", m.display())),
        );
        found.extend(
            proc::state_of(id)
                .iter()
                .map(|s| format!("state {}", s.display())),
        );
        found
    }

    /// Checks that within five seconds nothing of the container is left.
    pub fn nothing_remains(&self, id: &str) -> Check {
        match command::eventually("nothing", Duration::from_secs(5), || {
            self.remains(id).is_empty()
        }) {
            Ok(()) => Ok(()),
            Err(_) => fail(format!("of {id} there is still {:?}", self.remains(id))),
        }
    }

    fn drain(&self, fifo: &Path) -> Check {
        // Read and write, as containerd does: no end of file between two writers.
        let mut log = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_CLOEXEC)
            .open(fifo)?;
        let logs = Arc::clone(&self.logs);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = log.read(&mut buffer) {
                locked(&logs).push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        Ok(())
    }
}

impl World for ByHand {
    fn testimony(&self) -> String {
        for shim in locked(&self.shims).iter() {
            let _ = kill(*shim, Signal::SIGUSR1);
        }
        std::thread::sleep(Duration::from_millis(300));
        let logs = locked(&self.logs);
        let lines: Vec<String> = logs
            .lines()
            .map(|l| l.chars().take(1500).collect())
            .collect();
        let from = lines.len().saturating_sub(40);
        format!("--- log of the shims ---\n{}", lines[from..].join("\n"))
    }

    fn complaint(&self) -> Option<String> {
        order_broken(&locked(&self.logs))
    }

    fn close(&self) {
        let _ = fs::write(format!("/sys/fs/cgroup/{}/cgroup.kill", self.name), "1");
        for shim in locked(&self.shims).drain(..).filter(|s| proc::is_alive(*s)) {
            let _ = kill(shim, Signal::SIGKILL);
        }
        for mount in proc::mounts_below(&self.directory).iter().rev() {
            let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// `/run/bh-NAME.sock`: the name is cut, for a socket's path is short.
fn address(name: &str) -> PathBuf {
    let name: String = name.chars().take(60).collect();
    PathBuf::from(format!("/run/bh-{name}.sock"))
}

/// Reads what `start` prints: a message, JSON, or a plain address.
pub fn read_answer(bytes: &[u8]) -> Check<Started> {
    let text = String::from_utf8_lossy(bytes).trim().to_string();
    let (address, version) = if text.starts_with("unix://") {
        (text, 2)
    } else if let Ok(json) = serde_json::from_slice::<Value>(bytes) {
        (
            json["address"].as_str().unwrap_or_default().into(),
            json["version"].as_i64().unwrap_or(2).try_into()?,
        )
    } else {
        let result = BootstrapResult::parse_from_bytes(bytes)?;
        if result.protocol != "ttrpc" {
            return fail(format!(
                "unexpected protocol {:?} in {result:?}",
                result.protocol
            ));
        }
        (result.address, result.version)
    };
    match address.strip_prefix("unix://") {
        Some(socket) => Ok(Started {
            socket: socket.into(),
            version,
        }),
        None => fail(format!("no unix address in {address:?}")),
    }
}
