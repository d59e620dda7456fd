//! Streams without a terminal between pipes and fifos.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use rsrun_core::ErrorKind;

use super::*;
use crate::io::fifo;
use crate::io::{Drained, Stdio};

const MB: usize = 1 << 20;

#[tokio::test]
async fn all_bytes_of_both_streams_arrive() {
    through(64 * MB, 1 << 16).await;
}

#[tokio::test]
async fn all_bytes_of_short_writes_arrive() {
    through(MB / 4, 1).await;
}

#[tokio::test]
#[ignore = "a minute: 1 GB per stream"]
async fn a_gigabyte_of_both_streams_arrives() {
    through(1024 * MB, 1 << 20).await;
}

async fn through(total: usize, piece: usize) {
    let dir = Dir::new();
    let (stdout, stderr) = (dir.fifo("out"), dir.fifo("err"));
    let readers = [reader(&stdout), reader(&stderr)];
    let request = Request {
        stdout,
        stderr,
        ..request()
    };
    let (stdio, streams) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    assert!(streams.stdin.is_none());
    stdio.start_copy().unwrap();
    let writers = [
        write_pattern(streams.stdout.unwrap(), total, piece),
        write_pattern(streams.stderr.unwrap(), total / 2, piece),
    ];
    let readers = readers.map(digest_of);
    for (writer, reader) in writers.into_iter().zip(readers) {
        let written = joined(writer).await;
        assert_eq!(joined(reader).await, written);
    }
    assert_eq!(stdio.drain(limits(100, 1000)).await, Drained::Complete);
    assert!(stdio.is_idle());
    assert!(stdio.describe().contains(&format!("{total} bytes copied")));
    stdio.force_close().await;
    assert_eq!(dir.descriptors(), 0);
}

#[tokio::test]
async fn a_slow_reader_delays_only_its_own_stream() {
    let dir = Dir::new();
    let (stdout, stderr) = (dir.fifo("out"), dir.fifo("err"));
    let slow = reader(&stdout);
    let fast = reader(&stderr);
    let request = Request {
        stdout,
        stderr,
        ..request()
    };
    let (stdio, streams) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    stdio.start_copy().unwrap();
    let fast = digest_of(fast);
    let blocked = write_pattern(streams.stdout.unwrap(), 8 * MB, 4096);
    let free = write_pattern(streams.stderr.unwrap(), 8 * MB, 4096);
    let written = joined(free).await;
    assert_eq!(joined(fast).await, written);
    assert!(!blocked.is_finished());
    assert!(stdio.describe().contains("stdout waits for its reader"));

    // Nobody is woken while nothing moves.
    let before = sleeps();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(sleeps() - before <= 5, "{} wake-ups", sleeps() - before);

    let read = digest_of(slow);
    assert_eq!(joined(blocked).await, joined(read).await);
}

#[tokio::test]
async fn a_reader_that_goes_and_comes_back_has_lost_nothing() {
    let dir = Dir::new();
    let stdout = dir.fifo("out");
    let mut first = reader(&stdout);
    let request = Request {
        stdout: stdout.clone(),
        ..request()
    };
    let (stdio, streams) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    assert!(streams.stderr.is_none());
    stdio.start_copy().unwrap();
    let writer = write_pattern(streams.stdout.unwrap(), 4 * MB, 1000);
    let mut head = vec![0; 100_000];
    first = tokio_read_exact(first, &mut head).await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!writer.is_finished(), "nothing waits for the reader");
    let mut again = reader(&stdout);
    let tail = std::thread::spawn(move || {
        let mut tail = Vec::new();
        again.read_to_end(&mut tail).unwrap();
        tail
    });
    let (count, digest) = joined(writer).await;
    let tail = joined(tail).await;
    assert_eq!(head.len() + tail.len(), count);
    let read: [u8; 32] = Sha256::new()
        .chain_update(&head)
        .chain_update(&tail)
        .finalize()
        .into();
    assert_eq!(read, digest);
}

async fn tokio_read_exact(mut file: File, into: &mut Vec<u8>) -> File {
    let size = into.len();
    let thread = std::thread::spawn(move || {
        let mut bytes = vec![0; size];
        file.read_exact(&mut bytes).unwrap();
        (file, bytes)
    });
    let (file, bytes) = joined(thread).await;
    *into = bytes;
    file
}

#[tokio::test]
async fn half_a_megabyte_of_lines_blocks_nobody_while_the_reader_is_away() {
    const LINE: &[u8] = b"a line of a log, about as long as they are\n";
    let dir = Dir::new();
    let stdout = dir.fifo("out");
    let away = reader(&stdout);
    let request = Request {
        stdout: stdout.clone(),
        ..request()
    };
    let (stdio, streams) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    stdio.start_copy().unwrap();
    drop(away);
    let mut process = File::from(streams.stdout.unwrap());
    let lines = 500_000 / LINE.len();
    let writer = std::thread::spawn(move || {
        for _ in 0..lines {
            process.write_all(LINE).unwrap();
            std::thread::yield_now();
        }
    });
    tokio::time::timeout(Duration::from_secs(20), joined(writer))
        .await
        .expect("it blocks");
    let (count, _) = joined(digest_of(reader(&stdout))).await;
    assert_eq!(count, lines * LINE.len());
}

