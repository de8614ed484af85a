//! Which calls carry which labels: of a command, of a container, through merging, and under a thousand labels.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::Value;

use super::{carried, of, set};
use crate::harness::{
    machine::{Machine, Need},
    program,
    record::Record,
    syscalls::{self, RARE},
    test::Test,
};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];
const PYTHON: Need = Need::Tool("/usr/bin/python3", "python3");

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let engine = [NEEDS.as_slice(), &[Need::Engine]].concat();
    let python = [NEEDS.as_slice(), &[PYTHON]].concat();
    vec![
        Test::new("labels::two_tests_through_merge_into_the_profile", &NEEDS, merged),
        Test::new("labels::overlapping", &NEEDS, overlapping),
        Test::new("labels::container_and_exec", &engine, container),
        Test::new("labels::a_thousand_at_full_speed", &python, thousand),
        Test::new("labels::every_program_is_named", &python, programs),
    ]
}

/// A shell that sets labels and makes calls; `$1` is the profiler, `$2` the program that calls.
fn shell(
    machine: &Machine,
    dir: &Utf8Path,
    script: &str,
) -> Result<crate::harness::record::Recorded> {
    let calls = machine.fixture("calls")?;
    let (caps, refused) = (machine.fixture("caps")?, machine.fixture("refused")?);
    let programs = [machine.profiler.as_str(), calls.as_str(), caps.as_str(), refused.as_str()];
    let workload = [["/bin/sh", "-ec", script, "sh"], programs].concat();
    Record::new(machine, dir).args(["--name", "app"]).workload(workload).run()?.expect(0)
}

fn merged(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (first, second, out) = (scratch.join("1"), scratch.join("2"), scratch.join("out"));
    // chroot needs a capability, and membarrier (324) is refused: both carry the label, too.
    let script = "$2 -q 278; $1 mark one; $2 -q 178 331; $1 mark two; $2 -q 331 275; $3 chroot; $4 process 324; \
                  $1 mark --end; $2 -q 276";
    let recorded = shell(machine, &first, script)?.recording()?;
    shell(machine, &second, "$1 mark three; $2 -q 275 178")?;
    for (nr, labels) in [
        (278, set([])),
        (178, set(["one"])),
        (331, set(["one", "two"])),
        (275, set(["two"])),
        (276, set([])),
    ] {
        ensure!(
            of(&recorded, nr) == labels,
            "{nr} carries {:?}, not {labels:?}",
            of(&recorded, nr)
        );
    }
    let files = [first.join("recording.json"), second.join("recording.json")];
    let args = ["generate", files[0].as_str(), files[1].as_str(), "-o", out.as_str()];
    program::run(&mut program::command(&machine.profiler, args), Duration::from_secs(30))?
        .expect(0)?;
    let profile: Value = serde_json::from_str(&fs_err::read_to_string(out.join("profile.json"))?)?;
    for (nr, labels) in [
        (278, set([])),
        (178, set(["one", "three"])),
        (331, set(["one", "two"])),
        (275, set(["three", "two"])),
    ] {
        let name = syscalls::name(nr)?;
        let rule = find(&profile["syscalls"], &name)?;
        let found = labels_of(&rule["reasons"][0]);
        ensure!(found == labels, "`{name}` carries {found:?} in profile.json, not {labels:?}");
        ensure!(rule["reasons"][0]["programs"] == serde_json::json!(["calls"]), "{rule}");
    }
    let chroot = find(&profile["capabilities"]["required"], "SYS_CHROOT")?;
    let found = labels_of(&chroot["reasons"][0]);
    ensure!(found == set(["two"]), "SYS_CHROOT carries {found:?}");
    let found = labels_of(find(&profile["denied"], "membarrier")?);
    ensure!(found == set(["two"]), "the denied membarrier carries {found:?}");
    Ok(())
}

fn find<'a>(list: &'a Value, name: &str) -> Result<&'a Value> {
    let mut rules = list.as_array().context("a list")?.iter();
    rules.find(|rule| rule["name"] == name).with_context(|| format!("no `{name}` in {list}"))
}

