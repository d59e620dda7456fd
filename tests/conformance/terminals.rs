//! Is a terminal handed over, sized, owned and controlled as asked?
use nix::pty::{OpenptyResult, Winsize, openpty};
use rsrun_tests::cli::bundle::{Bundle, wait_exit};
use rsrun_tests::cli::facts::Facts;
use rsrun_tests::cli::ground::Ground;
use rsrun_tests::cli::runtime::{Output, finish, wait_at_most};
use rsrun_tests::cli::sockets::receive_fd;
use rsrun_tests::cli::suite::Suite;
use serde_json::json;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where a runtime sends a master side.
struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    fn new(b: &Bundle<'_>) -> Self {
        let path = b.dir.join("console");
        Self {
            listener: UnixListener::bind(&path).expect("a socket"),
            path,
        }
    }

    fn take(self) -> (String, OwnedFd) {
        let (stream, _) = self.listener.accept().expect("the runtime connects");
        let (name, fd) = receive_fd(&stream).expect("a master side");
        std::fs::remove_file(self.path).expect("the socket goes");
        (String::from_utf8_lossy(&name).into_owned(), fd)
    }
}

/// The runtime in a session without a terminal, with pipes and files for streams.
#[track_caller]
fn in_own_session(g: &Ground, args: &[&str]) -> Output {
    let runtime = g.runtime.command(args);
    let mut command = Command::new("setsid");
    command
        .args(["--wait"])
        .arg(runtime.get_program())
        .args(runtime.get_args())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null());
    finish(command, &g.runtime.root)
}

/// Everything a terminal shows until the other side is closed.
fn read_all(master: OwnedFd) -> String {
    let mut text = Vec::new();
    let mut file = File::from(master);
    let mut buffer = [0u8; 4096];
    // EIO is the end of a terminal.
    while let Ok(n @ 1..) = file.read(&mut buffer) {
        text.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&text).replace("\r\n", "\n")
}

/// `run --detach --console-socket`, and what the terminal showed until the end.
fn on_terminal(b: &mut Bundle<'_>) -> String {
    b.set("/process/terminal", json!(true));
    let socket = ConsoleSocket::new(b);
    b.write();
    let console = socket.path.to_string_lossy().into_owned();
    b.call("run", &["--detach", "--console-socket", &console])
        .ok();
    read_all(socket.take().1)
}

pub(crate) fn cases(suite: &mut Suite) {
    sent(suite);
    owned(suite);
    foreground(suite);
    refused(suite);
}

