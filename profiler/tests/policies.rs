//! `merge`, `diff`, `generate --into` and `git`, as they are typed: files, revisions, branches.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use fs_err as fs;
use profiler::{
    ingest,
    model::{
        arch::Abi,
        arguments::Masked,
        merge::{self, merge},
        policy::{self, Options},
        profile::Arguments,
        recording::{
            ArgumentFact, AuditClass, CapabilityFact, CheckSighting, Phase, Program, Recording,
            Sighting, SyscallFact, UserNamespace, Verdict,
        },
    },
    render,
};
use tempfile::TempDir;

const BACKEND: &str = include_str!("data/backend.json");

/// What a command said.
struct Said {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Said {
    #[track_caller]
    fn with(self, status: i32) -> Said {
        assert_eq!(self.status, status, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Both streams, for a snapshot.
    fn transcript(&self) -> String {
        format!("status {}\n--- stdout\n{}--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}

/// A directory to type commands in.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a directory"))
    }

    /// A git repository whose first branch is `main`.
    fn repository() -> Place {
        let place = Place::new();
        place.git(&["init", "-q", "-b", "main"]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, mut command: Command, args: &[&str]) -> Said {
        let output = command
            .args(args)
            .current_dir(self.0.path())
            // nothing of the machine's or the user's
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CEILING_DIRECTORIES", self.0.path().parent().unwrap_or(Path::new("/")))
            .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@invalid")])
            .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@invalid")])
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .output()
            .expect("runs");
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            text.replace(&self.0.path().display().to_string(), "DIR")
        };
        Said {
            status: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn profiler(&self, args: &[&str]) -> Said {
        self.run(Command::cargo_bin("profiler").expect("built"), args)
    }

    #[track_caller]
    fn git(&self, args: &[&str]) -> Said {
        self.run(Command::new("git"), args).with(0)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("creates");
        fs::write(path, text).expect("writes");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("reads")
    }

    /// Commits what `generate` makes of a recording in profiles/backend, as a build does: without the recording.
    fn commit(&self, recording: &Recording, message: &str) {
        self.write("recording.json", &render::json::recording(recording));
        self.profiler(&["generate", "recording.json", "--into", "profiles/backend"]).with(0);
        for name in ["recording.json", "profiles/backend/recording.json"] {
            fs::remove_file(self.path(name)).expect("removes");
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }
}

fn backend() -> Recording {
    ingest::recording::parse(BACKEND).expect("the fixture is valid")
}

/// The backend in another run, in which `program` also makes a call, and needs a capability for it.
fn another(run: &str, call: u32, capability: u8, program: &str, test: &str) -> Recording {
    let text = render::json::recording(&backend()).replace("00000000000000aa", run);
    let mut recording = ingest::recording::parse(&text).expect("a recording");
    let sighting = Sighting {
        first_ms: Some(1),
        programs: [Program { comm: program.into(), exe: program.into() }].into(),
        tests: [test.to_owned()].into(),
        ..Sighting::default()
    };
    recording.syscalls.push(SyscallFact {
        abi: Abi::X86_64,
        nr: call,
        phase: Phase::Workload,
        seen: [(run.to_owned(), sighting.clone())].into(),
    });
    let seen = CheckSighting { checks: 1, succeeded: 1, failed: 0, unsettled: 0, sighting };
    recording.capabilities.push(CapabilityFact {
        capability,
        phase: Phase::Workload,
        verdict: Verdict::Granted,
        audit: AuditClass::Audited,
        user_namespace: UserNamespace::Host,
        overridden: false,
        abi: Abi::X86_64,
        nr: call,
        asked_by: String::new(),
        seen: [(run.to_owned(), seen)].into(),
    });
    recording
}

const MOUNT: u32 = 165;
const PTRACE: u32 = 101;
const SOCKETPAIR: u32 = 53;

fn mounts() -> Recording {
    another("00000000000000b1", MOUNT, 21, "import", "test_upload")
}

fn traces() -> Recording {
    another("00000000000000b2", PTRACE, 19, "debugger", "test_crash")
}

#[test]
fn a_branch_that_grows_a_profile_fails_until_a_reviewer_accepts_it() {
    let place = Place::repository();
    place.commit(&backend(), "base");
    place.git(&["checkout", "-q", "-b", "feature"]);

    // The same again: not a byte is different.
    place.write("recording.json", &render::json::recording(&backend()));
    place.profiler(&["generate", "recording.json", "--into", "profiles/backend"]).with(0);
    fs::remove_file(place.path("recording.json")).expect("removes");
    fs::remove_file(place.path("profiles/backend/recording.json")).expect("removes");
    assert_eq!(place.git(&["status", "--porcelain"]).stdout, "");
    let same = place.profiler(&["diff", "main", "--", "profiles"]).with(0);
    assert_eq!(same.stdout, "main:profiles/backend -> profiles/backend: no difference\n");

    place.commit(&mounts(), "mounts");
    let gate = ["diff", "main", "HEAD", "--fail-on", "growth"];
    let failed = place.profiler(&[&gate[..], &["--", "profiles/backend"]].concat()).with(1);
    insta::assert_snapshot!("growth", failed.transcript());

    let allow = |expires: &str| {
        place.write(
            "allow.yaml",
            &format!(
                "allow:\n  - {{entry: syscall/mount, reason: mounts uploads, expires: {expires}}}\n  \
                 - {{entry: capability/SYS_ADMIN, reason: for mount, expires: 9999-12-31}}\n"
            ),
        );
        place.profiler(&[&gate[..], &["--allow", "allow.yaml", "--", "profiles"]].concat())
    };
    let accepted = allow("9999-12-31").with(0);
    assert!(
        accepted.stdout.contains("accepted until 9999-12-31: mounts uploads"),
        "{}",
        accepted.stdout
    );
    let expired = allow("2020-01-31").with(1);
    assert!(
        expired.stdout.contains("acceptance expired on 2020-01-31: mounts uploads"),
        "{}",
        expired.stdout
    );
    let json = place
        .profiler(&[
            "diff",
            "main",
            "HEAD",
            "--format",
            "json",
            "--allow",
            "allow.yaml",
            "--",
            "profiles",
        ])
        .with(1);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let mount = &json["compared"][0]["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|entry| entry["name"] == "mount")
        .expect("mount")
        .clone();
    assert_eq!(
        (&mount["verdict"], &mount["programs"][0], &mount["tests"][0]),
        (&"expired".into(), &"import".into(), &"test_upload".into())
    );
    // Low risk is not looked at by a gate for high.
    place.profiler(&["diff", "HEAD", "main", "--fail-on", "risk=high", "--", "profiles"]).with(0);
    place.profiler(&["diff", "main", "HEAD", "--fail-on", "risk=high", "--", "profiles"]).with(1);
    place.profiler(&["diff", "HEAD", "main", "--", "profiles"]).with(1);
}

#[test]
fn two_branches_that_both_grew_merge_without_conflict() {
    let place = Place::repository();
    place.write("notes", "mine\n");
    place.commit(&backend(), "base");
    place.profiler(&["git", "install"]).with(0);
    place.git(&["add", "-A"]);
    place.git(&["commit", "-q", "-m", "attributes"]);
    place.git(&["checkout", "-q", "-b", "one"]);
    place.commit(&mounts(), "mounts");
    place.git(&["checkout", "-q", "-b", "two", "main"]);
    place.commit(&traces(), "traces");

    let shown = place.git(&["diff", "main", "two", "--", "profiles/backend/profile.json"]).stdout;
    let lines: Vec<&str> = shown
        .lines()
        .filter(|l| l.starts_with(['+', '-']) && !l.starts_with("+++") && !l.starts_with("---"))
        .collect();
    insta::assert_snapshot!("textconv", lines.join("\n"));

    place.git(&["merge", "-q", "--no-edit", "one"]);
    let evidence = merge([backend(), mounts(), traces()]).expect("one target");
    let profile = policy::derive(&evidence, &Options::default());
    for (name, text) in render::bundle(&evidence, &profile, "profiles/backend") {
        if name != "recording.json" {
            assert_eq!(place.read(&format!("profiles/backend/{name}")), text, "{name}");
        }
    }
    let both = place.profiler(&["diff", "main", "two", "--", "profiles"]).with(1).stdout;
    assert!(both.contains("mount") && both.contains("ptrace"), "{both}");
}

#[test]
fn what_cannot_be_joined_is_left_to_git() {
    let place = Place::repository();
    let file = |text: &str| place.write("profiles/x/profile.json", text);
    file("{\n}\n");
    place.git(&["add", "-A"]);
    place.git(&["commit", "-q", "-m", "base"]);
    place.profiler(&["git", "install"]).with(0);
    place.git(&["checkout", "-q", "-b", "one"]);
    file("{\n  \"a\": 1\n}\n");
    place.git(&["commit", "-q", "-am", "one"]);
    place.git(&["checkout", "-q", "-b", "two", "main"]);
    file("{\n  \"b\": 1\n}\n");
    place.git(&["commit", "-q", "-am", "two"]);
    let said = place.run(Command::new("git"), &["merge", "-q", "--no-edit", "one"]).with(1);
    assert!(said.stdout.contains("CONFLICT"), "{}", said.stdout);
    assert!(place.read("profiles/x/profile.json").contains("<<<<<<<"));
}

#[test]
fn install_can_be_repeated_and_taken_back() {
    for attributes in [None, Some("*.png binary\n"), Some("*.png binary"), Some("")] {
        let place = Place::repository();
        if let Some(text) = attributes {
            place.write(".gitattributes", text);
        }
        let config = place.read(".git/config");
        place.profiler(&["git", "install", "--dry-run"]).with(0);
        assert_eq!(place.read(".git/config"), config);
        place.profiler(&["git", "install"]).with(0);
        let installed = (place.read(".git/config"), place.read(".gitattributes"));
        place.profiler(&["git", "install"]).with(0);
        assert_eq!(
            (place.read(".git/config"), place.read(".gitattributes")),
            installed,
            "twice is once"
        );
        assert!(installed.1.starts_with(attributes.unwrap_or_default()));
        place.profiler(&["git", "uninstall"]).with(0);
        place.profiler(&["git", "uninstall"]).with(0);
        assert_eq!(place.read(".git/config"), config);
        let left = fs::read_to_string(place.path(".gitattributes")).ok();
        assert_eq!(left.as_deref(), attributes.filter(|text| !text.is_empty()));
    }
}

#[test]
fn revisions_that_cannot_be_compared() {
    let outside = Place::new();
    let mut said = vec![outside.profiler(&["diff", "main", "HEAD", "--", "profiles"])];
    let place = Place::repository();
    place.commit(&backend(), "base");
    for args in [
        vec!["diff", "no-such", "HEAD", "--", "profiles"],
        vec!["diff", "--", "-x", "HEAD"],
        vec!["diff", "HEAD", "HEAD", "--", "no/such/path"],
        vec!["diff", "HEAD"],
        vec!["diff", "HEAD", "main"],
        vec!["diff", "docker-default", "docker-default", "--fail-on", "risk=huge"],
        vec!["diff", "docker-default", "docker-default", "--capabilities", "FLY"],
        vec!["diff", "docker-default", "docker-default", "--allow", "missing.yaml"],
    ] {
        said.push(place.profiler(&args));
    }
    let said: Vec<String> = said.iter().map(Said::transcript).collect();
    insta::assert_snapshot!("refused", said.join("\n"));
}

#[test]
fn a_new_profile_is_compared_with_nothing() {
    let place = Place::repository();
    place.write("notes", "x\n");
    place.git(&["add", "-A"]);
    place.git(&["commit", "-q", "-m", "empty"]);
    place.commit(&backend(), "first");
    let new = place
        .profiler(&["diff", "HEAD~1", "HEAD", "--fail-on", "growth", "--", "profiles"])
        .with(1)
        .stdout;
    assert!(new.starts_with("profiles/backend (absent) -> HEAD:profiles/backend:"), "{new}");
    assert!(new.contains("clone3") && new.contains("CAP_SETUID"), "{new}");
}

const GATE: [&str; 7] = ["diff", "main", "HEAD", "--fail-on", "growth", "--", "profiles"];

/// A repository with the backend's profile on `main`, on a branch of its own.
fn branch() -> Place {
    let place = Place::repository();
    place.commit(&backend(), "base");
    place.git(&["checkout", "-q", "-b", "feature"]);
    place
}

impl Place {
    fn commit_all(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "change"]);
    }
}

#[test]
fn the_deployed_filter_is_held_against_the_profile() {
    let place = branch();
    let dir = "profiles/backend";
    let file = format!("{dir}/seccomp.json");
    let committed = place.read(&file);
    // Another layout of the same decisions is none of the gate's business.
    let value: serde_json::Value = serde_json::from_str(&committed).expect("JSON");
    place.write(&file, &value.to_string());
    place.commit_all();
    place.profiler(&GATE).with(0);

    let edited = committed.replacen("\"names\": [", "\"names\": [\"mount\", \"bpf\",", 1);
    assert_ne!(edited, committed);
    place.write(&file, &edited);
    place.commit_all();
    let profile = format!("{dir}/profile.json");
    for args in [
        &GATE[..],
        &["diff", "main", "--fail-on", "growth", "--", dir],
        &["diff", "main", "HEAD", "--fail-on", "growth", "--", &profile],
        &["diff", dir, "docker-default"],
        &["lint", dir],
        &["explain", dir],
    ] {
        let said = place.profiler(args).with(2).stderr;
        assert!(said.contains("`seccomp.json` is not what `"), "{args:?}: {said}");
        assert!(said.contains("syscall/x86_64/bpf, syscall/x86_64/mount"), "{args:?}: {said}");
    }
    // What only some engine or container makes of it counts too.
    let rule = r#""syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},"#;
    place.write(&file, &committed.replacen("\"syscalls\": [", rule, 1));
    place.commit_all();
    assert!(place.profiler(&GATE).with(2).stderr.contains("mount"));

    // The change that mends it passes.
    place.write(&file, &committed);
    place.commit_all();
    place.profiler(&["diff", "HEAD~1", "HEAD", "--fail-on", "growth", "--", dir]).with(0);
    place.profiler(&["lint", "--fail-on", "error", dir]);
    place.profiler(&["explain", dir]).with(0);
}

#[test]
fn the_deployed_capabilities_are_held_against_the_profile() {
    for (name, key, item) in
        [("compose.yaml", "cap_add:", "- SYS_ADMIN"), ("kubernetes.yaml", "add:", "- SYS_ADMIN")]
    {
        let place = branch();
        let file = format!("profiles/backend/{name}");
        let text = place.read(&file);
        let line = text.lines().find(|line| line.trim() == key).expect("some are added");
        let indent = &line[..line.len() - line.trim_start().len()];
        place.write(&file, &text.replacen(line, &format!("{line}\n{indent}  {item}"), 1));
        place.commit_all();
        let said = place.profiler(&GATE).with(2).stderr;
        assert!(said.contains(&format!("`{name}` is not what")), "{said}");
        assert!(said.contains("add SYS_ADMIN"), "{said}");
    }
}

#[test]
fn conditions_hold_for_containers_as_they_are() {
    let place = branch();
    let filter = |rules: &str| {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
            {{"names": ["read"], "action": "SCMP_ACT_ALLOW"}}{rules}]}}"#
        );
        place.write("profiles/plain/seccomp.json", &text);
        place.commit_all();
    };
    filter("");
    let gate = |more: &[&str]| {
        let args = ["diff", "main~0", "HEAD", "--arch", "x86_64", "--fail-on", "growth"];
        place.profiler(&[&args[..], more, &["--", "profiles/plain"]].concat())
    };
    place.git(&["branch", "-f", "main"]);
    let rule =
        |key: &str| format!(r#", {{"names": ["mount"], "action": "SCMP_ACT_ALLOW", {key}}}"#);
    for (key, context) in [
        (r#""includes": {"caps": ["CAP_CHOWN"]}"#, "allow\n"),
        (
            r#""includes": {"caps": ["CAP_SYS_ADMIN"]}"#,
            "allow, with all capabilities on kernel 4.0\n",
        ),
        (r#""excludes": {"caps": ["CAP_CHOWN"]}"#, "allow, with no capability on kernel 4.0\n"),
        (r#""excludes": {"minKernel": "4.8"}"#, "allow, with no capability on kernel 4.0\n"),
    ] {
        filter(&rule(key));
        let said = gate(&[]).with(1).stdout;
        assert!(said.contains(context), "{key}: {said}");
    }
    // What is named is what is looked at, by the names of before too.
    gate(&["--kernel", "6.1"]).with(0);
    gate(&["--kernel", "4.4"]).with(1);
    filter(&rule(r#""includes": {"caps": ["CAP_CHOWN"]}"#));
    gate(&["--cap", "none"]).with(0);
    gate(&["--capabilities", "docker,SYS_ADMIN", "--engine", "docker"]).with(1);
    // An engine's default is what a container has under it.
    place.write(
        "x.json",
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ALLOW"}]}"#,
    );
    let args = ["diff", "docker-default", "x.json", "--arch", "x86_64", "--cap", "docker"];
    place.profiler(&[&args[..], &["--fail-on", "growth"]].concat()).with(0);
    let said = place.profiler(&args[..5]).with(1).stdout;
    assert!(!said.contains("chroot"), "{said}");
}

#[test]
fn a_policy_that_is_gone_or_a_link_does_not_pass() {
    let place = branch();
    place.git(&["rm", "-q", "-r", "profiles"]);
    place.git(&["commit", "-q", "-m", "gone"]);
    let said = place.profiler(&GATE).with(1).stdout;
    assert!(said.contains("under the engine's default, or under no filter"), "{said}");
    place.write("allow.yaml", "allow: [{entry: policy, reason: retired, expires: 9999-12-31}]");
    place.profiler(&[&GATE[..5], &["--allow", "allow.yaml", "--", "profiles"]].concat()).with(0);

    for (link, target) in
        [("profiles/backend/profile.json", "../../other.json"), ("profiles/backend", "../other")]
    {
        let place = branch();
        let path = place.path(link);
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
            .expect("removes");
        std::os::unix::fs::symlink(target, &path).expect("links");
        let refused = format!("`{link}` in `the working tree` is a symbolic link");
        let said = place.profiler(&["diff", "main", "--", "profiles"]).with(2).stderr;
        assert!(said.contains(&refused), "{said}");
        place.commit_all();
        let said = place.profiler(&GATE).with(2).stderr;
        assert!(said.contains(&format!("`{link}` in `HEAD` is a symbolic link")), "{said}");
    }
}

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
    let place = branch();
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
        place.profiler(&args).with(0);
        let profile = ingest::profile::parse(&place.read("out/profile.json")).expect("a profile");
        let rule = profile.syscalls.iter().find(|rule| rule.name == "socketpair").expect("a rule");
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
}

#[test]
fn a_seccomp_file_alone_is_not_replaced() {
    let place = Place::new();
    place.write("recording.json", &render::json::recording(&backend()));
    place.write("out/seccomp.json", "{}");
    let said = place.profiler(&["generate", "recording.json", "--into", "out"]).with(2);
    assert!(said.stderr.contains("by which it could grow"), "{}", said.stderr);
    assert_eq!(place.read("out/seccomp.json"), "{}");
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
