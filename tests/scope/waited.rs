//! Cgroups that are waited for, and such as exist already.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{NEEDS, bundle::Bundle, tree, tree::Tree};
use crate::harness::{
    evidence::Recording,
    machine::{Machine, Need},
    program,
    record::Record,
    test::Test,
};

const RUNC: [Need; 3] = [Need::Bpf, Need::Tool("gcc", "gcc"), Need::Tool("runc", "runc")];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("scope::a_cgroup_is_caught_each_time_it_is_made", &NEEDS, waited),
        Test::new("scope::a_runtime_in_a_cgroup_is_told_from_its_container", &RUNC, runtime),
        Test::new("scope::a_container_inside_belongs_to_the_outer_one", &RUNC, nested),
        Test::new("scope::a_cgroup_that_exists_lacks_its_start", &NEEDS, running),
        Test::new("scope::a_command_may_leave_its_cgroup", &NEEDS, leaving),
    ]
}

/// A shell command that joins the cgroup and becomes the fixture.
fn join(machine: &Machine, tree: &Tree, calls: &str) -> Result<String> {
    Ok(format!("echo $$ > {} && exec {} {calls}", tree.procs(), machine.fixture("calls")?))
}

fn waited(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let tree = Tree::absent()?;
    let session =
        Record::new(machine, scratch.join("out")).args(["--cgroup", &tree.path]).start()?;
    session.expect_line(&format!("waiting for cgroup `{}`", tree.path))?;
    for calls in ["-q 278", "-q 276"] {
        tree.create()?;
        program::shell(&join(machine, &tree, calls)?)?;
        tree.remove()?;
    }
    let recorded = session.finish()?.expect_what_runs()?;
    let recording = recorded.recording()?;
    ensure!(recording.json["target"]["kind"] == "cgroup", "{}", recording.json["target"]);
    ensure!(recording.json["target"]["name"] == tree.path, "{}", recording.json["target"]);
    recording.expect_numbers(&[276, 278, 231])?;
    // Without a runtime nothing is set-up: what the shell did after it had joined is the target's.
    for phase in ["setup", "handover"] {
        let calls = recording.numbers("x86_64", phase);
        ensure!(calls.is_empty(), "{phase} of no runtime: {calls:?}");
    }
    let workload = recording.numbers("x86_64", "workload");
    ensure!(workload.len() < 20, "more than one shell's last words: {workload:?}");
    ensure!(recording.missing().is_empty(), "{:?}", recording.missing());
    recorded.says(&format!("cgroup `{}` ended", tree.path))?;
    ensure!(recorded.emitted().seccomp()?.allowed().contains("vmsplice"), "278 is not allowed");
    Ok(())
}

/// Fails unless the workload is exactly this, and the phases of a runtime are there.
fn expect_container(recording: &Recording, calls: &[u32]) -> Result<()> {
    let workload = recording.numbers("x86_64", "workload");
    ensure!(workload == calls.iter().copied().collect(), "the program did not make {workload:?}");
    let setup = recording.names("setup")?;
    ensure!(setup.contains("pivot_root"), "`pivot_root` is not in set-up: {setup:?}");
    let handover = recording.names("handover")?;
    ensure!(handover.contains("execve"), "`execve` is not in hand-over: {handover:?}");
    Ok(())
}

fn runtime(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let tree = Tree::absent()?;
    let (one, two) =
        (Bundle::new(machine, &tree.path, &["278"])?, Bundle::new(machine, &tree.path, &["276"])?);
    let recorded = Record::new(machine, scratch.join("out"))
        .args(["--cgroup", &tree.path])
        .workload(["sh", "-ec", &format!("{}; {}", one.run(), two.run())])
        .run()?
        .expect(0)?;
    expect_container(&recorded.recording()?, &[231, 276, 278])?;
    ensure!(recorded.recording()?.missing().is_empty(), "{:?}", recorded.recording()?.missing());
    // The directory says the same as the path.
    let again = Record::new(machine, scratch.join("again"))
        .args(["--cgroup", tree.dir.as_str()])
        .workload(["sh", "-ec", &one.run()])
        .run()?
        .expect(0)?;
    expect_container(&again.recording()?, &[231, 278])
}

