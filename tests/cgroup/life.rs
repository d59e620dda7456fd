//! How are cgroups made, opened, frozen, killed and removed?

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rsrun_core::ErrorKind;
use rsrun_core::cgroup::{Cgroup, Events};
use rsrun_tests::cases;
use rsrun_tests::suite::{Case, Check};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::scene::{LONG, Scene, open_descriptors, polled, refused, until};

pub fn cases() -> Vec<Case<Scene>> {
    cases![30 s:
        create_makes_each_level_and_remove_only_the_last,
        a_failed_create_leaves_nothing,
        an_empty_cgroup_is_taken_and_one_with_processes_is_not,
        a_frozen_cgroup_or_one_below_a_frozen_one_is_refused_at_once,
        a_threaded_cgroup_is_refused,
        controllers_reach_the_cgroup,
        a_controller_that_a_busy_parent_keeps_is_explained,
        a_record_finds_its_cgroup_and_no_other,
        a_sub_cgroup_is_never_above,
        a_delegated_cgroup_belongs_to_its_user_but_its_limits_do_not,
        freeze_stops_and_thaw_continues,
        kill_ends_all_below_whether_frozen_or_forking,
        kill_and_remove_of_what_is_gone_succeed,
        remove_waits_for_an_ending_process_and_gives_up_on_a_living_one,
        remove_takes_two_hundred_cgroups_and_a_thousand_levels,
        remove_leaves_a_cgroup_that_another_made,
        a_change_wakes_a_poll_of_the_open_file,
        a_change_wakes_tokio,
        nothing_leaks_descriptors;
    ]
}

fn create_makes_each_level_and_remove_only_the_last(s: &Scene) -> Check {
    let cgroup = s.cgroup("a/b/c")?;
    assert_eq!(cgroup.path(), s.path("a/b/c"));
    assert!(s.dir("a/b/c").is_dir());
    cgroup.remove(LONG)?;
    assert!(!s.dir("a/b/c").exists() && s.dir("a/b").is_dir());
    Ok(())
}

fn a_failed_create_leaves_nothing(s: &Scene) -> Check {
    let too_long = "x".repeat(5000);
    refused(Cgroup::create(
        &s.mount,
        &s.path(&format!("a/b/{too_long}")),
    ))?;
    assert!(!s.dir("").exists());
    s.cgroup("kept")?;
    refused(Cgroup::create(&s.mount, &s.path(&format!("a/{too_long}"))))?;
    assert!(s.dir("kept").exists() && !s.dir("a").exists());
    Ok(())
}

