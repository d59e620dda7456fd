//! `run`: create and start; in the foreground also wait and delete.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rsrun_core::launch::Soon;
use rsrun_core::sys::program::{SUCCESS, Status};
use rsrun_core::{
    Cancel, Container, Containers, Context, Error, ErrorKind, Exit, ProcessHandle, Result,
};

use super::{containers, create, exit_code, print, request, write_pid_file};
use crate::args::{Global, Run};
use crate::signals::Incoming;
use crate::terminal::{self, Ground};

/// `run`
pub fn run(global: &Global, run: &Run, soon: Option<Soon>) -> Result<Status> {
    let read = match run.explain {
        true => None,
        false => Some(create::Read::begin(&run.create, soon)?),
    };
    let containers = containers(global)?;
    let mut request = request(global, &run.create)?;
    // A pid has to be in its file before the program runs.
    request.starts_at_once = run.create.pid_file.is_none();
    let Some(read) = read else {
        print(&containers.explain(&request)?)?;
        return Ok(SUCCESS);
    };
    read.complete(&mut request, &run.create, Ground::of(&run.detach))?;
    if run.detach {
        let cancel = Incoming::collect()?.cancel()?;
        let created = containers.create(request, &cancel)?;
        return undone_on_failure(&containers, &created.container, || {
            create::hand_over(&run.create, &created)?;
            created.container.start(&cancel)?;
            Ok(SUCCESS)
        });
    }
    if !run.no_subreaper {
        nix::sys::prctl::set_child_subreaper(true).with(|| "prctl(PR_SET_CHILD_SUBREAPER)")?;
    }
    let incoming = Incoming::collect()?;
    // Until the program runs nobody else is there to take them.
    let cancel = incoming.cancel()?;
    let mut created = containers.create(request, &cancel)?;
    super::warn(&created.warnings);
    let console = created.console.take();
    if let Some(master) = &console {
        // Before the program runs: many look once.
        terminal::copy_size(master);
    }
    let container = &created.container;
    undone_on_failure(&containers, container, || {
        write_pid_file(run.create.pid_file.as_deref(), container.pid())?;
        container.start(&cancel)?;
        Ok(SUCCESS)
    })?;
    let exit = wait(&containers, container, console, &incoming)?;
    if run.keep {
        record(&containers, container, &exit)?;
    } else {
        containers.delete(container, true, &Cancel::new()?)?;
    }
    Ok(exit_code(exit.code))
}

/// Who keeps the container is told of its end, unless somebody has removed it meanwhile.
fn record(containers: &Containers, container: &Container, exit: &Exit) -> Result<()> {
    let Err(error) = container.record_exit(exit) else {
        return Ok(());
    };
    match containers.get(container.id()) {
        Err(gone) if matches!(gone.kind(), ErrorKind::NotFound { .. }) => Ok(()),
        _ => Err(error),
    }
}

fn undone_on_failure<T>(
    containers: &Containers,
    container: &Container,
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let done = act();
    if done.is_err() {
        containers.delete(container, true, &Cancel::new()?)?;
    }
    done
}

fn wait(
    containers: &Containers,
    container: &Container,
    console: Option<std::os::fd::OwnedFd>,
    incoming: &Incoming,
) -> Result<Exit> {
    let init = container
        .init()
        .ok_or_else(|| Error::new(ErrorKind::Internal, "the init is missing"))?;
    // The container may run for months, and the end has less to take apart.
    let _ = rsrun_core::sys::code::release();
    if let Some(master) = console {
        terminal::relay(master, init, incoming)?;
    }
    wait_for(containers, init, incoming)
}

/// Waits for a child's end, forwards signals meanwhile, reaps orphans on the way.
pub fn wait_for(
    containers: &Containers,
    process: &ProcessHandle,
    incoming: &Incoming,
) -> Result<Exit> {
    let children = containers.children();
    loop {
        if let Some(exit) = children.collect(process.pid()) {
            return Ok(exit);
        }
        let mut fds = [
            PollFd::new(process.as_fd(), PollFlags::POLLIN),
            PollFd::new(incoming.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::os(errno, "poll()")),
        }
        terminal::forward(incoming, process, None)?;
        for exit in children.reap() {
            if exit.pid == process.pid() {
                return Ok(exit);
            }
        }
    }
}
