//! Copies of containers that are recorded or verified in other ways: without a filter, only logged, under a label.

use anyhow::{Result, ensure};

use crate::{
    harness::{machine::Machine, syscalls, test::Test},
    verify::{
        runs::{run, without},
        targets::{NEEDS, NUMBERS, recorded_under},
    },
};

/// A call that the container makes only when it is told to.
const TOLD: u32 = 49;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("verify::a_profile_recorded_unconfined_holds", &NEEDS, unconfined),
        Test::new("verify::what_a_copy_would_be_refused_is_told", &NEEDS, log_only),
        Test::new("verify::a_denial_carries_its_label", &NEEDS, labelled),
    ]
}

/// The hand-over between the runtime and the entry point was not filtered when it was recorded, and now is.
fn unconfined(machine: &Machine) -> Result<()> {
    let (scratch, engine) = (machine.scratch()?, machine.engine()?);
    let (container, recorded) = recorded_under(machine, engine, &scratch, "unconfined", &[])?;
    let place = ["--copy-of", container.name.as_str()];
    let held = run(machine, &recorded.dir, &place, &["true"])?.expect(0, "holds")?;
    ensure!(held.json["in_force"]["evidence"] == "kernel", "{}", held.json);
    let gone = syscalls::name(NUMBERS[0])?;
    let less = without(&recorded.dir, &[&gone], scratch.join("less"))?;
    let said = run(machine, &less, &place, &["true"])?.expect(1, "fails")?;
    ensure!(said.denied(false) == [gone.as_str()], "{}", said.json);
    Ok(())
}

fn log_only(machine: &Machine) -> Result<()> {
    let (scratch, engine) = (machine.scratch()?, machine.engine()?);
    let filter = machine.permissive();
    let (container, recorded) = recorded_under(machine, engine, &scratch, filter.as_str(), &[])?;
    let place = ["--log-only", "--copy-of", container.name.as_str()];
    let gone = syscalls::name(NUMBERS[1])?;
    let less = without(&recorded.dir, &[&gone], scratch.join("less"))?;
    let said = run(machine, &less, &place, &["true"])?.expect(1, "fails")?;
    ensure!(said.denied(false) == [gone.as_str()], "{}", said.json);
    ensure!(said.json["mode"] == "log-only" && said.json["status"] == 0, "{}", said.json);
    run(machine, &recorded.dir, &place, &["true"])?.expect(0, "holds")?;
    Ok(())
}

fn labelled(machine: &Machine) -> Result<()> {
    let (scratch, engine) = (machine.scratch()?, machine.engine()?);
    let (filter, told) = (machine.permissive(), TOLD.to_string());
    let (container, recorded) =
        recorded_under(machine, engine, &scratch, filter.as_str(), &[&told])?;
    let place = ["--copy-of", container.name.as_str()];
    let script = format!(
        "{0} mark before && {0} mark --end && {0} mark told && \
         docker exec $PROFILER_CONTAINER /bin/calls -q {told} && {0} mark after",
        machine.profiler
    );
    let tests = ["sh", "-c", &script];
    run(machine, &recorded.dir, &place, &tests)?.expect(0, "holds")?;
    let (started, gone) = (syscalls::name(NUMBERS[0])?, syscalls::name(TOLD)?);
    let less = without(&recorded.dir, &[&started, &gone], scratch.join("less"))?;
    let said = run(machine, &less, &place, &tests)?.expect(1, "fails")?;
    ensure!(said.json["status"] == 0, "{}", said.json);
    let denials = said.json["denials"].as_array().into_iter().flatten();
    let labels: Vec<_> = denials.map(|it| (it["name"].clone(), it["tests"].clone())).collect();
    for (name, tests) in [(&started, serde_json::json!([])), (&gone, serde_json::json!(["told"]))] {
        ensure!(labels.contains(&(name.as_str().into(), tests)), "{name}: {}", said.json);
    }
    ensure!(labels.len() == 2, "{}", said.json);
    Ok(())
}
