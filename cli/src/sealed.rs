//! Who runs from the sealed binary (I12)? Every command whose children enter a container.

use std::env;
use std::ffi::{CString, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use rsrun_core::launch::Soon;
use rsrun_core::sys::exe;

/// Executes this program again from where nobody can write to it, unless it runs from there, or does not need to.
/// Before the words are understood, which would be done twice; a container of such a name only costs an execve.
pub fn ensure() -> Result<(), String> {
    if !is_said(&exe::ENTERING) {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("root is needed: rootless containers are not supported".to_owned());
    }
    if exe::is_sealed().map_err(|e| format!("/proc/self/exe: {e}"))? {
        // The kernel has named us after the descriptor.
        return nix::sys::prctl::set_name(c"rsrun").map_err(|e| format!("prctl(PR_SET_NAME): {e}"));
    }
    let argv = texts(env::args_os())?;
    let variables = env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let envp = texts(variables)?;
    let sealed = exe::seal().map_err(|e| format!("seal the binary: {e}"))?;
    let errno = exe::execute(sealed.as_fd(), &argv, &envp);
    Err(format!("execute the sealed binary: {errno}"))
}

/// The launch thread of a command that makes a container. Nothing is understood yet: its word may as well be a container's
/// name. What `run` runs mostly has a network of its own; who calls `create` has often one ready.
pub fn soon() -> Option<Soon> {
    let runs = is_said(&["run"]);
    (runs || is_said(&["create"])).then(|| Soon::begin(runs))
}

/// Whether one of the words of this command line is one of these.
fn is_said(names: &[&str]) -> bool {
    let one_of_them = |word: OsString| names.iter().any(|name| word == *name);
    env::args_os().skip(1).any(one_of_them)
}

fn texts(words: impl Iterator<Item = OsString>) -> Result<Vec<CString>, String> {
    words
        .map(|word| CString::new(word.into_vec()).map_err(|e| e.to_string()))
        .collect()
}
