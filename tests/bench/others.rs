//! Other tools in the same loop, where they are installed.

use std::process::{Child, Command, Stdio};

use anyhow::Result;

use crate::caller::{self, Call};

/// Another tool.
pub struct Other {
    /// Its name in the table.
    pub name: &'static str,
    program: &'static str,
    how: How,
    /// Slow ones make fewer calls.
    calls: u64,
}

enum How {
    /// The tool starts the caller.
    Starts(&'static [&'static str]),
    /// The same, in a shell that has a tracing file system: these words and the caller's are its command.
    StartsWithTracing(&'static str),
    /// This program of bpftrace's runs beside it, system-wide.
    Beside(&'static str),
}

/// Not every machine has a tracing file system mounted, in which tracepoints are found.
const TRACING: &str = "mount -t debugfs none /sys/kernel/debug; \
    mount -t tracefs none /sys/kernel/debug/tracing; exec ";

/// Those that are tried.
pub const ALL: &[Other] = &[
    Other {
        name: "strace -f -c",
        program: "strace",
        how: How::Starts(&["strace", "-f", "-c", "-o", "/dev/null"]),
        calls: 50_000,
    },
    Other {
        name: "strace -f --seccomp-bpf, another call",
        program: "strace",
        how: How::Starts(&[
            "strace",
            "-f",
            "--seccomp-bpf",
            "-e",
            "trace=swapoff",
            "-o",
            "/dev/null",
        ]),
        calls: 500_000,
    },
    Other {
        name: "perf trace -s",
        program: "perf",
        how: How::StartsWithTracing("perf trace -s -o /dev/null --"),
        calls: 500_000,
    },
    Other {
        name: "bpftrace, count by id on raw_syscalls:sys_enter",
        program: "bpftrace",
        how: How::Beside("tracepoint:raw_syscalls:sys_enter { @[args->id] = count(); }"),
        calls: 500_000,
    },
    Other {
        name: "bpftrace, on the tracepoint of another call",
        program: "bpftrace",
        how: How::Beside("tracepoint:syscalls:sys_enter_swapoff { @ = count(); }"),
        calls: 500_000,
    },
];

impl Other {
    /// Nanoseconds per call; `None` when it is not installed.
    pub fn measure(&self) -> Result<Option<f64>> {
        let found =
            Command::new("sh").args(["-c", "command -v \"$1\"", "sh", self.program]).output()?;
        if !found.status.success() {
            return Ok(None);
        }
        match self.how {
            How::Starts(words) => caller::measure(self.calls, Call::Plain, None, words).map(Some),
            How::StartsWithTracing(words) => {
                let script = format!("{TRACING}{words} \"$@\"");
                let words = ["unshare", "--mount", "sh", "-c", &script, "sh"];
                caller::measure(self.calls, Call::Plain, None, &words).map(Some)
            }
            How::Beside(program) => {
                let mut child = Command::new("unshare")
                    .args(["--mount", "sh", "-c", &format!("{TRACING}bpftrace -e \"$0\""), program])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()?;
                std::thread::sleep(std::time::Duration::from_secs(5)); // until it is attached
                if child.try_wait()?.is_some() {
                    return Ok(None);
                }
                let ns = caller::measure(self.calls, Call::Plain, None, &[]);
                stop(&mut child);
                ns.map(Some)
            }
        }
    }
}

fn stop(child: &mut Child) {
    let _ = child.kill(); // it may have ended by itself
    let _ = child.wait();
}
