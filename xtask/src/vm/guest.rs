//! Booting one machine and reading what it says on the serial console.
//!
//! Pure emulation: one processor, no devices but the console. A machine that is not up after a while is booted again, since
//! then the emulator and not the recorder is at fault; one that is up has one try.

use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

use super::{arch::Arch, initramfs::command_line, kernels::Kernel};
use crate::sh::{cmd, root, say};

/// How often a machine that does not come up is booted.
const BOOTS: usize = 3;
/// How long coming up may take: four seconds on a quiet machine.
const UP: Duration = Duration::from_secs(90);
/// Which programs a machine's recorder loads.
const OBJECT: &str = "profiler-ebpf/profiler.bpf.o";
const POLL: Duration = Duration::from_millis(100);

/// What a machine said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `uname -r`.
    pub release: String,
    /// The way in which `doctor` sees capability checks.
    pub capabilities: Option<String>,
    /// Each test of the suite, and how it ended in libtest's words.
    pub tests: BTreeMap<String, String>,
    /// It came to its end.
    pub finished: bool,
    /// How long it ran.
    pub seconds: u64,
}

impl Report {
    /// The tests that passed.
    pub fn passed(&self) -> impl Iterator<Item = &str> {
        self.tests.iter().filter(|(_, outcome)| *outcome == "ok").map(|(test, _)| test.as_str())
    }

    /// Reads a console.
    fn read(console: &str) -> Self {
        let mut report = Self::default();
        for line in console.lines().map(str::trim_end) {
            if let Some(release) = line.strip_prefix("vm: up ") {
                report.release = release.to_owned();
            } else if line.starts_with("vm: end ") {
                report.finished = true;
            } else if let Some((_, found)) = line.split_once("attach cap_capable ") {
                let way = found.trim_start().split_once(':').map(|(way, _)| way.to_owned());
                report.capabilities = way.filter(|_| line.starts_with("ok"));
            } else if let Some((test, outcome)) =
                line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
            {
                report.tests.insert(test.trim().to_owned(), outcome.to_owned());
            }
        }
        report
    }
}

/// Boots `kernel` and waits for its end. The console goes to a file in `home`.
///
/// # Errors
/// When the emulator cannot be started, or the machine never comes up.
pub fn run(
    kernel: &Kernel,
    image: &Utf8Path,
    initrd: &Utf8Path,
    home: &Utf8Path,
    limit: Duration,
) -> Result<Report> {
    let console = home.join(format!("{}.log", kernel.name));
    for boot in 1..=BOOTS {
        say(format!("vm: booting {}", kernel.name));
        let began = Instant::now();
        let mut machine = Machine::boot(kernel, image, initrd, &console)?;
        let read =
            || fs_err::read(&console).map(|text| String::from_utf8_lossy(&text).into_owned());
        let is_up = || read().is_ok_and(|text| text.contains("vm: up "));
        if !machine.wait(UP, is_up)? && !is_up() {
            say(format!("vm: {}: not up, boot {boot} of {BOOTS}; see {console}", kernel.name));
            continue;
        }
        machine.wait(limit.saturating_sub(began.elapsed()), || false)?;
        drop(machine);
        let mut report = Report::read(&read()?);
        report.seconds = began.elapsed().as_secs();
        if report.passed().count() < report.tests.len() || !report.finished {
            eprint!("{}", read()?);
        }
        return Ok(report);
    }
    anyhow::bail!("the machine did not come up\nhint: cat {console}")
}

/// What the last run of `kernel` said, if it was of the object that is here now.
///
/// # Errors
/// When it was not run, or not to its end, or before the object was built.
pub fn last(kernel: &Kernel, home: &Utf8Path) -> Result<Report> {
    let again = || format!("no run of {} with this object\nhint: cargo xtask vm {0}", kernel.name);
    let console = home.join(format!("{}.log", kernel.name));
    let ran = fs_err::metadata(&console).with_context(again)?.modified()?;
    let built = fs_err::metadata(root().join(OBJECT))?.modified()?;
    let report = Report::read(&String::from_utf8_lossy(&fs_err::read(&console)?));
    ensure!(ran > built && report.finished, again());
    Ok(report)
}

/// A running emulator; killed when it is dropped.
struct Machine {
    child: Child,
}

impl Machine {
    fn boot(
        kernel: &Kernel,
        image: &Utf8Path,
        initrd: &Utf8Path,
        console: &Utf8Path,
    ) -> Result<Self> {
        let arch = kernel.arch;
        let child = cmd(arch.emulator)
            .args(arch.options)
            .args(["-accel", "tcg", "-smp", "1", "-m", "1024"])
            .args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"])
            .args(["-kernel", image.as_str(), "-initrd", initrd.as_str(), "-append"])
            .arg(command_line(kernel))
            .into_command()
            .stdin(Stdio::null())
            .stdout(fs_err::File::create(console)?.into_parts().0)
            .spawn()
            .with_context(|| {
                let Arch { emulator, package, .. } = arch;
                format!("cannot start `{emulator}`\nhint: apt-get install {package}")
            })?;
        Ok(Self { child })
    }

    /// Waits until `done` holds or the machine has ended; false when `done` never held.
    fn wait(&mut self, limit: Duration, done: impl Fn() -> bool) -> Result<bool> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if done() {
                return Ok(true);
            }
            if self.child.try_wait()?.is_some() {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
        Ok(false)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_read() {
        let console = "[ 1.0] noise\nvm: up 6.1.0-50-cloud-amd64\r\n\
            ok       attach cap_capable         fexit: sees capability checks (tracepoint: not in this kernel)\r\n\
            vm: suite\r\nrunning 2 tests\r\ntest command::first_call             ... ok\r\n\
            test capability::ways_agree ... FAILED\r\nvm: end 101\r\n";
        let report = Report::read(console);
        assert_eq!(report.release, "6.1.0-50-cloud-amd64");
        assert_eq!(report.capabilities.as_deref(), Some("fexit"));
        assert_eq!(report.passed().collect::<Vec<_>>(), ["command::first_call"]);
        assert_eq!(report.tests["capability::ways_agree"], "FAILED");
        assert!(report.finished);
    }

    #[test]
    fn a_machine_that_stops_in_between_has_not_finished() {
        let report = Report::read(
            "vm: up 6.1\nwarning  attach cap_capable  sees capability checks: x: y\ntest a ... ok\n",
        );
        assert!(!report.finished);
        assert_eq!(report.capabilities, None);
    }
}
