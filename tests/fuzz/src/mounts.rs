//! Option lists of mounts: those of a Create and those of config.json; one option a line.

use rsrun_core::bundle::parse_spec;
use rsrun_core::plan::create;
use rsrun_shim::fuzzing::{MountOptions, Overlay};
use serde_json::{Value, json};

use crate::ground::{create_facts, freezes, host, names_its_place};

/// See the module.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    of_a_create(&words);
    of_a_spec(&words);
}

/// A list of options in a request.
pub fn of_a_create(words: &[String]) {
    let options = match MountOptions::parse(words) {
        Ok(options) => options,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    // Every word is a flag, one of ours, or the filesystem's: none is lost, none is made up.
    assert!(options.data.iter().all(|word| words.contains(word)));
    if let Some(map) = &options.id_map {
        assert!(!map.uids.is_empty() && !map.gids.is_empty());
        assert!(map.uids.iter().chain(&map.gids).all(|range| range[2] > 0));
    }
    options.attributes();
    // What a client writes beside the layers goes to the kernel as it is, and may make anything of the whole.
    let is_plain = |word: &String| word.starts_with("lowerdir=") || !word.contains([',', '\\']);
    if let Ok(overlay) = Overlay::parse(&options.data)
        && options.data.iter().all(is_plain)
    {
        let printed = overlay.data();
        let again: Vec<String> = apart(&printed);
        let again = Overlay::parse(&again).expect("what was printed is read");
        assert_eq!(again.data(), printed, "it reads back as another overlay");
    }
}

/// What the kernel makes of the text: options end at a comma that is not escaped.
fn apart(printed: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut letters = printed.chars();
    while let Some(letter) = letters.next() {
        let Some(last) = words.last_mut() else { break };
        match letter {
            ',' => words.push(String::new()),
            '\\' => {
                last.push('\\');
                last.extend(letters.next());
            }
            other => last.push(other),
        }
    }
    words
}

fn of_a_spec(words: &[String]) {
    let text = include_str!("../../conformance/specs/containerd.json");
    let mut spec: Value = serde_json::from_str(text).expect("containerd's own spec");
    for (kind, target) in [
        ("bind", "/data"),
        ("tmpfs", "/scratch"),
        ("cgroup", "/sys/fs/cgroup"),
    ] {
        let mount =
            json!({"type": kind, "source": "/src", "destination": target, "options": words});
        spec["mounts"].as_array_mut().expect("mounts").push(mount);
    }
    let document = spec.to_string();
    let parsed = parse_spec(document.as_bytes())
        .expect("words are words")
        .document;
    match create(&parsed, &create_facts(false), &host()) {
        Ok(plan) => freezes(&plan.init),
        Err(error) => names_its_place(&error, document.as_bytes()),
    }
}
