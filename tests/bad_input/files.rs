//! Bundles whose files are missing, of another kind, too large or no JSON.
use crate::names;
use rsrun_tests::cli::suite::Suite;
use std::fs;
use std::os::unix::fs::symlink;

pub(crate) fn cases(suite: &mut Suite) {
    texts(suite);
    kinds(suite);
    roots(suite);
}

fn texts(suite: &mut Suite) {
    type Text = fn() -> Vec<u8>;
    let texts: [(&str, Text); 16] = [
        ("is_empty", Vec::new),
        ("is_no_json", || b"ociVersion: 1.0.2\n".to_vec()),
        ("is_cut_off", || {
            br#"{"ociVersion": "1.0.2", "process": {"args": ["/bin"#.to_vec()
        }),
        ("is_a_list", || b"[]".to_vec()),
        ("is_a_number", || b"7".to_vec()),
        ("is_null", || b"null".to_vec()),
        ("is_a_text", || br#""a spec""#.to_vec()),
        ("has_something_after_its_end", || {
            br#"{"ociVersion": "1.0.2"} {}"#.to_vec()
        }),
        ("has_bytes_that_are_no_utf_8", || {
            b"{\"ociVersion\": \"1.0\xff\xfe\"}".to_vec()
        }),
        ("has_zero_bytes", || {
            b"{\"ociVersion\"\0: \"1.0.2\"}".to_vec()
        }),
        ("has_a_byte_order_mark", || {
            b"\xef\xbb\xbf{\"ociVersion\": \"1.0.2\"}".to_vec()
        }),
        ("has_a_comment", || {
            b"{\"ociVersion\": \"1.0.2\" /* new */}".to_vec()
        }),
        ("is_nested_in_10000_lists", || nested(b"[", b"]", 10_000)),
        ("is_nested_in_1000_objects", || {
            nested(b"{\"vm\":", b"}", 1_000)
        }),
        ("is_17_mb_of_blanks", || {
            [b"{", &b" ".repeat(17 << 20)[..], b"}"].concat()
        }),
        ("is_one_text_of_17_mb", || {
            [b"{\"hostname\": \"", &b"x".repeat(17 << 20)[..], b"\"}"].concat()
        }),
    ];
    for (what, text) in texts {
        suite.case(format!("a_config_that_{what}_is_refused"), move |g| {
            let b = g.bundle();
            fs::write(b.dir.join("config.json"), text()).expect("written");
            names(g, b.call("run", &[]), "config.json")
        });
    }
}

fn nested(open: &[u8], close: &[u8], depth: usize) -> Vec<u8> {
    [open.repeat(depth), b"0".to_vec(), close.repeat(depth)].concat()
}

fn kinds(suite: &mut Suite) {
    suite.case("a_config_that_is_missing_is_refused", |g| {
        let b = g.bundle();
        names(g, b.call("run", &[]), "config.json")
    });
    suite.case("a_config_that_is_a_directory_is_refused", |g| {
        let b = g.bundle();
        fs::create_dir(b.dir.join("config.json")).expect("a directory");
        names(g, b.call("run", &[]), "config.json")
    });
    suite.case(
        "a_config_that_is_a_fifo_is_refused_and_not_waited_for",
        |g| {
            g.differs_from_runc("a fifo is refused; runc waits for a writer")?;
            let b = g.bundle();
            nix::unistd::mkfifo(
                &b.dir.join("config.json"),
                nix::sys::stat::Mode::from_bits_truncate(0o644),
            )
            .expect("a fifo");
            names(g, b.call("run", &[]), "config.json")
        },
    );
    suite.case(
        "a_config_that_is_a_link_to_an_endless_device_is_refused",
        |g| {
            g.differs_from_runc("what is no file is refused; runc reads on")?;
            let b = g.bundle();
            symlink("/dev/zero", b.dir.join("config.json")).expect("a link");
            names(g, b.call("run", &[]), "config.json")
        },
    );
    suite.case("a_config_that_is_a_link_to_itself_is_refused", |g| {
        let b = g.bundle();
        symlink("config.json", b.dir.join("config.json")).expect("a link");
        names(g, b.call("run", &[]), "config.json")
    });
    suite.case("a_config_that_is_sparse_and_huge_is_refused", |g| {
        g.differs_from_runc("more than 16 MiB is refused; runc reads all of it")?;
        let b = g.bundle();
        let file = fs::File::create(b.dir.join("config.json")).expect("a file");
        file.set_len(8 << 30).expect("a hole");
        names(g, b.call("run", &[]), "config.json")
    });
    suite.case("a_bundle_that_is_missing_is_refused", |g| {
        let out = g
            .runtime
            .call(["run", "--bundle", "/no/such/bundle", &g.id()]);
        names(g, out, "/no/such/bundle")
    });
    suite.case("a_bundle_that_is_a_file_is_refused", |g| {
        let out = g.runtime.call(["run", "--bundle", "/etc/passwd", &g.id()]);
        names(g, out, "/etc/passwd")
    });
}

fn roots(suite: &mut Suite) {
    suite.case("a_root_that_is_missing_is_refused", |g| {
        let b = g.bundle();
        fs::remove_dir_all(b.rootfs("")).expect("removed");
        names(g, b.run(), "rootfs")
    });
    suite.case("a_root_that_is_a_file_is_refused", |g| {
        let b = g.bundle();
        fs::remove_dir_all(b.rootfs("")).expect("removed");
        fs::write(b.dir.join("rootfs"), "").expect("a file");
        names(g, b.run(), "rootfs")
    });
    suite.case("a_root_that_is_a_link_to_nowhere_is_refused", |g| {
        let b = g.bundle();
        fs::remove_dir_all(b.rootfs("")).expect("removed");
        symlink("/no/such/root", b.dir.join("rootfs")).expect("a link");
        names(g, b.run(), "rootfs")
    });
    suite.case("a_root_that_is_empty_has_no_program", |g| {
        let b = g.bundle();
        fs::remove_dir_all(b.rootfs("")).expect("removed");
        fs::create_dir(b.dir.join("rootfs")).expect("a directory");
        names(g, b.run(), "/bin/true")
    });
    suite.case("a_root_path_that_is_empty_is_refused", |g| {
        let mut b = g.bundle();
        b.set("/root/path", "".into());
        names(g, b.run(), "/root/path")
    });
    suite.case("a_root_path_with_a_zero_byte_is_refused", |g| {
        let mut b = g.bundle();
        b.set("/root/path", "root\0fs".into());
        names(g, b.run(), "/root/path")
    });
}