#[tokio::test]
async fn what_was_printed_while_nobody_read_is_there_after_the_exit() {
    let dir = Dir::new();
    let stdout = dir.fifo("out");
    let first = reader(&stdout);
    let request = Request {
        stdout: stdout.clone(),
        ..request()
    };
    let (stdio, streams) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    stdio.start_copy().unwrap();
    drop(first);
    let mut process = File::from(streams.stdout.unwrap());
    process.write_all(b"last words\n").unwrap();
    drop(process);
    stdio.exited();
    while !stdio.is_idle() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(dir.descriptors(), 2, "the fifo is kept with both its ends");
    // As a client of containerd does: open(2) waits for a writer, and then for the end.
    let late = std::thread::spawn(move || std::fs::read_to_string(stdout).unwrap());
    assert_eq!(joined(late).await, "last words\n");
    assert_eq!(dir.descriptors(), 0, "the end was told by closing");
    stdio.force_close().await;
}

#[tokio::test]
async fn what_nobody_reads_is_kept_until_delete_only() {
    let dir = Dir::new();
    let stdout = dir.fifo("out");
    let first = reader(&stdout);
    let request = Request {
        stdout,
        ..request()
    };
    let (stdio, streams) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    stdio.start_copy().unwrap();
    drop(first);
    let mut process = File::from(streams.stdout.unwrap());
    process.write_all(b"unheard\n").unwrap();
    drop(process);
    assert_eq!(stdio.drain(limits(1000, 2000)).await, Drained::Complete);
    stdio.force_close().await;
    assert_eq!(dir.descriptors(), 0);
}

#[tokio::test]
async fn a_fifo_without_a_reader_is_an_error_in_time() {
    let dir = Dir::new();
    let path = dir.fifo("out");
    let within = Duration::from_millis(150);
    let began = Instant::now();
    let error = fifo::open_output("stdout", path.as_ref(), within)
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Timeout, "{error}");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(dir.descriptors(), 0);
}

#[tokio::test]
async fn a_reader_that_comes_late_is_waited_for() {
    let dir = Dir::new();
    let stdout = dir.fifo("out");
    let path = stdout.clone();
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        reader(&path)
    });
    let request = Request {
        stdout,
        ..request()
    };
    Stdio::prepare(&request, &no_logger()).await.unwrap();
    joined(late).await;
}

#[tokio::test]
async fn stdin_ends_when_it_was_closed_and_the_client_is_gone() {
    let dir = Dir::new();
    let stdin = dir.fifo("in");
    let request = Request {
        stdin: stdin.clone(),
        ..request()
    };
    let (stdio, streams) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    stdio.start_copy().unwrap();
    let mut process = File::from(streams.stdin.unwrap());
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        process.read_to_string(&mut text).unwrap();
        text
    });
    for word in ["one ", "two"] {
        // Clients come and go.
        let mut client = OpenOptions::new().write(true).open(&stdin).unwrap();
        client.write_all(word.as_bytes()).unwrap();
        drop(client);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!read.is_finished(), "the end came before CloseIO");
    stdio.close_stdin();
    stdio.close_stdin();
    assert_eq!(joined(read).await, "one two");
    stdio.force_close().await;
    assert_eq!(dir.descriptors(), 0);
}

