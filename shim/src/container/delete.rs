//! Delete of a container: once, to the end, however many ask for it and however soon they give up.

use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;
use rsrun_core::container::Scope;
use rsrun_core::{Cancel, Exit};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Owner;
use super::operation::blocking;
use super::policy::{self, Init, Op};
use crate::convert;
use crate::event::What;
use crate::failure::{Failure, Result};
use crate::io::DrainLimits;
use crate::pending;

/// The outcome of a deletion that is under way.
pub(super) type Deletion = watch::Receiver<Option<Result<Exit>>>;

/// How long a killed, never started init may take to be reaped.
const REAPED: Duration = Duration::from_secs(10);

impl Owner {
    /// Removes the container, or joins who is removing it already. The work goes on when the caller is dropped.
    pub async fn delete(self: &Rc<Self>) -> Result<Exit> {
        if self.state() == Init::Creating {
            self.give_up();
            let _noted = self.operations.begin("the end of its creation, given up");
            let _ = self.decided.subscribe().wait_for(|decided| *decided).await;
            if self.state() == Init::Creating {
                return Err(Failure::not_found(format!(
                    "container {}: its creation was given up",
                    self.id
                )));
            }
        }
        let mut outcome = self.deletion()?;
        let _noted = self.operations.begin("its deletion");
        let decided = outcome
            .wait_for(Option::is_some)
            .await
            .map(|outcome| outcome.clone());
        decided
            .ok()
            .flatten()
            .unwrap_or_else(|| Err(Failure::new(ttrpc::Code::INTERNAL, "delete panicked")))
    }

    fn deletion(self: &Rc<Self>) -> Result<Deletion> {
        let under_way = self.facts.borrow().deletion.clone();
        // One that failed, or panicked, is begun anew.
        if let Some(outcome) = under_way
            && outcome.has_changed().is_ok()
            && !matches!(&*outcome.borrow(), Some(Err(_)))
        {
            return Ok(outcome);
        }
        policy::init(self.state(), Op::Delete)?;
        let (decide, outcome) = watch::channel(None);
        self.facts.borrow_mut().deletion = Some(outcome.clone());
        let owner = Rc::clone(self);
        let request = pending::current();
        tokio::task::spawn_local(async move {
            let removed = pending::working_for(request, owner.remove()).await;
            if let Err(failure) = &removed {
                log::error!("container {}: delete: {failure}", owner.id);
            }
            decide.send_replace(Some(removed));
        });
        Ok(outcome)
    }

    async fn remove(self: &Rc<Self>) -> Result<Exit> {
        let exit = self.ended().await?;
        self.close_streams().await;
        if !self.facts.borrow().core_deleted {
            match self.delete_core().await {
                Ok(()) => {}
                // Somebody removed it behind our back; the rest is still ours to clean.
                Err(failure) if failure.code == ttrpc::Code::NOT_FOUND => {}
                Err(failure) => return Err(failure.during("OCI runtime delete failed")),
            }
            self.facts.borrow_mut().core_deleted = true;
        }
        self.unmount_rootfs().await?;
        self.publish(What::Deleted(convert::ended(self.id.as_str(), &exit)));
        self.sandbox.forget(&self.id);
        Ok(exit)
    }

    /// Removes what the core has of it: processes, cgroup, record; poststop hooks run.
    pub(super) async fn delete_core(&self) -> Result<()> {
        let core = self.core()?;
        let containers = self.facts.borrow().containers.clone();
        let containers = containers
            .ok_or_else(|| Failure::new(ttrpc::Code::INTERNAL, "container without a store"))?;
        // Not the cancel of Create and Start: what is being deleted was often given up before.
        let cancel = Cancel::new()?;
        let _noted = self.operations.begin_in("delete", cancel.stages());
        let deleted = blocking("delete", move || containers.delete(&core, true, &cancel)).await?;
        Ok(deleted.map(drop)?)
    }

    /// The exit of the init; one that was never started is killed for it.
    async fn ended(&self) -> Result<Exit> {
        if self.state() == Init::Created {
            match self
                .core()?
                .kill(Signal::SIGKILL as i32, Scope::Init)
                .map_err(Failure::from)
            {
                Err(failure) if failure.code != ttrpc::Code::NOT_FOUND => return Err(failure),
                _ => {}
            }
        }
        let _noted = self.operations.begin("exit of init");
        let mut told = self.exit.subscribe();
        let exit = timeout(REAPED, told.wait_for(Option::is_some))
            .await
            .map_err(|_| {
                Failure::new(
                    ttrpc::Code::DEADLINE_EXCEEDED,
                    "the init was killed and does not end",
                )
            })?;
        exit.ok()
            .and_then(|exit| *exit)
            .ok_or_else(|| Failure::new(ttrpc::Code::INTERNAL, "no exit was told"))
    }

    /// Hands on what was written and closes everything; for execs, whose deletes may never come, at once.
    async fn close_streams(&self) {
        let stdio = self.facts.borrow().stdio.clone();
        if let Some(stdio) = stdio {
            let _noted = self.operations.begin("drain");
            if let crate::io::Drained::Unfinished(streams) =
                stdio.drain(DrainLimits::default()).await
            {
                log::warn!(
                    "container {}: output cut off: {}",
                    self.id,
                    streams.join(", ")
                );
            }
            stdio.force_close().await;
        }
        let execs: Vec<_> = self
            .execs
            .borrow_mut()
            .drain()
            .map(|(_, exec)| exec)
            .collect();
        for exec in execs {
            exec.close().await;
        }
    }
}
