//! What is a container of these suites made from, and what can a case do with it?
use crate::cli::facts::Facts;
use crate::cli::ground::Ground;
use crate::cli::oracle;
use crate::cli::runtime::{Output, Runtime};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What busybox is called by in a test rootfs.
const APPLETS: [&str; 38] = [
    "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "echo", "env", "false", "grep",
    "head", "hostname", "id", "kill", "ln", "ls", "mkdir", "mknod", "mount", "mv", "nice", "od",
    "ps", "pwd", "readlink", "rm", "rmdir", "sh", "sleep", "stat", "stty", "test", "touch", "true",
    "tty", "umount",
];

/// Puts busybox and the probe below the working directory; every rootfs gets hard links to them.
pub(crate) fn lay_out_base(ground: &Ground) -> std::io::Result<()> {
    let base = ground.work.join("base");
    fs::create_dir(&base)?;
    fs::create_dir(ground.work.join("bundles"))?;
    let image = std::env::var_os("RSRUN_ROOTFS").map(|dir| Path::new(&dir).join("bin/busybox"));
    let places = image
        .into_iter()
        .chain(["/usr/bin/busybox".into(), "/bin/busybox".into()]);
    let busybox = places.into_iter().find(|p| p.exists());
    let busybox =
        busybox.ok_or_else(|| std::io::Error::other("no busybox, install busybox-static"))?;
    fs::copy(busybox, base.join("busybox"))?;
    // In the suite's own binary: it may run where nothing of the build is.
    let probe = base.join("probe");
    fs::write(&probe, include_bytes!(env!("RSRUN_PROBE")))?;
    fs::set_permissions(&probe, fs::Permissions::from_mode(0o755))
}

/// A directory with a root file system and a config.json that a case changes.
///
/// Dropping it force-deletes the container and removes the directory.
pub struct Bundle<'g> {
    /// Where config.json lies.
    pub dir: PathBuf,
    /// The container's id.
    pub id: String,
    /// What config.json will hold.
    pub spec: Value,
    ground: &'g Ground,
}

impl<'g> Bundle<'g> {
    pub(crate) fn new(ground: &'g Ground, id: String) -> Self {
        let dir = ground.work.join("bundles").join(&id);
        lay_out_rootfs(&ground.work.join("base"), &dir.join("rootfs")).expect("a root file system");
        let spec = base_spec(&format!("/{}/{id}", ground.prefix));
        Self {
            dir,
            id,
            spec,
            ground,
        }
    }

