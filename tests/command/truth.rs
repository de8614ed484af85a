//! The recorded set is the set that strace sees on the same run, call for call.
//!
//! strace follows the recorder and its children; the command is the process that executes it, with all its descendants.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use camino::Utf8Path;

use crate::{
    command::complete::CHILDREN,
    harness::{
        machine::{Machine, Need},
        record::Record,
        syscalls,
        test::Test,
    },
};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("strace", "strace")];

/// Calls that one of the two may show alone, and why.
const EXPLAINED: [(&str, &str); 1] = [(
    "restart_syscall",
    "the kernel restarts a sleep that strace's own stop interrupted, in one view or both",
)];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let compiler = [NEEDS.as_slice(), &[Need::Tool("gcc", "gcc")]].concat();
    vec![
        Test::new("command::strace_agrees_on_ls", &NEEDS, |m| {
            agrees(m, "/bin/ls", &["-lR", "/usr/share/doc/libc6", "/etc"])
        }),
        Test::new("command::strace_agrees_on_a_pipeline", &NEEDS, |m| {
            agrees(
                m,
                "/bin/sh",
                &[
                    "-c",
                    "for i in 1 2 3; do ls /etc | sort -r | head -$i | wc -l; done; (sleep 0.1 & wait); kill -0 $$",
                ],
            )
        }),
        Test::new(
            "command::strace_agrees_on_python",
            &[NEEDS.as_slice(), &[Need::Tool("/usr/bin/python3", "python3")]].concat(),
            |m| {
                agrees(
                    m,
                    "/usr/bin/python3",
                    &[
                        "-c",
                        "import json, socket, subprocess, tempfile, threading\n\
                     t = [threading.Thread(target=lambda: socket.socketpair()[0].send(b'x')) for _ in range(4)]\n\
                     [x.start() for x in t]; [x.join() for x in t]\n\
                     subprocess.run(['/bin/true']); tempfile.TemporaryFile().write(b'x')",
                    ],
                )
            },
        ),
        Test::new("command::strace_agrees_on_gcc", &compiler, |m| {
            let scratch = m.scratch()?;
            let (source, binary) = (scratch.join("hello.c"), scratch.join("hello"));
            fs_err::write(
                &source,
                "#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n",
            )?;
            agrees(m, "/usr/bin/gcc", &["-O2", "-o", binary.as_str(), source.as_str()])
        }),
        Test::new(
            "command::strace_agrees_on_git",
            &[NEEDS.as_slice(), &[Need::Tool("git", "git")]].concat(),
            |m| {
                let scratch = m.scratch()?;
                let script = "cd \"$1\"; git init -q; echo x > f; git add f; git -c user.name=t -c user.email=t@t commit -qm x; git status";
                agrees(m, "/bin/sh", &["-c", script, "sh", scratch.path().as_str()])
            },
        ),
        Test::new("command::strace_agrees_on_children", &NEEDS, |m| {
            let forker = m.fixture("forker")?;
            let numbers = syscalls::numbers(&CHILDREN)?;
            let words: Vec<String> = numbers.iter().map(u32::to_string).collect();
            agrees(m, forker.as_str(), &words.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .on_every_machine(),
    ]
}

fn agrees(machine: &Machine, program: &str, args: &[&str]) -> Result<()> {
    let scratch = machine.scratch()?;
    let trace = scratch.join("trace");
    let recorded = Record::new(machine, scratch.join("out"))
        .workload([&[program], args].concat())
        .under(["strace", "-f", "-qq", "-s", "0", "-o", trace.as_str()])
        .limit(Duration::from_secs(180))
        .run()?
        .expect(0)?;
    let traced = traced(&trace, program)?;
    let recorded = recorded.recording()?.names("workload")?;
    let explained = |name: &&String| EXPLAINED.iter().any(|(known, _)| known == *name);
    let only_traced: Vec<_> = traced.difference(&recorded).filter(|n| !explained(n)).collect();
    let only_recorded: Vec<_> = recorded.difference(&traced).filter(|n| !explained(n)).collect();
    if !only_traced.is_empty() || !only_recorded.is_empty() {
        bail!(
            "only strace saw {only_traced:?}, only the recorder {only_recorded:?}, of {} calls",
            traced.len()
        );
    }
    if traced.len() < 10 {
        bail!("strace saw {} calls, too few to compare: {traced:?}", traced.len());
    }
    Ok(())
}

/// The names of all calls that the process executing `program` and its descendants made, after that execve: the
/// hand-over to the program is the recorder's, the rest is the program's.
fn traced(trace: &Utf8Path, program: &str) -> Result<BTreeSet<String>> {
    let text = fs_err::read_to_string(trace)?;
    let mut parents: BTreeMap<u32, u32> = BTreeMap::new();
    let mut calls: Vec<(u32, &str)> = Vec::new();
    let mut unfinished: BTreeMap<u32, &str> = BTreeMap::new();
    let mut root = None;
    let executes = format!("execve(\"{program}\"");
    for line in text.lines() {
        let (pid, rest) = line.split_once(' ').context("a line of strace starts with a pid")?;
        let pid: u32 = pid.parse().with_context(|| format!("strange line of strace: {line}"))?;
        let rest = rest.trim_start();
        let (call, begins) = if let Some(resumed) = rest.strip_prefix("<... ") {
            (resumed.split(' ').next().unwrap_or_default(), false)
        } else if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        } else {
            let call = rest.split('(').next().unwrap_or_default();
            (call, true)
        };
        let ends = !rest.ends_with("<unfinished ...>");
        if begins {
            if root.is_some() {
                calls.push((pid, call));
            }
            if rest.starts_with(&executes) {
                unfinished.insert(pid, "the execve");
            }
        }
        if ends {
            let result =
                rest.rsplit_once(" = ").map(|(_, result)| result.trim()).unwrap_or_default();
            if call == "execve"
                && result == "0"
                && unfinished.remove(&pid).is_some()
                && root.is_none()
            {
                root = Some(pid);
                calls.clear();
            }
            let creates = matches!(call, "clone" | "clone3" | "fork" | "vfork");
            if let (true, Ok(child)) =
                (creates, result.split(' ').next().unwrap_or_default().parse())
            {
                parents.insert(child, pid);
            }
        }
    }
    let root = root.with_context(|| format!("strace saw no execve of `{program}`"))?;
    let descends = |mut pid: u32| {
        loop {
            if pid == root {
                return true;
            }
            match parents.get(&pid) {
                Some(parent) => pid = *parent,
                None => return false,
            }
        }
    };
    Ok(calls
        .into_iter()
        .filter(|(pid, _)| descends(*pid))
        .map(|(_, call)| call.to_owned())
        .collect())
}