fn sent(suite: &mut Suite) {
    suite.case(
        "a_terminal_is_sent_over_the_console_socket_with_its_name",
        |g| {
            let mut b = g.bundle();
            b.set("/process/terminal", json!(true)).args(&["/bin/tty"]);
            let socket = ConsoleSocket::new(&b);
            b.write();
            let console = socket.path.to_string_lossy().into_owned();
            b.call("run", &["--detach", "--console-socket", &console])
                .ok();
            let (name, master) = socket.take();
            assert_eq!(read_all(master).trim(), "/dev/pts/0");
            assert!(
                name.starts_with('/') && name.len() < 4096,
                "the message says {name:?}"
            );
            Ok(())
        },
    );
    suite.case(
        "the_terminal_is_stdin_stdout_stderr_and_controls_the_session",
        |g| {
            let mut b = g.bundle();
            b.args(&["/bin/probe", "facts"]);
            let facts = Facts::parse(&on_terminal(&mut b));
            assert_eq!(facts.at("/tty/controlling"), true);
            for fd in ["0", "1", "2"] {
                assert_eq!(facts.at("/fds")[fd], "/dev/pts/0", "{fd}");
            }
            assert_eq!(
                facts.at("/fds").as_object().map(serde_json::Map::len),
                Some(4)
            );
            Ok(())
        },
    );
    suite.case("the_terminal_has_the_size_of_the_spec", |g| {
        let mut b = g.bundle();
        b.set("/process/consoleSize", json!({"height": 33, "width": 101}))
            .args(&["/bin/stty", "size"]);
        assert_eq!(on_terminal(&mut b).trim(), "33 101");
        Ok(())
    });
    suite.case("dev_console_is_the_terminal", |g| {
        let mut b = g.bundle();
        b.shell("echo written > /dev/console; stat -c %t:%T /dev/console /dev/pts/0");
        let text = on_terminal(&mut b);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "written");
        assert_eq!(lines[1], lines[2]);
        Ok(())
    });
    suite.case(
        "what_is_typed_reaches_the_process_and_control_c_its_group",
        |g| {
            let mut b = g.bundle();
            b.set("/process/terminal", json!(true)).shell(
                "trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 0.05; done",
            );
            let socket = ConsoleSocket::new(&b);
            let path = socket.path.to_string_lossy().into_owned();
            b.write();
            let pid_file = b.dir.join("pid");
            b.call(
                "run",
                &[
                    "--detach",
                    "--console-socket",
                    &path,
                    "--pid-file",
                    &pid_file.to_string_lossy(),
                ],
            )
            .ok();
            let pid = std::fs::read_to_string(&pid_file)
                .expect("a pid file")
                .trim()
                .parse()
                .expect("a pid");
            let mut master = File::from(socket.take().1);
            let mut seen = String::new();
            let mut buffer = [0u8; 256];
            while !seen.contains("ready") {
                let n = master.read(&mut buffer).expect("output");
                seen += &String::from_utf8_lossy(&buffer[..n]);
            }
            master.write_all(&[3]).expect("a key");
            assert!(read_all(OwnedFd::from(master)).contains("interrupted"));
            assert_eq!(wait_exit(nix::unistd::Pid::from_raw(pid)), 7);
            Ok(())
        },
    );
    suite.case(
        "a_foreground_exec_ends_with_its_process_though_its_terminal_is_held",
        |g| {
            let mut b = g.bundle();
            b.hold();
            let pty = openpty(None, None).expect("a terminal");
            let line = "setsid sleep 60 & echo last words; exit 3";
            let command = b
                .runtime()
                .command(["exec", "-t", &b.id, "/bin/sh", "-c", line]);
            let (child, master) = on_pty(command, pty);
            let began = Instant::now();
            let code = wait_at_most(child, LONG);
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{:?}",
                began.elapsed()
            );
            let text = read_all(OwnedFd::from(master));
            assert_eq!(code, Some(3), "{text}");
            assert!(text.contains("last words"), "{text}");
            Ok(())
        },
    );
    suite.case("a_foreground_run_carries_more_than_is_read_in_both_directions", |g| {
        let mut b = g.bundle();
        b.set("/process/terminal", json!(true)).shell(
            "stty raw -echo; echo ready; head -c 400000 /dev/zero | tr '\\0' x; head -c 200000 | wc -c",
        );
        b.write();
        let mut command = b.runtime().command(["run", "--bundle"]);
        command.arg(&b.dir).arg(&b.id);
        let (child, mut master) = on_pty(command, openpty(None, None).expect("a terminal"));
        let mut text = String::new();
        while !text.contains("ready") {
            let mut buffer = [0; 64];
            let length = master.read(&mut buffer).expect("the container speaks");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        let mut typing = master.try_clone().expect("a copy");
        let typist = std::thread::spawn(move || typing.write_all(&vec![b'y'; 200_000]));
        text.push_str(&read_all(OwnedFd::from(master)));
        assert_eq!(wait_at_most(child, LONG), Some(0));
        typist.join().expect("no panic").expect("all is taken");
        assert_eq!(text.matches('x').count(), 400_000);
        assert!(text.trim_end().ends_with("200000"));
        Ok(())
    });
}

const LONG: Duration = Duration::from_secs(60);

/// The runtime with a terminal as its streams, and the other side of that.
fn on_pty(mut command: Command, pty: OpenptyResult) -> (Child, File) {
    let side = || Stdio::from(pty.slave.try_clone().expect("a copy"));
    command.stdin(side()).stdout(side()).stderr(side());
    let child = command.spawn().expect("the runtime starts");
    // The command's copies of the slave side go with it: without them the terminal ends.
    (child, File::from(pty.master))
}

fn owned(suite: &mut Suite) {
    suite.case("the_terminal_belongs_to_the_user_of_the_process", |g| {
        let mut b = g.bundle();
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .shell("stat -c '%u %g %a' /dev/pts/0; echo > /dev/tty && echo open");
        let text = on_terminal(&mut b);
        let lines: Vec<&str> = text.lines().filter(|l| !l.is_empty()).collect();
        assert_eq!(lines, ["1000 5 620", "open"]);
        Ok(())
    });
    suite.case("a_terminal_works_in_a_user_namespace", |g| {
        let mut b = g.bundle();
        b.user_namespace(&[(0, 100_000, 65_536)])
            .args(&["/bin/tty"]);
        assert_eq!(on_terminal(&mut b).trim(), "/dev/pts/0");
        Ok(())
    });
    suite.case("an_exec_gets_a_terminal_of_its_own", |g| {
        let mut b = g.bundle();
        b.hold();
        let socket = ConsoleSocket::new(&b);
        let path = socket.path.to_string_lossy().into_owned();
        b.on(
            &["exec", "--tty", "--detach", "--console-socket", &path],
            &["/bin/probe", "facts"],
        )
        .ok();
        let facts = Facts::parse(&read_all(socket.take().1));
        assert_eq!(
            (facts.at("/tty/controlling"), facts.at("/tty/name")),
            (&json!(true), &json!("/dev/pts/0"))
        );
        Ok(())
    });
    suite.case("a_container_without_a_terminal_has_no_console", |g| {
        let mut b = g.bundle();
        assert_eq!(b.probe(&["stat", "/dev/console"]), json!([-2]));
        Ok(())
    });
}

