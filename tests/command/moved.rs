//! A process of the workload stays one, whoever moves it about within its cgroup.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

use crate::{
    harness::{
        machine::{Machine, Need},
        program,
        record::Record,
        test::Test,
    },
    scope::tree,
};

const LIMIT: Duration = Duration::from_secs(20);

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![Test::new("command::moved_about_it_stays_the_workload", &[Need::Bpf], moved)]
}

/// The shell itself calls umask, after somebody has written it into the cgroup that it is in.
fn moved(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let script = "echo $$ >pid.part; mv pid.part pid; until [ -e go ]; do sleep 0.05; done; umask 077; umask";
    let session = Record::new(machine, scratch.join("out"))
        .current_dir(scratch.path())
        .workload(["/bin/sh", "-c", script])
        .start()?;
    let pid = scratch.join("pid");
    program::until("the shell runs", LIMIT, || pid.exists())?;
    let pid = fs_err::read_to_string(pid)?;
    fs_err::write(own_cgroup(pid.trim())?.join("cgroup.procs"), &pid)?;
    fs_err::write(scratch.join("go"), "")?;
    let recording = session.finish()?.expect(0)?.recording()?;
    for (phase, has_it) in [("workload", true), ("setup", false)] {
        let names = recording.names(phase)?;
        ensure!(names.contains("umask") == has_it, "{phase} has {names:?}");
    }
    Ok(())
}

fn own_cgroup(pid: &str) -> Result<camino::Utf8PathBuf> {
    let text = fs_err::read_to_string(Utf8Path::new("/proc").join(pid).join("cgroup"))?;
    let path =
        text.lines().find_map(|line| line.strip_prefix("0::/")).context("it has a cgroup")?;
    Ok(tree::root()?.join(path))
}
