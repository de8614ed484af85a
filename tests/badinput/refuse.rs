//! Refusals: one error, one hint, the documented status, and nothing done.

use std::{process::Command, time::Duration};

use anyhow::{Result, bail, ensure};

use crate::harness::{
    leftovers::{Leftovers, expect_whole_files},
    machine::{Machine, Need},
    program::{self, Output},
    record::Record,
    test::Test,
};

const LIMIT: Duration = Duration::from_secs(30);
const BPF: [Need; 1] = [Need::Bpf];
const ENGINE: [Need; 2] = [Need::Bpf, Need::Engine];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("badinput::flags_without_sense", &[], flags),
        Test::new("badinput::no_target_at_all", &[], |m| refused(m, &["record"], &[])),
        Test::new(
            "badinput::not_root",
            &[Need::Bpf, Need::Tool("setpriv", "util-linux")],
            not_root,
        ),
        Test::new(
            "badinput::root_without_privileges",
            &[Need::Bpf, Need::Tool("setpriv", "util-linux")],
            no_privileges,
        ),
        Test::new("badinput::no_btf", &BPF, no_btf),
        Test::new(
            "badinput::doctor_works_for_anyone",
            &[Need::Bpf, Need::Tool("setpriv", "util-linux")],
            doctor,
        ),
        Test::new("badinput::output_that_cannot_be_written", &BPF, unwritable),
        Test::new("badinput::full_disk_leaves_no_half_file", &BPF, full_disk).alone(),
        Test::new(
            "badinput::no_such_program",
            &[Need::Bpf, Need::Tool("bpftool", "bpftool")],
            no_program,
        )
        .alone(),
        Test::new("badinput::recordings_that_are_none", &[], malformed),
        Test::new("badinput::recording_of_a_newer_version", &[], newer),
        Test::new("badinput::no_such_container", &ENGINE, no_container),
        Test::new("badinput::no_engine", &BPF, no_engine),
        Test::new(
            "badinput::engine_without_permission",
            &[Need::Bpf, Need::Engine, Need::Tool("setpriv", "util-linux")],
            no_permission,
        ),
        Test::new("badinput::existing_results_survive_a_failure", &BPF, results_survive),
    ]
}

fn profiler(machine: &Machine, args: &[&str]) -> Command {
    program::command(&machine.profiler, args)
}

/// Runs it; it must end with status 2, one error that contains each of `words`, and a hint.
///
/// # Errors
/// When it does otherwise.
pub fn refused(machine: &Machine, args: &[&str], words: &[&str]) -> Result<()> {
    expect_refusal(&program::run(&mut profiler(machine, args), LIMIT)?, words)
}

/// Status 2, one error that contains each of `words`, and a hint.
///
/// # Errors
/// When it ended otherwise.
pub fn expect_refusal(output: &Output, words: &[&str]) -> Result<()> {
    let stderr = &output.stderr;
    ensure!(
        output.status == 2,
        "status {} where 2 is documented\n{}",
        output.status,
        output.text()
    );
    let errors = stderr.lines().filter(|line| line.starts_with("error")).count();
    ensure!(errors == 1, "{errors} errors, one is enough\n{stderr}");
    ensure!(
        stderr.contains("hint: ") || stderr.contains("--help"),
        "the error says no way out\n{stderr}"
    );
    ensure!(!stderr.contains("panicked"), "a panic\n{stderr}");
    ensure!(output.stdout.is_empty(), "an error belongs on stderr\n{}", output.stdout);
    for word in words {
        ensure!(stderr.contains(word), "the error does not say {word:?}\n{stderr}");
    }
    Ok(())
}

fn flags(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let touched = scratch.join("touched");
    let cases: [(&[&str], &str); 12] = [
        (&["--container", "cc", "--container", "cc"], "cc"),
        (&["--container", "cc", "--container", "/cc"], "cc"),
        (&["--container", "x", "--duration", "soon"], "soon"),
        (&["--container", "x", "--duration=-3s"], "-3s"),
        (&["--container", "x", "--duration", "0s"], "0s"),
        (&["--duration", "3s", "--", "/bin/touch", touched.as_str()], "--duration"),
        (&["--ready-fd", "99", "--", "/bin/touch", touched.as_str()], "99"),
        (&["--ready-fd", "x", "--", "/bin/touch", touched.as_str()], "x"),
        (&["--docker-host", "ftp://example.invalid", "--container", "x"], "ftp://example.invalid"),
        (&["--container", ""], "container"),
        (&["--no-such-flag", "--", "/bin/touch", touched.as_str()], "--no-such-flag"),
        (&["--restart", "--", "/bin/touch", touched.as_str()], "--restart"),
    ];
    for (args, word) in cases {
        refused(machine, &[&["record"], args].concat(), &[word])?;
    }
    refused(machine, &["doctor", "--format", "yaml"], &["yaml"])?;
    refused(machine, &["no-such-verb"], &["no-such-verb"])?;
    refused(machine, &["generate", "-o", scratch.join("x").as_str()], &[])?;
    ensure!(!touched.exists(), "a command was run in spite of the error");
    Ok(())
}

