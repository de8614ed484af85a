//! Profiles and recordings as files: how they grow, are joined, are asked, and what may not be joined.

use fs_err as fs;
use profiler::{
    ingest,
    model::{
        arch::Abi,
        arguments::Masked,
        merge::{self, merge},
        policy::{self, Options},
        profile::Arguments,
        recording::{ArgumentFact, Phase, Recording},
    },
    render,
};

use crate::place::{Place, SOCKETPAIR, Said, another, backend, mounts, traces};

#[test]
fn an_allow_file_names_what_exists() {
    let place = Place::new();
    for entry in
        ["syscall/*", "syscall/x86_64/*", "syscall/mounts", "capability/*", "syscall/z/read"]
    {
        place.write(
            "a.yaml",
            &format!("allow: [{{entry: {entry}, reason: r, expires: 9999-12-31}}]"),
        );
        let args = ["diff", "docker-default", "docker-default", "--allow", "a.yaml"];
        let said = place.profiler(&args).with(2).stderr;
        assert!(said.contains(&format!("accepts `{entry}`, which names no call")), "{said}");
    }
}

#[test]
fn engines_defaults_and_numbers_are_explained() {
    let place = Place::repository();
    place.commit(&backend(), "base");
    for name in ["docker-default", "podman-default", "containerd-default"] {
        let said = place.profiler(&["explain", name, "mount", "--arch", "x86_64"]).with(0).stdout;
        assert!(said.contains("mount"), "{said}");
        let said = place.profiler(&["lint", "--fail-on", "error", name]);
        assert_ne!(said.status, 2, "{}", said.stderr);
    }
    for args in [&["4242"][..], &["--why-not", "4242"]] {
        let args = [&["explain", "profiles/backend", "--arch", "x86_64"], args].concat();
        let said = place.profiler(&args).with(0).stdout;
        assert!(said.contains("syscall_4242"), "{said}");
    }
}

#[test]
fn a_profile_only_grows_unless_it_is_pruned() {
    let place = Place::new();
    let generate = |recording: &Recording, flags: &[&str]| {
        place.write("recording.json", &render::json::recording(recording));
        place.profiler(&[&["generate", "recording.json", "--into", "out"], flags].concat()).with(0)
    };
    let allows =
        |name: &str| place.read("out/profile.json").contains(&format!("\"name\": \"{name}\""));
    generate(&mounts(), &[]);
    assert!(allows("mount") && allows("SYS_ADMIN"));

    // The evidence of the last run is at hand.
    generate(&traces(), &[]);
    assert!(allows("mount") && allows("ptrace"));
    assert_eq!(
        ingest::recording::parse(&place.read("out/recording.json"))
            .expect("a recording")
            .runs
            .len(),
        3
    );

    // Only the committed profile is.
    fs::remove_file(place.path("out/recording.json")).expect("removes");
    let kept = generate(&traces(), &[]);
    assert!(allows("mount") && allows("SYS_ADMIN"));
    let line = kept.stderr.lines().find(|line| line.starts_with("kept")).unwrap_or_default();
    assert_eq!(
        line,
        "kept of the committed profile, though no run at hand has it: x86_64 mount, CAP_SYS_ADMIN (`--prune` removes it)"
    );

    let pruned = generate(&backend(), &["--prune"]);
    let lines: Vec<&str> =
        pruned.stderr.lines().filter(|line| line.starts_with("pruned")).collect();
    insta::assert_snapshot!("pruned", lines.join("\n"));
    assert!(!allows("mount") && !allows("ptrace"));
    assert_eq!(
        place.read("out/seccomp.json"),
        render::seccomp::render(&policy::derive(&backend(), &Options::default()))
    );
}

