//! What was not recorded is refused: old calls with EPERM, newer ones with ENOSYS, so that glibc falls back.

use anyhow::{Result, ensure};

use crate::{
    enforce::hold::flags,
    harness::{
        machine::{Machine, Need},
        program,
        record::{Record, Recorded},
        syscalls,
        test::Test,
    },
};

const NEEDS: [Need; 3] = [Need::Bpf, Need::Engine, Need::Tool("gcc", "gcc")];

/// Without it runc makes calls of its own under the filter, faccessat2 among them, and these are allowed then.
const NO_NEW_PRIVILEGES: [&str; 2] = ["--security-opt", "no-new-privileges"];

const EPERM: i64 = 1;
const ENOSYS: i64 = 38;

/// Calls that Linux 4.10 had, and later ones.
const OLD: [&str; 8] =
    ["vmsplice", "keyctl", "unshare", "mount", "ptrace", "setns", "bpf", "swapoff"];
const NEW: [&str; 9] = [
    "clone3",
    "statx",
    "faccessat2",
    "openat2",
    "epoll_pwait2",
    "close_range",
    "io_uring_setup",
    "pidfd_open",
    "landlock_add_rule",
];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("enforce::unrecorded_calls_are_denied", &NEEDS, unrecorded),
        Test::new(
            "enforce::containerd_loads_the_same_file",
            &[NEEDS.as_slice(), &[Need::Tool("ctr", "containerd")]].concat(),
            containerd,
        ),
        Test::new("enforce::glibc_falls_back", &NEEDS, fallback),
        Test::new("enforce::other_abis_stay_closed", &NEEDS, other_abis),
        Test::new("enforce::exec_works_when_it_was_recorded", &NEEDS, exec),
        Test::new("enforce::capability_that_was_not_needed_is_gone", &NEEDS, capability),
    ]
}

fn record(machine: &Machine, dir: &camino::Utf8Path, args: &[&str]) -> Result<Recorded> {
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("record");
    let seccomp = format!("seccomp={}", machine.permissive());
    let session = Record::containers(machine, dir, &[&container.name])?.start()?;
    let filter = ["--network=none", "--security-opt", &seccomp];
    let words = [&filter, NO_NEW_PRIVILEGES.as_slice(), &[&image], args].concat();
    container.run(&words)?.expect(0)?;
    session.finish()?.expect(0)
}

/// Runs `args` in a fresh container under the emitted files; its standard output.
fn enforced(machine: &Machine, recorded: &Recorded, args: &[&str]) -> Result<String> {
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("enforce");
    let flags = flags(recorded)?;
    let mut words = vec!["--network=none"];
    words.extend(NO_NEW_PRIVILEGES);
    words.extend(flags.iter().map(String::as_str));
    words.push(&image);
    words.extend(args);
    Ok(container.run(&words)?.expect(0)?.stdout)
}

fn unrecorded(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded = record(machine, &scratch.join("out"), &["/bin/calls", "276"])?;
    let mut probes = vec!["/bin/calls".to_owned(), "276".to_owned()];
    let mut expected = "276 -22\n".to_owned();
    for (names, errno) in [(OLD.as_slice(), EPERM), (&NEW, ENOSYS)] {
        for name in names {
            let nr = syscalls::number(name)?;
            probes.push(nr.to_string());
            expected.push_str(&format!("{nr} -{errno}\n"));
        }
    }
    let probes: Vec<&str> = probes.iter().map(String::as_str).collect();
    let output = enforced(machine, &recorded, &probes)?;
    ensure!(output == expected, "the calls were answered\n{output}\nnot\n{expected}");
    Ok(())
}

/// The file is pure OCI: containerd, which drops Docker's own keys, gives the same answers. The engine's containerd is
/// asked directly, in a namespace of the test's own.
fn containerd(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let recorded = record(machine, &scratch.join("out"), &["/bin/calls", "276"])?;
    let socket =
        engine.host().trim_start_matches("unix://").replace("docker.sock", "containerd.sock");
    let archive = scratch.join("image.tar");
    engine.docker(&["save", &image, "-o", archive.as_str()])?;
    let name = engine.name("ctr").name.clone();
    let ctr = format!("ctr --address {socket} --namespace {name}");
    let seccomp = recorded.dir.join("seccomp.json");
    let output = program::shell(&format!(
        "{ctr} images import {archive} >&2 && {ctr} run --rm --seccomp --seccomp-profile {seccomp} \
         {image} {name} /bin/calls 276 250 437"
    ));
    // a namespace can be removed when it is empty, and its contents go with the image; its cgroups stay unless somebody removes them
    let _ = program::shell(&format!(
        "{ctr} images rm --sync {image} >&2; {ctr} snapshots ls | awk 'NR > 1 {{ print $1 }}' | tac | \
         while read -r key; do {ctr} snapshots rm $key; done; {ctr} content ls -q | xargs -r {ctr} content rm >&2; \
         ctr --address {socket} namespaces rm {name} >&2; \
         find /sys/fs/cgroup -maxdepth 2 -type d -name {name} -exec rmdir {{}} +"
    ));
    let output = output?;
    let expected = format!("276 -22\n250 -{EPERM}\n437 -{ENOSYS}");
    ensure!(output == expected, "{output}\nnot\n{expected}");
    Ok(())
}

