//! Profiles in a repository: what branches, revisions and the gate between them make of them.

use assert_cmd::Command;
use fs_err as fs;
use profiler::{
    model::{
        merge::merge,
        policy::{self, Options},
    },
    render,
};

use crate::place::{Place, Said, backend, mounts, traces};

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
fn the_deployed_settings_are_held_against_the_profile() {
    // after the line that has the key
    for (name, key, more, said) in [
        ("compose.yaml", "cap_add:", "  - SYS_ADMIN", "cap_add has SYS_ADMIN"),
        ("compose.yaml", "services:", "  other: {}", "services.other is there"),
        ("compose.yaml", "cap_drop:", "  !reset", "unsupported tag `!reset`"),
        // a comment to some readers, and a line of its own to others
        ("compose.yaml", "cap_drop:", "  # x\u{2028}    privileged: true", "U+2028"),
        ("kubernetes.yaml", "add:", "  # x\u{85}            privileged: true", "U+0085"),
        ("kubernetes.yaml", "securityContext:", "  <<: {privileged: true}", "merge key"),
        ("kubernetes.yaml", "add:", "  - SYS_ADMIN", "capabilities.add has SYS_ADMIN"),
        ("kubernetes.yaml", "seccompProfile:", "  more: x", "seccompProfile.more is there"),
    ] {
        let place = branch();
        let file = format!("profiles/backend/{name}");
        let text = place.read(&file);
        let line = text.lines().find(|line| line.trim() == key).expect("it is there");
        let indent = &line[..line.len() - line.trim_start().len()];
        let edited = text.replacen(line, &format!("{line}\n{indent}{more}"), 1);
        place.write(&file, &edited);
        place.commit_all();
        let stderr = place.profiler(&GATE).with(2).stderr;
        assert!(stderr.contains(&format!("`{name}` ")) && stderr.contains(said), "{stderr}");
    }
}

/// The override for all services is above their directories. One that does not begin as profiler's is the user's own.
#[test]
fn the_override_of_a_project_is_held_against_each_profile() {
    let place = branch();
    let name = backend().target.name;
    let first = "# Runs the services under what profiler recorded.\n";
    let of = |first: &str, service: &str| format!("{first}services:\n  {name}:\n{service}");
    let project = "profiles/compose.yaml";
    place.write(project, &of(first, "    privileged: true\n"));
    place.commit_all();
    for args in [&GATE[..], &["diff", "main", "--", "profiles"], &["explain", "profiles/backend"]] {
        let stderr = place.profiler(args).with(2).stderr;
        assert!(stderr.contains("`../compose.yaml` is not what"), "{args:?}: {stderr}");
        assert!(stderr.contains(&format!("services.{name}.privileged is there")), "{stderr}");
    }
    let own = place.read("profiles/backend/compose.yaml");
    let service: Vec<&str> = own.lines().filter(|line| line.starts_with("    ")).collect();
    for (first, service) in
        [(first, service.join("\n") + "\n"), ("", "    privileged: true\n".into())]
    {
        place.write(project, &of(first, &service));
        place.commit_all();
        place.profiler(&GATE).with(0);
    }
    // a path that git could take for a pattern
    place.git(&["mv", "profiles/backend", "./:x"]);
    place.write("./:x/seccomp.json", "{\"defaultAction\": \"SCMP_ACT_ALLOW\"}");
    place.commit_all();
    let moved = ["diff", "HEAD", "HEAD", "--fail-on", "growth", "--", "./:x"];
    assert!(place.profiler(&moved).with(2).stderr.contains("`seccomp.json` is not what"));
    place.git(&["checkout", "-q", "HEAD~1", "--", "."]);
    place.git(&["rm", "-rq", "./:x"]);
    // nothing is above the top of the repository
    place.git(&["mv", "profiles/backend/profile.json", "profile.json"]);
    place.commit_all();
    place.profiler(&["diff", "HEAD", "HEAD", "--fail-on", "growth", "--", "profile.json"]).with(0);
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