#[test]
fn how_narrow_a_profile_is_stays_as_it_was_chosen() {
    let place = Place::new();
    let mut sockets = another("00000000000000b3", SOCKETPAIR, 13, "pairs", "test_pair");
    let seen = sockets.syscalls.last().expect("a call").seen.clone();
    let int = |index, value| Masked { index, mask: 0xffff_ffff, value };
    sockets.arguments.push(ArgumentFact {
        abi: Abi::X86_64,
        nr: SOCKETPAIR,
        phase: Phase::Workload,
        values: vec![int(0, 1), int(1, 1), int(2, 0)],
        seen,
    });
    let generate = |recording: &Recording, flags: &[&str]| {
        place.write("recording.json", &render::json::recording(recording));
        let args = [&["generate", "recording.json", "--into", "out"], flags].concat();
        let said = place.profiler(&args).with(0);
        let profile = ingest::profile::parse(&place.read("out/profile.json")).expect("a profile");
        let rule = profile.syscalls.iter().find(|rule| rule.name == "socketpair").expect("a rule");
        let is_told = said.stderr.contains("and stays as wide, though `strict` was asked for");
        assert_eq!(
            is_told,
            flags == ["--arguments", "strict"] && profile.made_for.arguments != Arguments::Strict
        );
        (profile.made_for.arguments, rule.arguments.as_ref().expect("narrow").len())
    };
    assert_eq!(generate(&sockets, &["--arguments", "strict"]), (Arguments::Strict, 1));
    // a recording is held against a profile by what that looks into
    place.profiler(&["diff", "recording.json", "out"]).with(0);
    assert_eq!(generate(&sockets, &[]), (Arguments::Strict, 1));
    assert_eq!(generate(&sockets, &["--prune"]), (Arguments::Strict, 1));
    // any type of AF_UNIX comes with the other choice
    let wider = ["--arguments", "attack-surface"];
    assert_eq!(generate(&sockets, &wider), (Arguments::AttackSurface, 2));
    place.profiler(&["diff", "recording.json", "out"]).with(0);
    let narrower = ["--arguments", "strict"];
    assert_eq!(generate(&sockets, &narrower), (Arguments::AttackSurface, 2));
    assert_eq!(generate(&sockets, &[&narrower[..], &["--prune"]].concat()), (Arguments::Strict, 1));
}

#[test]
fn what_was_refused_and_is_allowed_now_is_told_to_be() {
    let place = Place::new();
    place.write("recording.json", include_str!("../data/filtered.json"));
    let said = |flags: &[&str]| {
        let args = [&["generate", "recording.json", "-o", "out"], flags].concat();
        place.profiler(&args).with(0).stderr
    };
    let refused = said(&[]);
    assert!(refused.contains("refused by the filter while recording\n"), "{refused}");
    let learned = said(&["--learn-denied"]);
    assert!(learned.contains("; learned: allowed"), "{learned}");
}

#[test]
fn a_seccomp_file_alone_is_not_replaced() {
    let place = Place::new();
    place.write("recording.json", &render::json::recording(&backend()));
    place.write("out/seccomp.json", "{}");
    let said = place.profiler(&["generate", "recording.json", "--into", "out"]).with(2);
    assert!(said.stderr.contains("by which it could grow"), "{}", said.stderr);
    place.profiler(&["generate", "recording.json", "-o", "out"]).with(2);
    assert_eq!(place.read("out/seccomp.json"), "{}");
}

#[test]
fn a_file_of_somebody_else_is_neither_replaced_nor_removed() {
    let place = Place::new();
    place.write("recording.json", &render::json::recording(&backend()));
    let command = include_str!("../data/command.json");
    place.write("command.json", command);
    for name in ["compose.yaml", "kubernetes.yaml", "networkpolicy.yaml"] {
        let file = format!("{name}.d/{name}");
        place.write(&file, "services: {}\n");
        // of a command there is no such file, and an earlier result's would go
        let dir = format!("{name}.d");
        place.profiler(&["generate", "command.json", "-o", &dir]).with(0);
        assert_eq!(place.read(&file), "services: {}\n");
        if name != "networkpolicy.yaml" {
            let said = place.profiler(&["generate", "recording.json", "-o", &dir]).with(2);
            assert!(said.stderr.contains("is not of such a result"), "{}", said.stderr);
            assert_eq!(place.read(&file), "services: {}\n");
        }
    }
    place.profiler(&["generate", "recording.json", "-o", "out"]).with(0);
    place.profiler(&["generate", "recording.json", "-o", "out"]).with(0);
}

