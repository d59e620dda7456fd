//! Is output complete? Through terminals and pipes, fast and slow, and when the reader leaves.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command::eventually;
use rsrun_tests::fifo;
use rsrun_tests::pace::{self, patient};
use rsrun_tests::suite::{Case, Check, skip};
use rsrun_tests::task::{INIT, Streams};
use sha2::{Digest, Sha256};

/// These take the machine's time: run in one manner only.
pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        500 s: seven_megabytes_through_a_terminal_a_hundred_times, a_gigabyte_through_a_pipe_arrives_unchanged;
        90 s: a_slow_reader_loses_nothing, a_reader_that_comes_back_loses_nothing,
            what_is_left_waits_for_a_reader_after_the_end,
            a_reader_that_never_comes_is_an_error, what_goes_in_comes_out,
            close_io_ends_the_input, the_input_stays_open_when_a_client_detaches,
            both_streams_keep_apart, a_background_child_keeps_the_stream_open,
            a_terminal_is_left_when_its_process_ends;
    ]
}

/// Named pipes for one process.
struct Pipes {
    stdin: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Pipes {
    fn make(s: &ByHand, name: &str) -> Check<Self> {
        let one = |stream: &str| fifo::make(s.directory(), &format!("{name}-{stream}"));
        Ok(Self {
            stdin: one("in")?,
            stdout: one("out")?,
            stderr: one("err")?,
        })
    }

    fn output(&self) -> Streams {
        Streams {
            stdout: self.stdout.display().to_string(),
            stderr: self.stderr.display().to_string(),
            ..Default::default()
        }
    }

    fn all(&self) -> Streams {
        Streams {
            stdin: self.stdin.display().to_string(),
            ..self.output()
        }
    }

    fn terminal(&self) -> Streams {
        Streams {
            terminal: true,
            stderr: String::new(),
            ..self.output()
        }
    }
}

const LONG: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_secs(60);

fn seven_megabytes_through_a_terminal_a_hundred_times(s: &ByHand) -> Check {
    let rounds = pace::fewer(if s.places.is_runc() { 10 } else { 100 });
    let task = s.running("tty", &["sleep", "10000"])?;
    let expected = (1..=1_000_000)
        .map(|n| n.to_string())
        .collect::<Vec<_>>()
        .join(" ")
        + "\r\n";
    let digest = Sha256::digest(&expected);
    for round in 0..rounds {
        let exec = format!("e{round}");
        let pipes = Pipes::make(s, &exec)?;
        let mut reader = fifo::Reader::open(&pipes.stdout, LONG)?;
        task.exec(
            &exec,
            &["seq", "-s", " ", "1", "1000000"],
            &pipes.terminal(),
        )?;
        task.start(&exec)?;
        let (mut seen, mut length) = (Sha256::new(), 0);
        reader.each(|part| {
            seen.update(part);
            length += part.len();
        })?;
        assert_eq!(length, expected.len(), "round {round}");
        assert_eq!(seen.finalize(), digest, "round {round}");
        assert_eq!(task.wait(&exec)?.status, 0);
        task.delete(&exec)?;
    }
    Ok(())
}

fn a_gigabyte_through_a_pipe_arrives_unchanged(s: &ByHand) -> Check {
    let bytes: u64 = (1 << 30) / u64::from(pace::slowness());
    let script = format!(
        "mkfifo /tmp/f; sha256sum </tmp/f >&2 & head -c {bytes} /dev/urandom | tee /tmp/f; wait"
    );
    let task = s.fresh("giga", &["sh", "-c", &script])?;
    let pipes = Pipes::make(s, "giga")?;
    let mut reader = fifo::Reader::open(&pipes.stdout, LONG)?;
    let mut errors = fifo::Reader::open(&pipes.stderr, LONG)?;
    task.create(&s.rootfs(), &pipes.output())?;
    task.start(INIT)?;
    let (mut seen, mut length) = (Sha256::new(), 0u64);
    reader.each(|part| {
        seen.update(part);
        length += part.len() as u64;
    })?;
    assert_eq!(length, bytes);
    let sum: String = seen.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let said = String::from_utf8(errors.all()?)?;
    assert!(said.starts_with(&sum), "{sum} is not {said}");
    assert_eq!(task.wait(INIT)?.status, 0);
    Ok(())
}

fn numbers(upto: u32) -> Vec<u8> {
    (1..=upto)
        .flat_map(|n| format!("{n}\n").into_bytes())
        .collect()
}

fn a_slow_reader_loses_nothing(s: &ByHand) -> Check {
    let task = s.fresh("slow", &["sh", "-c", "seq 1 300000; exit 4"])?;
    let pipes = Pipes::make(s, "slow")?;
    let mut reader = fifo::Reader::open(&pipes.stdout, SHORT)?;
    let _errors = fifo::Reader::open(&pipes.stderr, SHORT)?;
    task.create(&s.rootfs(), &pipes.output())?;
    task.start(INIT)?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; 20_000]);
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            n => all.extend_from_slice(&buffer[..n]),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(all == numbers(300_000), "{} bytes", all.len());
    assert_eq!(task.wait(INIT)?.status, 4);
    Ok(())
}

