//! What the program prints when it is asked for something that it cannot do, and when it is asked what it can. Whole outputs,
//! as a user without privileges sees them.

use assert_cmd::Command;

/// Arguments, status and both streams, run in an empty directory with `files` in it.
fn transcript(args: &[&str], files: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        fs_err::write(dir.path().join(name), text).expect("a file");
    }
    let output = Command::cargo_bin("profiler")
        .expect("built")
        .args(args)
        .current_dir(dir.path())
        .env_remove("DOCKER_HOST")
        .env_remove("COLUMNS")
        .output()
        .expect("runs");
    let left = fs_err::read_dir(dir.path()).expect("lists").count();
    assert_eq!(left, files.len(), "it leaves nothing behind");
    format!(
        "$ profiler {}\nstatus {:?}\n--- stdout\n{}--- stderr\n{}",
        args.join(" "),
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
fn help() {
    insta::assert_snapshot!("help", transcript(&["--help"], &[]));
    insta::assert_snapshot!("help_record", transcript(&["record", "--help"], &[]));
    insta::assert_snapshot!("help_generate", transcript(&["generate", "--help"], &[]));
    insta::assert_snapshot!("help_merge", transcript(&["merge", "--help"], &[]));
    insta::assert_snapshot!("help_diff", transcript(&["diff", "--help"], &[]));
    insta::assert_snapshot!("help_git", transcript(&["git", "install", "--help"], &[]));
}

#[test]
fn usage_errors() {
    let cases: [&[&str]; 16] = [
        &["record", "--harden", "--", "true"],
        &["record", "--harden", "user", "--container", "cc"],
        &["record", "--harden", "read-only,user", "--container", "cc"],
        &["record", "user", "--container", "cc"],
        &["record", "--project", "Shop"],
        &["record", "--harden=user,network", "--cgroup", "/x"],
        &["record", "--harden=users", "--container", "cc"],
        &["record", "--harden=", "--container", "cc"],
        &["record"],
        &["record", "--container", ""],
        &["record", "--container", "cc", "--container", "/cc"],
        &["record", "--duration", "soon", "--container", "cc"],
        &["record", "--restart", "--", "true"],
        &["record", "--no-such-flag"],
        &["record", "-o", "out", "--", "no-such-program-anywhere"],
        &["doctor", "--format", "xml"],
    ];
    let all: Vec<String> = cases.iter().map(|args| transcript(args, &[])).collect();
    insta::assert_snapshot!("usage_errors", all.join("\n"));
}

#[test]
fn advice_is_told_with_its_evidence_and_what_stands_in_the_way() {
    const USED: &str = include_str!("data/used.json");
    let hostile = USED
        .replace("/opt/odd/x", "/etc/\\u001b[31m\\n`id`")
        .replace("\"looks\": 20", "\"looks\": 1");
    assert_ne!(hostile, USED);
    let mut all = String::new();
    for (text, option) in
        [(USED, "--harden"), (&hostile, "--harden"), (USED, "--harden=user,network")]
    {
        let dir = tempfile::tempdir().expect("a directory");
        fs_err::write(dir.path().join("used.json"), text).expect("a file");
        let output = Command::cargo_bin("profiler")
            .expect("built")
            .args(["generate", "used.json", "-o", "out", option])
            .current_dir(dir.path())
            .output()
            .expect("runs");
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stderr).expect("UTF-8");
        let from = told.find("beyond calls").expect("a section");
        let section = told[from..].split("\n\n").next().unwrap_or_default();
        let next = told.lines().last().unwrap_or_default();
        all.push_str(&format!("$ {option}\n{section}\n{next}\n\n"));
        // its own renderings are what the profile gives, also where Kubernetes needs more for a low port
        let mut diff = Command::cargo_bin("profiler").expect("built");
        diff.args(["diff", "out", "out"]).current_dir(dir.path()).assert().success();
    }
    insta::assert_snapshot!("advice", all);
}

#[test]
fn the_files_that_an_override_is_added_to_stay_in_its_head() {
    let dir = tempfile::tempdir().expect("a directory");
    let service = include_str!("data/used.json")
        .replacen("\"container\"", "\"service\"", 1)
        .replace("\"user\":", "\"compose_service\": \"web\", \"user\":");
    fs_err::write(dir.path().join("used.json"), &service).expect("a file");
    let generate = || {
        let mut command = Command::cargo_bin("profiler").expect("built");
        command.args(["generate", "used.json", "--into", "out"]).current_dir(dir.path());
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stderr).expect("UTF-8");
        told.lines().last().unwrap_or_default().trim().to_owned()
    };
    // what it was started with, and on which volumes, is compose's to say: there is no `docker run` of a service
    let command = |base: &str| format!("docker compose {base} -f out/compose.yaml up web");
    assert_eq!(generate(), command("-f compose.yaml"));
    let path = dir.path().join("out/compose.yaml");
    let unknown = fs_err::read_to_string(&path).expect("written");
    let head = "-f docker-compose.yml -f more.yml -f THIS_FILE up";
    let known = unknown.replace("-f compose.yaml -f THIS_FILE up", head);
    assert!(known.contains(head), "{known}");
    fs_err::write(&path, &known).expect("writes");
    assert_eq!(generate(), command("-f docker-compose.yml -f more.yml"));
    assert_eq!(fs_err::read_to_string(&path).expect("written"), known);
    fs_err::write(&path, known.replace("more.yml", "a;reboot")).expect("writes");
    assert_eq!(generate(), command("-f compose.yaml"), "it is to be pasted");
    assert_eq!(fs_err::read_to_string(&path).expect("written"), unknown);
}

