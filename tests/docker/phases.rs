//! Who made a call: the runtime before the filter, the runtime after it, or the container's own program.

use anyhow::{Result, ensure};

use crate::{
    docker::NEEDS,
    harness::{
        docker::Container,
        evidence::Emitted,
        machine::Machine,
        record::{Record, Recorded},
        test::Test,
    },
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("docker::set_up_stays_out_of_the_profile", &NEEDS, |m| phases(m, &[])),
        Test::new("docker::set_up_stays_out_with_no_new_privileges", &NEEDS, |m| {
            phases(m, &["--security-opt", "no-new-privileges"])
        }),
        Test::new("docker::set_up_stays_out_as_another_user", &NEEDS, |m| {
            phases(m, &["--user=1000"])
        }),
        Test::new("docker::twice_gives_the_same_bytes", &NEEDS, twice),
        Test::new("docker::every_abi_in_a_container", &NEEDS, abis),
    ]
}

fn record(
    machine: &Machine,
    dir: &camino::Utf8Path,
    options: &[&str],
    args: &[&str],
) -> Result<Recorded> {
    record_as(machine, &machine.engine()?.name("phases"), dir, options, args)
}

fn record_as(
    machine: &Machine,
    container: &Container<'_>,
    dir: &camino::Utf8Path,
    options: &[&str],
    args: &[&str],
) -> Result<Recorded> {
    let image = machine.engine()?.fixture_image(machine)?;
    let seccomp = format!("seccomp={}", machine.permissive());
    let session =
        Record::containers(machine, dir, &[&container.name])?.args(["--name", "app"]).start()?;
    let mut words = vec!["--network=none", "--security-opt", &seccomp];
    words.extend(options);
    words.push(&image);
    words.extend(args);
    container.run(&words)?.expect(0)?;
    session.finish()?.expect(0)
}

fn phases(machine: &Machine, options: &[&str]) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded = record(machine, &scratch.join("out"), options, &["/bin/calls", "-q", "278"])?;
    let recording = recorded.recording()?;
    let workload = recording.numbers("x86_64", "workload");
    ensure!(workload == [278, 231].into(), "the program makes 278 and 231, not {workload:?}");
    let setup = recording.names("setup")?;
    for call in ["pivot_root", "mount", "sethostname"] {
        ensure!(setup.contains(call), "`{call}` is not in set-up: {setup:?}");
    }
    let handover = recording.names("handover")?;
    ensure!(handover.contains("execve"), "execve is not in hand-over: {handover:?}");
    ensure!(handover.len() < 40, "hand-over has {} calls: {handover:?}", handover.len());
    if !options.contains(&"no-new-privileges") {
        ensure!(handover.contains("capset"), "capset is not in hand-over: {handover:?}");
    }
    let allowed = recorded.emitted().seccomp()?.allowed();
    for call in
        ["pivot_root", "mount", "umount2", "sethostname", "unshare", "setns", "seccomp", "clone"]
    {
        ensure!(!allowed.contains(call), "`{call}` of the runtime's set-up is allowed");
    }
    ensure!(allowed.contains("vmsplice"), "what the program did is not allowed: {allowed:?}");
    Ok(())
}

fn twice(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let args = ["/bin/sh", "-c", "ls -l /bin; cat /etc/passwd; /bin/calls -q 278"];
    let container = machine.engine()?.name("twice");
    // In the same directory, which compose.yaml names.
    let (out, kept) = (scratch.join("out"), scratch.join("first"));
    record_as(machine, &container, &out, &["--rm"], &args)?;
    fs_err::rename(&out, &kept)?;
    let second = record_as(machine, &container, &out, &["--rm"], &args)?;
    Emitted::new(&kept).expect_same(&second.emitted())
}

fn abis(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded =
        record(machine, &scratch.join("out"), &[], &["/bin/calls", "i20", "i53", "999", "278"])?;
    let recording = recorded.recording()?;
    let ia32 = recording.numbers("ia32", "workload");
    ensure!(ia32 == [20, 53].into(), "ia32 calls are {ia32:?}");
    recording.expect_numbers(&[999, 278])?;
    ensure!(
        !recording.numbers("x86_64", "workload").contains(&20),
        "ia32's getpid is not x86_64's writev"
    );
    Ok(())
}