#[test]
fn advice_that_is_committed_is_kept_whatever_is_asked_for() {
    let place = Place::new();
    place.write("recording.json", &render::json::recording(&backend()));
    let generate = |flags: &[&str]| {
        let args = [&["generate", "recording.json"], flags].concat();
        place.profiler(&args).with(0).stderr
    };
    let profile = |dir: &str| {
        let text = place.read(&format!("{dir}/profile.json"));
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
    };
    generate(&["-o", "out", "--harden"]);
    let whole = profile("out");
    assert!(whole["harden"]["resources"].is_object(), "{whole}");
    generate(&["--into", "out", "--harden=read-only"]);
    assert_eq!(profile("out")["harden"], whole["harden"]);

    generate(&["-o", "bare"]);
    let bare = profile("bare");
    let said = generate(&["--into", "bare", "--harden"]);
    assert!(said.contains("the committed profile was made without `--harden="), "{said}");
    assert_eq!(profile("bare"), bare, "advice that is not taken changes nothing");
}

#[test]
fn advice_is_explained() {
    let place = Place::new();
    place.write("recording.json", &render::json::recording(&backend()));
    place.profiler(&["generate", "recording.json", "-o", "out", "--harden=user,resources"]).with(0);
    place.profiler(&["generate", "recording.json", "-o", "bare"]).with(0);
    let explain = |args: &[&str]| place.profiler(&[&["explain"], args].concat());
    let whole = explain(&["out"]).with(0).stdout;
    let (calls, advice) = whole.split_once("\nbeyond calls").expect("advice");
    assert!(calls.contains("execve") && !explain(&["bare"]).with(0).stdout.contains("beyond"));
    let one = explain(&["out", "resources"]).with(0).stdout;
    assert!(advice.contains("no user:") && advice.contains("no resources:"), "{whole}");
    assert!(one.starts_with("beyond calls") && one.contains("no resources:"), "{one}");
    assert!(!one.contains("no user") && !one.contains("execve"), "{one}");
    let json = explain(&["out", "user", "--format", "json"]).with(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let committed: serde_json::Value =
        serde_json::from_str(&place.read("out/profile.json")).expect("JSON");
    assert!(committed["harden"]["user"].is_object());
    assert_eq!(json["harden"], serde_json::json!({"user": committed["harden"]["user"]}));
    assert_eq!(json["entries"], serde_json::json!([]));
    for args in [["bare", "user"], ["out", "network"], ["docker-default", "read-only"]] {
        let said = explain(&args).with(2).stderr;
        let wanted =
            format!("no advice on `{0}`\nhint: record or generate it with --harden={0}", args[1]);
        assert!(said.contains(&wanted), "{said}");
    }
}

#[test]
fn a_profile_is_held_against_the_service_that_it_is_of() {
    let place = Place::new();
    let mut recording = backend();
    recording.target.name = "web".to_owned();
    place.write("recording.json", &render::json::recording(&recording));
    place.write("one.yaml", "services: {db: {image: a}}\n");
    place.write("two.yaml", "services: {db: {image: a}, web: {image: b}}\n");
    place.write("other.yaml", "services: {db: {image: a}, x: {image: b}}\n");
    let told = |file: &str| {
        let args = ["audit", "--recording", "recording.json", "--format", "json", file];
        let said = place.profiler(&args).with(1);
        (said.stdout.matches("were never used").count(), said.stderr)
    };
    assert_eq!(told("one.yaml").0, 1);
    assert_eq!(told("two.yaml").0, 1);
    let (count, said) = told("other.yaml");
    assert_eq!(count, 0);
    assert!(said.contains("is held against none of its containers"), "{said}");

    for name in ["web", "db"] {
        recording.target.name = name.to_owned();
        place.write("recording.json", &render::json::recording(&recording));
        place.profiler(&["generate", "recording.json", "-o", &format!("all/{name}")]).with(0);
    }
    let args = ["audit", "--profile", "all", "--format", "json", "two.yaml"];
    let said = place.profiler(&args).with(1);
    assert_eq!(said.stdout.matches("were never used").count(), 2, "each service's own");
    place.write("none/other.txt", "");
    let said = place.profiler(&["audit", "--profile", "none", "two.yaml"]).with(2);
    assert!(said.stderr.contains("cannot read `none/profile.json`"), "{}", said.stderr);
}

#[test]
fn recordings_are_merged() {
    let place = Place::new();
    for (name, recording) in [("a", backend()), ("b", mounts()), ("c", traces())] {
        place.write(&format!("{name}/recording.json"), &render::json::recording(&recording));
    }
    place.profiler(&["merge", "a", "b/recording.json", "c", "-o", "one.json"]).with(0);
    place.profiler(&["merge", "c", "a", "b", "one.json", "-o", "other.json"]).with(0);
    assert_eq!(place.read("one.json"), place.read("other.json"));
    let merged = merge([backend(), mounts(), traces()]).expect("one target");
    assert_eq!(place.read("one.json"), render::json::recording(&merged));

    let mut other = backend();
    other.target.name = "other\u{1b}".into();
    place.write("d/recording.json", &render::json::recording(&other));
    place.write("e/recording.json", "{\"schema_version\": 99}");
    let said = [
        place.profiler(&["merge", "a", "d", "-o", "x.json"]).with(2),
        place.profiler(&["merge", "a", "e", "-o", "x.json"]).with(2),
        place.profiler(&["merge", "a", "missing", "-o", "x.json"]).with(2),
        place.profiler(&["merge", "a", "d", "--force", "-o", "x.json"]).with(0),
    ];
    let said: Vec<String> = said.iter().map(Said::transcript).collect();
    insta::assert_snapshot!("merge", said.join("\n"));
}

#[test]
fn engines_defaults_are_policies() {
    let place = Place::new();
    for name in ["docker-default", "podman-default", "containerd-default"] {
        place.profiler(&["diff", name, name]).with(0);
    }
    let said = place
        .profiler(&["diff", "docker-default", "containerd-default", "--arch", "x86_64"])
        .with(1);
    insta::assert_snapshot!("defaults", said.transcript());
    let with = ["--arch", "x86_64", "--capabilities", "all", "--kernel", "4.4"];
    let said = place
        .profiler(&[&["diff", "docker-default", "containerd-default"], &with[..]].concat())
        .with(1);
    assert!(!said.stdout.contains("ptrace"), "both have it with CAP_SYS_PTRACE: {}", said.stdout);
}

#[test]
fn coverage_can_fail_a_build() {
    let place = Place::new();
    place.write("two.json", &render::json::recording(&backend()));
    place.write("third.json", &render::json::recording(&mounts()));
    let mut alone = backend();
    let id = alone.runs.keys().next().expect("a run").clone();
    alone = merge::of_run(&alone, &id);
    place.write("alone.json", &render::json::recording(&alone));

    let one = place.profiler(&["coverage", "alone.json", "--min-coverage", "0"]).with(1);
    assert!(one.stdout.contains("one run says nothing"), "{}", one.stdout);
    assert_eq!(one.stderr, "coverage is less than 0 %: one run gives no estimate\n");

    let of_all = |least: &str| {
        place.profiler(&["coverage", "two.json", "third.json", "--min-coverage", least])
    };
    let enough = of_all("30").with(0);
    insta::assert_snapshot!("coverage", enough.transcript());
    let little = of_all("99.5").with(1);
    assert_eq!(little.stdout, enough.stdout);
    assert!(little.stderr.starts_with("coverage is less than 99.5 %: it is "), "{}", little.stderr);
    let all = of_all("100").with(2);
    assert!(all.stderr.contains("no number of runs covers everything"), "{}", all.stderr);

    let generate = ["generate", "two.json", "-o", "out", "--min-coverage", "99"];
    place.profiler(&generate).with(1);
    assert!(place.read("out/profile.json").contains("schema_version"), "what was found is written");
    // what a directory has counts, too
    let into = ["generate", "third.json", "--into", "out", "--min-coverage", "30"];
    place.profiler(&into).with(0);
}

/// Also of the override for all of them.
#[test]
fn renderings_of_the_example_are_what_its_profiles_give() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/examples/taskapp");
    let place = Place::new();
    for service in ["backend", "db", "frontend"] {
        place.profiler(&["explain", &format!("{example}/{service}")]).with(0);
    }
    for service in ["backend", "db", "frontend"] {
        for name in ["profile.json", "seccomp.json", "compose.yaml", "kubernetes.yaml"] {
            let text = fs::read_to_string(format!("{example}/{service}/{name}")).expect("reads");
            place.write(&format!("taskapp/{service}/{name}"), &text);
        }
    }
    let text = fs::read_to_string(format!("{example}/compose.yaml")).expect("reads");
    let (others, db) = text.split_once("\n  db:\n").expect("it has the service");
    place.write("taskapp/compose.yaml", &text);
    place.profiler(&["explain", "taskapp/db"]).with(0);
    let db = db.replacen("    read_only: true\n", "", 1);
    place.write("taskapp/compose.yaml", &format!("{others}\n  db:\n{db}"));
    let said = place.profiler(&["explain", "taskapp/db"]).with(2).stderr;
    assert!(said.contains("services.db.read_only is missing"), "{said}");
    // it is held against the others' profiles where these are asked about
    place.profiler(&["explain", "taskapp/backend"]).with(0);
    let crlf = format!("\u{feff}{others}\n  db:\n{db}").replace('\n', "\r\n");
    place.write("taskapp/compose.yaml", &crlf);
    place.profiler(&["explain", "taskapp/db"]).with(2);

    let evil = "  evil:\n    image: a\n    privileged: true\n";
    place.write("taskapp/compose.yaml", &text.replacen("\n  db:", &format!("\n{evil}  db:"), 1));
    let said = place.profiler(&["explain", "taskapp/backend"]).with(2).stderr;
    assert!(said.contains("services.evil has no profile beside it"), "{said}");
    place.write("taskapp/compose.yaml", &text);
    let profile = place.read("taskapp/backend/profile.json");
    let renamed = profile.replacen("\"backend\"", "\"other\"", 1);
    place.write("taskapp/backend/profile.json", &renamed);
    let said = place.profiler(&["explain", "taskapp/backend"]).with(2).stderr;
    assert!(said.contains("services.backend has no profile beside it"), "{said}");
}

/// What is above a profile's directory may be the user's own, and anything.
#[test]
fn what_is_no_override_of_profilers_is_left_alone() {
    let place = Place::new();
    place.write("recording.json", &render::json::recording(&backend()));
    place.profiler(&["generate", "recording.json", "-o", "shop/backend"]).with(0);
    let above = place.path("shop/compose.yaml");
    let explain = || place.profiler(&["explain", "shop/backend"]);
    fs::write(&above, b"# caf\xe9\nservices: {}\n").expect("writes");
    explain().with(0);
    fs::remove_file(&above).expect("removes");
    fs::create_dir(&above).expect("makes");
    explain().with(0);
    fs::remove_dir(&above).expect("removes");
    std::os::unix::fs::symlink("compose.yaml", &above).expect("links");
    explain().with(0);
    fs::remove_file(&above).expect("removes");
    let fifo = |path: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status().expect("coreutils");
        assert!(made.success());
    };
    fifo(&above);
    explain().with(0);
    let beside = place.path("shop/backend/compose.yaml");
    fs::remove_file(&beside).expect("removes");
    fifo(&beside);
    assert!(explain().with(2).stderr.contains("is no regular file"));
}
