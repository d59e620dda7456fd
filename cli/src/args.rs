//! The words of the command line: runc's commands, options and defaults.

use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use clap::{ArgAction, ArgMatches, Args as Group, FromArgMatches, ValueEnum};

const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.1");

/// The words of a command line.
#[derive(Debug)]
pub struct Args {
    /// Options of every command.
    pub global: Global,
    /// What to do.
    pub command: Command,
}

impl Args {
    /// Reads `words`, the first of which is the program's name. The error may be a help text or the version.
    ///
    /// To tell clap of all commands is a thirtieth of the time of `run`, so it is told of the one that is named first.
    /// What can't be read by that is read anew, for the words of the error or the help.
    pub fn read(words: &[OsString]) -> Result<Self, clap::Error> {
        let mut words_alone = words.iter().skip(1).filter_map(|word| word.to_str());
        let named = words_alone.find(|word| Command::WORDS.contains(word));
        let read = |only| {
            // Freed with the process: to take both apart is a two-hundredth of the time of `run`.
            let mut interface = ManuallyDrop::new(interface(only));
            let matches = interface.try_get_matches_from_mut(words);
            matches.map(ManuallyDrop::new)
        };
        let few = named.and_then(|word| read(Some(word)).ok());
        let matches = few.map_or_else(|| read(None), Ok)?;
        Ok(Self {
            global: Global::from_arg_matches(&matches)?,
            command: Command::of(&matches)?,
        })
    }
}

/// All that can be said, or what can be said with one command.
fn interface(only: Option<&str>) -> clap::Command {
    let version = clap::Arg::new("version")
        .short('v')
        .long("version")
        .help("Print the version")
        .action(ArgAction::Version);
    let program = clap::Command::new("rsrun")
        .version(VERSION)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args_override_self(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(version);
    Command::tell(
        Global::augment_args(program).about("Runs OCI containers in process"),
        only,
    )
}

/// Options of every command.
#[derive(Debug, Group)]
pub struct Global {
    /// Directory of the containers' state [default: /run/rsrun; containers of containerd have theirs in
    /// /run/containerd/rsrun/NAMESPACE]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// File that the log is appended to (default: standard error, errors only).
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Form of the log.
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Log debugging messages too, with the time of each step of a new process; without --log to standard error.
    #[arg(long)]
    pub debug: bool,
    /// Use the systemd cgroup driver.
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Work without root; only false and auto are supported.
    #[arg(long, default_value = "auto", value_name = "WORD")]
    pub rootless: Rootless,
}

impl Global {
    /// Where the containers of this command line have their state.
    pub fn root(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new("/run/rsrun"))
    }

    /// Where the containers of a namespace of containerd have theirs: the shim's own default, if none is named.
    pub fn root_of(&self, ctr_ns: &str) -> PathBuf {
        let root = self.root.as_deref();
        root.unwrap_or(Path::new("/run/containerd/rsrun"))
            .join(ctr_ns)
    }
}

/// Whether to work without root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rootless {
    /// Refused: rootless containers are not supported yet.
    True,
    /// With root.
    False,
    /// With root.
    Auto,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// The commands, each a word, what it is for, and its options. Those of a command are put together when it is the one
/// that is called: for all of them it would be a twentieth of the time of `run`.
macro_rules! commands {
    ($($word:literal $about:literal $name:ident($group:ty) $($setting:ident)?;)*) => {
        /// The commands.
        #[derive(Debug)]
        #[expect(dead_code, reason = "of a command without options, or one that is refused, only the name counts")]
        pub enum Command {
            $(#[doc = $about] $name($group),)*
        }

        impl Command {
            const WORDS: &[&str] = &[$($word),*];

            /// Tells `program` of the commands, or of the one whose word is `only`.
            fn tell(mut program: clap::Command, only: Option<&str>) -> clap::Command {
                $(if only.is_none_or(|only| only == $word) {
                    let options = |own| <$group>::augment_args(own).about($about);
                    let one = clap::Command::new($word).about($about).defer(options);
                    $(let one = $setting(one);)?
                    program = program.subcommand(one);
                })*
                program
            }

            fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
                match matches.subcommand() {
                    $(Some(($word, own)) => <$group>::from_arg_matches(own).map(Self::$name),)*
                    _ => Err(clap::Error::new(clap::error::ErrorKind::MissingSubcommand)),
                }
            }
        }
    };
}