/// A copy that everyone may execute: the workspace may lie where others cannot go.
pub fn public_copy(machine: &Machine, dir: &camino::Utf8Path) -> Result<String> {
    let copy = dir.join("profiler");
    fs_err::copy(&machine.profiler, &copy)?;
    program::shell(&format!("chmod 755 {copy} && chmod 777 {dir}"))?;
    Ok(copy.into_string())
}

const AS_NOBODY: [&str; 4] =
    ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];

fn not_root(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (copy, out) = (public_copy(machine, scratch.path())?, scratch.join("out"));
    let args =
        [AS_NOBODY.as_slice(), &[&copy, "record", "-o", out.as_str(), "--", "/bin/true"]].concat();
    expect_refusal(&program::run(&mut program::command("setpriv", args), LIMIT)?, &["root"])?;
    ensure!(!out.exists(), "an output directory was made");
    Ok(())
}

/// Uid 0 without the capabilities that loading a program takes, as in a container.
fn no_privileges(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let bound = "--bounding-set=-bpf,-perfmon,-sys_admin";
    let out = scratch.join("out");
    let args = [bound, machine.profiler.as_str(), "record", "-o", out.as_str(), "--", "/bin/true"];
    expect_refusal(&program::run(&mut program::command("setpriv", args), LIMIT)?, &[])?;
    ensure!(!out.exists(), "an output directory was made");
    Ok(())
}

fn no_btf(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let out = scratch.join("out");
    let script = "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"";
    let args = [
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        machine.profiler.as_str(),
        "record",
        "-o",
        out.as_str(),
        "--",
        "/bin/true",
    ];
    let output = program::run(&mut program::command("unshare", args), LIMIT)?;
    expect_refusal(&output, &["BTF"])?;
    ensure!(!out.exists(), "an output directory was made");
    Ok(())
}

fn doctor(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let copy = public_copy(machine, scratch.path())?;
    let anyone = |format: &str| {
        let args = [AS_NOBODY.as_slice(), &[&copy, "doctor", "--format", format]].concat();
        program::run(&mut program::command("setpriv", args), LIMIT)
    };
    let human = anyone("human")?;
    ensure!(human.stdout.contains("BTF") && human.stdout.contains("cgroup"), "{}", human.text());
    let json: serde_json::Value = serde_json::from_str(&anyone("json")?.stdout)?;
    ensure!(json.is_object(), "doctor's JSON is {json}");
    let as_root = program::run(&mut profiler(machine, &["doctor"]), LIMIT)?.expect(0)?;
    ensure!(
        as_root.stdout != human.stdout,
        "root's privileges make no difference\n{}",
        human.stdout
    );
    Ok(())
}

fn unwritable(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (file, touched) = (scratch.join("file"), scratch.join("touched"));
    fs_err::write(&file, "x")?;
    for out in ["/proc/profiler", file.as_str(), file.join("below").as_str(), "/dev/null/x"] {
        refused(machine, &["record", "-o", out, "--", "/bin/touch", touched.as_str()], &[out])?;
        ensure!(!touched.exists(), "the command was run for nothing: `{out}` cannot be written");
    }
    // One of several directories: the other is not left behind.
    let (dir, below) = (scratch.join("several"), scratch.join("several/b"));
    fs_err::create_dir(&dir)?;
    fs_err::write(&below, "x")?;
    refused(
        machine,
        &[
            "record",
            "--container",
            "a",
            "--container",
            "b",
            "-o",
            dir.as_str(),
            "--",
            "/bin/touch",
            touched.as_str(),
        ],
        &[below.as_str()],
    )?;
    ensure!(
        !touched.exists() && !dir.join("a").exists(),
        "the command was run, or a directory made"
    );
    Ok(())
}

/// One page for everything: a recording does not fit.
fn full_disk(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let disk = scratch.join("disk");
    fs_err::create_dir(&disk)?;
    program::shell(&format!("mount -t tmpfs -o size=4k none {disk}"))?;
    let outcome = (|| {
        let output = program::run(
            &mut profiler(machine, &["record", "-o", disk.join("out").as_str(), "--", "/bin/true"]),
            LIMIT,
        )?;
        expect_refusal(&output, &[disk.as_str()])?;
        if disk.join("out").exists() { expect_whole_files(&disk.join("out")) } else { Ok(()) }
    })();
    program::shell(&format!("umount {disk}"))?;
    outcome
}