    /// The container's root file system on the host.
    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path.trim_start_matches('/'))
    }

    /// The container's cgroup on the host.
    pub fn cgroup(&self, file: &str) -> PathBuf {
        self.ground.cgroup_dir(&self.id).join(file)
    }

    /// The text of a file of its cgroup, without the line's end.
    #[track_caller]
    pub fn cgroup_file(&self, file: &str) -> String {
        let path = self.cgroup(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim_end().to_string()
    }

    /// Sets a place of the spec by JSON pointer; `-` appends, and what is missing on the way is made.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        *place(&mut self.spec, pointer) = value;
        self
    }

    /// Takes a member out of the spec.
    pub fn remove(&mut self, pointer: &str) -> &mut Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        if let Some(map) = self.spec.pointer_mut(parent).and_then(Value::as_object_mut) {
            map.remove(name);
        }
        self
    }

    /// What the container executes.
    pub fn args(&mut self, args: &[&str]) -> &mut Self {
        self.set("/process/args", json!(args))
    }

    /// A shell line to execute.
    pub fn shell(&mut self, line: &str) -> &mut Self {
        self.args(&["/bin/sh", "-c", line])
    }

    /// Another mount, after the others.
    pub fn mount(
        &mut self,
        destination: &str,
        kind: &str,
        source: &str,
        options: &[&str],
    ) -> &mut Self {
        self.set(
            "/mounts/-",
            json!({"destination": destination, "type": kind, "source": source, "options": options}),
        )
    }

    /// The namespaces of the spec, new ones.
    pub fn namespaces(&mut self, kinds: &[&str]) -> &mut Self {
        let list: Vec<Value> = kinds.iter().map(|k| json!({"type": k})).collect();
        self.set("/linux/namespaces", Value::Array(list))
    }

    /// Joins an existing namespace, in place of a new one of that type.
    pub fn join(&mut self, kind: &str, path: &str) -> &mut Self {
        let list = self
            .spec
            .pointer_mut("/linux/namespaces")
            .and_then(Value::as_array_mut)
            .expect("namespaces");
        list.retain(|n| n["type"] != kind);
        list.push(json!({"type": kind, "path": path}));
        self
    }

    /// A new user namespace with these ranges (inside, on the host, count) for users and groups; the root file
    /// system belongs to the first range's root.
    pub fn user_namespace(&mut self, ranges: &[(u32, u32, u32)]) -> &mut Self {
        let map = ranges.iter().map(
            |(inside, host, size)| json!({"containerID": inside, "hostID": host, "size": size}),
        );
        let map = Value::Array(map.collect());
        self.set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map);
        self.set("/linux/namespaces/-", json!({"type": "user"}));
        chown_tree(&self.dir.join("rootfs"), ranges[0].1);
        self
    }

    /// Writes config.json.
    pub fn write(&self) {
        let text = serde_json::to_string_pretty(&self.spec).expect("a spec");
        fs::write(self.dir.join("config.json"), text).expect("config.json");
    }

    /// Calls the runtime with a verb, `--bundle` and more options, then the id.
    pub fn call(&self, verb: &str, options: &[&str]) -> Output {
        let bundle = self.dir.to_string_lossy();
        let mut args = vec![verb, "--bundle", &bundle];
        args.extend(options);
        args.push(&self.id);
        self.runtime().call(args)
    }

    /// Calls the runtime with a verb, options, the id and what follows it.
    pub fn on(&self, verb: &[&str], after: &[&str]) -> Output {
        self.runtime().call(
            verb.iter()
                .copied()
                .chain([self.id.as_str()])
                .chain(after.iter().copied()),
        )
    }

    /// `run` in the foreground, to the end.
    pub fn run(&self) -> Output {
        self.write();
        self.call("run", &[])
    }

    /// `run` has to fail; gives its words.
    #[track_caller]
    pub fn refused(&self) -> String {
        self.run().refused()
    }

    /// Runs, and gives what it printed.
    #[track_caller]
    pub fn printed(&self) -> String {
        self.run().ok().stdout.trim_end().to_string()
    }

    /// Runs the probe in it and gives what it saw.
    #[track_caller]
    pub fn facts(&mut self) -> Facts {
        self.args(&["/bin/probe", "facts"]);
        Facts::parse(&self.printed())
    }

    /// Runs the probe in it with a verb and arguments; gives its answer.
    #[track_caller]
    pub fn probe(&mut self, args: &[&str]) -> Value {
        let all: Vec<&str> = ["/bin/probe"].iter().chain(args).copied().collect();
        self.args(&all);
        let text = self.printed();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("the probe printed {text:?}: {e}"))
    }

    /// `run --detach` of a process that waits; gives its pid.
    #[track_caller]
    pub fn hold(&mut self) -> Pid {
        self.args(&["/bin/probe", "hold"]);
        let out = self.dir.join("held");
        self.write();
        let mut command = self.runtime().command(["run", "--detach", "--bundle"]);
        command
            .arg(&self.dir)
            .arg("--pid-file")
            .arg(self.dir.join("pid"))
            .arg(&self.id);
        crate::cli::runtime::finish_into(command, &out, &self.runtime().root).ok();
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::read_to_string(&out).unwrap_or_default() != "holding\n" {
            assert!(Instant::now() < deadline, "the probe does not hold");
            std::thread::sleep(Duration::from_millis(2));
        }
        fs::remove_file(&out).expect("the output goes");
        self.take_pid()
    }

    #[track_caller]
    fn take_pid(&self) -> Pid {
        let file = self.dir.join("pid");
        let text = fs::read_to_string(&file).expect("a pid file");
        fs::remove_file(file).expect("the pid file goes");
        Pid::from_raw(text.trim().parse().expect("a pid"))
    }

    /// `run --detach`; gives the pid.
    #[track_caller]
    pub fn detach(&self) -> Pid {
        self.write();
        let file = self.dir.join("pid");
        self.call("run", &["--detach", "--pid-file", &file.to_string_lossy()])
            .ok();
        let text = fs::read_to_string(&file).expect("a pid file");
        fs::remove_file(file).expect("the pid file goes");
        Pid::from_raw(text.trim().parse().expect("a pid"))
    }

    /// `run --detach` with stdout into a file of its own.
    #[track_caller]
    pub fn detach_into(&self, file: &Path) {
        self.write();
        let mut command = self.runtime().command(["run", "--detach", "--bundle"]);
        command.arg(&self.dir).arg(&self.id);
        crate::cli::runtime::finish_into(command, file, &self.runtime().root).ok();
    }

    /// `exec` of the probe in a running container; gives what it saw.
    #[track_caller]
    pub fn exec_facts(&self, options: &[&str]) -> Facts {
        let verb: Vec<&str> = ["exec"].iter().chain(options).copied().collect();
        Facts::parse(&self.on(&verb, &["/bin/probe", "facts"]).ok().stdout)
    }

    /// The answer of `state`.
    #[track_caller]
    pub fn state(&self) -> Value {
        let out = self.on(&["state"], &[]).ok();
        serde_json::from_str(&out.stdout)
            .unwrap_or_else(|e| panic!("state printed {:?}: {e}", out.stdout))
    }

    /// The status that `state` tells.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"]
            .as_str()
            .unwrap_or_default()
            .to_string()
    }

    /// Waits until `state` tells this status.
    #[track_caller]
    pub fn wait_for(&self, status: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut found = self.status();
        while found != status {
            assert!(
                Instant::now() < deadline,
                "status is {found}, not {status}, after 20 s"
            );
            std::thread::sleep(Duration::from_millis(20));
            found = self.status();
        }
    }

    /// The runtime under test.
    pub fn runtime(&self) -> &'g Runtime {
        &self.ground.runtime
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        // A pid namespace does not end while one of its dead waits for us.
        oracle::reap();
        if self.runtime().root.join(&self.id).exists() {
            self.on(&["delete", "--force"], &[]);
        }
        oracle::reap();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Waits for an adopted process, gives its exit code or 128 + signal.