commands! {
    "spec" "Write a default config.json" Spec(Spec);
    "run" "Create a container and start it" Run(Run);
    "create" "Create a container; its program is not started" Create(Create);
    "start" "Start the program of a created container" Start(Id);
    "state" "Print the state of a container" State(Id);
    "kill" "Send a signal to the init of a container" Kill(Kill);
    "delete" "Delete a container" Delete(Delete);
    "list" "List containers" List(List);
    "exec" "Run one more process in a container" Exec(Exec);
    "ps" "Print the processes of a container" Ps(Ps);
    "pause" "Freeze all processes of a container" Pause(Id);
    "resume" "Thaw all processes of a container" Resume(Id);
    "update" "Change the limits of a container" Update(Update);
    "events" "Print statistics of a container" Events(Events);
    "features" "Print what this runtime supports" Features(Nothing);
    "debug" "Print which call of a container's shim waits for what, since when" Debug(Debug);
    "checkpoint" "Refused: checkpoints are not supported" Checkpoint(Unsupported) refused;
    "restore" "Refused: checkpoints are not supported" Restore(Unsupported) refused;
}

/// Not told of, and its `--help` is refused like all else.
fn refused(command: clap::Command) -> clap::Command {
    command.hide(true).disable_help_flag(true)
}

/// No options.
#[derive(Debug, Group)]
pub struct Nothing {}

/// A command of runc's that is refused whatever follows it, `--help` too: clients ask by that whether it is there.
#[derive(Debug, Group)]
pub struct Unsupported {
    /// Not looked at.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENTS"
    )]
    pub arguments: Vec<OsString>,
}

/// `debug`
#[derive(Debug, Group)]
pub struct Debug {
    /// Namespace of containerd: the container's state is below ROOT/NAMESPACE, ROOT being the shim's default if none is given.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Socket of the shim, where it is known and the container is not.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "id")]
    pub address: Option<String>,
    /// Name of the container.
    #[arg(value_name = "CONTAINER")]
    pub id: Option<String>,
}

/// A command that takes a container only.
#[derive(Debug, Group)]
pub struct Id {
    /// Name of the container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// `spec`
#[derive(Debug, Group)]
pub struct Spec {
    /// Directory to write to.
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub bundle: PathBuf,
}

/// Options of create and run.
#[derive(Debug, Group)]
pub struct Create {
    /// The bundle.
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub bundle: PathBuf,
    /// Unix socket that takes the terminal's master.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// File to write the init's pid to.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Do not use pivot_root (the root is an initramfs).
    #[arg(long)]
    pub no_pivot: bool,
    /// Do not join a new session keyring.
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass descriptors 3 … 3+N-1 on to the container.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub preserve_fds: u32,
    /// Name of the container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// `run`
#[derive(Debug, Group)]
pub struct Run {
    /// As for create.
    #[command(flatten)]
    pub create: Create,
    /// Do not wait for the container.
    #[arg(short, long)]
    pub detach: bool,
    /// Do not delete the container when it has ended.
    #[arg(long)]
    pub keep: bool,
    /// Do not become the reaper of the container's orphans.
    #[arg(long)]
    pub no_subreaper: bool,
    /// Print every step of the container's init and do nothing.
    #[arg(long)]
    pub explain: bool,
}

/// `kill`
#[derive(Debug, Group)]
pub struct Kill {
    /// Send it to every process of the container.
    #[arg(short, long)]
    pub all: bool,
    /// Name of the container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// Name (with or without SIG) or number.
    #[arg(default_value = "TERM", value_name = "SIGNAL")]
    pub signal: String,
}

/// `delete`
#[derive(Debug, Group)]
pub struct Delete {
    /// Kill it first if it runs; succeed if it does not exist; clean up damaged records.
    #[arg(short, long)]
    pub force: bool,
    /// Name of the container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// Form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Columns.
    Table,
    /// JSON.
    Json,
}

/// `list`
#[derive(Debug, Group)]
pub struct List {
    /// Form of the output.
    #[arg(short, long, default_value = "table")]
    pub format: Form,
    /// Names only.
    #[arg(short, long)]
    pub quiet: bool,
}

/// `exec`
#[derive(Debug, Group)]
pub struct Exec {
    /// Unix socket that takes the terminal's master.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Working directory in the container.
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// NAME=value; may be repeated.
    #[arg(short, long, value_name = "ENV")]
    pub env: Vec<String>,
    /// Give it a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// `uid[:gid]`
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Additional group ids; may be repeated.
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// File with the process as JSON.
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Do not wait for it.
    #[arg(short, long)]
    pub detach: bool,
    /// File to write its pid to.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// SELinux label.
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile.
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Set no_new_privs.
    #[arg(long)]
    pub no_new_privs: bool,
    /// Capability to add to the container's own; may be repeated.
    #[arg(short, long, value_name = "CAP")]
    pub cap: Vec<String>,
    /// Pass descriptors 3 … 3+N-1 on.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub preserve_fds: u32,
    /// Cgroup below the container's.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Go on even though the container is paused.
    #[arg(long)]
    pub ignore_paused: bool,
    /// Name of the container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// Program and arguments.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<String>,
}

/// `ps`
#[derive(Debug, Group)]
pub struct Ps {
    /// Form of the output.
    #[arg(short, long, default_value = "table")]
    pub format: Form,
    /// Name of the container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// Options for ps(1) (default: -ef).
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PS OPTIONS"
    )]
    pub options: Vec<String>,
}