fn a_reader_that_comes_back_loses_nothing(s: &ByHand) -> Check {
    let task = s.fresh("back", &["sh", "-c", "seq 1 300000; exit 4"])?;
    let pipes = Pipes::make(s, "back")?;
    let _errors = fifo::Reader::open(&pipes.stderr, SHORT)?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; 50_000]);
    let mut reader = fifo::Reader::open(&pipes.stdout, SHORT)?;
    task.create(&s.rootfs(), &pipes.output())?;
    task.start(INIT)?;
    for _ in 0..8 {
        for _ in 0..3 {
            let n = reader.read(&mut buffer)?;
            all.extend_from_slice(&buffer[..n]);
        }
        drop(reader);
        // The writer must wait now: neither an error nor a loss.
        std::thread::sleep(Duration::from_millis(150));
        reader = fifo::Reader::join(&pipes.stdout, SHORT)?;
    }
    all.extend(reader.all()?);
    assert!(all == numbers(300_000), "{} bytes", all.len());
    assert_eq!(task.wait(INIT)?.status, 4);
    Ok(())
}

fn what_is_left_waits_for_a_reader_after_the_end(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: what no client has read is lost when the process ends");
    }
    let task = s.running("left", &["sleep", "1000"])?;
    for (round, number) in [(0, 100), (1, 50_000), (2, 100)] {
        let exec = format!("e{round}");
        let pipes = Pipes::make(s, &exec)?;
        let reader = fifo::Reader::open(&pipes.stdout, SHORT)?;
        let _errors = fifo::Reader::open(&pipes.stderr, SHORT)?;
        task.exec(&exec, &["seq", "1", &number.to_string()], &pipes.output())?;
        task.start(&exec)?;
        drop(reader);
        assert_eq!(task.wait(&exec)?.status, 0);
        std::thread::sleep(Duration::from_millis(300));
        if round < 2 {
            let mut late = fifo::Reader::join(&pipes.stdout, SHORT)?;
            let said = late.all()?;
            assert!(
                said == numbers(number),
                "{} bytes of {number} lines",
                said.len()
            );
        }
        // Nobody's coming is no reason for Delete to wait.
        let begin = Instant::now();
        task.delete(&exec)?;
        assert!(
            begin.elapsed() < patient(Duration::from_secs(2)),
            "{:?}",
            begin.elapsed()
        );
    }
    Ok(())
}

fn a_reader_that_never_comes_is_an_error(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return rsrun_tests::suite::skip("differs from runc: older Go shims wait for ever");
    }
    let task = s.fresh("nobody", &["sleep", "1000"])?;
    let pipes = Pipes::make(s, "nobody")?;
    let begin = Instant::now();
    let answer = task.create(&s.rootfs(), &pipes.output());
    let took = begin.elapsed();
    assert!(
        answer.is_err()
            && took > Duration::from_secs(10)
            && took < patient(Duration::from_secs(45)),
        "{answer:?} {took:?}"
    );
    s.nothing_remains("nobody")
}

