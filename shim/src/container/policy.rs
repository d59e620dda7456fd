//! What may be asked of a container and of an exec, in which state. PURE.
//!
//! ```text
//! init:  Creating ─► Created ─► Starting ─► Running ⇄ Pausing ⇄ Paused
//!            │          └───────────┴──────────┴─────────┴────────┴──► Ending ─► Stopped ─► (deleted)
//!            └─► (given up)
//! exec:  Added ─► Starting ─► Running ─► Stopped ─► (deleted)
//!                     └─► Failed ─────────────────► (deleted)
//! ```

use ttrpc::Code;

use crate::failure::{Failure, Result};

/// Where the init of a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// Its creation is under way: mounts, hooks.
    Creating,
    /// It waits at the gate.
    Created,
    /// The gate is being opened.
    Starting,
    /// Its program runs.
    Running,
    /// Its cgroup is being frozen or thawed.
    Pausing,
    /// Its cgroup is frozen.
    Paused,
    /// It has ended; what is left of the container is being stopped, and its exit is not yet told.
    Ending,
    /// Its exit is told.
    Stopped,
}

/// What can be asked of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Start its program.
    Start,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Resume,
    /// Change its limits.
    Update,
    /// Add an exec.
    Exec,
    /// Write it to disk.
    Checkpoint,
    /// Send its init a signal.
    Kill,
    /// Remove it.
    Delete,
    /// List its processes.
    Pids,
    /// Resize its terminal.
    Resize,
}

/// Where an exec is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exec {
    /// Its id is taken.
    Added,
    /// It is being started.
    Starting,
    /// It could not be started.
    Failed,
    /// Its program runs.
    Running,
    /// Its exit is told.
    Stopped,
}

/// What can be asked of an exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecOp {
    /// Start its program.
    Start,
    /// Send it a signal.
    Kill,
    /// Forget it.
    Delete,
    /// Resize its terminal.
    Resize,
}

/// Whether `op` may go on while the init is `state`.
pub fn init(state: Init, op: Op) -> Result<()> {
    use Init::{Created, Creating, Ending, Paused, Pausing, Running, Starting, Stopped};
    match (op, state) {
        (Op::Start, Created)
        | (Op::Pause, Running)
        | (Op::Resume, Paused)
        | (Op::Update, Created | Starting | Running | Pausing | Paused)
        | (Op::Exec, Created | Starting | Running)
        | (Op::Checkpoint, Running | Paused)
        | (Op::Kill, Creating | Created | Starting | Running | Pausing | Paused)
        | (Op::Delete, Creating | Created | Ending | Stopped)
        | (Op::Pids, Created | Starting | Running | Pausing | Paused | Ending | Stopped)
        | (
            Op::Resize,
            Creating | Created | Starting | Running | Pausing | Paused | Ending | Stopped,
        ) => Ok(()),

        // Clients take NotFound for "it is gone already" and go on; any other code keeps a pod terminating.
        (Op::Kill, Ending | Stopped) => Err(Failure::not_found("process already finished")),
        (Op::Start, Starting | Running | Pausing | Paused) => Err(Failure::new(
            Code::FAILED_PRECONDITION,
            "cannot start a container that is already running",
        )),
        (Op::Start, Ending | Stopped) => {
            Err(precondition("cannot start a container that has stopped"))
        }
        (Op::Pause, Pausing | Paused) => {
            Err(precondition("cannot pause a container that is paused"))
        }
        (Op::Delete, Starting | Running) => {
            Err(Failure::unknown("cannot delete a running process"))
        }
        (Op::Delete, Pausing | Paused) => Err(Failure::unknown("cannot delete a paused process")),
        (Op::Exec, Paused | Pausing) => Err(precondition("cannot exec in a paused container")),
        (Op::Exec, Ending | Stopped) => Err(precondition("cannot exec in a stopped container")),
        (
            Op::Start | Op::Pause | Op::Resume | Op::Update | Op::Exec | Op::Checkpoint | Op::Pids,
            Creating,
        ) => Err(precondition("container is being created")),
        (Op::Pause | Op::Resume | Op::Checkpoint, other)
        | (Op::Update, other @ (Ending | Stopped)) => Err(precondition(&format!(
            "cannot {} a container that is {}",
            verb(op),
            word(other)
        ))),
    }
}

