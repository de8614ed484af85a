//! Checks that are not the container's: for a user namespace that the workload made, and with credentials that the kernel lent it.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::harness::{
    machine::{Machine, Need},
    record::{Record, Recorded},
    syscalls::{self, NATIVE},
    test::Test,
};

const HOST: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];
const ENGINE: [Need; 3] = [Need::Bpf, Need::Engine, Need::Tool("gcc", "gcc")];

const SETUID: u8 = 7;
const SYS_ADMIN: u8 = 21;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("capability::of_another_user_namespace", &HOST, namespace).on_every_machine(),
        Test::new("capability::of_overlayfs", &ENGINE, overlay),
    ]
}

/// What is granted there needs nothing of the target's. Ids are compared as the kernel has them: 5 is there what 0 is here.
fn namespace(machine: &Machine) -> Result<()> {
    let (scratch, caps) = (machine.scratch()?, machine.fixture("caps")?);
    let recorded = Record::new(machine, scratch.join("out"))
        .workload([caps.as_str(), "user_namespace"])
        .run()?
        .expect(0)?;
    expect_none(&recorded)?;
    let recording = recorded.recording()?;
    let other = BTreeSet::from(["other".to_owned()]);
    for (capability, what) in [(SYS_ADMIN, "sethostname"), (SETUID, "setuid")] {
        let nr = syscalls::number(what)?;
        let whose = recording.checks(NATIVE, capability, nr, "user_namespace");
        ensure!(whose == other, "{what} asks for {whose:?}");
        let verdict = recording.checks(NATIVE, capability, nr, "verdict");
        ensure!(verdict == ["granted".to_owned()].into(), "{what}: {verdict:?}");
    }
    let audit = recording.checks(NATIVE, SETUID, syscalls::number("setuid")?, "audit");
    ensure!(audit == ["noaudit".to_owned()].into(), "it has that id already: {audit:?}");
    Ok(())
}

/// A file of the image is copied up with overlayfs's own credentials, by a program that has no capability.
fn overlay(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("overlay");
    let permissive = format!("seccomp={}", machine.permissive());
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    let words = ["--rm", "--network=none", "--cap-drop=ALL", "--security-opt", &permissive];
    let script = ["/bin/sh", "-c", "echo >>/bin/forker"];
    container.run(&[&words[..], &[image.as_str()][..], &script].concat())?.expect(0)?;
    let recorded = session.finish()?.expect(0)?;
    expect_none(&recorded)?;
    let recording = recorded.recording()?;
    let lent: Vec<_> = recording
        .facts("capabilities")
        .filter(|fact| fact["phase"] == "workload" && fact["overridden"] == true)
        .collect();
    let granted =
        lent.iter().any(|fact| fact["verdict"] == "granted" && fact["capability"] == SYS_ADMIN);
    ensure!(granted, "overlayfs asks for nothing: {lent:?}");
    Ok(())
}

/// None is required.
fn expect_none(recorded: &Recorded) -> Result<()> {
    let required = recorded.emitted().capabilities()?;
    ensure!(required.is_empty(), "{required:?} are required");
    Ok(())
}