fn foreground(suite: &mut Suite) {
    suite.case(
        "a_foreground_run_carries_its_own_terminal_and_the_exit_code",
        |g| {
            g.since_runc(1, 2, "the size before the program runs")?;
            let mut b = g.bundle();
            b.set("/process/terminal", json!(true))
                .shell("stty size; read line; echo got $line; exit 5");
            b.write();
            let size = Winsize {
                ws_row: 21,
                ws_col: 77,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let pty = openpty(&size, None).expect("a terminal");
            let mut command = b.runtime().command(["run", "--bundle"]);
            command.arg(&b.dir).arg(&b.id);
            let (child, mut master) = on_pty(command, pty);
            master.write_all(b"typed\n").expect("a line");
            let code = wait_at_most(child, LONG);
            let text = read_all(OwnedFd::from(master));
            assert_eq!(code, Some(5), "{text}");
            assert!(
                text.contains("21 77") && text.contains("got typed"),
                "{text}"
            );
            Ok(())
        },
    );
}

fn refused(suite: &mut Suite) {
    suite.case(
        "create_with_a_terminal_and_no_console_socket_is_refused",
        |g| {
            let mut b = g.bundle();
            b.set("/process/terminal", json!(true)).write();
            assert!(b.call("create", &[]).refused().contains("console"));
            Ok(())
        },
    );
    suite.case(
        "a_terminal_that_has_nowhere_to_go_is_refused_before_anything_is_made",
        |g| {
            let mut b = g.bundle();
            b.set("/process/terminal", json!(true)).write();
            let refused = |verb: &str, options: &[&str], why: &str| {
                let said = b.call(verb, options).refused();
                assert!(said.contains(why), "{verb} {options:?}: {said}");
                assert!(
                    b.on(&["state"], &[]).code != 0,
                    "{verb} {options:?} left a container"
                );
            };
            refused("run", &["--detach"], "without setting console socket");
            let unused = ["--console-socket", "/no/such/socket"];
            refused("run", &unused, "cannot use console socket if");
            // Without a session of its own it would find the terminal that the suite may have.
            let (dir, id) = (b.dir.to_string_lossy(), b.id.as_str());
            let said = in_own_session(g, &["run", "--bundle", &dir, id]).refused();
            assert!(said.contains("/dev/tty"), "{said}");
            Ok(())
        },
    );
    suite.case(
        "an_exec_s_terminal_that_has_nowhere_to_go_is_refused",
        |g| {
            let mut b = g.bundle();
            b.hold();
            let refused = |options: &[&str], why: &str| {
                let verb: Vec<&str> = [&["exec"], options].concat();
                let said = b.on(&verb, &["/bin/true"]).refused();
                assert!(said.contains(why), "{options:?}: {said}");
            };
            refused(&["--tty", "--detach"], "without setting console socket");
            let unused = ["--tty", "--console-socket", "/no/such/socket"];
            refused(&unused, "cannot use console socket if");
            refused(&unused[1..], "cannot use console socket if");
            let said = in_own_session(g, &["exec", "--tty", &b.id, "/bin/true"]).refused();
            assert!(said.contains("/dev/tty"), "{said}");
            Ok(())
        },
    );
    suite.case("a_console_socket_without_a_terminal_is_refused", |g| {
        let b = g.bundle();
        b.write();
        let socket = ConsoleSocket::new(&b);
        let path = socket.path.to_string_lossy().into_owned();
        assert!(
            b.call("create", &["--console-socket", &path])
                .refused()
                .contains("console")
        );
        Ok(())
    });
    suite.case("a_console_socket_that_nobody_serves_is_refused", |g| {
        let mut b = g.bundle();
        b.set("/process/terminal", json!(true)).write();
        b.call("create", &["--console-socket", "/no/such/socket"])
            .refused();
        Ok(())
    });
}
