//! What is not a target's own cgroup is refused, with the reason.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{
    NEEDS,
    tree::{self, Tree},
};
use crate::{
    badinput::refuse::{expect_refusal, refused},
    harness::{
        evidence::Recording,
        machine::{Machine, Need},
        pair::{Options, Pair},
        program::{self, Output},
        record::Record,
        test::Test,
    },
};

const LIMIT: Duration = Duration::from_secs(30);

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("scope::what_is_no_cgroup_of_its_own_is_refused", &NEEDS, not_its_own),
        Test::new("scope::a_shared_cgroup_is_not_one_process_s", &NEEDS, shared),
        Test::new(
            "scope::without_a_cgroup2_tree_nothing_is_recorded",
            &[Need::Bpf, Need::Engine, Need::Tool("unshare", "util-linux")],
            legacy,
        ),
        Test::new(
            "scope::in_a_cgroup_namespace_only_what_exists_is_recorded",
            &[Need::Bpf, Need::Tool("gcc", "gcc"), Need::Tool("unshare", "util-linux")],
            namespace,
        ),
        Test::new(
            "scope::a_container_without_a_cgroup_is_refused",
            &[Need::Bpf, Need::Tool("gcc", "gcc"), Need::Pair(WITHOUT)],
            without,
        ),
    ]
}

/// An engine that can start containers without a cgroup.
const WITHOUT: Pair = Pair { runtime: "crun", engine: "podman-cgroup2" };

/// Whether it was waited for or runs already.
fn without(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let mut container = WITHOUT.container(machine, "without");
    let record = |out: &str| -> Result<Record> {
        let record = Record::new(machine, scratch.join(out))
            .args(WITHOUT.target(machine, &container.name)?)
            .env("DOCKER_HOST", WITHOUT.host(machine)?.context("podman has an address")?);
        Ok(record)
    };
    let (waiting, late) = (record("waiting")?, record("late")?);
    let session = waiting.start()?;
    let options = Options { no_cgroup: true, ..Options::default() };
    let _client = container.start(&options, &["/bin/sleep", "1000"])?;
    expect_refusal_amid(&session.finish()?.output)?;
    expect_refusal_amid(&late.run()?.output)?;
    for out in ["waiting", "late"] {
        ensure!(!scratch.join(out).exists(), "something was written");
    }
    Ok(())
}

/// As [`expect_refusal`], after what was said before.
fn expect_refusal_amid(output: &Output) -> Result<()> {
    let stderr = output.stderr.lines().filter(|line| !line.starts_with("waiting for"));
    let stderr = stderr.collect::<Vec<_>>().join("\n");
    expect_refusal(&Output { stderr, ..output.clone() }, &["has no cgroup of its own"])
}

fn not_its_own(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let touched = scratch.join("touched");
    let tree = Tree::absent()?;
    tree.create()?;
    let (root, file) = (tree::root()?, tree.procs());
    let long = format!("/{}", "x".repeat(256));
    let deep = format!("/{}", ["x"; 300].join("/"));
    let mut cases: Vec<(Vec<&str>, &str)> = vec![
        (vec!["--cgroup", "/"], "root cgroup"),
        (vec!["--cgroup", root.as_str()], "root cgroup"),
        (vec!["--cgroup", ""], "--cgroup"),
        (vec!["--cgroup", "docker/x"], "does not begin with `/`"),
        (vec!["--cgroup", "/docker/../.."], "leads out"),
        (vec!["--cgroup", "/a\nb"], "line feed"),
        (vec!["--cgroup", &long], "too long"),
        (vec!["--cgroup", &deep], "too long"),
        (vec!["--cgroup", file.as_str()], "is a file"),
        (vec!["--cgroup", "/sys/fs/cgroup/../x"], "leads out"),
        (vec!["--cgroup", "/pt-no-such-cgroup", "--no-wait"], "no cgroup `/pt-no-such-cgroup`"),
        (vec!["--cgroup", "/x", "--container", "y"], "--container"),
        (vec!["--cgroup", "/x", "--pid", "7"], "--pid"),
        (vec!["--cgroup", "/x", "--restart"], "--restart"),
        (vec!["--pid", "1", "--docker-host", "unix:///x"], "--docker-host"),
        (vec!["--pid", "0"], "0"),
        (vec!["--pid", "x"], "x"),
        (vec!["--pid", "2147483647"], "ended"),
    ];
    let trees = tree::version_one()?;
    let below: Vec<String> = trees.iter().map(|tree| format!("{tree}/docker/x")).collect();
    cases.extend(below.iter().map(|path| (vec!["--cgroup", path.as_str()], "version 1 tree")));
    for (options, word) in cases {
        let command = ["--", "/bin/touch", touched.as_str()];
        refused(machine, &[&["record"], options.as_slice(), &command].concat(), &[word])?;
    }
    ensure!(!touched.exists(), "the command was run for nothing");
    Ok(())
}

fn shared(machine: &Machine) -> Result<()> {
    let tree = Tree::absent()?;
    tree.create()?;
    let join = format!("echo $$ > {} && echo in && exec sleep 1000", tree.procs());
    let start = || program::start(&mut program::command("sh", ["-c", &join]), &[]);
    let (one, other) = (start()?, start()?);
    program::until("both are in it", LIMIT, || {
        [&one, &other].iter().all(|process| process.stdout().contains("in"))
    })?;
    let (pid, stranger) = (one.pid().to_string(), other.pid().to_string());
    refused(machine, &["record", "--pid", &pid], &[&tree.path, &stranger, "shares"])
}

/// The kernel knows a cgroup by another path than a recorder in a namespace of its own.
fn namespace(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let out = scratch.join("out");
    let tree = Tree::absent()?;
    let record = |args: &[&str]| {
        let words = ["--cgroup", machine.profiler.as_str(), "record", "-o", out.as_str()];
        let target = ["--cgroup", &tree.path];
        let args = [&words[..], &target, args].concat();
        program::run(&mut program::command("unshare", args), LIMIT)
    };
    expect_refusal(&record(&[])?, &["cannot be waited for", "--cgroupns=host"])?;
    ensure!(!out.exists(), "an output directory was made");
    tree.create()?;
    let calls = machine.fixture("calls")?;
    let join = format!("echo $$ > {} && exec {calls} -q 278", tree.procs());
    record(&["--", "sh", "-c", &join])?.expect(0)?;
    let recording = Recording::read(&out)?;
    recording.expect_numbers(&[278])?;
    ensure!(recording.missing().is_empty(), "it was empty before: {:?}", recording.missing());
    Ok(())
}

/// In a mount namespace in which the cgroup2 tree is not.
fn legacy(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (out, touched) = (scratch.join("out"), scratch.join("touched"));
    let script = format!("umount -R {} && exec \"$@\"", tree::root()?);
    for target in [
        vec!["--cgroup", "/x"],
        vec!["--container", "x"],
        vec!["--pid", "1"],
        vec!["--", "/bin/touch", touched.as_str()],
    ] {
        let record = [machine.profiler.as_str(), "record", "-o", out.as_str()];
        let namespace = ["--mount", "sh", "-c", &script, "sh"];
        let args = [&namespace[..], &record, &target].concat();
        let mut command = program::command("unshare", args);
        machine.engine()?.environment(&mut command);
        expect_refusal(&program::run(&mut command, LIMIT)?, &["cgroup"])?;
        ensure!(!out.exists() && !touched.exists(), "something was done");
    }
    Ok(())
}