fn what_goes_in_comes_out(s: &ByHand) -> Check {
    let task = s.fresh("cat", &["cat"])?;
    let pipes = Pipes::make(s, "cat")?;
    let mut reader = fifo::Reader::open(&pipes.stdout, SHORT)?;
    let _errors = fifo::Reader::open(&pipes.stderr, SHORT)?;
    task.create(&s.rootfs(), &pipes.all())?;
    task.start(INIT)?;
    let data: Vec<u8> = (0..32_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let (stdin, sent) = (pipes.stdin.clone(), data.clone());
    let closing = task.clone();
    let writer = std::thread::spawn(move || -> Check {
        let mut end = fifo::writer(&stdin)?;
        end.write_all(&sent)?;
        drop(end);
        Ok(closing.close_io(INIT)?)
    });
    let got = reader.all()?;
    writer.join().map_err(|_| "the writer panicked")??;
    assert!(got == data, "{} of {} bytes", got.len(), data.len());
    assert_eq!(task.wait(INIT)?.status, 0);
    Ok(())
}

fn close_io_ends_the_input(s: &ByHand) -> Check {
    let task = s.running("close", &["sleep", "1000"])?;
    let pipes = Pipes::make(s, "close")?;
    let mut reader = fifo::Reader::open(&pipes.stdout, SHORT)?;
    let _errors = fifo::Reader::open(&pipes.stderr, SHORT)?;
    task.exec("e", &["sh", "-c", "cat; echo end"], &pipes.all())?;
    // Before the start there is nothing to close, and that is no error.
    task.start("e")?;
    let mut input = fifo::writer(&pipes.stdin)?;
    input.write_all(b"words\n")?;
    task.close_io("e")?;
    drop(input);
    assert_eq!(reader.all()?, b"words\nend\n");
    assert_eq!(task.wait("e")?.status, 0);
    Ok(())
}

fn the_input_stays_open_when_a_client_detaches(s: &ByHand) -> Check {
    let task = s.fresh(
        "detach",
        &[
            "sh",
            "-c",
            "while read line; do echo got $line; done; echo end",
        ],
    )?;
    let pipes = Pipes::make(s, "detach")?;
    let mut reader = fifo::Reader::open(&pipes.stdout, SHORT)?;
    let _errors = fifo::Reader::open(&pipes.stderr, SHORT)?;
    task.create(&s.rootfs(), &pipes.all())?;
    task.start(INIT)?;
    for word in ["one", "two"] {
        let mut client = fifo::writer(&pipes.stdin)?;
        client.write_all(format!("{word}\n").as_bytes())?;
        drop(client);
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(task.wait_within(INIT, Duration::from_millis(200)).is_err() || s.places.is_runc());
    task.close_io(INIT)?;
    assert_eq!(reader.all()?, b"got one\ngot two\nend\n");
    Ok(())
}

fn both_streams_keep_apart(s: &ByHand) -> Check {
    let task = s.fresh(
        "apart",
        &["sh", "-c", "seq 1 50000 & seq 100001 150000 >&2; wait"],
    )?;
    let pipes = Pipes::make(s, "apart")?;
    let mut reader = fifo::Reader::open(&pipes.stdout, SHORT)?;
    let mut errors = fifo::Reader::open(&pipes.stderr, SHORT)?;
    task.create(&s.rootfs(), &pipes.output())?;
    task.start(INIT)?;
    let errors = std::thread::spawn(move || errors.all());
    assert!(reader.all()? == numbers(50_000));
    let said = errors.join().map_err(|_| "the reader panicked")??;
    let expected: Vec<u8> = (100_001..=150_000)
        .flat_map(|n| format!("{n}\n").into_bytes())
        .collect();
    assert!(said == expected, "{} bytes", said.len());
    Ok(())
}

fn a_background_child_keeps_the_stream_open(s: &ByHand) -> Check {
    let task = s.running("held", &["sleep", "1000"])?;
    let pipes = Pipes::make(s, "held")?;
    let mut reader = fifo::Reader::open(&pipes.stdout, SHORT)?;
    let _errors = fifo::Reader::open(&pipes.stderr, SHORT)?;
    task.exec(
        "e",
        &["sh", "-c", "(sleep 1; echo late) & echo early"],
        &pipes.output(),
    )?;
    task.start("e")?;
    let begin = Instant::now();
    assert_eq!(task.wait("e")?.status, 0);
    assert!(
        begin.elapsed() < patient(Duration::from_millis(900)),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(reader.all()?, b"early\nlate\n");
    task.delete("e")?;
    Ok(())
}

fn a_terminal_is_left_when_its_process_ends(s: &ByHand) -> Check {
    let task = s.running("leave", &["sleep", "1000"])?;
    let pipes = Pipes::make(s, "leave")?;
    let mut reader = fifo::Reader::open(&pipes.stdout, SHORT)?;
    // A background process still holds the slave.
    task.exec(
        "e",
        &["sh", "-c", "trap '' HUP; sleep 1000 & stty size; echo tail"],
        &pipes.terminal(),
    )?;
    task.resize("e", 70, 20)?;
    task.start("e")?;
    task.wait("e")?;
    task.delete("e")?;
    let said = String::from_utf8(reader.all()?)?;
    assert!(said.ends_with("tail\r\n"), "{said:?}");
    if s.places.is_runc() {
        // differs from runc: it closes its end some time later.
        return Ok(());
    }
    let shim = task.connect()?.0;
    let held = || -> Vec<PathBuf> {
        let fds = std::fs::read_dir(format!("/proc/{shim}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        fds.filter_map(|e| std::fs::read_link(e.path()).ok())
            .filter(|l| l.to_string_lossy().contains("ptmx"))
            .collect()
    };
    eventually("no terminal is held", Duration::from_secs(1), || {
        held().is_empty()
    })
}
