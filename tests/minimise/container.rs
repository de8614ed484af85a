//! Copies of a container: what they are started with is reduced, and nothing of them stays.

use anyhow::{Result, ensure};

use super::planted::{self, LIMIT, Report};
use crate::{
    badinput::refuse::expect_refusal,
    harness::{
        machine::{Machine, Need},
        program,
        record::Record,
        test::Test,
    },
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Engine, Need::Tool("gcc", "gcc")];
    vec![
        Test::new("minimise::copies_of_a_container", &needs, copies),
        Test::new("minimise::copies_at_the_same_time", &needs, at_once),
    ]
}

fn copies(machine: &Machine) -> Result<()> {
    let engine = machine.engine()?;
    let scratch = machine.scratch()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("minimise");
    let seccomp = format!("seccomp={}", machine.permissive());
    engine.docker(&[
        "create",
        "--name",
        &container.name,
        "--network=none",
        "--security-opt",
        &seccomp,
        &image,
        "/bin/needs",
        "@/etc/passwd",
        "16",
        "46",
    ])?;
    let start = ["docker", "start", "--attach", &container.name];
    let recorded = Record::containers(machine, scratch.join("recorded"), &[&container.name])?
        .workload(start)
        .run()?
        .expect(0)?;
    let profile =
        planted::plant(&recorded.dir, &scratch.join("planted"), &["ptrace"], &["SYS_TIME"])?;
    let out = scratch.join("out");
    let tests = [
        "sh",
        "-c",
        "test $(docker wait $PROFILER_CONTAINER) = 0 || { docker logs $PROFILER_CONTAINER; exit 1; }",
    ];
    let args = ["--syscalls", "--repeats", "1", "--copy-of", &container.name, "-o", out.as_str()];
    let search = |args: &[&str]| {
        let mut search = planted::minimise(machine, &profile, args, &tests);
        engine.environment(&mut search);
        program::run(&mut search, LIMIT)
    };
    let before = engine.containers()?;
    let report = Report::of(search(&args)?)?;
    for (entry, verdict) in [
        ("CAP_SYS_TIME", "not-needed"),
        ("ptrace", "not-needed"),
        ("CAP_CHOWN", "needed"),
        ("execve", "not-tried"),
        ("ioctl", "used"),
    ] {
        ensure!(report.verdict(entry) == verdict, "{entry}: {}", report.line(entry));
    }
    let chown = report.line("CAP_CHOWN");
    ensure!(chown["output"].as_str().is_some_and(|said| said.contains("needs: ")), "{chown}");
    let left: Vec<_> = engine.containers()?.difference(&before).cloned().collect();
    let is_ours = |id: &String| {
        let name = engine.docker(&["inspect", "--format", "{{.Name}}", id]);
        name.is_ok_and(|name| name.contains("profiler-verify"))
    };
    // Others' verifications may run beside this one; what is left of ours stays.
    if left.iter().any(is_ours) {
        program::until("no copy is left", LIMIT, || !left.iter().any(is_ours))?;
    }
    let compose = fs_err::read_to_string(out.join("compose.yaml"))?;
    ensure!(compose.contains("- CHOWN") && !compose.contains("SYS_TIME"), "{compose}");

    // Without a copy the profile would be that of a shell.
    let command = search(&["--syscalls", "-o", out.as_str()])?;
    expect_refusal(&command, &["--copy-of"])
}

/// Two at a time come to the same answer as one, and do run at the same time: each waits for another, as long as there is a hope.
/// What they would have to share is refused.
fn at_once(machine: &Machine) -> Result<()> {
    let engine = machine.engine()?;
    let scratch = machine.scratch()?;
    let image = engine.fixture_image(machine)?;
    let seccomp = format!("seccomp={}", machine.permissive());
    let program = ["/bin/needs", "@/etc/passwd", "16", "46"];
    let create = |name: &str, options: &[&str]| {
        let all = ["create", "--name", name, "--security-opt", &seccomp];
        engine.docker(&[&all[..], options, &[&image], &program].concat())
    };
    let container = engine.name("minimise");
    create(&container.name, &["--network=none"])?;
    let start = ["docker", "start", "--attach", &container.name];
    let recorded = Record::containers(machine, scratch.join("recorded"), &[&container.name])?
        .workload(start)
        .run()?
        .expect(0)?;
    let profile =
        planted::plant(&recorded.dir, &scratch.join("planted"), &["ptrace"], &["SYS_TIME"])?;
    let (log, meet) = (scratch.join("log"), scratch.join("meet"));
    fs_err::create_dir(&meet)?;
    // a run that sees another one beside it says so
    let line = format!(
        "mkdir {meet}/$PROFILER_CONTAINER; for each in 1 2 3 4 5 6; do \
         test $(ls {meet} | wc -l) -gt 1 && echo met >> {log}; sleep 0.2; done; \
         status=$(docker wait $PROFILER_CONTAINER); rmdir {meet}/$PROFILER_CONTAINER; \
         test $status = 0 || {{ docker logs $PROFILER_CONTAINER; exit 1; }}"
    );
    let search = |name: &str, jobs: &str| {
        let out = scratch.join(&format!("out-{jobs}"));
        let args = ["--repeats", "1", "--copy-of", name, "--jobs", jobs, "-o", out.as_str()];
        let mut search = planted::minimise(machine, &profile, &args, &["sh", "-c", &line]);
        engine.environment(&mut search);
        program::run(&mut search, LIMIT)
    };
    let verdicts = |jobs: &str| -> Result<Vec<(String, String)>> {
        let report = Report::of(search(&container.name, jobs)?)?;
        let entries = report.json["entries"].as_array().into_iter().flatten();
        let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        Ok(entries.map(|entry| (word(&entry["entry"]), word(&entry["verdict"]))).collect())
    };
    let one = verdicts("1")?;
    ensure!(!log.exists(), "one at a time");
    let two = verdicts("2")?;
    ensure!(one == two, "{one:?} of one, {two:?} of two");
    ensure!(one.contains(&("CAP_SYS_TIME".to_owned(), "not-needed".to_owned())), "{one:?}");
    ensure!(log.exists(), "no two runs met");

    let other = engine.name("published");
    create(&other.name, &["--publish=127.0.0.1::80"])?;
    expect_refusal(&search(&other.name, "3")?, &["published ports", "--jobs"])
}
