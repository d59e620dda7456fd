//! C05, C07, C12: streams that a client names, output that it does not read, frames that no client sends.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rsrun_tests::containment::suite::Attacks;
use rsrun_tests::suite::Check;
use rsrun_tests::task::{INIT, Streams};
use rsrun_tests::ttrpc::{read_frame, write_frame};

use crate::shims::{by_hand, member, socket};

pub(crate) fn families(all: &mut Attacks) {
    c05_streams(all.family("c05"));
    c07_output(all.family("c07"));
    c12_peers(all.family("c12"));
}

/// CVE-2026-53488: a log URI that came with an image.
fn c05_streams(all: &mut Attacks) {
    const URIS: [(&str, &str); 9] = [
        ("a_relative_program", "binary://bin/touch?/srv/canary/made="),
        (
            "a_program_by_a_detour",
            "binary:///bin/../bin/touch?/srv/canary/made=",
        ),
        ("a_directory_as_program", "binary:///srv/canary?a=b"),
        (
            "a_file_that_is_no_program",
            "binary-v2:///srv/canary/passwd",
        ),
        ("a_file_by_a_link", "file:///srv/canary/link"),
        ("a_file_by_a_detour", "file:///srv/canary/dir/../made"),
        ("an_unknown_scheme", "http:///srv/canary/secret"),
        ("a_relative_path", "srv/canary/made"),
        ("a_directory_as_fifo", "fifo:///srv/canary/dir"),
    ];
    for (who, added) in [("an_init", false), ("an_exec", true)] {
        all.contained(format!("stdout_of_{who}_that_is_odd"), move |_| {
            by_hand("uris", |hand| {
                let keeper = member(hand, "keeper")?;
                keeper.create(&hand.rootfs(), &Streams::default())?;
                keeper.start(INIT)?;
                for (what, uri) in URIS {
                    let streams = Streams {
                        stdout: uri.into(),
                        ..Streams::default()
                    };
                    let made = if added {
                        // Its streams are opened when it is started.
                        let added = keeper.exec(what, &["/bin/true"], &streams);
                        added.and_then(|()| keeper.start(what)).map(drop)
                    } else {
                        let task = member(hand, what)?;
                        task.create(&hand.rootfs(), &streams).map(drop)
                    };
                    assert!(made.is_err(), "{what}: {uri} was taken");
                }
                Ok(())
            });
            Ok(())
        });
    }
}

/// CVE-2022-31030, CVE-2025-64329: output is kept without a bound.
fn c07_output(all: &mut Attacks) {
    all.contained("output_that_nobody_reads_is_not_kept_in_the_shim", |_| {
        by_hand("output", |hand| {
            let task = hand.running("one", &["/bin/sleep", "1000"])?;
            let shim = task.connect()?.0;
            let fifo = hand.directory().join("out");
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
            let reader = fs::OpenOptions::new().read(true).write(true).open(&fifo)?;
            let streams = Streams {
                stdout: fifo.display().to_string(),
                ..Streams::default()
            };
            task.exec(
                "loud",
                &["/bin/dd", "if=/dev/zero", "bs=1M", "count=400"],
                &streams,
            )?;
            let before = resident(shim)?;
            task.start("loud")?;
            std::thread::sleep(Duration::from_secs(2));
            let grown = resident(shim)?.saturating_sub(before);
            assert!(grown < 4096, "{grown} KiB more");
            drop(reader);
            kill(
                Pid::from_raw(task.state("loud")?.pid.try_into()?),
                Signal::SIGKILL,
            )?;
            Ok(())
        });
        Ok(())
    });
}

fn resident(pid: u32) -> Check<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// RUSTSEC-2024-0437 and others: a peer that sends what no client would.
fn c12_peers(all: &mut Attacks) {
    type Odd = (&'static str, fn(&mut UnixStream) -> std::io::Result<()>);
    const ODD: [Odd; 9] = [
        ("a_frame_of_4_gb", |c| c.write_all(&[0xff; 10])),
        ("an_even_stream", |c| write_frame(c, 2, 1, b"\x0a\x01x")),
        ("a_stream_of_zero", |c| write_frame(c, 0, 1, b"\x0a\x01x")),
        ("a_stream_twice", |c| {
            write_frame(c, 1, 1, b"\x0a\x01x")?;
            write_frame(c, 1, 1, b"\x0a\x01x")
        }),
        ("a_response_that_nobody_asked_for", |c| {
            write_frame(c, 1, 2, b"\x0a\x01x")
        }),
        ("an_unknown_type", |c| write_frame(c, 1, 77, b"")),
        ("deep_groups", |c| write_frame(c, 1, 1, &[0x3b; 100_000])),
        ("a_half_frame", |c| c.write_all(&[0, 0, 1, 0, 0, 0])),
        ("ten_thousand_requests", |c| {
            c.set_write_timeout(Some(Duration::from_secs(3)))?;
            (0..10_000_u32).try_for_each(|n| {
                write_frame(
                    c,
                    n * 2 + 1,
                    1,
                    b"\x0a\x17containerd.task.v2.Task\x12\x05State",
                )
            })
        }),
    ];
    all.contained("peers_that_send_what_no_client_sends", |_| {
        by_hand("peers", |hand| {
            let task = member(hand, "one")?;
            task.create(&hand.rootfs(), &Streams::default())?;
            let shim = task.connect()?.0;
            for (what, odd) in ODD {
                let before = resident(shim)?;
                let mut stream = UnixStream::connect(socket(hand))?;
                // It may hang up on us in the middle.
                let _ = odd(&mut stream);
                stream.set_read_timeout(Some(Duration::from_millis(300)))?;
                let _ = read_frame(&mut stream);
                let _ = stream.read(&mut [0; 64]);
                let status = task.status(INIT);
                assert!(status.is_ok(), "beside a peer with {what}: {status:?}");
                let grown = resident(shim)?.saturating_sub(before);
                assert!(grown < 16 << 10, "{what}: {grown} KiB more");
            }
            Ok(())
        });
        Ok(())
    });
}
