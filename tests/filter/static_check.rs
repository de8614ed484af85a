//! `verify --static`, and filters that are loaded.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use profiler::{
    ingest,
    kernel::libseccomp::Libseccomp,
    model::{
        effective::{Context, Engine},
        policy,
        seccomp::KernelVersion,
    },
};
use serde_json::Value;

use crate::harness::{
    machine::{Machine, Need},
    program::{self, Output},
    test::Test,
};

const NEEDS: [Need; 1] = [Need::PythonSeccomp];
const LIMIT: Duration = Duration::from_secs(30);

/// Two rules of one call overlap and have different actions; one name is not known to any libseccomp.
const TRAPS: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
    {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
     "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_GT"}, {"index": 1, "value": 16, "op": "SCMP_CMP_EQ"}]},
    {"names": ["ioctl"], "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]},
    {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
    {"names": ["fchroot", "read"], "action": "SCMP_ACT_ALLOW"}, {"names": ["write"], "action": "SCMP_ACT_LOG"}]}"#;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("filter::static_check_passes_what_is_sound", &NEEDS, sound),
        Test::new("filter::static_check_names_what_differs", &NEEDS, differs),
        Test::new("filter::static_check_without_libseccomp", &[], absent),
        Test::new("filter::a_loaded_filter_holds_for_its_thread", &NEEDS, loaded),
    ]
}

fn verify(machine: &Machine, args: &[&str]) -> Result<Output> {
    let args = [&["verify", "--static"], args].concat();
    program::run(&mut program::command(&machine.profiler, args), LIMIT)
}

fn sound(machine: &Machine) -> Result<()> {
    let human = verify(machine, &["docker-default", "--arch", "x86_64"])?.expect(0)?;
    ensure!(human.stdout.contains("the filter does what the file says"), "{}", human.text());
    let not_cached = "not clone, personality: the filter looks at argument 0";
    ensure!(human.stdout.contains(not_cached), "{}", human.text());
    let json = verify(machine, &["docker-default", "--format", "json"])?.expect(0)?;
    let document: Value = serde_json::from_str(&json.stdout)?;
    let checks = document["checks"].as_array().context("no checks")?;
    ensure!(checks.len() >= 2 && checks.iter().all(|check| check["holds"] == true), "{document}");
    let cached = document["checks"][0]["cache"][0]["cached"].as_array().context("no cache")?;
    ensure!(cached.contains(&"read".into()) && !cached.contains(&"clone".into()), "{cached:?}");
    Ok(())
}

fn differs(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let file = scratch.join("traps.json");
    fs_err::write(&file, TRAPS)?;
    let human = verify(machine, &[file.as_str()])?.expect(1)?;
    for line in [
        "2 calls differ from what the file says",
        "the file says `allow`, the filter `kill the process`",
        "the file says `allow`, the filter `EPERM`; libseccomp does not know the name",
        "1 of 4 calls that pass on x86_64 need no filter",
        "not write: its answer is `allow and log`",
    ] {
        ensure!(human.stdout.contains(line), "`{line}` is not in\n{}", human.text());
    }
    let json = verify(machine, &[file.as_str(), "--format", "json"])?.expect(1)?;
    let document: Value = serde_json::from_str(&json.stdout)?;
    let found: BTreeSet<_> = document["checks"][0]["differences"]
        .as_array()
        .context("no differences")?
        .iter()
        .filter_map(|found| Some((found["name"].as_str()?, found["cause"].as_str()?)))
        .collect();
    let expected = [("fchroot", "unknown-name"), ("ioctl", "compiled")];
    ensure!(found == expected.into(), "{found:?}");
    Ok(())
}

/// What the dynamic linker finds under the name is no library.
fn absent(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    fs_err::write(scratch.join("libseccomp.so.2"), "none")?;
    let mut command = program::command(&machine.profiler, ["verify", "--static", "docker-default"]);
    command.env("LD_LIBRARY_PATH", scratch.path());
    let output = program::run(&mut command, LIMIT)?.expect(2)?;
    let message = "cannot open `libseccomp.so.2`";
    let hint = "hint: apt-get install libseccomp2";
    ensure!(
        output.stderr.contains(message) && output.stderr.contains(hint) && output.stdout.is_empty(),
        "{}",
        output.text()
    );
    Ok(())
}

fn loaded(machine: &Machine) -> Result<()> {
    let file = ingest::seccomp::parse(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 74}]}"#,
    )?;
    let context = Context {
        native: policy::native_abi(std::env::consts::ARCH).context("no table")?,
        capabilities: BTreeSet::new(),
        kernel: KernelVersion { major: 6, minor: 1 },
        engine: Engine::Oci,
    };
    let scratch = machine.scratch()?;
    let inside = scratch.join("inside");
    let made = std::thread::spawn(move || -> Result<_> {
        Libseccomp::open()?.load(&file, &context, true)?;
        let status = fs_err::read_to_string("/proc/thread-self/status")?;
        Ok((std::fs::create_dir(inside), status))
    });
    let (made, status) = made.join().map_err(|_| anyhow!("the thread panicked"))??;
    let refused = made.err().and_then(|error| error.raw_os_error());
    ensure!(refused == Some(74), "mkdir ended with {refused:?}");
    ensure!(status.contains("Seccomp:\t2\n") && status.contains("NoNewPrivs:\t1\n"), "{status}");
    fs_err::create_dir(scratch.join("outside")).context("another thread is bound, too")
}
