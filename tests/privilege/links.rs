//! Results of root's go where root said, whatever lies there.

use std::{os::unix::fs::symlink, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    badinput::refuse::expect_refusal,
    harness::{
        leftovers::expect_whole_files,
        machine::{Machine, Need},
        program,
        record::Record,
        test::Test,
    },
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![Test::new("privilege::results_do_not_follow_links", &[Need::Bpf], links)]
}

/// A repository that somebody else has made, with links out of it.
fn links(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (hostile, victim) = (scratch.join("hostile"), scratch.join("victim"));
    for dir in [&hostile, &victim, &hostile.join("out")] {
        fs_err::create_dir(dir)?;
    }
    fs_err::write(victim.join("profile.json"), "precious")?;
    symlink(&victim, hostile.join("profiles"))?;
    for name in ["profile.json", "recording.json", "compose.yaml"] {
        symlink(victim.join(name), hostile.join("out").join(name))?;
    }
    let touched = scratch.join("touched");
    let args = ["record", "--", "/bin/touch", touched.as_str()];
    let refused = program::run(
        program::command(&machine.profiler, args).current_dir(&hostile),
        Duration::from_secs(30),
    )?;
    expect_refusal(&refused, &["`profiles`", "symbolic link"])?;
    ensure!(!touched.exists(), "the command was run for nothing");
    let grow = ["--into", "out", "--", "/bin/true"];
    let refused = program::run(
        program::command(&machine.profiler, ["record"].iter().chain(&grow)).current_dir(&hostile),
        Duration::from_secs(30),
    )?;
    expect_refusal(&refused, &["symbolic link"])?;

    let recorded =
        Record::new(machine, hostile.join("out")).workload(["/bin/true"]).run()?.expect(0)?;
    expect_whole_files(&recorded.dir)?;
    let left: Vec<String> = victim
        .read_dir_utf8()?
        .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
        .collect::<Result<_, _>>()?;
    ensure!(left == ["profile.json"], "{left:?}");
    ensure!(
        fs_err::read_to_string(victim.join("profile.json"))? == "precious",
        "it was written to"
    );
    Ok(())
}
