//! A recorder that is killed leaves nothing in the kernel, and whole files.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;

use super::{
    NEEDS,
    held::{Kind, names_held_by, orphans},
};
use crate::{
    badinput::refuse::expect_refusal,
    harness::{
        machine::{Machine, Need},
        program,
        record::Record,
        test::Test,
    },
    scope::tree,
};

const LIMIT: Duration = Duration::from_secs(30);

/// How often the recorder is killed, and for how long at the most, when `PROFILER_KILLS` says nothing.
const KILLS: u32 = 24;
const ENOUGH: Duration = Duration::from_secs(20);

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let strace = [Need::Tool("strace", "strace")];
    vec![
        Test::new("faults::sigkill_at_any_moment_leaves_nothing", &NEEDS, killed).alone(),
        Test::new("faults::sigkill_amid_writing_leaves_whole_files", &strace, amid_writing),
        Test::new("faults::a_disk_that_fills_amid_writing", &strace, filled_amid_writing),
    ]
}

/// At random moments, in turn between its start and being armed, and from then to its end.
fn killed(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let calls = machine.fixture("calls")?;
    let (kills, enough): (u32, Duration) = match std::env::var("PROFILER_KILLS") {
        Ok(kills) => (kills.parse().context("PROFILER_KILLS is a number")?, Duration::MAX),
        Err(_) => (KILLS, ENOUGH),
    };
    let out = scratch.join("out");
    // the scratch directory is in it, so it is told from others
    let script = format!("{calls} -q 278; sleep 0.1; {calls} -q 276; : {}", scratch.path());
    let workload = ["/bin/sh", "-c", &script];
    let warden = format!("{} __warden", machine.profiler);
    let (pins, began) = (pins(Utf8Path::new("/sys/fs/bpf")), Instant::now());
    let session = Record::new(machine, &out).workload(workload).start()?;
    let arming = began.elapsed();
    let pid = session.running.pid();
    let (programs, maps) = (names_held_by(pid, Kind::Program), names_held_by(pid, Kind::Map));
    session.finish()?.expect(0)?;
    let armed = began.elapsed() - arming;
    ensure!(programs.contains("sys_enter") && maps.contains("SEEN"), "{programs:?} {maps:?}");

    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.subsec_nanos();
    let (mut killed, mut rounds, began) = (0, 0, Instant::now());
    while rounds < kills && began.elapsed() < enough {
        // steps of the golden ratio: however few they are, they are spread
        let part = (f64::from(seed) / 1e9 + f64::from(rounds) * 0.618_033_988_75).fract();
        rounds += 1;
        let record = Record::new(machine, &out).workload(workload);
        let (recorder, rest) = match rounds % 2 {
            0 => (record.begin()?, arming.mul_f64(part)),
            _ => (record.start()?, armed.mul_f64(part)),
        };
        let pid = recorder.running.pid();
        std::thread::sleep(rest);
        recorder.running.signal(Signal::KILL);
        let output = recorder.finish()?.output;
        killed += u32::from(output.status == 137);
        let when = format!("kill {rounds}, after {rest:?} of {arming:?} or {armed:?}");
        expect_whole(&out).context(when.clone())?;
        let cgroup = format!("profiler-{pid}-");
        let mut last = String::new();
        program::until("its cgroup and its processes are gone", LIMIT, || {
            let own = [scratch.path().as_str(), &warden].map(processes).concat();
            last = format!("{:?} {own:?}", named(&cgroup));
            last == "[] []"
        })
        .with_context(|| format!("{when}: {last}"))?;
    }
    ensure!(killed * 2 > rounds, "only {killed} of {rounds} came before its end");

    let mut last = Vec::new();
    // detached programs are freed after a grace period of the kernel's
    program::until("programs and maps are gone", LIMIT, || {
        let found = (orphans(Kind::Program, &programs), orphans(Kind::Map, &maps));
        last = vec![format!("{found:?}")];
        matches!(found, (Ok(programs), Ok(maps)) if programs.is_empty() && maps.is_empty())
    })
    .with_context(|| last.join("\n"))?;
    let left: Vec<_> =
        self::pins(Utf8Path::new("/sys/fs/bpf")).difference(&pins).cloned().collect();
    ensure!(left.is_empty(), "pinned: {left:?}");
    // and the next one works
    let recorded = Record::new(machine, &out).workload(workload).run()?.expect(0)?;
    recorded.recording()?.expect_numbers(&[276, 278])
}

/// Every file of a result is there, and whole. While files take their names, one that is whole may have a second.
fn expect_whole(out: &Utf8Path) -> Result<()> {
    const FILES: [&str; 3] = ["recording.json", "profile.json", "seccomp.json"];
    for name in FILES {
        ensure!(out.join(name).exists(), "the earlier `{name}` is gone");
    }
    for entry in out.read_dir_utf8()? {
        let entry = entry?;
        let name = entry.file_name();
        ensure!(FILES.contains(&name) || name.starts_with(".profiler-"), "`{name}` is left");
        let text = fs_err::read_to_string(entry.path())?;
        serde_json::from_str::<serde_json::Value>(&text)
            .with_context(|| format!("`{name}` is not whole"))?;
    }
    Ok(())
}

