//! The command line that containerd gives, in the syntax of Go's `flag` package: by name, never by position.

/// What one call of the binary was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// Log at debug level.
    pub debug: bool,
    /// Print the flags and end.
    pub help: bool,
    /// Print the version and end.
    pub version: bool,
    /// Describe the runtime and end.
    pub info: bool,
    /// containerd's namespace.
    pub ctr_ns: String,
    /// Id of the container.
    pub id: String,
    /// Socket to serve on, given by a launcher instead of fd 3.
    pub socket: String,
    /// Socket for diagnostics, accepted and unused.
    pub debug_socket: String,
    /// Directory of the bundle.
    pub bundle: String,
    /// containerd's grpc socket, a path.
    pub address: String,
    /// containerd's own binary, accepted and unused.
    pub publish_binary: String,
    /// Name of the sandbox that is served; only our own `start` gives it.
    pub group: String,
    /// First word that is not a flag.
    pub action: String,
}

/// What `-help` prints.
pub const USAGE: &str = "\
containerd-shim-rsrun-v2 is started by containerd, as the runtime io.containerd.rsrun.v2:

    ctr run --runtime io.containerd.rsrun.v2 IMAGE CONTAINER

Usage: containerd-shim-rsrun-v2 FLAGS [start|delete]

  -namespace NAME        containerd's namespace
  -id ID                 container
  -address PATH          containerd's socket
  -bundle DIR            bundle of the container (delete)
  -publish-binary PATH   taken for containerd's sake, not used
  -socket PATH           where to serve (without start or delete)
  -debug-socket PATH     taken for containerd's sake, not used
  -group ID              sandbox that is served (without start or delete)
  -debug                 log debugging messages
  -info                  describe the runtime, in protobuf; options come on standard input
  -v, -version           print the version
  -h, -help              print this
";

/// Parses everything after the program's name.
pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Args, String> {
    let mut args = Args::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(flag) = flag_of(&word) else {
            args.action = word;
            break;
        };
        if flag.is_empty() {
            args.action = words.next().unwrap_or_default();
            break;
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        if let Some(switch) = args.switch(name) {
            *switch = match value {
                None => true,
                Some(text) => boolean(text)
                    .ok_or_else(|| format!("invalid boolean value {text:?} for -{name}"))?,
            };
        } else if let Some(field) = args.text(name) {
            *field = match value {
                Some(text) => text.to_owned(),
                None => words
                    .next()
                    .ok_or_else(|| format!("flag needs an argument: -{name}"))?,
            };
        } else {
            return Err(format!("flag provided but not defined: -{name}"));
        }
    }
    Ok(args)
}

impl Args {
    fn switch(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "debug" => &mut self.debug,
            "h" | "help" => &mut self.help,
            "v" | "version" => &mut self.version,
            "info" => &mut self.info,
            _ => return None,
        })
    }

    fn text(&mut self, name: &str) -> Option<&mut String> {
        Some(match name {
            "namespace" => &mut self.ctr_ns,
            "id" => &mut self.id,
            "socket" => &mut self.socket,
            "debug-socket" => &mut self.debug_socket,
            "bundle" => &mut self.bundle,
            "address" => &mut self.address,
            "publish-binary" => &mut self.publish_binary,
            "group" => &mut self.group,
            _ => return None,
        })
    }
}

/// The word without its one or two dashes; a lone `-` is not a flag, `--` ends the flags (empty name).
fn flag_of(word: &str) -> Option<&str> {
    let rest = word.strip_prefix('-')?;
    match rest.strip_prefix('-') {
        Some(name) => Some(name),
        None if rest.is_empty() => None,
        None => Some(rest),
    }
}

/// The spellings that Go's `strconv.ParseBool` takes.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Args, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn both_orders_that_containerd_uses_say_the_same() {
        let old =
            parsed("-namespace ns -address /a -publish-binary /c -id x -debug start").unwrap();
        let new =
            parsed("-namespace ns -address /a -publish-binary /c -debug -id x start").unwrap();
        assert_eq!(old, new);
        assert_eq!(
            (old.action.as_str(), old.id.as_str(), old.debug),
            ("start", "x", true)
        );
    }

    #[test]
    fn values_may_be_joined_and_dashes_doubled() {
        let args = parsed("--namespace=ns -id=x --debug=false -v serve later").unwrap();
        assert_eq!((args.ctr_ns.as_str(), args.id.as_str()), ("ns", "x"));
        assert!(!args.debug && args.version);
        assert_eq!(args.action, "serve");
    }

    #[test]
    fn the_usage_names_every_flag() {
        let words = USAGE
            .split_whitespace()
            .map(|word| word.trim_end_matches(','));
        let flags: Vec<_> = words
            .filter(|word| word.starts_with('-') && !word.starts_with("--"))
            .collect();
        assert_eq!(flags.len(), 14);
        for flag in flags {
            let mut args = Args::default();
            let known = args.switch(&flag[1..]).is_some() || args.text(&flag[1..]).is_some();
            assert!(known, "{flag}");
        }
    }

    #[test]
    fn unknown_flags_and_missing_values_are_named() {
        assert!(parsed("-nonsense").unwrap_err().contains("-nonsense"));
        assert!(parsed("-id").unwrap_err().contains("-id"));
        assert!(parsed("-debug=maybe").unwrap_err().contains("maybe"));
    }
}