fn labels_of(reason: &Value) -> BTreeSet<String> {
    let labels = reason["tests"].as_array().into_iter().flatten();
    labels.filter_map(|label| label.as_str().map(str::to_owned)).collect()
}

fn overlapping(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let script = "$1 mark --begin a; $2 -q 278; $1 mark --begin b; $2 -q 178; $1 mark --end a; $2 -q 331; \
                  $1 mark --end b; $2 -q 275; $1 mark a; $2 -q 276";
    let recording = shell(machine, &scratch.join("out"), script)?.recording()?;
    for (nr, labels) in [
        (278, set(["a"])),
        (178, set(["a", "b"])),
        (331, set(["b"])),
        (275, set([])),
        (276, set(["a"])),
    ] {
        ensure!(of(&recording, nr) == labels, "{nr} carries {:?}", of(&recording, nr));
    }
    Ok(())
}

/// A label is in force for a container that runs, for one that starts under it, and for what is executed in it.
fn container(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("labels");
    let socket = scratch.join("socket");
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .args(["--socket", socket.as_str()])
        .start()?;
    let mark = |args: &[&str]| {
        let words = [&["mark", "--socket", socket.as_str()], args].concat();
        let mut command = program::command(&machine.profiler, words);
        program::run(&mut command, Duration::from_secs(30))?.expect(0)
    };
    mark(&["starts"])?;
    let seccomp = format!("seccomp={}", machine.permissive());
    container.start(&[
        "--network=none",
        "--security-opt",
        &seccomp,
        &image,
        "/bin/calls",
        "-s",
        "278",
        "331",
    ])?;
    program::until("the container's calls", Duration::from_secs(60), || {
        container.log().is_ok_and(|log| log.contains("331 "))
    })?;
    container.exec(&["/bin/calls", "-q", "178"])?.expect(0)?;
    mark(&["executes"])?;
    container.exec(&["/bin/calls", "-q", "331", "275"])?.expect(0)?;
    mark(&["--end"])?;
    container.exec(&["/bin/calls", "-q", "276"])?.expect(0)?;
    container.remove();
    let recording = session.finish()?.expect(0)?.recording()?;
    let seen = recording.numbers("x86_64", "workload");
    ensure!(
        seen == [1, 34, 178, 231, 275, 276, 278, 331].into(),
        "the container's own calls are {seen:?}"
    );
    for (nr, labels) in [
        (278, set(["starts"])),
        (178, set(["starts"])),
        (331, set(["executes", "starts"])),
        (275, set(["executes"])),
        (276, set([])),
    ] {
        ensure!(of(&recording, nr) == labels, "{nr} carries {:?}", of(&recording, nr));
    }
    ensure!(!socket.exists(), "the socket is left behind");
    Ok(())
}

