//! Odd bytes on the socket, and many: a shim that goes on.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rsrun_tests::by_hand::ByHand;
use rsrun_tests::containerd::{SOCKETS, socket_name};
use rsrun_tests::pace::patient;
use rsrun_tests::suite::{Case, Check, fail};
use rsrun_tests::task::{INIT, Task};
use rsrun_tests::ttrpc::{Answer, Refusal, read_frame, write_frame};
use ttrpc::Code;

pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        60 s: unknown_methods_are_unimplemented, an_oversized_frame_is_refused_and_the_connection_kept,
            bytes_that_are_no_request_end_nothing_else, a_client_that_stops_in_the_middle_harms_nobody,
            a_thousand_requests_at_once_are_all_answered, a_peer_that_does_not_read_takes_nothing_from_others;
    ]
}

pub fn keeper(s: &ByHand) -> Check<Task> {
    s.running("keeper", &["sleep", "1000"])
}

fn socket(s: &ByHand) -> PathBuf {
    PathBuf::from(SOCKETS).join(socket_name(&s.address(), s.ctr_ns(), "keeper"))
}

fn unknown_methods_are_unimplemented(s: &ByHand) -> Check {
    let task = keeper(s)?;
    let ask = |service: &str, method: &str| {
        task.client
            .call_bytes(service, method, Vec::new(), Duration::ZERO)
            .err()
            .and_then(|r| r.code())
    };
    for (service, method) in [
        (task.service, "Levitate"),
        ("containerd.task.v9.Task", "State"),
        ("", ""),
        (task.service, ""),
    ] {
        assert_eq!(
            ask(service, method),
            Some(Code::UNIMPLEMENTED),
            "{service}/{method}"
        );
    }
    task.status(INIT)?;
    Ok(())
}

fn an_oversized_frame_is_refused_and_the_connection_kept(s: &ByHand) -> Check {
    let task = keeper(s)?;
    let answer = task.client.exchange(&vec![0; (4 << 20) + 1]);
    let refused = answer
        .as_ref()
        .is_err_and(|r| r.code() == Some(Code::RESOURCE_EXHAUSTED));
    assert!(refused, "{answer:?}");
    task.status(INIT)?;
    // As large as it may be is another matter: it is read, and it is no request.
    let answer = task.client.exchange(&vec![0xff; 4 << 20]);
    assert!(
        matches!(answer, Err(Refusal::Status(..) | Refusal::Closed)),
        "{answer:?}"
    );
    s.task_on(
        std::sync::Arc::new(rsrun_tests::ttrpc::Client::connect(&socket(s))?),
        "keeper",
    )
    .status(INIT)?;
    Ok(())
}

fn bytes_that_are_no_request_end_nothing_else(s: &ByHand) -> Check {
    let task = keeper(s)?;
    for garbage in [
        &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 64],
    ] {
        let mut stream = UnixStream::connect(socket(s))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        // It may hang up on us in the middle.
        let _ = stream.write_all(garbage);
        let _ = stream.read(&mut [0; 64]);
        task.status(INIT)?;
    }
    // A response, data without a stream, an even stream, stream 0.
    for (stream_id, kind) in [(1, 2), (3, 3), (2, 1), (0, 1), (5, 77)] {
        let mut stream = UnixStream::connect(socket(s))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        let _ = write_frame(&mut stream, stream_id, kind, b"\x0a\x01x");
        let _ = read_frame(&mut stream);
        task.status(INIT)?;
    }
    Ok(())
}

fn a_client_that_stops_in_the_middle_harms_nobody(s: &ByHand) -> Check {
    let task = keeper(s)?;
    let mut silent = Vec::new();
    for _ in 0..50 {
        let mut stream = UnixStream::connect(socket(s))?;
        stream.write_all(&[0, 0, 1, 0, 0])?;
        silent.push(stream);
    }
    let asked = Instant::now();
    task.status(INIT)?;
    assert!(
        asked.elapsed() < patient(Duration::from_secs(1)),
        "{:?}",
        asked.elapsed()
    );
    drop(silent);
    task.status(INIT)?;
    Ok(())
}

fn a_thousand_requests_at_once_are_all_answered(s: &ByHand) -> Check {
    let task = keeper(s)?;
    let wrong: Vec<Answer<()>> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..20)
            .map(|n| {
                let task = &task;
                scope.spawn(move || {
                    let call = |m: usize| match m % 3 {
                        0 => task.state(INIT).map(drop),
                        1 => task.pids().map(drop),
                        _ => task.connect().map(drop),
                    };
                    (0..50)
                        .map(|m| call(n + m))
                        .filter(Result::is_err)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        asking
            .into_iter()
            .filter_map(|t| t.join().ok())
            .flatten()
            .collect()
    });
    if wrong.is_empty() {
        Ok(())
    } else {
        fail(format!("{wrong:?}"))
    }
}

fn a_peer_that_does_not_read_takes_nothing_from_others(s: &ByHand) -> Check {
    let task = keeper(s)?;
    let mut deaf = UnixStream::connect(socket(s))?;
    deaf.set_write_timeout(Some(Duration::from_millis(500)))?;
    let mut request = ttrpc::Request::new();
    request.set_service(task.service.into());
    request.set_method("State".into());
    let request = protobuf::Message::write_to_bytes(&request)?;
    // Until nothing more is taken, for the answers can't leave.
    let asked = (0..100_000).take_while(|n| write_frame(&mut deaf, n * 2 + 1, 1, &request).is_ok());
    let asked = asked.count();
    assert!((1024..100_000).contains(&asked), "{asked} requests taken");
    task.status(INIT)?;
    task.pids()?;
    Ok(())
}