fn fallback(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded = record(machine, &scratch.join("out"), &["/bin/fallback", "old"])?;
    let allowed = recorded.emitted().seccomp()?.allowed();
    let new: Vec<_> = NEW.iter().filter(|name| allowed.contains(**name)).collect();
    ensure!(new.is_empty(), "{new:?} are allowed, and the program made none of them");
    let output = enforced(machine, &recorded, &["/bin/fallback", "new"])?;
    let expected = "clone3 38\nstatx 38\nfaccessat2 38\nopenat2 38\nepoll_pwait2 38\nclose_range 38\n\
                    fchmodat2 38\nmseal 38\nabsent 38\nvmsplice 1\nkeyctl 1\nunshare 1\nnew done\n";
    ensure!(output == expected, "{output}\nnot\n{expected}");
    Ok(())
}

/// Nothing of ia32 was recorded, so int 0x80 must not be a way round the filter. libseccomp kills by default, the
/// runtime's own choice may be an error: what counts is that no call gets through.
fn other_abis(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let recorded = record(machine, &scratch.join("out"), &["/bin/calls", "276"])?;
    let container = engine.name("ia32");
    let flags = flags(&recorded)?;
    let mut words: Vec<&str> = flags.iter().map(String::as_str).collect();
    words.extend(NO_NEW_PRIVILEGES);
    words.extend([image.as_str(), "/bin/calls", "276", "i20", "i224"]);
    let output = container.run(&words)?;
    let through = output.stdout.lines().any(|line| {
        let result = line.strip_prefix("i20 ").and_then(|result| result.parse::<i64>().ok());
        result.is_some_and(|pid| pid > 0)
    });
    ensure!(!through, "int 0x80 got through\n{}", output.text());
    Ok(())
}

fn exec(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let first = engine.name("exec");
    let seccomp = format!("seccomp={}", machine.permissive());
    let session = Record::containers(machine, scratch.join("out"), &[&first.name])?.start()?;
    first.start(&[
        "--network=none",
        "--stop-timeout=0",
        "--security-opt",
        &seccomp,
        &image,
        "/bin/sleep",
        "1000",
    ])?;
    first.exec(&["/bin/ls", "/etc"])?.expect(0)?;
    first.verb(&["stop"])?;
    let recorded = session.finish()?.expect(0)?;
    let flags = flags(&recorded)?;
    for privileges in [&[] as &[&str], &["--security-opt", "no-new-privileges"]] {
        let second = engine.name("exec");
        let mut words = vec!["--network=none", "--stop-timeout=0"];
        words.extend(flags.iter().map(String::as_str));
        words.extend(privileges);
        words.extend([image.as_str(), "/bin/sleep", "1000"]);
        second.start(&words)?;
        let listed = second.exec(&["/bin/ls", "/etc"])?.expect(0)?;
        ensure!(
            listed.stdout == "passwd\n" || listed.stdout.contains("passwd"),
            "{}",
            listed.text()
        );
    }
    Ok(())
}

/// chown was not recorded as needing CHOWN, so a container with the emitted list has not got it.
fn capability(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded =
        record(machine, &scratch.join("out"), &["/bin/sh", "-c", "touch /tmp/x; chown 0 /tmp/x"])?;
    ensure!(
        recorded.emitted().capabilities()?.is_empty(),
        "capabilities: {:?}",
        recorded.emitted().capabilities()?
    );
    let output = enforced(
        machine,
        &recorded,
        &["/bin/sh", "-c", "touch /tmp/x; chown 0 /tmp/x; chown 1000 /tmp/x || echo refused"],
    )?;
    ensure!(output == "refused\n", "chown to another user: {output:?}");
    Ok(())
}
