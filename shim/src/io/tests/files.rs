//! Output into files.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tokio::sync::watch;

use super::*;
use crate::io::file::{self, Source};
use crate::io::life::Life;
use crate::io::meter::{Meter, Phase};
use crate::io::stdio::Kept;
use crate::io::{Drained, Stdio};

fn to_file(path: &Path) -> Request {
    Request {
        stdout: format!("file://{}", path.display()),
        stderr: format!("file://{}", path.display()),
        ..request()
    }
}

#[tokio::test]
async fn both_streams_are_appended_to_one_file_that_is_made_with_its_parents() {
    let dir = Dir::new();
    let path = dir.join("a/b/log");
    for round in 1..=2 {
        let (stdio, streams) = Stdio::prepare(&to_file(&path), &no_logger()).await.unwrap();
        stdio.start_copy().unwrap();
        let writers = [
            lines(streams.stdout.unwrap(), "out"),
            lines(streams.stderr.unwrap(), "err"),
        ];
        for writer in writers {
            joined(writer).await;
        }
        assert_eq!(stdio.drain(limits(500, 5000)).await, Drained::Complete);
        stdio.force_close().await;
        let text = fs::read_to_string(&path).unwrap();
        for name in ["out", "err"] {
            let count = text.lines().filter(|line| *line == name).count();
            assert_eq!(count, round * 20_000, "{name}");
        }
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o644);
    assert_eq!(mode(&dir.join("a/b")), 0o755);
    assert_eq!(dir.descriptors(), 0);
}

/// Whole lines at once, none longer than what a write keeps together.
fn lines(fd: OwnedFd, word: &'static str) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut file = File::from(fd);
        for _ in 0..20_000 {
            file.write_all(format!("{word}\n").as_bytes()).unwrap();
        }
    })
}

#[tokio::test]
async fn a_file_that_log_rotation_truncates_gets_no_hole() {
    let dir = Dir::new();
    let path = dir.join("log");
    let (stdio, streams) = Stdio::prepare(&to_file(&path), &no_logger()).await.unwrap();
    stdio.start_copy().unwrap();
    let mut process = File::from(streams.stdout.unwrap());
    drop(streams.stderr);
    process.write_all(b"before\n").unwrap();
    while fs::metadata(&path).unwrap().len() < 7 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    process.write_all(b"after\n").unwrap();
    drop(process);
    assert_eq!(stdio.drain(limits(500, 5000)).await, Drained::Complete);
    assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");
}

#[tokio::test]
async fn a_terminal_can_go_to_a_file_too() {
    let dir = Dir::new();
    let path = dir.join("log");
    let request = Request {
        terminal: true,
        ..to_file(&path)
    };
    let (stdio, _) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    let pty = nix::pty::openpty(None, None).unwrap();
    stdio.attach_console(pty.master).unwrap();
    stdio.start_copy().unwrap();
    let mut process = File::from(pty.slave);
    process.write_all(b"hello\n").unwrap();
    // Somebody still has it open.
    stdio.exited();
    assert_eq!(stdio.drain(limits(500, 5000)).await, Drained::Complete);
    assert_eq!(fs::read_to_string(&path).unwrap(), "hello\r\n");
    stdio.force_close().await;
    assert!(process.write_all(b"x").is_err(), "the master is closed");
}

#[tokio::test]
async fn a_full_disk_loses_output_and_blocks_nobody() {
    let life = Arc::new(Life::new().unwrap());
    let meter = Meter::new("stdout", watch::Sender::new(0));
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    crate::io::relay::set_nonblocking(&read).unwrap();
    let full = File::options().append(true).open("/dev/full").unwrap();
    let source = Source {
        fd: read,
        meter: meter.clone(),
        terminal: false,
        kept: Kept::default(),
    };
    file::spawn("box".into(), full, vec![source], life).unwrap();
    joined(write_pattern(write, 1 << 20, 4096)).await;
    while meter.phase().0 != Phase::Ended {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!((meter.copied(), meter.lost()), (0, 1 << 20));
}

#[tokio::test]
async fn links_and_places_that_the_host_obeys_are_refused() {
    let dir = Dir::new();
    let victim = dir.join("victim");
    fs::write(&victim, "").unwrap();
    let link = dir.join("link");
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    let out = dir.join("out");
    std::os::unix::fs::symlink("/etc", &out).unwrap();
    for (path, reason) in [
        (link.clone(), "symbolic link"),
        (
            out.join("cron.d/rsrun-test"),
            "may not be written to /etc/cron.d/rsrun-test",
        ),
        (
            out.join("rsrun-test/new"),
            "may not be written to /etc/rsrun-test/new",
        ),
        ("/etc/cron.d/rsrun-test".into(), "may not be written"),
        (dir.join("victim/x"), "not a directory"),
    ] {
        let error = Stdio::prepare(&to_file(&path), &no_logger())
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(reason), "{}: {error}", path.display());
    }
    assert!(!Path::new("/etc/cron.d/rsrun-test").exists());
    assert!(!Path::new("/etc/rsrun-test").exists());
    let fifo = dir.fifo("fifo");
    assert!(
        Stdio::prepare(&to_file(fifo.as_ref()), &no_logger())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_left_over_process_does_not_keep_the_thread_of_a_file() {
    let dir = Dir::new();
    let (stdio, streams) = Stdio::prepare(&to_file(&dir.join("log")), &no_logger())
        .await
        .unwrap();
    stdio.start_copy().unwrap();
    stdio.exited();
    assert!(matches!(
        stdio.drain(limits(100, 1000)).await,
        Drained::Unfinished(_)
    ));
    stdio.force_close().await;
    assert!(stdio.is_idle());
    assert_eq!(dir.descriptors(), 0);
    drop(streams);
}
