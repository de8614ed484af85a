//! Arguments, order, and the sum over all kernels.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

use super::{
    docs,
    guest::{self, Report},
    initramfs,
    kernels::{self, KERNELS, Kernel, WAYS},
};
use crate::{
    apt,
    sh::{cmd, root, say},
};

/// Machines that run at a time; each is one emulated processor.
const AT_A_TIME: usize = 2;

/// What the machines are made of. The fixtures are built as `cargo xtask test` does.
const PACKAGES: [&str; 9] = [
    "busybox-static",
    "cpio",
    "gcc",
    "lib32gcc-12-dev",
    "libc6-dev",
    "libc6-dev-i386",
    "qemu-system-x86",
    "strace",
    "util-linux",
];

/// Arguments of `vm`.
#[derive(clap::Args)]
pub struct Args {
    /// Kernels to boot: 5.10, 6.1, 6.12, newest (default: all).
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Give a machine this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Write docs/kernel-support.md from the results; takes all kernels.
    #[arg(long, conflicts_with = "kernels")]
    write_docs: bool,
}

/// Where kernels, the initramfs and the consoles' output are.
pub fn home() -> Utf8PathBuf {
    root().join("target/vm")
}

/// Runs the verb: every kernel, whatever another one did.
///
/// # Errors
/// When something cannot be built or fetched, or a check fails on a kernel; all failures are told.
pub fn run(args: &Args) -> Result<()> {
    let chosen = chosen(&args.kernels)?;
    apt::ensure(&PACKAGES)?;
    let suite = build()?;
    let initrd = initramfs::pack(&suite, &home())?;
    let reports = boot_all(&chosen, &initrd, Duration::from_secs(args.timeout));
    let mut failures = Vec::new();
    for (kernel, report) in chosen.iter().zip(&reports) {
        let found = match report {
            Ok(report) => judge(kernel, report),
            Err(error) => vec![format!("{error:#}")],
        };
        for failure in &found {
            say(format!("vm: {}: {failure}", kernel.name));
        }
        failures.extend(found);
    }
    for (kernel, report) in chosen.iter().zip(&reports) {
        if let Ok(report) = report {
            println!(
                "{}: {}: {} passed, {} failed, {} s",
                kernel.name,
                report.release,
                report.passed().count(),
                report.tests.len() - report.passed().count(),
                report.seconds
            );
        }
    }
    if args.write_docs {
        docs::write(&chosen, &reports)?;
    }
    if failures.is_empty() {
        return Ok(());
    }
    bail!("{} failures, see above; the consoles are in {}", failures.len(), home())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Kernel>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            KERNELS.iter().find(|kernel| kernel.name == name).with_context(|| {
                let known: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
                format!("no kernel `{name}`\nhint: one of {}", known.join(", "))
            })
        })
        .collect()
}

/// Builds recorder, suite and fixtures; the path of the suite.
fn build() -> Result<Utf8PathBuf> {
    let cargo = || cmd("cargo").dir(root());
    cargo().args(["build", "--release", "-p", "profiler"]).run()?;
    let built = cargo()
        .args(["test", "-p", "profiler-tests", "--test", "suite", "--no-run"])
        .args(["--message-format=json"])
        .stdout()?;
    let suite = built
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "suite")
        .find_map(|message| message["executable"].as_str().map(Utf8PathBuf::from))
        .context("cargo built no suite")?;
    cmd(&suite).arg("--fixtures").dir(root()).run()?;
    Ok(suite)
}

/// Boots each kernel, some at a time; the reports in the order of `kernels`.
fn boot_all(kernels: &[&Kernel], initrd: &Utf8Path, limit: Duration) -> Vec<Result<Report>> {
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..kernels.len()).collect());
    let next = || queue.lock().ok()?.pop_front();
    let mut reports: Vec<(usize, Result<Report>)> = std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            while let Some(number) = next() {
                let kernel = kernels[number];
                let report = kernels::fetch(kernel, &home())
                    .and_then(|image| guest::run(kernel, &image, initrd, &home(), limit));
                done.push((number, report));
            }
            done
        };
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    reports.sort_by_key(|(number, _)| *number);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// What is not as it should be on a kernel.
fn judge(kernel: &Kernel, report: &Report) -> Vec<String> {
    let mut failures: Vec<String> = report
        .tests
        .iter()
        .filter(|(_, outcome)| outcome.as_str() != "ok")
        .map(|(test, outcome)| format!("{test}: {outcome}"))
        .collect();
    if report.tests.is_empty() {
        failures.push("no test ran".to_owned());
    }
    if !report.finished {
        failures.push("the machine did not come to an end".to_owned());
    }
    let best = kernel.ways.split(' ').next().unwrap_or_default();
    if report.capabilities.as_deref() != Some(best) {
        failures.push(format!(
            "capability checks are seen by {:?}, not `{best}` (of {})",
            report.capabilities,
            WAYS.join(", ")
        ));
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tests: &[(&str, &str)], capabilities: &str, finished: bool) -> Report {
        Report {
            release: "6.1.0".to_owned(),
            capabilities: Some(capabilities.to_owned()),
            tests: tests.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            finished,
            seconds: 1,
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let kernel = &KERNELS[1];
        assert!(judge(kernel, &report(&[("a", "ok")], "fexit", true)).is_empty());
        let wrong = report(&[("a", "FAILED"), ("b", "ok"), ("c", "ignored")], "kprobe", false);
        assert_eq!(judge(kernel, &wrong).len(), 4);
        assert_eq!(judge(kernel, &report(&[], "fexit", true)), ["no test ran"]);
    }

    #[test]
    fn a_kernel_is_named_or_all_are_meant() {
        assert_eq!(chosen(&[]).expect("all").len(), KERNELS.len());
        assert_eq!(chosen(&["6.1".to_owned()]).expect("one")[0].name, "6.1");
        assert!(chosen(&["2.6".to_owned()]).is_err());
    }
}
