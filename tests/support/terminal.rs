//! A terminal in the test's hand: a program runs at one end, the test types at the other.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::pty::{Winsize, openpty};

use crate::command::{Running, eventually, spawn, spawn_with};
use crate::suite::{Check, fail};

/// The test's end of a pty.
pub struct Terminal {
    master: File,
    slave: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// A terminal of the given size.
    pub fn new(rows: u16, columns: u16) -> Check<Self> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None)?;
        let master = File::from(pair.master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, into) = (master.try_clone()?, Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            // EIO says that the last slave was closed.
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                into.lock()
                    .unwrap_or_else(|e| e.into_inner())
                    .extend_from_slice(&buffer[..n]);
            }
        });
        Ok(Self {
            master,
            slave: pair.slave,
            seen,
        })
    }

    /// Runs `command` with the terminal as its stdin, stdout and stderr.
    pub fn spawn(&self, command: &mut Command) -> Check<Running> {
        let end = || -> Check<Stdio> { Ok(Stdio::from(self.slave.try_clone()?)) };
        spawn_with(command.stdin(end()?).stdout(end()?).stderr(end()?))
    }

    /// Types `text`.
    pub fn send(&mut self, text: &str) -> Check {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Gives the terminal a new size and tells `program`, as a window manager would.
    pub fn resize(&self, rows: u16, columns: u16, program: &Running) -> Check {
        let mut stty = Command::new("stty");
        stty.args(["rows", &rows.to_string(), "cols", &columns.to_string()]);
        spawn(stty.stdin(Stdio::from(self.slave.try_clone()?)))?
            .finish(Duration::from_secs(10))?
            .ok()?;
        Ok(nix::sys::signal::kill(
            program.pid(),
            nix::sys::signal::Signal::SIGWINCH,
        )?)
    }

    /// All that was printed so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap_or_else(|e| e.into_inner())).into_owned()
    }

    /// Waits until `text` was printed.
    pub fn expect(&self, text: &str) -> Check {
        let found = eventually(text, Duration::from_secs(15), || self.seen().contains(text));
        match found {
            Ok(()) => Ok(()),
            Err(_) => fail(format!(
                "{text:?} was not printed; the terminal shows {:?}",
                self.seen()
            )),
        }
    }
}
