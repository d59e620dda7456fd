//! Does the runtime serve a real containerd? Every case on every installed line.
//!
//! `RSRUN_TEST_RUNTIME=io.containerd.runc.v2` runs the same cases against runc.

mod crash;
mod exec;
mod lifecycle;
mod pod;
mod restarts;
mod run;
mod scene;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use libtest_mimic::Trial;
use rsrun_tests::containerd::{Containerd, installed_lines};
use rsrun_tests::ground;
use rsrun_tests::pace;
use rsrun_tests::places::Places;
use rsrun_tests::suite::{self, Case, Check, skip};

use scene::Scene;

/// Makes this program a client that connects to the socket named and asks once.
const PROBE: &str = "RSRUN_PEER_PROBE";
const ANSWERED: i32 = 10;
const DROPPED: i32 = 11;

fn main() -> ExitCode {
    if let Some(socket) = std::env::var_os(PROBE) {
        let answered = probe(std::path::Path::new(&socket)).unwrap_or(false);
        return ExitCode::from(if answered { ANSWERED } else { DROPPED } as u8);
    }
    ground::on_private_ground(|| suite::conclude(trials()))
}

fn trials() -> Vec<Trial> {
    let places = Places::find();
    let mut trials = Vec::new();
    for (line, installed) in installed_lines(&places) {
        let group = format!("containerd_{}", line.replace('.', "_"));
        if !installed {
            let at = places.containerd.display();
            let reason = format!("no containerd {line} in {at}; `make setup` brings it");
            trials.push(suite::skipped(&group, &reason));
            continue;
        }
        if line != "2.4" && !pace::is_thorough() {
            trials.push(suite::skipped(
                &group,
                "run where the processor is real; slow here",
            ));
            continue;
        }
        let shared: Vec<Case<Scene>> = [
            run::cases(),
            exec::cases(),
            lifecycle::cases(),
            pod::cases(),
        ]
        .concat();
        for case in shared {
            let places = places.clone();
            trials.push(suite::trial(&group, case, move || {
                Ok(Scene::new(ready(&places, line, None)?))
            }));
        }
        for case in crash::cases() {
            let places = places.clone();
            trials.push(suite::trial(&group, case, move || {
                Ok(Scene::new(ready(&places, line, Some(case.name))?))
            }));
        }
        for case in restarts::cases() {
            let places = places.clone();
            trials.push(suite::trial(&group, case, move || {
                if !ground::privileged() {
                    return skip("needs root");
                }
                let daemon = Containerd::start_logging(&places, line, case.name, "trace")?;
                Ok(Scene::new(Arc::new(daemon)))
            }));
        }
    }
    trials
}

/// The daemon for a case: its own, or the one that all of the line share.
fn ready(places: &Places, line: &'static str, own: Option<&str>) -> Check<Arc<Containerd>> {
    static SHARED: OnceLock<Mutex<HashMap<&str, Arc<Containerd>>>> = OnceLock::new();
    if !ground::privileged() {
        return skip("needs root");
    }
    if let Some(purpose) = own {
        return Ok(Arc::new(Containerd::start(places, line, purpose)?));
    }
    let mut shared = SHARED
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(|e| e.into_inner());
    match shared.get(line) {
        Some(daemon) => Ok(Arc::clone(daemon)),
        None => {
            let daemon = Arc::new(Containerd::start(places, line, "shared")?);
            shared.insert(line, Arc::clone(&daemon));
            Ok(daemon)
        }
    }
}

/// Asks an unknown service one thing: any answer at all shows that we were let in.
fn probe(socket: &std::path::Path) -> std::io::Result<bool> {
    // Request{1: service "x", 2: method "y"} behind a header of ten bytes.
    let payload = [0x0a, 1, b'x', 0x12, 1, b'y'];
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&[0, 0, 0, payload.len() as u8, 0, 0, 0, 1, 1, 0])?;
    stream.write_all(&payload)?;
    Ok(stream.read(&mut [0; 10])? > 0)
}