#[test]
fn recordings_that_are_none() {
    let args = ["generate", "recording.json", "-o", "out"];
    let all: Vec<String> =
        ["", "{", "[]", "{}", "{\"schema_version\": 999}", "{\"schema_version\": 1}"]
            .iter()
            .map(|text| transcript(&args, &[("recording.json", text)]))
            .chain([transcript(&args, &[])])
            .collect();
    insta::assert_snapshot!("recordings_that_are_none", all.join("\n"));
}

#[test]
fn policies_are_explained_and_linted() {
    const FILE: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
  {"names": ["read", "raed"], "action": "SCMP_ACT_ALLOW"},
  {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}
]}"#;
    let cases: [&[&str]; 9] = [
        &["explain", "x.json", "--arch", "x86_64"],
        &["explain", "x.json", "socket"],
        &["explain", "x.json", "--why-not", "socket", "AF_PACKET", "SOCK_RAW"],
        &["explain", "x.json", "--why-not", "socket", "AF_NOTHING"],
        &["explain", "x.json", "sockt"],
        &["explain", "none.json"],
        &["lint", "x.json", "--fail-on", "error", "--libseccomp", "2.6.1"],
        &["lint", "x.json", "--runtime", "kata"],
        &["--color", "always", "explain", "x.json", "--why-not", "read", "0"],
    ];
    let files = [("x.json", FILE)];
    let all: Vec<String> = cases.iter().map(|args| transcript(args, &files)).collect();
    insta::assert_snapshot!("explain_and_lint", all.join("\n"));
}

#[test]
fn files_are_audited() {
    const FILE: &str = "services:
  web:
    image: localhost/app:1
    user: '1000'
    cap_drop: [ALL]
    privileged: ${PRIVILEGED}
    volumes: ['/var/run/docker.sock:/s']
    environment: {TOKEN: hunter2}
";
    let cases: [&[&str]; 9] = [
        &["audit", "compose.yaml"],
        &["audit", "server.py"],
        &["audit", "chart.yaml"],
        &["audit", "empty.yaml", "--fail-on", "note"],
        &["audit", "broken.yaml"],
        &["audit", "compose.yaml", "--format", "markdown", "--scan", "none.json"],
        &["audit", "none.yaml"],
        &["audit", "x.json", "--fail-on", "note"],
        &["audit", "--help"],
    ];
    let files = [
        ("compose.yaml", FILE),
        ("empty.yaml", "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: web}\n"),
        (
            "broken.yaml",
            "services:\n  web:\n    environment:\n      TOKEN: hunter2\n       B: hunter2\n",
        ),
        ("x.json", "{}"),
        ("server.py", "import os\nprint(f'{os.getpid()}: ready'): [\n"),
        (
            "chart.yaml",
            "kind: Deployment\n{{- if .Values.web }}\napiVersion: apps/v1\n{{- end }}\n",
        ),
    ];
    let all: Vec<String> = cases.iter().map(|args| transcript(args, &files)).collect();
    insta::assert_snapshot!("audit", all.join("\n"));
}

#[test]
fn lint_mends_a_file_in_its_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.json");
    let before = "{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\",\n  \"architectures\": [\"SCMP_ARCH_X86_64\"],\n  \"syscalls\": [\n    {\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\"},\n    {\"names\": [\"mount\"], \"action\": \"SCMP_ACT_ERRNO\", \"comment\": \"kept\"}\n  ]\n}\n";
    fs_err::write(&path, before).expect("writes");
    let lint = |arguments: &[&str]| {
        let mut command = Command::cargo_bin("profiler").expect("built");
        let output = command.arg("lint").arg(&path).args(arguments).output().expect("runs");
        output.status.code()
    };
    assert_eq!(lint(&["--fail-on", "note"]), Some(1));
    assert_eq!(lint(&["--fail-on", "note", "--fix"]), Some(0));
    let after = fs_err::read_to_string(&path).expect("reads");
    let rule = "\n    {\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\"},";
    assert_eq!(after, before.replace(rule, ""));
}

#[test]
fn completions_and_manual_pages_are_made() {
    let output = |args: &[&str]| {
        let output =
            Command::cargo_bin("profiler").expect("built").args(args).output().expect("runs");
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let bash = output(&["completions", "bash"]);
    let mut shell = Command::new("bash");
    shell.arg("-n").write_stdin(bash.clone()).assert().success();
    for script in [bash, output(&["completions", "zsh"]), output(&["completions", "fish"])] {
        assert!(script.contains("explain") && script.contains("fail-on"), "{script}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    output(&["man", &dir.path().to_string_lossy()]);
    let page = fs_err::read_to_string(dir.path().join("profiler-lint.1")).expect("reads");
    assert!(page.contains(".TH profiler-lint 1") && page.contains("fail\\-on"), "{page}");
    assert_eq!(
        output(&["man"]),
        fs_err::read_to_string(dir.path().join("profiler.1")).expect("reads")
    );
    assert!(!dir.path().join("profiler-__enter.1").exists());
}
