//! Checks whose answer changes nothing are no needs: such programs run without the capability, and their like that need it do not.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{
    machine::{Machine, Need, Scratch},
    program,
    record::{Record, Recorded},
    syscalls::{self, NATIVE},
    test::Test,
};

const HOST: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];
const ENGINE: [Need; 3] = [Need::Bpf, Need::Engine, Need::Tool("gcc", "gcc")];

/// Programs in a container of root's, what they need, and what the kernel asks for all the same.
const PROGRAMS: [(&[&str], &[&str], &[&str]); 4] = [
    (&["setuid", "0"], &[], &["SETUID"]),
    (&["setgid", "0"], &[], &["SETGID"]),
    (&["setuid", "1000"], &["SETUID"], &[]),
    (&["setgid", "1000"], &["SETGID"], &[]),
];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("capability::own_ids_need_none", &HOST, own_ids).on_every_machine(),
        Test::new("capability::own_ids_of_ia32_need_none", &HOST, own_ids_of_ia32)
            .on_every_kernel(),
        Test::new("capability::a_small_queue_needs_none", &HOST, queues).on_every_machine(),
        Test::new("capability::explain_says_what_was_asked_first", &HOST, explained),
    ];
    for (args, needs, probed) in PROGRAMS {
        let name = format!("capability::enforced_{}_{}", args[0], args[1]);
        tests.push(Test::new(name, &ENGINE, move |m| enforced(m, args, needs, probed)));
    }
    tests
}

/// As root: to the ids that it has, and to the effective one that is not the real one.
fn own_ids(machine: &Machine) -> Result<()> {
    let caps = machine.fixture("caps")?;
    let own = format!("set -e; {caps} setuid 0; {caps} setgid 0; {caps} own_ids");
    let (scratch, other) = (machine.scratch()?, machine.scratch()?);
    let recorded = shell(machine, &scratch, &own)?;
    expect(&recorded, &[], &["SETGID", "SETUID"])?;
    let effective = shell(machine, &other, &format!("{caps} setuid_of_effective"))?;
    expect(&effective, &["SETUID"], &[])?;
    let recording = effective.recording()?;
    let audits = recording.checks(NATIVE, 7, syscalls::number("setuid")?, "audit");
    ensure!(audits == names(&["audited"]), "the real id is another: {audits:?}");
    Ok(())
}

/// setuid, setuid16, setgid, setgid16, and the calls that set three ids.
fn own_ids_of_ia32(machine: &Machine) -> Result<()> {
    let caps = machine.fixture("caps")?;
    let calls = |id: u32| [213, 23, 214, 46, 208, 164, 210, 170].map(|nr| (nr, id));
    let script = |calls: &[(u32, u32)]| {
        calls
            .iter()
            .map(|(nr, id)| format!("{caps} ia32 '{nr} {id}' || exit 1\n"))
            .collect::<String>()
    };
    let scratch = machine.scratch()?;
    let own = shell(machine, &scratch, &script(&calls(0)))?;
    expect(&own, &[], &["SETGID", "SETUID"])?;
    let scratch = machine.scratch()?;
    let other = shell(machine, &scratch, &script(&calls(1000)))?.recording()?;
    for (nr, _) in calls(1000) {
        let capability = if [214, 46, 210, 170].contains(&nr) { 6 } else { 7 };
        let audits = other.checks("ia32", capability, nr, "audit");
        ensure!(audits == names(&["audited"]), "call {nr}: {audits:?}");
    }
    Ok(())
}

/// With or without CAP_SYS_RESOURCE, the namespace's limits are enough for the one, and not for the other.
fn queues(machine: &Machine) -> Result<()> {
    let caps = machine.fixture("caps")?;
    for messages in ["", "10"] {
        let scratch = machine.scratch()?;
        let recorded = shell(machine, &scratch, &format!("{caps} queue {messages}"))?;
        expect(&recorded, &[], &[])?;
        let denied = list(&recorded, "denied")?;
        ensure!(denied.is_empty(), "`{messages}` messages: {denied:?}");
    }
    let scratch = machine.scratch()?;
    let recorded = shell(machine, &scratch, &format!("{caps} queue 11 || echo refused"))?;
    let refused = recorded.output.stdout.contains("refused");
    let class = if refused { "denied" } else { "required" };
    let listed = list(&recorded, class)?;
    ensure!(listed == names(&["SYS_RESOURCE"]), "{class}: {listed:?}");
    Ok(())
}

/// A reader of the profile sees that the call may go on without.
fn explained(machine: &Machine) -> Result<()> {
    let (caps, scratch) = (machine.fixture("caps")?, machine.scratch()?);
    let out = scratch.join("out");
    let file = scratch.join("file");
    let script = format!("echo >{file}; chown 0:1000 {file}; {caps} fsetid {file}");
    Record::new(machine, &out).workload(["sh", "-c", &script]).run()?.expect(0)?;
    let mut explain =
        program::command(machine.profiler.as_str(), ["explain", out.as_str(), "FSETID"]);
    let told = program::run(&mut explain, Duration::from_secs(20))?.expect(0)?.stdout;
    ensure!(told.contains(": drops the set-user-id and set-group-id bits"), "{told}");
    ensure!(told.contains("`profiler minimise` tells"), "{told}");
    Ok(())
}

/// Recorded with what engines give, then run with what the profile adds, and without.
fn enforced(machine: &Machine, args: &[&str], needs: &[&str], probed: &[&str]) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("moot");
    let permissive = format!("seccomp={}", machine.permissive());
    let run = |options: &[&str]| {
        let fixed = ["--rm", "--network=none"];
        container.run(&[&fixed, options, &[image.as_str(), "/bin/caps"], args].concat())
    };
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    run(&["--security-opt", &permissive])?.expect(0)?;
    let recorded = session.finish()?.expect(0)?;
    expect(&recorded, needs, probed)?;

    let filter = format!("seccomp={}", recorded.emitted().path("seccomp.json"));
    let none = ["--security-opt", &filter, "--cap-drop=ALL"];
    let without = run(&none)?;
    ensure!((without.status == 0) == needs.is_empty(), "with none: {}", without.text());
    let added: Vec<String> = needs.iter().map(|name| format!("--cap-add={name}")).collect();
    let added: Vec<&str> = added.iter().map(String::as_str).collect();
    run(&[&none, &added[..]].concat())?.expect(0)?;
    Ok(())
}

fn shell(machine: &Machine, scratch: &Scratch, script: &str) -> Result<Recorded> {
    Record::new(machine, scratch.join("out")).workload(["sh", "-c", script]).run()?.expect(0)
}

/// Exactly these are required, and at least these probed.
fn expect(recorded: &Recorded, needs: &[&str], probed: &[&str]) -> Result<()> {
    let required = list(recorded, "required")?;
    ensure!(required == names(needs), "{required:?} are required, not {needs:?}");
    let list = list(recorded, "probed")?;
    ensure!(list.is_superset(&names(probed)), "{list:?} are probed, not {probed:?}");
    Ok(())
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The names in one list of profile.json's capabilities.
fn list(recorded: &Recorded, class: &str) -> Result<BTreeSet<String>> {
    let profile = fs_err::read(recorded.emitted().path("profile.json"))?;
    let profile: Value = serde_json::from_slice(&profile)?;
    let rules = profile["capabilities"][class].as_array().context("a list")?;
    Ok(rules.iter().filter_map(|rule| rule["name"].as_str().map(str::to_owned)).collect())
}
