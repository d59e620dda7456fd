//! The log: one record a line, in the forms that callers of runc parse.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Mutex;
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use rsrun_core::{Error, Result};

use crate::args::{Global, LogFormat};

struct Sink {
    /// `None`: standard error.
    file: Option<Mutex<File>>,
    format: LogFormat,
}

/// Starts logging to `--log`. Without it errors reach the user on standard error by `main`, and with `--debug`
/// all messages do.
pub fn start(global: &Global) -> Result<()> {
    let file = match &global.log {
        None if !global.debug => return Ok(()),
        None => None,
        Some(path) => {
            let file = OpenOptions::new().append(true).create(true).open(path);
            let file =
                file.map_err(|e| Error::invalid(format!("--log {}: {e}", path.display())))?;
            Some(Mutex::new(file))
        }
    };
    let sink = Sink {
        file,
        format: global.log_format,
    };
    log::set_max_level(if global.debug {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    });
    // One for the life of the process.
    log::set_logger(Box::leak(Box::new(sink))).map_err(|e| Error::invalid(e.to_string()))
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        let (message, time) = (
            record.args().to_string(),
            crate::cmd::rfc3339(SystemTime::now()),
        );
        let line = match self.format {
            LogFormat::Json => {
                serde_json::json!({ "level": level, "msg": message, "time": time }).to_string()
            }
            LogFormat::Text => format!("time={time:?} level={level} msg={message:?}"),
        };
        match &self.file {
            None => eprintln!("{line}"),
            Some(file) => {
                if let Ok(mut file) = file.lock() {
                    // There is no other place to tell that the log can't be written.
                    let _ = writeln!(file, "{line}");
                }
            }
        }
    }

    fn flush(&self) {}
}
