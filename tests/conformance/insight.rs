//! Does rsrun tell what it would do, and what took how long?
use rsrun_tests::cli::runtime::finish;
use rsrun_tests::cli::suite::Suite;
use serde_json::json;

pub(crate) fn cases(suite: &mut Suite) {
    suite.case("explain_tells_what_run_would_do_and_does_nothing", |g| {
        g.differs_from_runc("it has no such option")?;
        let mut b = g.bundle();
        b.set("/linux/cgroupsPath", json!(format!("/{}/below", b.id)))
            .set("/hooks/poststop/-", json!({"path": "/bin/true"}))
            .write();
        let root = b.dir.join("root");
        let mut command = g.runtime.command(["--root"]);
        command.arg(&root).args(["run", "--explain", "--bundle"]);
        command.arg(&b.dir).arg(&b.id);
        let text = finish(command, &g.runtime.root).ok().stdout;
        for words in [
            &format!("make /{}/below", b.id),
            "mount proc on /proc",
            "poststop /bin/true",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!root.exists() && !b.cgroup("").exists());
        Ok(())
    });
    suite.case("debug_tells_the_steps_of_the_init_and_their_times", |g| {
        g.differs_from_runc("its steps are others")?;
        let b = g.bundle();
        b.write();
        let log = b.dir.join("log");
        for to_file in [true, false] {
            let mut command = g.runtime.command(["--debug"]);
            if to_file {
                command.arg("--log").arg(&log);
            }
            command.args(["run", "--bundle"]).arg(&b.dir).arg(&b.id);
            let out = finish(command, &g.runtime.root).ok();
            let text = match to_file {
                true => std::fs::read_to_string(&log).expect("a log"),
                false => out.stderr,
            };
            assert!(text.contains("µs: mount proc on /proc"), "{text}");
        }
        Ok(())
    });
}