#[track_caller]
pub fn wait_exit(pid: Pid) -> i32 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return code,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
            Ok(_) => {}
            Err(e) => panic!("process {pid} is not ours: {e}"),
        }
        assert!(Instant::now() < deadline, "process {pid} lives after 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn place<'v>(root: &'v mut Value, pointer: &str) -> &'v mut Value {
    pointer.split('/').skip(1).fold(root, |value, token| {
        if token == "-" || value.is_array() {
            if value.is_null() {
                *value = json!([]);
            }
            let list = value.as_array_mut().expect("an array");
            let index = token.parse().unwrap_or(list.len());
            if index == list.len() {
                list.push(Value::Null);
            }
            return &mut list[index];
        }
        if value.is_null() {
            *value = json!({});
        }
        let name = token.replace("~1", "/").replace("~0", "~");
        value
            .as_object_mut()
            .expect("an object")
            .entry(name)
            .or_insert(Value::Null)
    })
}

/// Every directory and link to a new owner; the files are hard links that all bundles share.
fn chown_tree(dir: &Path, owner: u32) {
    std::os::unix::fs::chown(dir, Some(owner), Some(owner)).expect("a directory's owner");
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            chown_tree(&entry.path(), owner);
        }
    }
}

fn lay_out_rootfs(base: &Path, rootfs: &Path) -> std::io::Result<()> {
    for dir in ["bin", "etc", "proc", "dev", "sys", "tmp", "root"] {
        fs::create_dir_all(rootfs.join(dir))?;
    }
    fs::hard_link(base.join("busybox"), rootfs.join("bin/busybox"))?;
    fs::hard_link(base.join("probe"), rootfs.join("bin/probe"))?;
    for applet in APPLETS {
        symlink("busybox", rootfs.join("bin").join(applet))?;
    }
    fs::write(
        rootfs.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n",
    )?;
    fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n")
}

/// A plain container: every namespace but user and time, no limits, three capabilities.
fn base_spec(cgroup: &str) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin", "HOME=/root"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs"},
        "hostname": "inside",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}
            ]
        }
    })
}
