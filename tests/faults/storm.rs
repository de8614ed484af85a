//! A workload that does what it can to make the recorder grow.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{
    NEEDS, bounds,
    held::{Kind, held_by},
};
use crate::harness::{
    machine::{Machine, Need, Scratch},
    record::{Record, Recorded},
    syscalls::{NATIVE, RARE},
    test::Test,
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let stress = [&NEEDS[..], &[Need::Tool("stress-ng", "stress-ng")]].concat();
    vec![
        Test::new("faults::a_storm_of_random_calls_stays_within_bounds", &NEEDS, random_calls),
        Test::new("faults::stress_ng_stays_within_bounds", &stress, stress_ng),
    ]
}

/// How often each process of the storm goes round: a few seconds of all CPUs.
const ROUNDS: u32 = 12_000;

fn random_calls(machine: &Machine) -> Result<()> {
    let storm = machine.fixture("storm")?;
    let scratch = machine.scratch()?;
    let recorded = amid(machine, &scratch, &format!("{storm} 4 {ROUNDS} 1"))?.expect(3)?;
    // what did not fit is told, by table
    for table in ["syscalls", "attribution"] {
        recorded.says(&format!("entries of table `{table}` did not fit"))?;
    }
    let recording = recorded.recording()?;
    let sparse = recording.numbers(NATIVE, "workload").into_iter().filter(|nr| *nr >= 512).count();
    ensure!((1..=4096).contains(&sparse), "{sparse} numbers without a cell of their own");
    let combinations = recording
        .facts("arguments")
        .filter(|fact| fact["phase"] == "workload" && fact["abi"] == NATIVE)
        .filter(|fact| fact["nr"] == 16)
        .count();
    ensure!(combinations <= 32, "{combinations} combinations of ioctl's arguments");
    Ok(())
}

fn stress_ng(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    // a stressor that this machine does not let run is no matter
    let stress = "stress-ng --quiet --timeout 4s --fork 1 --exec 1 --enosys 1 --prctl 1 || true";
    let recorded = amid(machine, &scratch, stress)?;
    ensure!(matches!(recorded.output.status, 0 | 3), "{}", recorded.output.text());
    Ok(())
}

/// Records a workload, and a program beside it in the same target whose calls must all be there. Meanwhile the recorder's memory, the
/// kernel's for it included, is held against what docs/limits.md states.
fn amid(machine: &Machine, scratch: &Scratch, workload: &str) -> Result<Recorded> {
    let calls = machine.fixture("calls")?;
    let rare = RARE.map(|nr| nr.to_string()).join(" ");
    let known = format!("for nr in {rare}; do {calls} -q $nr; done");
    let script = format!("cd {0}; ({workload}) >/dev/null 2>&1 & {known}; wait $!", scratch.path());
    let mut session =
        Record::new(machine, scratch.join("out")).workload(["/bin/sh", "-c", &script]).start()?;
    let pid = session.running.pid();
    // from now on: loading took more for a moment
    fs_err::write(format!("/proc/{pid}/clear_refs"), "5")?;
    let (mut resident, mut maps, began) = (0, 0, Instant::now());
    while !session.running.has_ended() {
        // gone at the end, and 0 then
        resident = resident.max(high_water_kib(pid).unwrap_or(0));
        maps = maps.max(map_bytes(pid));
        ensure!(began.elapsed() < Duration::from_secs(100), "it does not end");
        std::thread::sleep(Duration::from_millis(4));
    }
    let recorded = session.finish()?;
    let limits = bounds::Memory::stated(machine)?;
    ensure!(resident > 0 && maps > 0, "the recorder was not looked at");
    ensure!(resident <= limits.resident_mib << 10, "{resident} KiB resident, {limits:?}");
    ensure!(maps <= limits.maps_mib << 20, "maps of {maps} bytes, {limits:?}");
    recorded
        .recording()
        .and_then(|recording| recording.expect_numbers(&RARE))
        .with_context(|| recorded.output.text())?;
    Ok(recorded)
}

/// The most that a process had resident so far.
fn high_water_kib(pid: u32) -> Option<u64> {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// What the kernel has for the maps of a process now.
fn map_bytes(pid: u32) -> u64 {
    let of_map = |facts: &super::held::Facts| facts.get("memlock")?.parse::<u64>().ok();
    held_by(pid, Kind::Map).values().filter_map(of_map).sum()
}
