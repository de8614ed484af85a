//! What the recorder gives up when all is attached, of all its threads, and that its command gets all of it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use profiler::kernel::shed::RECORDING;

use super::NEEDS;
use crate::{
    harness::{
        machine::{Machine, Need},
        program,
        record::{Record, Session},
        test::Test,
    },
    scope::tree::Tree,
};

const LIMIT: Duration = Duration::from_secs(20);

/// What is inherited of privileges, as `/proc/PID/status` has it.
const FIELDS: &str = "^(Cap|NoNewPrivs|Seccomp:)";

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("privilege::all_threads_give_up_what_a_command_gets", &NEEDS, of_command),
        Test::new("privilege::all_threads_give_up_what_tests_get", &[Need::Bpf], of_tests),
    ]
}

fn of_command(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let record = Record::new(machine, scratch.join("out")).args(["--stacks"]);
    given_up(record, 0)
}

/// The command is not the target.
fn of_tests(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let tree = Tree::absent()?;
    // nothing is ever in it
    given_up(Record::new(machine, scratch.join("out")).args(["--cgroup", &tree.path]), 3)
}

fn given_up(record: Record, status: i32) -> Result<()> {
    let script = format!("grep -E '{FIELDS}' /proc/self/status; sleep 2");
    let session = record.workload(["/bin/sh", "-c", &script]).start()?;
    let pid = session.running.pid();
    // its filter is what it loads last
    let is_sealed = || fields(pid, pid).is_ok_and(|fields| fields["Seccomp"] == 2);
    program::until("the recorder is sealed", LIMIT, is_sealed)?;
    for task in fs_err::read_dir(format!("/proc/{pid}/task"))? {
        let tid: u32 = task?.file_name().to_string_lossy().parse()?;
        let fields = fields(pid, tid)?;
        for set in ["CapInh", "CapAmb"] {
            ensure!(fields[set] == 0, "thread {tid} keeps {set}: {fields:x?}");
        }
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            // it reads what is mapped, for --stacks
            let allowed = RECORDING.bits() | 1 << 40;
            ensure!(fields[set] & !allowed == 0, "thread {tid} keeps {set}: {fields:x?}");
        }
        ensure!(fields["NoNewPrivs"] == 1, "thread {tid} may gain privileges");
    }
    expect_threads(&session)?;
    let recorded = session.finish()?.expect(status)?;
    let direct = program::shell(&format!("grep -E '{FIELDS}' /proc/self/status"))?;
    ensure!(
        recorded.output.stdout.trim() == direct,
        "the command has\n{}\nwithout a recorder it has\n{direct}",
        recorded.output.stdout
    );
    Ok(())
}

/// The main one, that of signals, and those that look at files.
fn expect_threads(session: &Session) -> Result<()> {
    let count = fs_err::read_dir(format!("/proc/{}/task", session.running.pid()))?.count();
    ensure!(count >= 4, "{count} threads were looked at");
    Ok(())
}

/// The fields of a thread, as numbers.
fn fields(pid: u32, tid: u32) -> Result<BTreeMap<String, u64>> {
    let status = fs_err::read_to_string(format!("/proc/{pid}/task/{tid}/status"))?;
    let all = status.lines().filter_map(|line| line.split_once(':'));
    let fields: BTreeMap<String, u64> = all
        .filter(|(name, _)| name.starts_with("Cap") || ["NoNewPrivs", "Seccomp"].contains(name))
        .filter_map(|(name, value)| {
            Some((name.to_owned(), u64::from_str_radix(value.trim(), 16).ok()?))
        })
        .collect();
    ensure!(fields.len() == 7, "thread {tid} has {fields:?}");
    Ok(fields)
}
