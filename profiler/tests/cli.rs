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
    let cases: [&[&str]; 8] = [
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
