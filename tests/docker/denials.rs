//! Denied calls are counted to the last one, and nothing else is taken for one.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    docker::NEEDS,
    harness::{machine::Machine, record::Record, test::Test},
};

/// What is run under a filter that refuses getppid; runc could not do without it.
const UNDER_FILTER: &str = "/bin/filtered 110 -- /bin/flood";

/// So that it may load one without CAP_SYS_ADMIN.
const NO_NEW_PRIVILEGES: &str = "--security-opt=no-new-privileges";

/// getppid, and clone3, with which glibc starts threads and which the engine's default filter refuses.
const DENIED: [(&str, i64); 2] = [("clone3", 38), ("getppid", 1)];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("docker::denials_are_exact_under_load", &NEEDS, |m| under_load(m, &[])),
        Test::new("docker::denials_are_exact_by_two_programs", &NEEDS, |m| {
            under_load(m, &["--attach-twins=both"])
        }),
        Test::new("docker::denials_are_exact_by_the_second_program", &NEEDS, |m| {
            under_load(m, &["--attach-twins=second"])
        }),
        Test::new("docker::denials_of_threads_whose_ids_are_alike", &NEEDS, alike),
        Test::new("docker::what_its_own_filter_denies_is_its_own", &NEEDS, own_filter),
        Test::new("docker::calls_in_flight_are_no_denials", &NEEDS, in_flight),
    ]
}

fn expected() -> BTreeMap<String, i64> {
    DENIED.map(|(name, errno)| (name.to_owned(), errno)).into()
}

/// Eight threads, each refused as fast as it can ask.
fn under_load(machine: &Machine, args: &[&str]) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("load");
    let session =
        Record::containers(machine, scratch.join("out"), &[&container.name])?.args(args).start()?;
    let numbers = ["274", "275", "276", "277", "278", "324", "325", "326"];
    let script = format!("{UNDER_FILTER} 800000 {}", numbers.join(" "));
    let words = ["--network=none", NO_NEW_PRIVILEGES, &image, "/bin/sh", "-c", &script];
    let printed = container.run(&words)?.expect(0)?.stdout;
    ensure!(printed == "800000 calls\n", "{printed}");
    let recording = session.finish()?.recording()?;
    let denied = recording.denied()?;
    ensure!(denied == expected(), "denied: {denied:?}");
    let mut facts = recording.facts("denials");
    let fact = facts.find(|fact| fact["nr"] == 110).context("there is one")?;
    let seen = fact["seen"].as_object().and_then(|seen| seen.values().next());
    let count = seen.context("it was seen")?["count"].as_u64();
    ensure!(count == Some(800_000), "800000 were refused, {count:?} were counted");
    let numbers: Vec<u32> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
    recording.expect_numbers(&numbers)
}

/// Threads are told apart by 15 bits of their ids first. The machine's limit of ids may not allow that two are alike in these.
fn alike(machine: &Machine) -> Result<()> {
    const COUNT: u64 = 20_000;
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("alike");
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    let _ids = Ids::at_least(1 << 17)?;
    let script = format!("/bin/filtered 110 -- /bin/namesakes {COUNT}");
    let words =
        ["--network=none", "--pid=host", "--cap-add=SYS_ADMIN", &image, "/bin/sh", "-c", &script];
    let printed = container.run(&words)?.expect(0)?.stdout;
    ensure!(printed == format!("{} refused\n", 3 * COUNT), "{printed}");
    let recording = session.finish()?.expect(0)?.recording()?;
    let denied: Vec<_> =
        recording.facts("denials").filter(|fact| fact["phase"] == "workload").collect();
    let [fact] = denied[..] else { bail!("denied: {denied:?}") };
    let seen = fact["seen"].as_object().and_then(|seen| seen.values().next());
    let count = seen.context("it was seen")?["count"].as_u64();
    ensure!(fact["nr"] == 110 && count == Some(3 * COUNT), "denied: {fact}");
    Ok(())
}

/// The machine's limit of process ids, raised while it lives.
struct Ids(Option<String>);

impl Ids {
    const FILE: &str = "/proc/sys/kernel/pid_max";

    fn at_least(wanted: u32) -> Result<Self> {
        let limit = fs_err::read_to_string(Self::FILE)?;
        if limit.trim().parse::<u32>()? >= wanted {
            return Ok(Self(None));
        }
        fs_err::write(Self::FILE, wanted.to_string())?;
        Ok(Self(Some(limit)))
    }
}

impl Drop for Ids {
    fn drop(&mut self) {
        if let Some(limit) = &self.0
            && let Err(error) = fs_err::write(Self::FILE, limit)
        {
            eprintln!("{error}");
        }
    }
}

/// Under a profile that denies nothing, only a filter of the workload's own can refuse. It is no evidence for another.
fn own_filter(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("own");
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    let permissive = format!("--security-opt=seccomp={}", machine.permissive());
    let script = format!("{UNDER_FILTER} 2000 276 278");
    container
        .run(&["--network=none", NO_NEW_PRIVILEGES, &permissive, &image, "/bin/sh", "-c", &script])?
        .expect(0)?;
    let recording = session.finish()?.expect(0)?.recording()?;
    ensure!(recording.denied()?.is_empty(), "denied: {:?}", recording.denied()?);
    recording.expect_numbers(&[276, 278])
}

/// The recorder comes while threads sleep, wait and start others.
fn in_flight(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("flight");
    let script = format!("sleep 1000 & while :; do {UNDER_FILTER} 2000 276 278; sleep 0.01; done");
    container.start(&[
        "--network=none",
        NO_NEW_PRIVILEGES,
        "--stop-timeout=0",
        &image,
        "/bin/sh",
        "-c",
        &script,
    ])?;
    thread::sleep(Duration::from_millis(300));
    for round in 0..3 {
        let out = scratch.join(&format!("out{round}"));
        let recorded = Record::containers(machine, &out, &[&container.name])?
            .workload(["/bin/sleep", "0.5"])
            .run()?;
        let denied = recorded.recording()?.denied()?;
        ensure!(denied == expected(), "denied: {denied:?}");
    }
    Ok(())
}
