//! docs/kernel-support.md, from the reports.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{
    arch::{AARCH64, Arch, X86_64},
    guest::Report,
    kernels::{KERNELS, Kernel},
};
use crate::sh::{root, say};

/// A column, and the tests that stand for it.
type Column = (&'static str, &'static [&'static str]);

const COMMON: [Column; 4] = [
    ("record a command", &["command::first_call", "command::short_lived_children"]),
    ("same calls as strace", &["command::strace_agrees_on_children"]),
    ("phases of a join from outside", &["kernel::phases_of_a_join"]),
    (
        "denied calls",
        &[
            "kernel::phases_of_a_join",
            "command::a_killed_process_is_a_denial",
            "command::a_killed_thread_is_a_denial",
        ],
    ),
];

const OF_X86_64: [Column; 1] = [(
    "x86_64, ia32, x32",
    &["command::int80_is_ia32", "command::real_32_bit_program", "command::numbers_without_names"],
)];

const OF_AARCH64: [Column; 2] = [
    (
        "aarch64, arm",
        &[
            "arm::a_static_program_of_32_bits",
            "arm::a_real_32_bit_program",
            "arm::both_in_one_shell",
        ],
    ),
    (
        "a command under its own profile",
        &["arm::a_command_lacks_a_call", "arm::a_command_of_32_bits_is_confined"],
    ),
];

const HEAD: &str = "\
# Kernels

Made by `cargo xtask vm --write-docs`, which boots Debian's kernels under emulation and runs the part of the test suite
there that needs no container engine. A cell says yes when its tests passed, and no when one failed or did not come to its end in time.
";

const MACHINES: [(&Arch, &str); 2] = [
    (&X86_64, ""),
    (
        &AARCH64,
        "
On aarch64 (`cargo xtask vm aarch64`), with the same object for the kernel. 32-bit programs are ARM's. Recorder and suite are built here by Debian's cross compilers; no
container engine has been tried there.
",
    ),
];

const TAIL: &str = "
Needed everywhere: BTF (`CONFIG_DEBUG_INFO_BTF=y`), the tracepoints that `profiler doctor` lists, cgroup v2 (also beside v1).

Capability checks are seen in the first of these ways that the kernel takes; the test `capability::ways_agree` records the
same programs in each and compares every fact.

- **tracepoint** `cap_capable`, in 6.18 and 7.3, not in 6.12. It does not carry the argument by which the kernel tells a probe from a check whose
  denial is audited; the functions on the stack tell.
- **fexit** of the function `cap_capable`: the argument is read.
- **kprobe** and kretprobe on it: the same. Not on 5.10, where a stack cannot be followed through a return probe, and so nobody could
  say who asked.

Where none of them works (a kernel built without function tracing, before 6.18), the recording says that capability
checks were not seen, and the profile drops none.

**Since 7.0** programs of tracepoints can be preempted ([a46023d5616e](https://git.kernel.org/linus/a46023d5616e)), and the kernel does not run a program for another task
while it is suspended on the same processor: what it was to see passes unseen. The kernel counts such misses (`recursion_misses`).

- **Twins.** What sees calls, their ends and capability checks is attached twice there: what one program is left out of the other sees. Both are left out only of a task that
  runs while others are suspended in both on its processor. A program on `sched_switch`, which is never preempted, notices that: whenever a processor goes on with another task
  it asks the counters by which the kernel itself decides (`bpf_prog.active`), and notes who is in which.
- **What is lost** is told: if that befalls a task in scope, and both have missed something, the result is incomplete, with exit status 3: record again, and
  merge. A call whose entry both missed is not in it or, if the thread has a filter and denials are looked for, counts as denied. The programs on fork, execve and cgroups run seldom and have no
  twins: any miss of theirs is told.
- **Two windows are left**, some instructions long each. A task is preempted between the two programs of one event, after it was left out of the first, and the task that was in
  the first is suspended in the second when it goes on. Or a task is preempted while the kernel leaves it out of a program, which counts as being in it; then whoever was in the program, and
  has left it, is taken to be in it still.
- **How often.** On 7.3 under emulation with one processor, while two hundred programs are executed one after the other, each program is left out up to 191 times; none of eight recordings was
  incomplete. Beside three loops that start programs all of eight were. Measured by hand.

The tests record again when the result says so, up to 16 times. Up to 6.18 nothing is skipped, and everything is attached once. Where the kernel's change was ported back
the result says that runs were skipped, and `record --attach-twins both` attaches twice; by `--attach-twins second` the tests have the second programs do all the work.

Before 5.15 the kernel does not hand out the current task and its registers as typed pointers. They are then read by a
helper, which makes each recorded call slower.
";

/// Writes the table, of the reports by the kernels' names.
///
/// # Errors
/// When the file cannot be written.
pub fn write(reports: &BTreeMap<&str, &Report>) -> Result<()> {
    let mut text = HEAD.to_owned();
    for (arch, about) in MACHINES {
        let titles: Vec<&str> = columns(arch).map(|(title, _)| title).collect();
        let (titles, rules) = (titles.join(" | "), "---|".repeat(titles.len() + 1));
        text.push_str(about);
        text.push_str(&format!("\n| kernel | Debian | {titles} | capability checks by |\n"));
        text.push_str(&format!("|---|---|{rules}\n"));
        for kernel in KERNELS.iter().filter(|kernel| kernel.arch == arch) {
            if let Some(report) = reports.get(kernel.name) {
                text.push_str(&row(kernel, report));
            }
        }
    }
    text.push_str(TAIL);
    let path = root().join("docs/kernel-support.md");
    fs_err::write(&path, text)?;
    say(format!("vm: wrote {path}"));
    Ok(())
}

/// The columns of a machine's table, but for the first and the last.
fn columns(arch: &Arch) -> impl Iterator<Item = Column> {
    let own = if *arch == AARCH64 { OF_AARCH64.as_slice() } else { &OF_X86_64 };
    COMMON.iter().chain(own).copied()
}

fn row(kernel: &Kernel, report: &Report) -> String {
    let passed = |test: &&str| report.tests.get(*test).is_some_and(|outcome| outcome == "ok");
    let mut cells = vec![report.release.clone(), kernel.release.to_owned()];
    for (_, tests) in columns(kernel.arch) {
        cells.push(if tests.iter().all(passed) { "yes" } else { "no" }.to_owned());
    }
    let agree = if passed(&"capability::ways_agree") {
        kernel.ways.replace(' ', ", ")
    } else {
        "no".to_owned()
    };
    cells.push(agree);
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_says_yes_only_when_all_its_tests_passed() {
        let mut report = Report { release: "6.1.0".to_owned(), ..Report::default() };
        let tests = columns(&X86_64).flat_map(|(_, tests)| tests);
        for test in tests.chain(&["capability::ways_agree"]) {
            report.tests.insert((*test).to_owned(), "ok".to_owned());
        }
        let all = "| 6.1.0 | bookworm | yes | yes | yes | yes | yes | fexit, kprobe |\n";
        assert_eq!(row(&KERNELS[1], &report), all);
        report.tests.insert("command::int80_is_ia32".to_owned(), "FAILED".to_owned());
        report.tests.remove("capability::ways_agree");
        let some = "| 6.1.0 | bookworm | yes | yes | yes | yes | no | no |\n";
        assert_eq!(row(&KERNELS[1], &report), some);
    }
}