fn an_empty_cgroup_is_taken_and_one_with_processes_is_not(s: &Scene) -> Check {
    let first = s.cgroup("a")?;
    let second = s.cgroup("a")?;
    assert_eq!(first.inode(), second.inode());
    fs::create_dir(s.dir("a/below"))?;
    s.shell("a/below", "sleep 100")?;
    let error = refused(Cgroup::create(&s.mount, &s.path("a")))?;
    assert_eq!(*error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert!(s.dir("a/below").exists());
    Ok(())
}

fn a_frozen_cgroup_or_one_below_a_frozen_one_is_refused_at_once(s: &Scene) -> Check {
    let began = Instant::now();
    s.cgroup("a")?;
    fs::write(s.dir("a/cgroup.freeze"), "1")?;
    for name in ["a", "a/new/below"] {
        let error = refused(Cgroup::create(&s.mount, &s.path(name)))?;
        assert!(error.to_string().contains("frozen"), "{error}");
    }
    assert!(s.dir("a").exists() && !s.dir("a/new").exists());
    assert!(began.elapsed() < Duration::from_secs(1));
    Ok(())
}

fn a_threaded_cgroup_is_refused(s: &Scene) -> Check {
    // Made by hand: below a cgroup that gives domain controllers none can be threaded.
    fs::create_dir_all(s.dir("a/b"))?;
    fs::write(s.dir("a/b/cgroup.type"), "threaded")?;
    for name in ["a/b", "a/other"] {
        let error = refused(Cgroup::create(&s.mount, &s.path(name)))?;
        assert!(
            matches!(error.kind(), ErrorKind::Unsupported { .. }),
            "{error}"
        );
    }
    assert!(!s.dir("a/other").exists());
    Ok(())
}

fn controllers_reach_the_cgroup(s: &Scene) -> Check {
    s.needs(&["memory", "pids"])?;
    let cgroup = s.cgroup("a/b/c")?;
    for name in s.mount.controllers().iter() {
        assert!(
            cgroup.controllers().has(name),
            "{name}: {:?}",
            cgroup.controllers()
        );
    }
    Ok(())
}

fn a_controller_that_a_busy_parent_keeps_is_explained(s: &Scene) -> Check {
    s.needs(&["memory"])?;
    fs::create_dir(s.dir(""))?;
    s.shell("", "sleep 100")?;
    let cgroup = s.cgroup("a")?;
    // Not even those that it could give: the tree would be threaded.
    assert_eq!(s.read("a", "cgroup.type")?, "domain");
    assert!(cgroup.controllers().is_empty());
    s.shell("a", "exec sleep 100")?;
    let error = match s.changes(r#"{"memory":{"limit":100000000}}"#, cgroup.controllers()) {
        Err(rsrun_tests::suite::Stop::Fail(text)) => text,
        _ => panic!("memory can't be enabled beside a process"),
    };
    assert!(
        error.starts_with("/linux/resources/memory/limit")
            && error.contains("has processes of its own"),
        "{error}"
    );
    Ok(())
}

fn a_record_finds_its_cgroup_and_no_other(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    let (path, inode) = (cgroup.path().to_owned(), cgroup.inode());
    assert_eq!(Cgroup::open(&s.mount, &path, inode)?.inode(), inode);
    cgroup.remove(LONG)?;
    let gone = refused(Cgroup::open(&s.mount, &path, inode))?;
    let other = s.cgroup("a")?;
    assert_ne!(other.inode(), inode);
    let replaced = refused(Cgroup::open(&s.mount, &path, inode))?;
    for error in [gone, replaced] {
        assert!(
            matches!(error.kind(), ErrorKind::NotFound { .. }),
            "{error}"
        );
    }
    Ok(())
}

fn a_sub_cgroup_is_never_above(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    fs::create_dir_all(s.dir("a/b/c"))?;
    let sub = cgroup.open_sub("b/c")?;
    assert_eq!(sub.path(), s.path("a/b/c"));
    assert_eq!(cgroup.open_sub("/b/./c/")?.inode(), sub.inode());
    assert_eq!(cgroup.open_sub("/")?.inode(), cgroup.inode());
    for above in ["..", "b/../..", "b/c/../../../x"] {
        let error = refused(cgroup.open_sub(above))?;
        assert!(
            matches!(error.kind(), ErrorKind::InvalidSpec { .. }),
            "{error}"
        );
    }
    let none = refused(cgroup.open_sub("none"))?;
    assert!(matches!(none.kind(), ErrorKind::NotFound { .. }), "{none}");
    Ok(())
}

fn a_delegated_cgroup_belongs_to_its_user_but_its_limits_do_not(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    cgroup.delegate(1234)?;
    let owner = |file: &str| -> Check<u32> { Ok(fs::metadata(s.dir("a").join(file))?.uid()) };
    for file in [
        "",
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
    ] {
        assert_eq!(owner(file)?, 1234, "{file:?}");
    }
    for entry in fs::read_dir(s.dir("a"))? {
        let name = entry?.file_name();
        let name = name.to_str().unwrap_or_default();
        if name.ends_with(".max") || name == "cgroup.freeze" || name == "cgroup.kill" {
            assert_eq!(owner(name)?, 0, "{name}");
        }
    }
    Ok(())
}

fn freeze_stops_and_thaw_continues(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    fs::create_dir(s.dir("a/below"))?;
    s.shell("a/below", "while :; do :; done")?;
    assert!(!cgroup.is_frozen()?);
    cgroup.freeze(LONG)?;
    assert!(cgroup.is_frozen()?);
    let ticks = || -> Check<String> {
        Ok(s.read("a", "cpu.stat")?
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned())
    };
    let before = ticks()?;
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(ticks()?, before);
    cgroup.thaw(LONG)?;
    assert!(!cgroup.is_frozen()?);
    until("more processor time", || Ok(ticks()? != before))?;
    Ok(())
}

fn kill_ends_all_below_whether_frozen_or_forking(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    for below in ["frozen", "bomb", "asleep"] {
        fs::create_dir(s.dir("a").join(below))?;
    }
    s.shell("a/frozen", "sleep 100")?;
    fs::write(s.dir("a/frozen/cgroup.freeze"), "1")?;
    // Forks as fast as it can, without ever being more than some.
    s.shell("a/bomb", "while :; do (sleep 0.01 &) ; done")?;
    for _ in 0..20 {
        s.shell("a/asleep", "trap '' TERM INT; sleep 100")?;
    }
    let began = Instant::now();
    cgroup.kill(LONG)?;
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(cgroup.pids()?.is_empty() && !cgroup.is_populated()?);
    cgroup.remove(LONG)?;
    assert!(!s.dir("a").exists());
    Ok(())
}

fn kill_and_remove_of_what_is_gone_succeed(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    fs::remove_dir(s.dir("a"))?;
    cgroup.kill(LONG)?;
    cgroup.remove(LONG)?;
    cgroup.remove(LONG)?;
    assert!(cgroup.pids()?.is_empty());
    for error in [
        refused(cgroup.stats())?,
        refused(cgroup.freeze(LONG))?,
        refused(cgroup.signal_all(libc::SIGTERM))?,
        refused(Events::open(&cgroup))?,
    ] {
        assert!(
            matches!(error.kind(), ErrorKind::NotFound { .. }),
            "{error}"
        );
    }
    Ok(())
}

fn remove_waits_for_an_ending_process_and_gives_up_on_a_living_one(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    fs::create_dir(s.dir("a/below"))?;
    s.shell("a/below", "sleep 0.3")?;
    let began = Instant::now();
    let error = refused(cgroup.remove(Duration::from_millis(50)))?;
    assert_eq!(*error.kind(), ErrorKind::Timeout, "{error}");
    assert!(began.elapsed() < Duration::from_millis(250));
    cgroup.remove(LONG)?;
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(!s.dir("a").exists());
    Ok(())
}

fn remove_takes_two_hundred_cgroups_and_a_thousand_levels(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    for wide in 0..200 {
        fs::create_dir(s.dir(&format!("a/{wide}")))?;
    }
    let deep = format!("a{}", "/d".repeat(1000));
    fs::create_dir_all(s.dir(&deep))?;
    s.shell(&deep, "exec sleep 100")?;
    assert_eq!(cgroup.pids()?.len(), 1);
    cgroup.kill(LONG)?;
    cgroup.remove(LONG)?;
    assert!(!s.dir("a").exists());
    Ok(())
}

fn remove_leaves_a_cgroup_that_another_made(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    fs::remove_dir(s.dir("a"))?;
    fs::create_dir(s.dir("a"))?;
    cgroup.remove(LONG)?;
    assert!(s.dir("a").exists());
    Ok(())
}

fn a_change_wakes_a_poll_of_the_open_file(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    let mut events = Events::open(&cgroup)?;
    assert!(!events.now()?.populated);
    assert!(!polled(&events, Duration::from_millis(50))?);
    let pid = s.shell("a", "sleep 100")?;
    assert!(polled(&events, LONG)? && events.now()?.populated);
    assert!(!polled(&events, Duration::from_millis(50))?);
    cgroup.kill(LONG)?;
    assert!(polled(&events, LONG)? && !events.now()?.populated);
    s.wait(pid)?;
    Ok(())
}

/// Edge-triggered epoll, as the shim has it, on a duplicate: what was read of one is read of both.
fn a_change_wakes_tokio(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    let mut events = Events::open(&cgroup)?;
    events.now()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let twin = events.as_fd().try_clone_to_owned()?;
        #[allow(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd is what it asks for"
        )]
        let watched = AsyncFd::with_interest(twin, Interest::PRIORITY)?;
        let woken = async |within: Duration| -> Check<bool> {
            match tokio::time::timeout(within, watched.ready(Interest::PRIORITY)).await {
                Ok(ready) => {
                    ready?.clear_ready();
                    Ok(true)
                }
                Err(_) => Ok(false),
            }
        };
        assert!(!woken(Duration::from_millis(50)).await?);
        for _ in 0..3 {
            let pid = s.shell("a", "exec sleep 100")?;
            assert!(woken(LONG).await?);
            assert!(events.now()?.populated);
            cgroup.kill(LONG)?;
            assert!(woken(LONG).await?);
            assert!(!events.now()?.populated);
            s.wait(pid)?;
        }
        Ok(())
    })
}

fn nothing_leaks_descriptors(s: &Scene) -> Check {
    let round = || -> Check {
        let cgroup = s.cgroup("a/b")?;
        s.shell("a/b", "sleep 100")?;
        cgroup.freeze(LONG)?;
        cgroup.thaw(LONG)?;
        cgroup.stats()?;
        cgroup.signal_all(0)?;
        cgroup.kill(LONG)?;
        Ok(cgroup.remove(LONG)?)
    };
    round()?;
    // Other cases run beside this one and open what they need: the fewest of several looks count.
    let fewest = |looks: usize| -> Check<usize> {
        let mut least = usize::MAX;
        for _ in 0..looks {
            least = least.min(open_descriptors()?);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(least)
    };
    let before = fewest(50)?;
    for _ in 0..100 {
        round()?;
    }
    let after = fewest(50)?;
    assert!(
        after < before + 50,
        "{before} before, {after} after 100 rounds"
    );
    Ok(())
}