/// Whether `op` may go on with an exec that is `state` in a container whose init is `of`.
pub fn exec(of: Init, state: Exec, op: ExecOp) -> Result<()> {
    match (op, state) {
        (ExecOp::Start, Exec::Added) => match of {
            Init::Created | Init::Starting | Init::Running => Ok(()),
            Init::Pausing | Init::Paused => {
                Err(precondition("cannot start an exec in a paused container"))
            }
            Init::Creating => Err(precondition("container is being created")),
            Init::Ending | Init::Stopped => Err(precondition("init process is not running")),
        },
        (ExecOp::Start, Exec::Failed) => Err(precondition("exec could not be started before")),
        (ExecOp::Start, Exec::Starting | Exec::Running) => {
            Err(precondition("exec is already running"))
        }
        (ExecOp::Start, Exec::Stopped) => Err(precondition("exec has stopped")),
        (ExecOp::Kill, Exec::Running) => Ok(()),
        (ExecOp::Kill, Exec::Added | Exec::Starting | Exec::Failed) => {
            Err(precondition("exec process is not started"))
        }
        (ExecOp::Kill, Exec::Stopped) => Err(Failure::not_found("process already finished")),
        (ExecOp::Delete, Exec::Added | Exec::Failed | Exec::Stopped) => Ok(()),
        (ExecOp::Delete, Exec::Starting | Exec::Running) => {
            Err(Failure::unknown("cannot delete a running process"))
        }
        (ExecOp::Resize, Exec::Added | Exec::Starting | Exec::Running) => Ok(()),
        (ExecOp::Resize, Exec::Failed | Exec::Stopped) => {
            Err(precondition("cannot resize a stopped process"))
        }
    }
}

fn precondition(text: &str) -> Failure {
    Failure::new(Code::FAILED_PRECONDITION, text)
}

fn verb(op: Op) -> &'static str {
    match op {
        Op::Start => "start",
        Op::Pause => "pause",
        Op::Resume => "resume",
        Op::Update => "update",
        Op::Exec => "exec in",
        Op::Checkpoint => "checkpoint",
        Op::Kill => "kill",
        Op::Delete => "delete",
        Op::Pids => "list",
        Op::Resize => "resize",
    }
}

fn word(state: Init) -> &'static str {
    match state {
        Init::Creating => "being created",
        Init::Created => "created",
        Init::Starting => "starting",
        Init::Running => "running",
        Init::Pausing => "pausing",
        Init::Paused => "paused",
        Init::Ending | Init::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const STATES: [Init; 8] = [
        Init::Creating,
        Init::Created,
        Init::Starting,
        Init::Running,
        Init::Pausing,
        Init::Paused,
        Init::Ending,
        Init::Stopped,
    ];
    const EXECS: [Exec; 5] = [
        Exec::Added,
        Exec::Starting,
        Exec::Failed,
        Exec::Running,
        Exec::Stopped,
    ];

    #[test]
    fn the_table_of_the_contract_holds() {
        let table = [
            (Op::Start, [true, false, false, false]),
            (Op::Pause, [false, true, false, false]),
            (Op::Resume, [false, false, true, false]),
            (Op::Update, [true, true, true, false]),
            (Op::Exec, [true, true, false, false]),
            (Op::Checkpoint, [false, true, true, false]),
            (Op::Kill, [true, true, true, false]),
            (Op::Delete, [true, false, false, true]),
            (Op::Pids, [true, true, true, true]),
        ];
        let states = [Init::Created, Init::Running, Init::Paused, Init::Stopped];
        for (op, allowed) in table {
            for (state, allowed) in states.into_iter().zip(allowed) {
                assert_eq!(init(state, op).is_ok(), allowed, "{op:?} in {state:?}");
            }
        }
    }

    #[test]
    fn what_is_gone_answers_not_found_to_kill() {
        for state in [Init::Ending, Init::Stopped] {
            assert_eq!(init(state, Op::Kill).unwrap_err().code, Code::NOT_FOUND);
        }
        assert_eq!(
            exec(Init::Running, Exec::Stopped, ExecOp::Kill)
                .unwrap_err()
                .code,
            Code::NOT_FOUND
        );
        assert_eq!(
            exec(Init::Running, Exec::Added, ExecOp::Kill)
                .unwrap_err()
                .code,
            Code::FAILED_PRECONDITION
        );
    }

    #[test]
    fn a_running_process_is_not_deleted_and_clients_see_unknown() {
        assert_eq!(
            init(Init::Running, Op::Delete).unwrap_err().code,
            Code::UNKNOWN
        );
        assert_eq!(
            exec(Init::Running, Exec::Running, ExecOp::Delete)
                .unwrap_err()
                .code,
            Code::UNKNOWN
        );
    }

    proptest! {
        #[test]
        fn a_process_can_be_killed_or_deleted_in_every_state_but_while_it_freezes(state in select(&STATES[..])) {
            prop_assert!(init(state, Op::Kill).is_ok() || init(state, Op::Delete).is_ok());
        }

        #[test]
        fn refusals_have_a_reason_and_never_the_code_of_success(
            state in select(&STATES[..]),
            exec_state in select(&EXECS[..]),
            op in select(&[ExecOp::Start, ExecOp::Kill, ExecOp::Delete, ExecOp::Resize][..]),
        ) {
            if let Err(refusal) = exec(state, exec_state, op) {
                prop_assert!(!refusal.text.is_empty());
                prop_assert_ne!(refusal.code, Code::OK);
            }
        }

        #[test]
        fn nothing_new_starts_once_the_init_has_ended(state in select(&[Init::Ending, Init::Stopped][..]), exec_state in select(&EXECS[..])) {
            prop_assert!(exec(state, exec_state, ExecOp::Start).is_err());
            prop_assert!(init(state, Op::Exec).is_err());
            prop_assert!(init(state, Op::Start).is_err());
        }
    }
}
