//! Which runc-compatible program is under test, and how is it called?
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// No call of a runtime takes longer, in the emulated machine either.
const LIMIT: Duration = Duration::from_secs(120);

/// The program under test.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Where it is.
    pub path: PathBuf,
    /// Second to last word of the first line of `--version`.
    pub version: String,
    /// `Some` where it is runc: major and minor.
    pub runc: Option<(u32, u32)>,
    /// Its `--root`.
    pub root: PathBuf,
}

/// What a call printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Output {
    /// The call has to have ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(
            self.code == 0,
            "exit code {}: {}{}",
            self.code,
            self.stderr,
            self.stdout
        );
        self
    }

    /// The call has to have failed with words on stderr; gives them.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(self.code != 0, "was accepted, stdout: {}", self.stdout);
        assert!(
            !self.stderr.trim().is_empty(),
            "failed with {} and no word on stderr",
            self.code
        );
        assert!(
            !self.stderr.contains("panicked at"),
            "a panic: {}",
            self.stderr
        );
        self.stderr
    }
}

impl Runtime {
    /// From `RSRUN_TEST_CLI`, or `RSRUN_BIN` and `rsrun` in it.
    pub fn find(root: &Path) -> Result<Self, String> {
        let path = std::env::var_os("RSRUN_TEST_CLI").map(PathBuf::from);
        let path = path.unwrap_or_else(|| crate::places::Places::find().bin.join("rsrun"));
        let out = Command::new(&path).arg("--version").output().map_err(|e| {
            format!(
                "needs a runtime to test, {} does not start: {e}",
                path.display()
            )
        })?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let first = text.lines().next().unwrap_or_default().to_string();
        let version = first.rsplit(' ').next().unwrap_or_default().to_string();
        let numbers: Vec<u32> = version.split('.').map_while(|n| n.parse().ok()).collect();
        let runc = match numbers.as_slice() {
            [major, minor, ..] if first.starts_with("runc") => Some((*major, *minor)),
            _ => None,
        };
        Ok(Self {
            path,
            version: first,
            runc,
            root: root.to_path_buf(),
        })
    }

    /// A command line with `--root`, not started yet.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.finish_line(Command::new(&self.path), args)
    }

    /// The same as the last words of a shell's line that begins with `prologue`, as `umask 077; exec`.
    pub fn command_after<S: AsRef<std::ffi::OsStr>>(
        &self,
        prologue: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("{prologue} \"$@\""), "sh"]);
        shell.arg(&self.path);
        self.finish_line(shell, args)
    }

    fn finish_line<S: AsRef<std::ffi::OsStr>>(
        &self,
        mut command: Command,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        command
            .arg("--root")
            .arg(&self.root)
            .args(args)
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs it to its end.
    pub fn call<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        finish(self.command(args), &self.root)
    }
}

/// Runs a command to its end, output through files: a pipe would stay open as long as a detached container lives.
#[track_caller]
pub fn finish(command: Command, root: &Path) -> Output {
    let out = root.with_file_name("stdout");
    let output = finish_into(command, &out, root);
    // A detached container may go on writing: never into the next call's file.
    std::fs::remove_file(out).expect("the stdout file goes");
    output
}

/// The same with a file of one's own for stdout, which a detached container goes on writing.
#[track_caller]
pub fn finish_into(mut command: Command, out: &Path, root: &Path) -> Output {
    let err = root.with_file_name("stderr");
    let started = Instant::now();
    let child = command
        .stdout(File::create(out).expect("stdout file"))
        .stderr(File::create(&err).expect("stderr file"))
        .spawn()
        .unwrap_or_else(|e| panic!("{:?} does not start: {e}", command.get_program()));
    let code = wait_at_most(child, LIMIT);
    let took = started.elapsed();
    let read = |path: &Path| {
        String::from_utf8_lossy(&std::fs::read(path).expect("output file")).into_owned()
    };
    let output = Output {
        code: code.unwrap_or(-1),
        stdout: read(out),
        stderr: read(&err),
        took,
    };
    std::fs::remove_file(&err).expect("the stderr file goes");
    assert!(
        code.is_some(),
        "{command:?} did not end in {LIMIT:?}: {}{}",
        output.stderr,
        output.stdout
    );
    output
}

/// Exit code, or `None` where the process had to be killed.
pub fn wait_at_most(mut child: Child, limit: Duration) -> Option<i32> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let (tell, told) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let status = child.wait();
        let _ = tell.send(status);
    });
    let status = match told.recv_timeout(limit) {
        Ok(status) => Some(status.expect("wait")),
        Err(_) => {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            None
        }
    };
    waiter.join().expect("the waiting thread");
    use std::os::unix::process::ExitStatusExt;
    status.map(|s| s.code().unwrap_or_else(|| 128 + s.signal().unwrap_or(0)))
}
