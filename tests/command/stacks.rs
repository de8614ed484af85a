//! `--stacks`: where in the program a call was made first.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::harness::{
    evidence::Recording,
    machine::{Machine, Need},
    record::Record,
    test::Test,
};

const GETPRIORITY: u32 = 140;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "command::stacks_name_the_functions",
        &[Need::Bpf, Need::Tool("gcc", "gcc")],
        names_the_functions,
    )]
}

fn names_the_functions(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let program = machine.fixture("stack")?;
    let record = |dir: &str| Record::new(machine, scratch.join(dir));
    let with =
        record("with").args(["--stacks"]).workload([program.as_str(), "wait"]).run()?.expect(0)?;
    let stack = stack(&with.recording()?);
    let at = |name: &str| {
        stack.iter().position(|frame| {
            frame.starts_with(&format!("{name}+0x")) && frame.ends_with(" (stack)")
        })
    };
    let (call, main) = (at("make_the_call"), at("main"));
    ensure!(call.is_some() && main.is_some() && call < main, "{stack:?}");
    ensure!(stack[0].starts_with("syscall+0x") && stack[0].contains("(libc.so"), "{stack:?}");

    let without = record("without").workload([program.as_str()]).run()?.expect(0)?;
    ensure!(self::stack(&without.recording()?).is_empty(), "there is a stack that nobody wanted");
    with.emitted().expect_same(&without.emitted())
}

/// The stack of the fixture's own call.
fn stack(recording: &Recording) -> Vec<String> {
    let mut facts = recording.facts("syscalls").filter(|fact| fact["nr"] == GETPRIORITY);
    let seen = facts.next().and_then(|fact| fact["seen"].as_object()?.values().next());
    let frames = seen.and_then(|seen| seen["stack"].as_array()).into_iter().flatten();
    frames.filter_map(Value::as_str).map(str::to_owned).collect()
}