/// `update`
#[derive(Debug, Group)]
pub struct Update {
    /// File with LinuxResources as JSON; `-` is standard input. Other options are not looked at then.
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight of block I/O, 10 … 1000.
    #[arg(long)]
    pub blkio_weight: Option<u16>,
    /// CPU period in µs.
    #[arg(long)]
    pub cpu_period: Option<u64>,
    /// CPU quota in µs for each period; -1 is none.
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// CPU burst in µs.
    #[arg(long)]
    pub cpu_burst: Option<u64>,
    /// CPU shares, 2 … 262144.
    #[arg(long, visible_alias = "cpu-shares")]
    pub cpu_share: Option<u64>,
    /// 1: only idle time.
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_idle: Option<i64>,
    /// CPUs, such as 0-1.
    #[arg(long)]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    #[arg(long)]
    pub cpuset_mems: Option<String>,
    /// Memory limit in bytes, or with a suffix k, m, g or t; -1 is none.
    #[arg(long, allow_hyphen_values = true, value_parser = bytes, value_name = "BYTES")]
    pub memory: Option<i64>,
    /// Memory reservation, likewise.
    #[arg(long, allow_hyphen_values = true, value_parser = bytes, value_name = "BYTES")]
    pub memory_reservation: Option<i64>,
    /// Limit of memory and swap together, likewise; -1 is none.
    #[arg(long, allow_hyphen_values = true, value_parser = bytes, value_name = "BYTES")]
    pub memory_swap: Option<i64>,
    /// Number of processes; -1 is no limit.
    #[arg(long, allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Name of the container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

/// An amount of memory: `-1`, digits, or digits with a binary suffix as runc takes it (`64m`, `1G`, `2gb`, `1MiB`).
fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?}: bytes are needed, or a number with k, m, g or t");
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '-')
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let number: i64 = digits.parse().map_err(|_| wrong())?;
    let shift = match suffix.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// `events`
#[derive(Debug, Group)]
pub struct Events {
    /// Time between two outputs, such as 5s.
    #[arg(long, default_value = "5s", value_name = "DURATION")]
    pub interval: String,
    /// Print once and end.
    #[arg(long)]
    pub stats: bool,
    /// Name of the container.
    #[arg(value_name = "CONTAINER")]
    pub id: String,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{Args, bytes, interface};

    fn read(words: &str) -> Result<Args, clap::Error> {
        let words: Vec<_> = words.split(' ').map(OsString::from).collect();
        Args::read(&words)
    }

    #[test]
    fn a_word_that_names_a_command_is_one_only_where_commands_stand() {
        for words in [
            "rsrun run c",
            "rsrun --root list run c",
            "rsrun --log run --debug run --bundle state list",
            "rsrun list --format json",
            "rsrun exec c run list",
        ] {
            let few = format!("{:?}", read(words).unwrap());
            let all = interface(None).try_get_matches_from(words.split(' '));
            let all = Args {
                global: clap::FromArgMatches::from_arg_matches(all.as_ref().unwrap()).unwrap(),
                command: super::Command::of(&all.unwrap()).unwrap(),
            };
            assert_eq!(few, format!("{all:?}"), "{words}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_one_who_knows_all_commands() {
        for words in [
            "rsrun",
            "rsrun list run",
            "rsrun rum c",
            "rsrun run",
            "rsrun --help",
            "rsrun run --help",
        ] {
            let found = read(words).unwrap_err().to_string();
            let all = interface(None).try_get_matches_from(words.split(' '));
            assert_eq!(found, all.unwrap_err().to_string(), "{words}");
        }
    }

    #[test]
    fn memory_is_bytes_or_has_a_suffix() {
        for (text, number) in [
            ("-1", -1),
            ("0", 0),
            ("4096", 4096),
            ("512k", 512 << 10),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("1GiB", 1 << 30),
            ("2 gb", 2 << 30),
        ] {
            assert_eq!(bytes(text), Ok(number), "{text}");
        }
        for bad in ["", "m", "1x", "1.5g", "9223372036854775807k", "--1", "1-"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
    }
}
