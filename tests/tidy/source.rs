//! What is a line of code, and what a comment or a text?
use std::path::{Path, PathBuf};
use std::process::Command;

/// One file of the workspace.
pub(crate) struct Source {
    /// From the top of the workspace.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// The same lines with comments and the insides of texts blanked.
    pub(crate) code: String,
}

impl Source {
    /// Whether the whole file is tests.
    pub(crate) fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name == "tests.rs"
            || name.ends_with("_tests.rs")
            || self.path.contains("/tests/")
            || self.path.contains("/testdata/")
    }

    /// The comment that ends above a line, attributes and the heads of the statement passed over.
    pub(crate) fn comment_before(&self, line: usize) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        let above = lines.get(..=line).unwrap_or_default().iter().rev();
        let mut comment = Vec::new();
        let mut code_lines = 0;
        for text in above.map(|l| l.trim()) {
            match text.find("//") {
                Some(at) => comment.push(&text[at..]),
                None if comment.is_empty() && code_lines < 4 => code_lines += 1,
                None => break,
            }
        }
        comment.concat()
    }

    /// Lines that hold code, up to the tests at the file's end.
    pub(crate) fn lines_of_code(&self) -> usize {
        if self.is_test() {
            return 0;
        }
        let lines: Vec<&str> = self.code.lines().collect();
        let inline = lines
            .windows(2)
            .position(|w| w[0].trim() == "#[cfg(test)]" && w[1].trim_end().ends_with('{'));
        lines
            .iter()
            .take(inline.unwrap_or(lines.len()))
            .filter(|l| !l.trim().is_empty())
            .count()
    }
}

/// A file of the workspace, by its path from the top.
pub(crate) fn text_of(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The top of the workspace.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is below the top")
        .to_path_buf()
}

/// Every Rust source of the workspace, in the order of their paths.
pub(crate) fn all() -> Vec<Source> {
    let top = top();
    let mut paths = Vec::new();
    for dir in ["runtime-core", "shim", "cli", "tests", "fuzz"] {
        collect(&top.join(dir), &mut paths);
    }
    paths.sort();
    assert!(
        paths.len() > 20,
        "only {} sources below {}",
        paths.len(),
        top.display()
    );
    let read = |path: PathBuf| {
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let code = without_comments_and_texts(&text);
        Source {
            path: path
                .strip_prefix(&top)
                .expect("below the top")
                .display()
                .to_string(),
            text,
            code,
        }
    };
    paths.into_iter().map(read).collect()
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|e| e == "rs") {
            paths.push(path);
        }
    }
}

/// Blanks comments and the insides of string and character literals; every line keeps its number.
pub(crate) fn without_comments_and_texts(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => find(&chars, at, |c, _| c == '\n'),
            ('/', Some('*')) => block_comment(&chars, at),
            ('r', Some('"' | '#')) if !in_word(&chars, at) => raw_text(&chars, at).unwrap_or(at),
            ('"', _) => literal(&chars, at, '"'),
            ('\'', Some(next)) if *next == '\\' || chars.get(at + 2) == Some(&'\'') => {
                literal(&chars, at, '\'')
            }
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(
                chars[at..end]
                    .iter()
                    .map(|c| if *c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    out
}

fn in_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b'
}

fn find(chars: &[char], from: usize, stop: impl Fn(char, usize) -> bool) -> usize {
    (from..chars.len())
        .find(|i| stop(chars[*i], *i))
        .unwrap_or(chars.len())
}

fn block_comment(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn raw_text(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(from + 1 + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let start = from + 2 + hashes;
    let end = chars[start..]
        .windows(close.len())
        .position(|w| w == close)?;
    Some(start + end + close.len())
}

fn literal(chars: &[char], from: usize, quote: char) -> usize {
    let mut at = from + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Whether a line has a word that stands alone.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|w| w == word)
}

/// A call of a function of that crate: constants and types do nothing.
pub(crate) fn calls_into(line: &str, name: &str) -> Option<String> {
    let start = line.find(&format!("{name}::"))?;
    if line[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let path: String = line[start..]
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':')
        .collect();
    let last = path.rsplit(':').next().unwrap_or_default();
    let called =
        line[start + path.len()..].starts_with('(') && last.starts_with(char::is_lowercase);
    called.then(|| format!("{path}() is a call"))
}

/// The name of a type that a line declares.
pub(crate) fn declared_type(line: &str) -> Option<&str> {
    let mut words = line
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|w| !w.is_empty());
    words.find(|w| ["struct", "enum", "trait", "union", "type"].contains(w))?;
    words.next()
}

/// Builds the child's crate as it is shipped, and asks what its object leaves to others.
pub(crate) fn undefined_symbols_of_init() -> Vec<String> {
    let target = top().join("target/tidy");
    let object = target.join("rsrun-init.o");
    let run = |command: &mut Command| {
        let out = command
            .output()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        assert!(
            out.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    // Without link-time optimisation: the object is what the compiler made of this crate alone.
    run(Command::new(env!("CARGO"))
        .current_dir(top())
        .args([
            "rustc",
            "--quiet",
            "--locked",
            "--release",
            "--package",
            "rsrun-init",
            "--lib",
        ])
        .args(["--config", "profile.release.lto=false", "--target-dir"])
        .arg(&target)
        .arg("--")
        .arg(format!("--emit=obj={}", object.display())));
    let symbols = run(Command::new("nm")
        .args(["--undefined-only", "--format=just-symbols"])
        .arg(&object));
    symbols
        .lines()
        .map(|l| l.trim().to_string())
        .filter(|l| !l.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_blanked_and_lines_are_kept() {
        let text = "let a = \"unsafe // {\"; // unsafe\n/* unsafe\n*/ let b = 'x'; let c: &'a str = r#\"unsafe \"# ;\n";
        let code = without_comments_and_texts(text);
        assert_eq!(code.lines().count(), 3);
        assert!(!has_word(&code, "unsafe") && code.contains("&'a str") && code.contains("let b ="));
    }

    #[test]
    fn a_constant_is_no_call_and_a_function_is() {
        assert_eq!(calls_into("let x = libc::O_CLOEXEC;", "libc"), None);
        assert_eq!(
            calls_into("let x = libc::sock_filter { code: 1 };", "libc"),
            None
        );
        assert!(calls_into("let x = libc::getpid();", "libc").is_some());
        assert!(calls_into("nix::unistd::setuid(u)?;", "nix").is_some());
    }

    #[test]
    fn a_declared_type_is_found_behind_its_visibility() {
        assert_eq!(
            declared_type("pub(crate) struct BundleInfo<'a> {"),
            Some("BundleInfo")
        );
        assert_eq!(declared_type("let structure = 1;"), None);
    }
}
