//! Names that the workload chooses are hostile: they reach no terminal and no file as they are.

use anyhow::{Result, ensure};

use crate::harness::{
    machine::{Machine, Need},
    record::Record,
    test::Test,
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Tool("gcc", "gcc")];
    vec![
        Test::new("command::hostile_program_names", &needs, program_names),
        Test::new("command::hostile_target_name", &needs, target_name),
    ]
}

/// Terminal control, YAML, Markdown, JSON, and bytes that are no UTF-8.
const NAMES: [&str; 5] =
    ["\u{1b}[2Jwiped", "\u{9b}2Jwiped", "a: &x [*x]\n- b", "`rm` | **x** <b>", "\"},{\"nr\":1"];

fn program_names(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let calls = machine.fixture("calls")?;
    // many times, so that each file is looked at while its process lives
    let mut script =
        "cd \"$1\"; shift; for name; do cp \"$0\" \"./$name\"; \"./$name\" -q -n 20000 278; done; "
            .to_owned();
    script.push_str("n=$(printf 'x\\377\\376y'); cp \"$0\" \"./$n\"; \"./$n\" -q -n 20000 276");
    let mut workload = vec!["/bin/sh", "-ec", &script, calls.as_str(), scratch.path().as_str()];
    workload.extend(NAMES);
    let recorded = Record::new(machine, scratch.join("out")).workload(workload).run()?.expect(0)?;
    recorded.recording()?.expect_numbers(&[278, 276])?;
    expect_no_control(&recorded.output.stderr)?;
    for (name, text) in recorded.emitted().committed()? {
        expect_no_control(&text).map_err(|error| error.context(name))?;
    }
    recorded.emitted().seccomp()?;
    recorded.emitted().capabilities()?;
    Ok(())
}

fn target_name(machine: &Machine) -> Result<()> {
    for name in NAMES {
        let scratch = machine.scratch()?;
        let recorded = Record::new(machine, scratch.join("out"))
            .args(["--name", name])
            .workload(["/bin/true"])
            .run()?;
        expect_no_control(&recorded.output.stderr)?;
        ensure!([0, 2].contains(&recorded.output.status), "{}", recorded.output.text());
        if recorded.output.status == 0 {
            for (file, text) in recorded.emitted().committed()? {
                expect_no_control(&text).map_err(|error| error.context(file))?;
            }
            recorded.emitted().seccomp()?;
            recorded.emitted().capabilities()?;
        }
    }
    Ok(())
}

fn expect_no_control(text: &str) -> Result<()> {
    let control = text.chars().find(|c| c.is_control() && *c != '\n');
    ensure!(control.is_none(), "{control:?} reached\n{text:?}");
    Ok(())
}
