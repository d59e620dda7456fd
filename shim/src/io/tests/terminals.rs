//! Streams of a terminal.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};

use super::*;
use crate::io::{Drained, Stdio};

/// What an exec prints in containerd's test of large output.
const NUMBERS: usize = 1_000_000;

fn terminal() -> (OwnedFd, OwnedFd) {
    let pty = openpty(None, None).unwrap();
    let mut raw = tcgetattr(&pty.slave).unwrap();
    raw.output_flags.remove(OutputFlags::OPOST);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &raw).unwrap();
    (pty.master, pty.slave)
}

fn numbers(slave: OwnedFd) -> JoinHandle<OwnedFd> {
    std::thread::spawn(move || {
        let mut out = std::io::BufWriter::new(File::from(slave));
        for number in 1..=NUMBERS {
            writeln!(out, "{number}").unwrap();
        }
        out.into_inner().unwrap().into()
    })
}

fn read_all(mut file: File) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    })
}

/// A terminal whose output goes to a fifo of `dir`: its slave, and the fifo's other end.
async fn to_a_fifo(dir: &Dir) -> (Stdio, OwnedFd, File) {
    let stdout = dir.fifo("out");
    let client = reader(&stdout);
    let request = Request {
        stdout,
        terminal: true,
        ..request()
    };
    let (stdio, streams) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    assert!(streams.stdout.is_none());
    let (master, slave) = terminal();
    stdio.attach_console(master).unwrap();
    stdio.start_copy().unwrap();
    (stdio, slave, client)
}

async fn numbers_arrive(left_open: bool) {
    let expected: String = (1..=NUMBERS).map(|n| format!("{n}\n")).collect();
    for _ in 0..10 {
        let dir = Dir::new();
        let (stdio, slave, client) = to_a_fifo(&dir).await;
        let client = read_all(client);
        let slave = joined(numbers(slave)).await;
        let slave = left_open.then_some(slave);
        stdio.exited();
        // The client sees the end before it asks for Delete.
        let text = joined(client).await;
        assert!(
            text == expected,
            "{} of {} bytes",
            text.len(),
            expected.len()
        );
        assert_eq!(stdio.drain(limits(100, 100)).await, Drained::Complete);
        drop(slave);
        stdio.force_close().await;
        assert_eq!(dir.descriptors(), 0);
    }
}

/// A client that makes room just when a full fifo refused something: what it frees is filled within some
/// microseconds, and it takes the next piece each time after another delay.
#[tokio::test]
async fn a_fifo_that_is_full_for_a_moment_stops_nothing() {
    let dir = Dir::new();
    let (stdio, slave, mut client) = to_a_fifo(&dir).await;
    let writer = numbers(slave);
    let client = std::thread::spawn(move || {
        let (mut piece, mut read) = ([0; 4096], 0);
        for delay in (0..100).cycle() {
            let from = Instant::now();
            while from.elapsed() < Duration::from_micros(delay) {
                std::hint::spin_loop();
            }
            match client.read(&mut piece).unwrap() {
                0 => break,
                count => read += count,
            }
        }
        read
    });
    let slave = tokio::time::timeout(Duration::from_secs(60), joined(writer));
    drop(slave.await.expect("the terminal stood still"));
    stdio.exited();
    assert_eq!(joined(client).await, 6_888_896);
    stdio.force_close().await;
}

#[tokio::test]
async fn seven_megabytes_arrive_complete_ten_times() {
    numbers_arrive(false).await;
}

#[tokio::test]
async fn seven_megabytes_arrive_and_end_although_the_terminal_is_left_open() {
    numbers_arrive(true).await;
}

#[tokio::test]
async fn a_terminal_that_all_have_closed_goes_on_when_it_is_opened_again() {
    let dir = Dir::new();
    let (stdio, slave, client) = to_a_fifo(&dir).await;
    let client = read_all(client);
    let name = nix::unistd::ttyname(&slave).unwrap();
    File::from(slave).write_all(b"one\n").unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Nobody has it open: no event says when that changes, and no processor is burnt for it.
    let before = sleeps();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(sleeps() - before <= 8, "{} wake-ups", sleeps() - before);
    let mut again = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(name)
        .unwrap();
    again.write_all(b"two\n").unwrap();
    drop(again);
    stdio.exited();
    assert_eq!(joined(client).await, "one\ntwo\n");
}

#[tokio::test]
async fn a_reader_that_stops_does_not_make_the_relay_spin() {
    let dir = Dir::new();
    let (stdio, slave, client) = to_a_fifo(&dir).await;
    let process = numbers(slave);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(
        stdio.describe().contains("waits for its reader"),
        "{}",
        stdio.describe()
    );
    let before = sleeps();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(sleeps() - before <= 5, "{} wake-ups", sleeps() - before);
    let read = read_all(client);
    drop(joined(process).await);
    stdio.exited();
    assert_eq!(joined(read).await.lines().count(), NUMBERS);
}

#[tokio::test]
async fn input_reaches_the_terminal_and_its_end_does_not_type_an_eot() {
    let dir = Dir::new();
    let (stdin, stdout) = (dir.fifo("in"), dir.fifo("out"));
    let client = reader(&stdout);
    let request = Request {
        stdin: stdin.clone(),
        stdout,
        terminal: true,
        ..request()
    };
    let (stdio, _) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    let client = read_all(client);
    stdio.resize(100, 40).unwrap();
    let (master, slave) = terminal();
    stdio.attach_console(master).unwrap();
    assert_eq!(size(&slave), (100, 40), "a size from before the terminal");
    stdio.start_copy().unwrap();
    stdio.resize(120, 50).unwrap();
    assert_eq!(size(&slave), (120, 50));
    let mut process = File::from(slave.try_clone().unwrap());
    let line = std::thread::spawn(move || {
        let mut line = [0; 64];
        let count = process.read(&mut line).unwrap();
        let end = process.read(&mut line[count..]);
        (
            String::from_utf8_lossy(&line[..count]).into_owned(),
            end.map_err(|error| error.raw_os_error()),
        )
    });
    let mut typed = OpenOptions::new().write(true).open(&stdin).unwrap();
    typed.write_all(b"hello\n").unwrap();
    drop(typed);
    stdio.close_stdin();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        !line.is_finished(),
        "the second read has ended: an EOT was typed"
    );
    // Output goes on after the end of input.
    File::from(slave.try_clone().unwrap())
        .write_all(b"bye\n")
        .unwrap();
    stdio.exited();
    let shown = joined(client).await;
    assert!(
        shown.contains("hello") && shown.ends_with("bye\n"),
        "{shown:?}"
    );
    stdio.force_close().await;
    // The last master is closed: the process gets a hang-up.
    let (text, end) = joined(line).await;
    assert_eq!((text.as_str(), end), ("hello\n", Err(Some(libc::EIO))));
    assert_eq!(dir.descriptors(), 0);
}

#[tokio::test]
async fn output_that_nobody_asked_for_does_not_block_the_process() {
    let request = Request {
        terminal: true,
        ..request()
    };
    let (stdio, _) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    let (master, slave) = terminal();
    stdio.attach_console(master).unwrap();
    stdio.start_copy().unwrap();
    drop(joined(numbers(slave)).await);
    stdio.exited();
    assert_eq!(stdio.drain(limits(100, 1000)).await, Drained::Complete);
}

fn size(slave: &OwnedFd) -> (u16, u16) {
    use std::os::fd::AsFd;
    rsrun_core::sys::terminal::window_size(slave.as_fd()).unwrap()
}