/// More labels than slots, one after the other, while others call at full speed: each call that the labelled thread makes
/// carries its label and no other, and the set is the one that was made.
fn thousand(machine: &Machine) -> Result<()> {
    const LABELS: usize = 1000;
    const FCNTL: u32 = 72;
    const FIRST_COMMAND: usize = 3000;
    const COMMANDS: usize = 2;
    const SCRIPT: &str = r#"
import ctypes, os, socket, subprocess, sys
flood, rare = sys.argv[1], [int(nr) for nr in sys.argv[2:]]
noise = subprocess.Popen(["/bin/sh", "-c", "while :; do \"$0\" 200000 185; done", flood], stdout=subprocess.DEVNULL)
recorder = socket.socket(socket.AF_UNIX)
recorder.connect(os.environ["PROFILER_SOCKET"])
answers = recorder.makefile()
call = ctypes.CDLL(None).syscall
def mark(line):
    recorder.sendall(line.encode() + b"\n")
    assert answers.readline() == "ok\n"
for n in range(1000):
    mark(f"mark t{n}")
    call(rare[n % len(rare)], -1, -1, -1, -1, -1, -1)
    for command in [2999, 3000 + n % 2, 3000 + n % 2]:
        call(72, -1, command, 0)
mark("end")
noise.kill()
"#;
    let scratch = machine.scratch()?;
    let flood = machine.fixture("flood")?;
    // none that a libc may make by itself, as ioctl
    let rare = &RARE[55..95];
    let mut workload: Vec<String> =
        ["/usr/bin/python3", "-c", SCRIPT, flood.as_str()].map(str::to_owned).into();
    workload.extend(rare.iter().map(u32::to_string));
    let record = Record::new(machine, scratch.join("out")).limit(Duration::from_secs(300));
    let recorded = record.workload(workload).run()?.expect(0)?;
    let recording = recorded.recording()?;
    ensure!(!recording.missing().contains("lost"), "losses: {}", recorded.output.stderr);
    for (index, nr) in rare.iter().enumerate() {
        let expected: BTreeSet<String> =
            (index..LABELS).step_by(rare.len()).map(|n| format!("t{n}")).collect();
        let found = of(&recording, *nr);
        ensure!(found == expected, "{nr} carries {found:?}, not {expected:?}");
    }
    // slots are used again: what was known of one use is not of the next; the first of a use is looked up anyway, so another comes before,
    // and what comes again is remembered
    for command in 0..COMMANDS {
        let expected: BTreeSet<String> =
            (command..LABELS).step_by(COMMANDS).map(|n| format!("t{n}")).collect();
        let is_command = |fact: &&Value| {
            fact["nr"] == FCNTL && fact["values"][0]["value"] == FIRST_COMMAND + command
        };
        let found = carried(recording.facts("arguments").filter(is_command));
        ensure!(found == expected, "fcntl {command} carries {found:?}, not {expected:?}");
    }
    let seen = recording.numbers("x86_64", "workload");
    ensure!(seen.contains(&185) && seen.contains(&110), "the flood is not in {seen:?}");
    Ok(())
}

/// Each program that makes a call is named with it, with its threads; not only who came first.
fn programs(machine: &Machine) -> Result<()> {
    const SCRIPT: &str = r#"
import ctypes, threading
def work():
    libc = ctypes.CDLL(None)
    libc.prctl(15, threading.current_thread().name.encode())
    libc.syscall(278, -1, -1, -1, -1, -1, -1)
threads = [threading.Thread(target=work, name=f"worker {n}") for n in range(5)]
for thread in threads:
    thread.start()
    thread.join()
"#;
    let scratch = machine.scratch()?;
    let (calls, copy) = (machine.fixture("calls")?, scratch.join("another"));
    fs_err::copy(&calls, &copy)?;
    let script = "for round in 1 2 3; do $1 -q 278; $2 -q 278 178; $3 -c \"$4\"; done";
    let recorded = Record::new(machine, scratch.join("out"))
        .workload(
            ["/bin/sh", "-ec", script, "sh", calls.as_str(), copy.as_str()]
                .into_iter()
                .chain(["/usr/bin/python3", SCRIPT]),
        )
        .run()?
        .expect(0)?;
    let recording = recorded.recording()?;
    let programs = |nr: u32| -> BTreeSet<(String, String)> {
        let facts = recording
            .facts("syscalls")
            .filter(|fact| fact["nr"] == nr && fact["phase"] == "workload");
        facts
            .flat_map(|fact| fact["seen"].as_object().into_iter().flatten())
            .flat_map(|(_, seen)| seen["programs"].as_array().into_iter().flatten())
            .map(|program| {
                let of = |key: &str| program[key].as_str().unwrap_or_default().to_owned();
                (of("exe"), of("comm"))
            })
            .collect()
    };
    let python = fs_err::canonicalize("/usr/bin/python3")?;
    let python = python.file_name().and_then(|name| name.to_str()).context("a name")?.to_owned();
    let named = |exe: &str, comm: &str| (exe.to_owned(), comm.to_owned());
    let mut expected: BTreeSet<(String, String)> =
        (0..5).map(|n| (python.clone(), format!("worker {n}"))).collect();
    expected.extend([named("calls", "calls"), named("another", "another")]);
    ensure!(programs(278) == expected, "278 is made by {:?}, not {expected:?}", programs(278));
    ensure!(programs(178) == [named("another", "another")].into(), "178: {:?}", programs(178));
    Ok(())
}
