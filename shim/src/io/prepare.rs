//! What has to exist before the process does: everything that a request names is opened here, and every
//! pipe is made, or nothing is.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rsrun_core::{Context, Error, ErrorKind, Result, Streams};
use tokio::sync::watch;

use super::fifo::{self, FifoInput, FifoOutput};
use super::file;
use super::logger::{self, Logger};
use super::meter::Meter;
use super::policy::Policy;
use super::uri::{self, Place};
use super::{Launch, Request};

/// What is ready to be copied.
pub struct Prepared {
    /// A fifo, and the pipe to write to (`None`: the terminal's master).
    pub stdin: Option<Input>,
    /// Streams that are copied by this process.
    pub outputs: Vec<Output>,
    /// Files by the number in [`Sink::File`].
    pub files: Vec<File>,
    /// The logger, and what is known of it.
    pub logger: Option<(Logger, Arc<Meter>)>,
}

/// stdin on its way to the process.
pub struct Input {
    /// From the client.
    pub fifo: FifoInput,
    /// To the process; `None` is the terminal's master.
    pub to: Option<OwnedFd>,
    /// Its counts.
    pub meter: Arc<Meter>,
}

/// A stream on its way from the process.
pub struct Output {
    /// From the process; `None` is the terminal's master.
    pub from: Option<OwnedFd>,
    /// To where.
    pub sink: Sink,
    /// Its counts.
    pub meter: Arc<Meter>,
}

/// Where output goes.
pub enum Sink {
    /// Nowhere: read and forgotten.
    Null,
    /// A client's fifo.
    Fifo(FifoOutput),
    /// The file of this number.
    File(usize),
    /// The pipe of a logger of a terminal.
    Pipe(OwnedFd),
}

/// Opens and makes everything. The future may be dropped at any point.
pub async fn prepare(
    request: &Request,
    launch: &Launch,
    ends: &watch::Sender<u32>,
) -> Result<(Prepared, Streams)> {
    let mut work = Work {
        request,
        ends,
        prepared: Prepared {
            stdin: None,
            outputs: Vec::new(),
            files: Vec::new(),
            logger: None,
        },
        streams: Streams::default(),
    };
    match uri::stdout(&request.stdout)? {
        place @ (Place::Nowhere | Place::Path(_)) => {
            let stderr = if request.terminal {
                Place::Nowhere
            } else {
                uri::fifo_only("stderr", &request.stderr)?
            };
            let stdin = uri::fifo_only("stdin", &request.stdin)?;
            work.input(stdin)?;
            work.fifos(place, stderr).await?;
        }
        Place::File(path) => {
            let file = file::open_log(&path, &Policy::load()?)?;
            work.terminal_input()?;
            work.file(file)?;
        }
        Place::Logger(uri) => {
            Policy::load()?.allow_logger(&uri)?;
            work.terminal_input()?;
            let order = logger::order(&request.process_id, uri, &request.ctr_ns, launch);
            let pipes = work.logger_pipes()?;
            let logger = Logger::start(order, pipes).await?;
            work.prepared.logger = Some((logger, Meter::new("logger", ends.clone())));
        }
    }
    Ok((work.prepared, work.streams))
}

struct Work<'a> {
    request: &'a Request,
    ends: &'a watch::Sender<u32>,
    prepared: Prepared,
    streams: Streams,
}

impl Work<'_> {
    /// A file or logger leaves no stdin but that of a terminal.
    fn terminal_input(&mut self) -> Result<()> {
        if self.request.terminal {
            self.input(uri::fifo_only("stdin", &self.request.stdin)?)?;
        }
        Ok(())
    }

    fn input(&mut self, place: Place) -> Result<()> {
        let Place::Path(path) = place else {
            return Ok(());
        };
        let Some(fifo) = fifo::open_input(&path)? else {
            return Ok(());
        };
        let to = if self.request.terminal {
            None
        } else {
            let (read, write) = self.pipe()?;
            self.streams.stdin = Some(read);
            Some(write)
        };
        self.prepared.stdin = Some(Input {
            fifo,
            to,
            meter: Meter::new("stdin", self.ends.clone()),
        });
        Ok(())
    }

    async fn fifos(&mut self, stdout: Place, stderr: Place) -> Result<()> {
        let mut named: Vec<(PathBuf, usize)> = Vec::new();
        for (name, place) in [("stdout", stdout), ("stderr", stderr)] {
            let sink = match place {
                Place::Path(path) => {
                    match fifo::open_output(name, &path, fifo::READER_WITHIN).await? {
                        fifo::Output::Fifo(fifo) => Sink::Fifo(fifo),
                        fifo::Output::Null => Sink::Null,
                        fifo::Output::File(file) => self.existing_file(&mut named, path, file)?,
                    }
                }
                _ => Sink::Null,
            };
            match (sink, self.request.terminal) {
                // The core gives the process /dev/null.
                (Sink::Null, false) => {}
                // stdout and stderr of a terminal are one.
                (Sink::Null, true) if name == "stderr" => {}
                (sink, true) => self.output(name, None, sink),
                (sink, false) => self.piped_output(name, sink)?,
            }
        }
        Ok(())
    }

    /// One file for streams that name the same path: their lines must not overwrite each other.
    fn existing_file(
        &mut self,
        named: &mut Vec<(PathBuf, usize)>,
        path: PathBuf,
        file: OwnedFd,
    ) -> Result<Sink> {
        if let Some((_, number)) = named.iter().find(|(known, _)| *known == path) {
            return Ok(Sink::File(*number));
        }
        allow(&file, &path)?;
        let number = self.prepared.files.len();
        self.prepared.files.push(File::from(file));
        named.push((path, number));
        Ok(Sink::File(number))
    }

    fn file(&mut self, file: File) -> Result<()> {
        self.prepared.files.push(file);
        if self.request.terminal {
            self.output("stdout", None, Sink::File(0));
            return Ok(());
        }
        self.piped_output("stdout", Sink::File(0))?;
        self.piped_output("stderr", Sink::File(0))
    }

    /// The reading ends for a logger. With a terminal it is fed by us, and its stderr ends at once.
    fn logger_pipes(&mut self) -> Result<[OwnedFd; 2]> {
        let (stdout, to_stdout) = self.pipe()?;
        let (stderr, to_stderr) = self.pipe()?;
        if self.request.terminal {
            self.output("stdout", None, Sink::Pipe(to_stdout));
        } else {
            self.streams.stdout = Some(to_stdout);
            self.streams.stderr = Some(to_stderr);
        }
        Ok([stdout, stderr])
    }

    fn piped_output(&mut self, name: &'static str, sink: Sink) -> Result<()> {
        let (read, write) = self.pipe()?;
        if name == "stdout" {
            self.streams.stdout = Some(write);
        } else {
            self.streams.stderr = Some(write);
        }
        self.output(name, Some(read), sink);
        Ok(())
    }

    fn output(&mut self, name: &'static str, from: Option<OwnedFd>, sink: Sink) {
        self.prepared.outputs.push(Output {
            from,
            sink,
            meter: Meter::new(name, self.ends.clone()),
        });
    }

    fn pipe(&self) -> Result<(OwnedFd, OwnedFd)> {
        fifo::owned_pipe(self.request.io_uid, self.request.io_gid)
    }
}

/// A file without a scheme is a file all the same.
fn allow(file: &OwnedFd, path: &Path) -> Result<()> {
    let real = file::real_path(file).with(|| format!("open {}", path.display()))?;
    Policy::load()?.allow_file(&real)
}

/// An error of the runtime's part of a descriptor.
pub fn watch_failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Exhausted, "watch a descriptor").caused_by(error)
}
