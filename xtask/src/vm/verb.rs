//! Arguments, order, and the sum over all kernels.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use camino::Utf8PathBuf;

use super::{
    arch::{AARCH64, Arch, X86_64},
    cross::{self, Cross},
    docs,
    guest::{self, Report},
    initramfs,
    kernels::{self, KERNELS, Kernel, WAYS},
};
use crate::{
    apt,
    sh::{Cmd, cmd, root, say},
};

/// Machines that run at a time; each is one emulated processor.
const AT_A_TIME: usize = 2;

/// What the machines are made of. The fixtures are built as `cargo xtask test` does.
const PACKAGES: [&str; 8] = [
    "busybox-static",
    "cpio",
    "gcc",
    "lib32gcc-12-dev",
    "libc6-dev",
    "libc6-dev-i386",
    "strace",
    "util-linux",
];

/// Arguments of `vm`.
#[derive(clap::Args)]
pub struct Args {
    /// Kernels to boot: 5.10, 6.1, 6.12, newest, or x86_64 for all of these, which is the default; aarch64-6.1, aarch64-6.12,
    /// or aarch64 for both.
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Give a machine this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Write docs/kernel-support.md from the results. Of kernels that are not to be booted, what their last run found is taken,
    /// unless the object for the kernel is younger; named none, all kernels of both machines are booted.
    #[arg(long)]
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
    let chosen = match args.kernels.as_slice() {
        [] if args.write_docs => KERNELS.iter().collect(),
        names => chosen(names)?,
    };
    let others: Vec<&Kernel> = KERNELS
        .iter()
        .filter(|kernel| !chosen.iter().any(|chosen| chosen.name == kernel.name))
        .collect();
    let last = match args.write_docs {
        true => others.iter().map(|kernel| guest::last(kernel, &home())).collect::<Result<_>>()?,
        false => Vec::new(),
    };
    let initrds = initrds(&chosen)?;
    let reports = boot_all(&chosen, &initrds, Duration::from_secs(args.timeout));
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
        let mut all: BTreeMap<&str, &Report> = BTreeMap::new();
        for (kernel, report) in chosen.iter().zip(&reports) {
            let Ok(report) = report else {
                bail!("no report of {}: nothing is written", kernel.name)
            };
            all.insert(kernel.name, report);
        }
        all.extend(others.iter().map(|kernel| kernel.name).zip(&last));
        docs::write(&all)?;
    }
    if failures.is_empty() {
        return Ok(());
    }
    bail!("{} failures, see above; the consoles are in {}", failures.len(), home())
}

/// The kernels of these names; a machine's name is for all of its kernels.
fn chosen(names: &[String]) -> Result<Vec<&'static Kernel>> {
    let is_meant = |name: &str, kernel: &Kernel| kernel.name == name || kernel.arch.name == name;
    for name in names {
        if !KERNELS.iter().any(|kernel| is_meant(name, kernel)) {
            let known: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
            bail!("no kernel `{name}`\nhint: one of {}, x86_64, aarch64", known.join(", "));
        }
    }
    let is_chosen = |kernel: &&Kernel| match names {
        [] => is_meant(X86_64.name, kernel),
        names => names.iter().any(|name| is_meant(name, kernel)),
    };
    Ok(KERNELS.iter().filter(is_chosen).collect())
}

/// What each machine finds, by its name. Everything that it is made of is installed, fetched and built.
fn initrds(kernels: &[&Kernel]) -> Result<BTreeMap<&'static str, Utf8PathBuf>> {
    let is_wanted = |arch: &Arch| kernels.iter().any(|kernel| kernel.arch == arch);
    let mut packages = PACKAGES.to_vec();
    packages.extend(kernels.iter().map(|kernel| kernel.arch.package));
    if is_wanted(&AARCH64) {
        packages.extend(cross::PACKAGES);
    }
    packages.sort_unstable();
    packages.dedup();
    apt::ensure(&packages)?;
    let mut initrds = BTreeMap::new();
    let cargo = |args: &[&str]| cmd("cargo").args(args).dir(root());
    // on this machine it builds the programs of the other one, too
    let suite = built(cargo(&SUITE))?;
    if is_wanted(&X86_64) {
        cargo(&RECORDER).run()?;
        cmd(&suite).arg("--fixtures").dir(root()).run()?;
        initrds.insert(X86_64.name, initramfs::pack(&suite, &home())?);
    }
    if is_wanted(&AARCH64) {
        let home = home().join(AARCH64.name);
        let cross = Cross::fetch(&home)?;
        cross.cargo(&RECORDER).run()?;
        cmd(&suite).args(["--fixtures", AARCH64.name]).dir(root()).run()?;
        let suite = built(cross.cargo(&SUITE))?;
        initrds.insert(AARCH64.name, initramfs::pack_aarch64(&cross, &suite, &home)?);
    }
    Ok(initrds)
}

/// How cargo builds the recorder, and the suite.
const RECORDER: [&str; 4] = ["build", "--release", "-p", "profiler"];
const SUITE: [&str; 7] =
    ["test", "-p", "profiler-tests", "--test", "suite", "--no-run", "--message-format=json"];

/// The path of the suite that this builds.
fn built(cargo: Cmd) -> Result<Utf8PathBuf> {
    let built = cargo.stdout()?;
    built
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "suite")
        .find_map(|message| message["executable"].as_str().map(Utf8PathBuf::from))
        .context("cargo built no suite")
}

/// Boots each kernel, some at a time; the reports in the order of `kernels`.
fn boot_all(
    kernels: &[&Kernel],
    initrds: &BTreeMap<&str, Utf8PathBuf>,
    limit: Duration,
) -> Vec<Result<Report>> {
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..kernels.len()).collect());
    let next = || queue.lock().ok()?.pop_front();
    let mut reports: Vec<(usize, Result<Report>)> = std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            while let Some(number) = next() {
                let kernel = kernels[number];
                let initrd = &initrds[kernel.arch.name];
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
    fn a_kernel_is_named_or_a_machines_are_meant() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            chosen(&words)
                .map(|kernels| kernels.iter().map(|kernel| kernel.name).collect::<Vec<_>>())
        };
        let x86_64 = ["5.10", "6.1", "6.12", "newest"];
        assert_eq!(names(&[]).expect("those of x86_64"), x86_64);
        assert_eq!(names(&["6.1"]).expect("one"), ["6.1"]);
        let aarch64 = ["aarch64-6.1", "aarch64-6.12"];
        assert_eq!(names(&["aarch64"]).expect("those of aarch64"), aarch64);
        assert!(names(&["6.1", "2.6"]).is_err());
    }
}
