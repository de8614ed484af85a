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
    vec![Test::new("minimise::copies_of_a_container", &needs, copies)]
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

    let jobs = search(&[&args[..], &["--jobs", "2"]].concat())?;
    expect_refusal(&jobs, &["--jobs"])?;
    // Without a copy the profile would be that of a shell.
    let command = search(&["--syscalls", "-o", out.as_str()])?;
    expect_refusal(&command, &["--copy-of"])
}