#[tokio::test]
async fn a_client_is_told_when_the_process_has_closed_its_stdin() {
    let dir = Dir::new();
    let stdin = dir.fifo("in");
    let request = Request {
        stdin: stdin.clone(),
        ..request()
    };
    let (stdio, streams) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    stdio.start_copy().unwrap();
    drop(streams);
    let mut client = OpenOptions::new().write(true).open(&stdin).unwrap();
    let writer = std::thread::spawn(move || {
        loop {
            if let Err(error) = client.write_all(&[0; 4096]) {
                return error.kind();
            }
        }
    });
    assert_eq!(joined(writer).await, std::io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_left_over_process_with_the_pipe_holds_delete_for_the_quiet_time_only() {
    let dir = Dir::new();
    let stdout = dir.fifo("out");
    let client = reader(&stdout);
    let request = Request {
        stdout,
        ..request()
    };
    let (stdio, streams) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    stdio.start_copy().unwrap();
    let client = digest_of(client);
    let held = streams.stdout.unwrap();
    let pipe = name_of(&held);
    let process = write_pattern(held.try_clone().unwrap(), 300_000, 1000);
    let written = joined(process).await;
    stdio.exited();
    let began = Instant::now();
    let drained = stdio.drain(limits(200, 5000)).await;
    let took = began.elapsed();
    assert!(matches!(drained, Drained::Unfinished(_)), "{drained:?}");
    assert!(
        took >= Duration::from_millis(200) && took < Duration::from_secs(2),
        "{took:?}"
    );
    stdio.force_close().await;
    stdio.force_close().await;
    assert_eq!(joined(client).await, written);
    assert_eq!(ends_of(&pipe), 1, "only the left-over process has the pipe");
    assert_eq!(dir.descriptors(), 0);
}

#[tokio::test]
async fn a_create_that_is_given_up_leaves_no_descriptor() {
    let dir = Dir::new();
    let (stdin, stdout, stderr) = (dir.fifo("in"), dir.fifo("out"), dir.fifo("err"));
    let _client = reader(&stdout);
    let request = Request {
        stdin,
        stdout,
        stderr,
        ..request()
    };
    // Nobody reads stderr.
    let launch = no_logger();
    let prepare = Stdio::prepare(&request, &launch);
    let waited = tokio::time::timeout(Duration::from_millis(100), prepare).await;
    assert!(waited.is_err());
    assert_eq!(dir.descriptors(), 1, "the client's");
    let _client = reader(&request.stderr);
    let prepared = Stdio::prepare(&request, &no_logger()).await.unwrap();
    drop(prepared);
    assert_eq!(dir.descriptors(), 2, "the client's");
}

#[tokio::test]
async fn what_is_no_fifo_is_refused_before_it_is_opened() {
    let dir = Dir::new();
    let target = dir.fifo("out");
    let link = dir.join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    for (path, reason) in [
        (link.to_str().unwrap(), "symbolic link"),
        ("/dev/zero", "neither a fifo nor a file"),
        ("/tmp", "neither a fifo nor a file"),
        ("/nonexistent/fifo", "no such file"),
        ("/etc/hostname", "may not be written"),
    ] {
        let request = Request {
            stdout: path.into(),
            ..request()
        };
        let error = Stdio::prepare(&request, &no_logger())
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains(reason) && error.contains(path),
            "{path}: {error}"
        );
    }
    let request = Request {
        stdin: "/etc/hostname".into(),
        ..request()
    };
    assert!(Stdio::prepare(&request, &no_logger()).await.is_err());
}

#[tokio::test]
async fn pipes_belong_to_the_user_that_the_request_names() {
    use std::os::unix::fs::MetadataExt;
    let dir = Dir::new();
    let stdout = dir.fifo("out");
    let _client = reader(&stdout);
    if !nix::unistd::geteuid().is_root() {
        panic!("needs root");
    }
    let request = Request {
        stdout,
        io_uid: 1234,
        io_gid: 4321,
        ..request()
    };
    let (_stdio, streams) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    let stat = File::from(streams.stdout.unwrap()).metadata().unwrap();
    assert_eq!((stat.uid(), stat.gid()), (1234, 4321));
}

#[tokio::test]
#[ignore = "a measurement: prints CPU seconds per GB"]
async fn cpu_per_gigabyte_is_a_quarter_of_copying_by_four_kilobytes() {
    const TOTAL: usize = 1024 * MB;
    let plain = |piece: usize| {
        std::thread::spawn(move || {
            let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
            let (last, out) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
            let writer = zeroes(write, TOTAL);
            let reader = swallow(last.into());
            let (mut read, mut out) = (File::from(read), File::from(out));
            let mut buffer = vec![0; piece];
            let before = cpu();
            loop {
                match read.read(&mut buffer).unwrap() {
                    0 => break,
                    n => out.write_all(&buffer[..n]).unwrap(),
                }
            }
            let used = cpu() - before;
            drop(out);
            writer.join().unwrap();
            reader.join().unwrap();
            used
        })
    };
    let small = joined(plain(4096)).await;
    let large = joined(plain(65536)).await;

    let dir = Dir::new();
    let stdout = dir.fifo("out");
    let client = reader(&stdout);
    let request = Request {
        stdout,
        ..request()
    };
    let (stdio, streams) = Stdio::prepare(&request, &no_logger()).await.unwrap();
    let client = swallow(client);
    let before = cpu();
    stdio.start_copy().unwrap();
    let writer = zeroes(streams.stdout.unwrap(), TOTAL);
    stdio.drain(limits(5000, 600_000)).await;
    let ours = cpu() - before;
    joined(writer).await;
    joined(client).await;
    println!("CPU s per GB: splice {ours:.3}, copy by 4 KiB {small:.3}, copy by 64 KiB {large:.3}");
    assert!(ours * 4.0 <= small);
}

fn zeroes(fd: OwnedFd, total: usize) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut file = File::from(fd);
        let page = vec![0; 1 << 16];
        for _ in 0..total >> 16 {
            file.write_all(&page).unwrap();
        }
    })
}

fn swallow(mut file: File) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while file.read(&mut buffer).unwrap() > 0 {}
    })
}

fn cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .sum()
}
