//! Nothing is missing at full speed: all CPUs at once, and one start after the other.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::NEEDS;
use crate::{
    command::counts::counts,
    harness::{
        machine::Machine,
        program,
        record::Record,
        syscalls::{NATIVE, RARE},
        test::Test,
    },
    scope::tree::Tree,
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("faults::all_cpus_at_full_speed", &NEEDS, full_speed),
        Test::new("faults::a_thousand_starts_of_a_cgroup", &NEEDS, thousand_starts),
    ]
}

/// Children that each CPU's worker starts.
const ROUNDS: u64 = 1000;
/// getppid calls between two of them.
const NOISE: u64 = 50;
/// fork, wait4, getppid, exit_group, sched_setaffinity, sched_getaffinity, write.
const OWN: [u64; 7] = [57, 61, 110, 231, 203, 204, 1];

/// Each call is one of a short-lived child, and each is counted, while others keep the machine busy.
fn full_speed(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (swarm, flood) = (machine.fixture("swarm")?, machine.fixture("flood")?);
    let noise = [flood.as_str(), "100000000000", "276", "277"];
    let bystander = program::start(&mut program::command(noise[0], &noise[1..]), &[])?;
    let numbers: Vec<u64> = RARE.iter().copied().map(u64::from).collect();
    let mut workload = vec![swarm.to_string(), ROUNDS.to_string()];
    workload.extend(numbers.iter().map(u64::to_string));
    let recorded = Record::new(machine, scratch.join("out"))
        .args(["--counts"])
        .workload(workload)
        .run()?
        .expect(0)?;
    drop(bystander);
    let workers = recorded.output.stdout.trim_end().len() as u64;
    ensure!(workers > 0, "no worker told itself\n{}", recorded.output.text());
    let [fork, wait4, getppid, exit_group, set_affinity, get_affinity, write] = OWN;
    let children = workers * ROUNDS;
    let mut expected: BTreeMap<u64, u64> =
        numbers.iter().map(|nr| (*nr, children / numbers.len() as u64)).collect();
    expected.extend([
        (fork, workers + children),
        (wait4, workers + children),
        (getppid, children * NOISE),
        (exit_group, 1 + workers + children),
        (set_affinity, workers),
        (get_affinity, 1),
        (write, workers),
    ]);
    let counts = counts(&recorded.recording()?);
    let differs: Vec<_> = expected
        .iter()
        .filter(|(nr, count)| counts.get(nr) != Some(count))
        .map(|(nr, count)| format!("{nr}: {count} made, {:?} recorded", counts.get(nr)))
        .collect();
    ensure!(differs.is_empty(), "{differs:?}");
    let more: Vec<_> = counts.keys().filter(|nr| !expected.contains_key(nr)).collect();
    ensure!(more.is_empty(), "calls that nobody made: {more:?}");
    let missing = recorded.recording()?.missing();
    ensure!(missing.is_empty(), "{missing:?}");
    Ok(())
}

const STARTS: u32 = 1000;
/// Numbers of no call, for the starts after those that have one of [`RARE`].
const NAMELESS: u32 = 600;

/// A cgroup is made, one process makes one call in it, and it is removed, as fast as the machine can. Each call is another one.
fn thousand_starts(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (tree, starts) = (Tree::absent()?, machine.fixture("starts")?);
    let mut command = vec![starts.to_string(), tree.dir.to_string()];
    command.extend([STARTS, NAMELESS].iter().chain(&RARE).map(u32::to_string));
    let recorded = Record::new(machine, scratch.join("out"))
        .args(["--cgroup", &tree.path])
        .workload(command)
        .run()?
        .expect(0)?;
    let recording = recorded.recording()?;
    let rare = u32::try_from(RARE.len()).context("few")?;
    let exit_group = 231;
    let mut expected: Vec<u32> =
        RARE.into_iter().chain(NAMELESS + rare..NAMELESS + STARTS).chain([exit_group]).collect();
    expected.sort_unstable();
    let seen: Vec<u32> = recording.numbers(NATIVE, "workload").into_iter().collect();
    let missed: Vec<_> = expected.iter().filter(|nr| !seen.contains(nr)).collect();
    ensure!(missed.is_empty(), "{} of {STARTS} first calls were missed: {missed:?}", missed.len());
    let foreign: Vec<_> = seen.iter().filter(|nr| !expected.contains(nr)).collect();
    ensure!(foreign.is_empty(), "calls that nobody made: {foreign:?}");
    ensure!(recording.missing().is_empty(), "{:?}", recording.missing());
    Ok(())
}
