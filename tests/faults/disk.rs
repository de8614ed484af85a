//! No room, or no right, to write a result: it is noticed before the tests run, or else what was recorded is kept elsewhere.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use super::NEEDS;
use crate::{
    badinput::refuse::expect_refusal,
    harness::{
        evidence::Recording,
        machine::{Machine, Need, Scratch},
        program::{self, Output},
        test::Test,
    },
};

const LIMIT: Duration = Duration::from_secs(60);

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let needs = [&NEEDS[..], &[Need::Tool("unshare", "util-linux")]].concat();
    vec![
        Test::new("faults::a_disk_that_fills_while_it_is_recorded", &needs, |machine| {
            kept_elsewhere(machine, "head -c 8M /dev/zero > fill 2>/dev/null; true")
        }),
        Test::new("faults::an_output_that_becomes_read_only", &needs, |machine| {
            kept_elsewhere(machine, "mount -o remount,ro \"$PWD\"")
        }),
        Test::new("faults::no_room_is_noticed_before_the_tests_run", &needs, noticed_before),
    ]
}

/// A result on a small disk of its own, in a mount namespace of its own.
struct Disk {
    scratch: Scratch,
    out: Utf8PathBuf,
    before: Utf8PathBuf,
    after: Utf8PathBuf,
}

impl Disk {
    fn new(machine: &Machine) -> Result<Self> {
        let scratch = machine.scratch()?;
        for dir in ["disk", "before", "after", "spare"] {
            fs_err::create_dir(scratch.join(dir))?;
        }
        let path = |name| scratch.join(name);
        Ok(Self { out: path("disk/out"), before: path("before"), after: path("after"), scratch })
    }

    /// Mounts the disk, records 278 to it, does `between`, and records `workload`; beside the disk is what it held before and
    /// holds after that.
    fn record(
        &self,
        machine: &Machine,
        between: &str,
        wrap: &str,
        workload: &str,
    ) -> Result<Output> {
        let (disk, out) = (self.scratch.join("disk"), &self.out);
        let (profiler, calls) = (&machine.profiler, machine.fixture("calls")?);
        let (before, after) = (&self.before, &self.after);
        let script = format!(
            "set -e; mount -t tmpfs -o size=4m none {disk}; cd {disk}
             {profiler} record -o {out} -- {calls} -q 278 2>/dev/null
             cp {out}/* {before}; {between}
             set +e; {wrap} {profiler} record -o {out} -- /bin/sh -c '{calls} -q 276; {workload}'; status=$?
             cp -r {out}/. {after}; exit $status"
        );
        let mut command = program::command("unshare", ["--mount", "/bin/sh", "-c", &script]);
        command.env("TMPDIR", self.scratch.join("spare"));
        program::run(&mut command, LIMIT)
    }

    /// Fails unless every file is as it was, and no other is there.
    fn expect_untouched(&self) -> Result<()> {
        let list = |dir: &Utf8Path| -> Result<Vec<(String, Vec<u8>)>> {
            let mut files = Vec::new();
            for entry in dir.read_dir_utf8()? {
                let entry = entry?;
                files.push((entry.file_name().to_owned(), fs_err::read(entry.path())?));
            }
            files.sort();
            Ok(files)
        };
        let (before, after) = (list(&self.before)?, list(&self.after)?);
        ensure!(before.len() == 3, "an earlier result has three files");
        let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
            files.iter().map(|(name, _)| name.clone()).collect()
        };
        ensure!(before == after, "{:?} became {:?}", names(&before), names(&after));
        Ok(())
    }
}

/// The recording is whole, in the directory for temporary files; the message says where, and how to go on.
fn kept_elsewhere(machine: &Machine, fault: &str) -> Result<()> {
    let disk = Disk::new(machine)?;
    let output = disk.record(machine, "true", "", fault)?;
    let text = output.text();
    ensure!(output.status == 2, "status {} where 2 is documented\n{text}", output.status);
    disk.expect_untouched().context(text.clone())?;
    let errors: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { anyhow::bail!("not one error\n{text}") };
    ensure!(error.contains(disk.out.as_str()), "the error does not say what failed\n{text}");
    let hint = output.stderr.lines().find_map(|line| line.strip_prefix("hint: make room, then: "));
    let hint = hint.with_context(|| format!("no hint to follow\n{text}"))?;
    let words: Vec<&str> = hint.split(' ').collect();
    let ["profiler", "generate", recording, "-o", out] = words[..] else {
        anyhow::bail!("`{hint}` is no command")
    };
    ensure!(out == disk.out.as_str() && error.contains(recording), "{text}");
    let recording = Utf8Path::new(recording);
    ensure!(recording.starts_with(disk.scratch.join("spare")), "{text}");
    let dir = recording.parent().context("it is in a directory")?;
    Recording::read(dir)?.expect_numbers(&[276])?;
    // what the hint says, where there is room
    let args = ["generate", recording.as_str(), "-o", disk.scratch.join("room").as_str()]
        .map(str::to_owned);
    program::run(&mut program::command(&machine.profiler, args), LIMIT)?.expect(0)?;
    ensure!(disk.scratch.join("room/seccomp.json").exists(), "no profile was made of it");
    Ok(())
}

/// A disk that is full, an output that cannot be written to, and a limit of a file's size.
fn noticed_before(machine: &Machine) -> Result<()> {
    for (between, wrap, why) in [
        ("head -c 8M /dev/zero > fill 2>/dev/null || true", "", "No space left"),
        ("mount -o remount,ro \"$PWD\"", "", "Read-only file system"),
        ("true", "prlimit --fsize=65536", "File too large"),
    ] {
        let disk = Disk::new(machine)?;
        let touched = disk.scratch.join("touched");
        let output = disk.record(machine, between, wrap, &format!("touch {touched}"))?;
        expect_refusal(&output, &[disk.out.as_str(), why])?;
        ensure!(!touched.exists(), "{why}: the command was run for nothing");
        disk.expect_untouched().with_context(|| why.to_owned())?;
        let spare = disk.scratch.join("spare").read_dir_utf8()?.count();
        ensure!(spare == 0, "{why}: something was kept, of nothing");
    }
    Ok(())
}