fn nested(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let tree = Tree::absent()?;
    let inner = Bundle::new(machine, &format!("{}/inner", tree.path), &["278"])?;
    let session =
        Record::new(machine, scratch.join("out")).args(["--cgroup", &tree.path]).start()?;
    tree.create()?;
    program::shell(&format!("echo $$ > {} && exec {}", tree.procs(), inner.run()))?;
    tree.remove()?;
    let recorded = session.finish()?.expect_what_runs()?;
    let recording = recorded.recording()?;
    recording.expect_numbers(&[278])?;
    let workload = recording.names("workload")?;
    ensure!(workload.contains("pivot_root"), "the inner runtime is the outer one's: {workload:?}");
    ensure!(recording.missing().is_empty(), "{:?}", recording.missing());
    let inner = recording.runs().map(|run| run["inner_cgroups"].as_u64().unwrap_or(0)).sum::<u64>();
    ensure!(inner == 1, "{inner} cgroups were made inside");
    recorded.says("1 cgroup made inside the target's")
}

fn running(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let tree = Tree::absent()?;
    tree.create()?;
    let script = join(machine, &tree, "-s 279")?;
    let server = program::start(&mut program::command("sh", ["-c", &script]), &[])?;
    program::until("the server runs", Duration::from_secs(20), || server.stdout().contains("279"))?;
    let session = Record::new(machine, scratch.join("out"))
        .args(["--pid", &server.pid().to_string(), "--name", "server"])
        .start()?;
    session.expect_line(&format!("recording cgroup `{}`", tree.path))?;
    let calls = machine.fixture("calls")?;
    let (root, dir) = (tree::root()?, &tree.dir);
    program::shell(&format!(
        "echo $$ > {dir}/cgroup.procs && mkdir {dir}/inner \
         && (echo 0 > {dir}/inner/cgroup.procs && {calls} -q 276) \
         && (echo 0 > {root}/cgroup.procs && {calls} -q 277) \
         && rmdir {dir}/inner && exec {calls} -q 278"
    ))?;
    server.signal(rustix::process::Signal::KILL);
    drop(server.wait(Duration::from_secs(20))?);
    tree.remove()?;
    let recorded = session.finish()?.expect_what_runs()?;
    let recording = recorded.recording()?;
    recording.expect_numbers(&[276, 278])?;
    let workload = recording.numbers("x86_64", "workload");
    ensure!(!workload.contains(&279), "279 was made before the recording");
    ensure!(!workload.contains(&277), "277 was made in another cgroup");
    let missing = recording.missing();
    ensure!(missing == ["left", "startup"].map(str::to_owned).into(), "{missing:?}");
    recorded.says("1 process left the target's cgroup")?;
    recorded.says("1 cgroup made inside the target's")?;
    recorded.says(&format!("profiler record --cgroup {}", tree.path))
}

/// What leaves is not recorded, is said to be missing, and changes no exit status.
fn leaving(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (root, calls) = (tree::root()?, machine.fixture("calls")?);
    let script = format!("(echo 0 > {root}/cgroup.procs && {calls} -q 277); {calls} -q 278");
    let recorded = Record::new(machine, scratch.join("out"))
        .workload(["sh", "-c", &script])
        .run()?
        .expect(0)?;
    let recording = recorded.recording()?;
    recording.expect_numbers(&[278])?;
    ensure!(!recording.numbers("x86_64", "workload").contains(&277), "277 was made elsewhere");
    ensure!(recording.missing() == ["left".to_owned()].into(), "{:?}", recording.missing());
    let profile = fs_err::read_to_string(recorded.emitted().path("profile.json"))?;
    ensure!(profile.contains("processes left"), "profile.json does not say so\n{profile}");
    recorded.says("1 process left the target's cgroup")
}