fn no_program(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let before = Leftovers::now()?;
    for program in ["/no/such/program", "no-such-program", "/etc/passwd"] {
        refused(
            machine,
            &["record", "-o", scratch.join("out").as_str(), "--", program],
            &[program],
        )?;
        ensure!(!scratch.join("out/seccomp.json").exists(), "a profile of nothing");
    }
    before.expect_none()
}

fn malformed(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (file, out) = (scratch.join("recording.json"), scratch.join("out"));
    let generate = ["generate", file.as_str(), "-o", out.as_str()];
    refused(machine, &generate, &[file.as_str()])?;
    for text in [
        "",
        "{",
        "null",
        "[]",
        "{\"schema_version\": 1}",
        "not JSON",
        "\u{0}",
        "{\"schema_version\": \"1\"}",
    ] {
        fs_err::write(&file, text)?;
        refused(machine, &generate, &[file.as_str()])?;
    }
    fs_err::write(&file, [0xff, 0xfe, 0x00])?;
    refused(machine, &generate, &[file.as_str()])?;
    let whole = minimal(1);
    for (from, to) in [
        ("\"kind\":\"command\"", "\"kind\":\"teapot\""),
        ("\"denials\":[]", "\"denials\":[],\"more\":1"),
    ] {
        ensure!(whole.contains(from), "the example has no {from}");
        fs_err::write(&file, whole.replace(from, to))?;
        refused(machine, &generate, &[file.as_str()])?;
    }
    ensure!(!out.exists(), "something was written");
    Ok(())
}

fn newer(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (file, out) = (scratch.join("recording.json"), scratch.join("out"));
    fs_err::write(&file, minimal(99))?;
    refused(machine, &["generate", file.as_str(), "-o", out.as_str()], &["99"])?;
    // A newer schema has keys that this version does not know: the version is what matters.
    fs_err::write(&file, minimal(99).replace("\"denials\":[]", "\"denials\":[],\"more\":1"))?;
    refused(machine, &["generate", file.as_str(), "-o", out.as_str()], &["99"])?;
    ensure!(!out.exists(), "something was written");
    Ok(())
}

/// A recording that says nothing, of a schema version.
fn minimal(version: u32) -> String {
    format!(
        "{{\"schema_version\":{version},\"target\":{{\"kind\":\"command\",\"name\":\"x\"}},\"runs\":{{}},\
         \"syscalls\":[],\"capabilities\":[],\"denials\":[]}}"
    )
}

fn no_container(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let output = Record::containers(machine, scratch.join("out"), &["no-such-container"])?
        .args(["--no-wait"])
        .run()?
        .output;
    expect_refusal(&output, &["no-such-container"])?;
    ensure!(!scratch.join("out").exists(), "an output directory was made");
    Ok(())
}

fn no_engine(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let socket = scratch.join("absent.sock");
    let out = scratch.join("out");
    let mut record = profiler(machine, &["record", "-o", out.as_str(), "--container", "x"]);
    record.env("DOCKER_HOST", format!("unix://{socket}"));
    expect_refusal(&program::run(&mut record, LIMIT)?, &[socket.as_str()])?;
    ensure!(!out.exists(), "an output directory was made");
    Ok(())
}

/// Root of a user namespace can do nothing to an engine's socket that others may not.
fn no_permission(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (copy, out) = (public_copy(machine, scratch.path())?, scratch.join("out"));
    let args =
        [AS_NOBODY.as_slice(), &[&copy, "record", "--container", "x", "-o", out.as_str()]].concat();
    let mut record = program::command("setpriv", args);
    machine.engine()?.environment(&mut record);
    expect_refusal(&program::run(&mut record, LIMIT)?, &[])
}

/// Files of an earlier recording are whole, old or new, after one that fails.
fn results_survive(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded =
        Record::new(machine, scratch.join("out")).workload(["/bin/true"]).run()?.expect(0)?;
    let before = recorded.emitted().committed()?;
    let failed = Record::new(machine, scratch.join("out")).workload(["/no/such/program"]).run()?;
    if failed.output.status == 0 {
        bail!("a program that is not there was recorded\n{}", failed.output.text());
    }
    ensure!(
        recorded.emitted().committed()? == before,
        "an earlier result was changed by a failure"
    );
    expect_whole_files(&recorded.dir)
}