/// The cgroups whose name begins so.
fn named(prefix: &str) -> Vec<Utf8PathBuf> {
    fn collect(dir: &Utf8Path, prefix: &str, found: &mut Vec<Utf8PathBuf>) {
        for entry in dir.read_dir_utf8().into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().starts_with(prefix) {
                    found.push(entry.path().to_owned());
                }
                collect(entry.path(), prefix, found);
            }
        }
    }
    let mut found = Vec::new();
    if let Ok(root) = tree::root() {
        collect(&root, prefix, &mut found);
    }
    found
}

/// The processes that have this in their command line.
fn processes(what: &str) -> Vec<String> {
    let all = Utf8Path::new("/proc").read_dir_utf8().into_iter().flatten().flatten();
    // one may have ended by now
    all.filter_map(|entry| fs_err::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(what))
        .collect()
}

/// What is pinned; nothing, where no such file system is mounted.
fn pins(dir: &Utf8Path) -> BTreeSet<Utf8PathBuf> {
    let mut found = BTreeSet::new();
    for entry in dir.read_dir_utf8().into_iter().flatten().flatten() {
        found.insert(entry.path().to_owned());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(pins(entry.path()));
        }
    }
    found
}

/// The steps of writing, as strace knows them.
const STEPS: [&str; 3] = ["fsync", "linkat", "/^rename"];

/// A result over which another one is written, in a directory.
struct Replacing {
    dir: Utf8PathBuf,
    new: Utf8PathBuf,
    old: BTreeMap<String, String>,
    all: BTreeSet<String>,
}

impl Replacing {
    fn new(machine: &Machine, scratch: &Utf8Path) -> Result<Self> {
        let data = machine.root.join("profiler/tests/data");
        let (old, new) = (data.join("backend.json"), data.join("late.json"));
        let mut all = BTreeSet::new();
        // into one directory: some files name it
        let dir = scratch.join("out");
        for recording in [&new, &old] {
            let args = ["generate", recording.as_str(), "-o", dir.as_str()];
            program::run(&mut program::command(&machine.profiler, args), LIMIT)?.expect(0)?;
            all.extend(contents(&dir)?.into_values());
        }
        Ok(Self { old: contents(&dir)?, dir, new, all })
    }

    /// Puts the first result back.
    fn reset(&self) -> Result<()> {
        fs_err::remove_dir_all(&self.dir)?;
        fs_err::create_dir(&self.dir)?;
        for (name, text) in &self.old {
            fs_err::write(self.dir.join(name), text)?;
        }
        Ok(())
    }

    /// Writes the second, while strace brings about a fault.
    fn write(&self, machine: &Machine, fault: &str) -> Result<program::Output> {
        self.reset()?;
        let step = fault.split(':').next().unwrap_or_default();
        let inject = format!("inject={fault}");
        let trace = format!("trace={step}");
        let strace = ["-f", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let (new, dir) = (self.new.as_str(), self.dir.as_str());
        let profiler = [machine.profiler.as_str(), "generate", new, "-o", dir];
        let args = [&strace[..], &profiler].concat();
        program::run(&mut program::command("strace", args), LIMIT)
    }
}

/// The files of a directory, by name.
fn contents(dir: &Utf8Path) -> Result<BTreeMap<String, String>> {
    let file = |entry: std::io::Result<camino::Utf8DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name().to_owned(), fs_err::read_to_string(entry.path())?))
    };
    dir.read_dir_utf8()?.map(file).collect()
}

/// Killed at each system call that writing takes: every file is the old one or the new one.
fn amid_writing(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let replacing = Replacing::new(machine, scratch.path())?;
    for step in STEPS {
        let mut killed = 0;
        for nth in 1..20 {
            let output = replacing.write(machine, &format!("{step}:signal=KILL:when={nth}"))?;
            if output.status == 0 {
                break;
            }
            ensure!(output.status == 137, "{step} {nth}: {}", output.text());
            killed += 1;
            let left = contents(&replacing.dir)?;
            for (name, text) in &left {
                ensure!(replacing.all.contains(text), "{step} {nth}: `{name}` is not whole");
            }
            for name in replacing.old.keys() {
                ensure!(left.contains_key(name), "{step} {nth}: `{name}` is gone");
            }
            if step == "fsync" {
                ensure!(left == replacing.old, "{step} {nth}: {:?}", left.keys());
            }
        }
        // not every file system knows files without a name
        ensure!(killed >= replacing.old.len() || step == "linkat", "{step}: {killed} kills");
    }
    Ok(())
}

/// No room at each system call that takes some: every file is the old one, and nothing else is there.
fn filled_amid_writing(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let replacing = Replacing::new(machine, scratch.path())?;
    for step in ["fsync", "linkat"] {
        for nth in 1..20 {
            let output = replacing.write(machine, &format!("{step}:error=ENOSPC:when={nth}"))?;
            if output.status == 0 {
                break;
            }
            expect_refusal(&output, &[replacing.dir.as_str(), "No space left"])?;
            ensure!(contents(&replacing.dir)? == replacing.old, "{step} {nth}");
        }
    }
    Ok(())
}
