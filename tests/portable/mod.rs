//! Profiles for other C libraries and architectures than the recorded ones, held against what these do.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use profiler::model::{arch::Abi, syscall};

use crate::harness::{
    docker::Container,
    evidence::Emitted,
    fixtures,
    machine::{Machine, Need},
    pair::Pair,
    program,
    record::Record,
    test::Test,
};

const LIMIT: Duration = Duration::from_secs(60);

/// What the program of the fixtures prints.
const DONE: &str = "done\n";

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    // its engine has Debian 13's libc beside it
    let trixie = Pair { runtime: "runc-trixie", engine: "docker26" };
    vec![
        Test::new(
            "portable::runs_on_musl_and_a_newer_glibc",
            &[
                Need::Bpf,
                Need::Engine,
                Need::Tool("gcc", "gcc"),
                Need::Tool("musl-gcc", "musl-tools"),
                Need::Pair(trixie),
            ],
            other_libraries,
        ),
        Test::new(
            "portable::allows_what_aarch64_does",
            &[
                Need::Bpf,
                Need::Tool("gcc", "gcc"),
                Need::Tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
                Need::Tool("qemu-aarch64-static", "qemu-user-static"),
            ],
            aarch64,
        ),
    ]
}

/// The same program with Debian 12's glibc, Debian 13's and musl, each under what was recorded of the first.
fn other_libraries(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let glibc = fixtures::build(&machine.root, "libc")?;
    let musl = scratch.join("musl");
    fixtures::build_with("musl-gcc", &["-static"], &machine.root, "libc", &musl)?;
    let newer = machine.root.join("target/engines/trixie/usr");
    let run =
        |container: Container<'_>, program: &Utf8Path, usr: Option<&Utf8Path>, more: &[String]| {
            let mut words: Vec<String> =
                ["--network=none", "--workdir=/tmp", "--security-opt=no-new-privileges"]
                    .map(str::to_owned)
                    .into();
            words.extend(usr.iter().flat_map(|usr| {
                ["lib", "lib64"].map(|dir| format!("--volume={usr}/{dir}:/{dir}:ro"))
            }));
            words.extend(more.iter().cloned());
            words.extend([
                format!("--volume={program}:/program:ro"),
                image.clone(),
                "/program".to_owned(),
            ]);
            container.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
        };

    let container = engine.name("portable");
    let out = scratch.join("out");
    let session = Record::containers(machine, &out, &[&container.name])?.start()?;
    let permissive = format!("--security-opt=seccomp={}", machine.permissive());
    let printed = run(container, &glibc, Some("/usr".into()), &[permissive])?.expect(0)?.stdout;
    ensure!(printed == DONE, "while it was recorded: {printed}");
    session.finish()?.expect(0)?;

    let exact = enforce(&generate(machine, &out, "exact", &[])?)?;
    let portable = enforce(&generate(machine, &out, "portable", &["--portable"])?)?;
    let under_exact = run(engine.name("exact"), &musl, None, &exact)?;
    ensure!(
        under_exact.status != 0,
        "musl needs nothing that glibc does not: this test shows nothing"
    );
    for (what, program, usr) in [
        ("the recorded glibc", &glibc, Some("/usr".into())),
        ("Debian 13's glibc", &glibc, Some(newer.as_path())),
        ("musl", &musl, None),
    ] {
        let printed = run(engine.name("portable"), program, usr, &portable)?
            .expect(0)
            .with_context(|| what.to_owned())?
            .stdout;
        ensure!(printed == DONE, "{what}: {printed}");
    }
    Ok(())
}

/// The options that enforce it, and keep only the capabilities that are needed.
fn enforce(emitted: &Emitted) -> Result<Vec<String>> {
    let seccomp = format!("--security-opt=seccomp={}", emitted.path("seccomp.json"));
    let added = emitted.capabilities()?.into_iter().map(|name| format!("--cap-add={name}"));
    Ok([seccomp, "--cap-drop=ALL".to_owned()].into_iter().chain(added).collect())
}

/// What a static program of aarch64 calls, by an emulator that names each call, is in the profile that an x86_64 recording gives.
fn aarch64(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let here = fixtures::build(&machine.root, "libc")?;
    let there = scratch.join("aarch64");
    fixtures::build_with("aarch64-linux-gnu-gcc", &["-static"], &machine.root, "libc", &there)?;
    let out = scratch.join("out");
    let recorded = Record::new(machine, &out)
        .current_dir(scratch.path())
        .workload([here.as_str()])
        .run()?
        .expect(0)?;
    ensure!(recorded.output.stdout == DONE, "{}", recorded.output.text());
    let emitted = generate(machine, &out, "aarch64", &["--arch", "aarch64", "--portable"])?;
    let seccomp = emitted.seccomp()?;
    ensure!(
        seccomp.architectures() == ["SCMP_ARCH_AARCH64"],
        "it is for {:?}",
        seccomp.architectures()
    );
    let profile = fs_err::read_to_string(emitted.path("profile.json"))?;
    ensure!(profile.contains("is an assumption"), "that much is assumed is not said");

    let mut emulated = program::command("qemu-aarch64-static", ["-strace", there.as_str()]);
    emulated.current_dir(scratch.path());
    let output = program::run(&mut emulated, LIMIT)?.expect(0)?;
    let made: BTreeSet<String> = output.stderr.lines().filter_map(call_of).collect();
    ensure!(made.len() > 50, "the emulator names few calls: {made:?}");
    let allowed = seccomp.allowed();
    let missing: Vec<_> = made.difference(&allowed).collect();
    ensure!(missing.is_empty(), "aarch64's glibc calls {missing:?}, which are not allowed");
    Ok(())
}

/// `openat` of `1234 openat(AT_FDCWD,...) = 3`.
fn call_of(line: &str) -> Option<String> {
    let (pid, rest) = line.split_once(' ')?;
    let (name, _) = rest.split_once('(')?;
    // the lines of two threads may run into each other
    let is_call = syscall::number(Abi::Aarch64, name).is_some();
    (pid.parse::<u32>().is_ok() && is_call).then(|| name.to_owned())
}

fn generate(machine: &Machine, recording: &Utf8Path, name: &str, more: &[&str]) -> Result<Emitted> {
    let dir: Utf8PathBuf = recording.join(name);
    let file = recording.join("recording.json");
    let words = [&["generate", file.as_str(), "-o", dir.as_str()], more].concat();
    program::run(&mut program::command(&machine.profiler, words), LIMIT)?.expect(0)?;
    Ok(Emitted::new(&dir))
}
