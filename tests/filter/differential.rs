//! Every (ABI, call), with many arguments, in every context: what `model::effective` says is what libseccomp's filter does,
//! whether a program that knows nothing of ours handed it the rules (`libseccomp.py`) or `kernel::libseccomp`.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use camino::Utf8Path;
use profiler::{
    ingest,
    kernel::libseccomp::Libseccomp,
    model::{
        arch::Abi,
        bpf::Program,
        capability,
        effective::{Context, Engine, decide},
        seccomp::{KernelVersion, SeccompFile},
        static_check::{Cause, Difference, check},
    },
};

use crate::harness::{
    machine::{Machine, Need},
    test::Test,
};

const NEEDS: [Need; 1] = [Need::PythonSeccomp];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let upstream = ["docker", "podman", "containerd"].map(|engine| {
        Test::new(
            format!("filter::{engine}_default_is_as_libseccomp_has_it"),
            &NEEDS,
            move |machine| {
                file_agrees(
                    machine,
                    &machine.root.join(format!("profiles/upstream/{engine}-default.json")),
                )
            },
        )
    });
    let corpus = Test::new("filter::corpus_is_as_libseccomp_has_it", &NEEDS, |machine| {
        let mut files = Vec::new();
        for entry in machine.root.join("tests/corpus").read_dir_utf8()? {
            let path = entry?.into_path();
            files.extend((path.extension() == Some("json")).then_some(path));
        }
        ensure!(files.len() >= 5, "the corpus is gone");
        files.iter().try_for_each(|file| file_agrees(machine, file))
    });
    upstream.into_iter().chain([corpus]).collect()
}

/// In every context in which it could be another filter.
fn file_agrees(machine: &Machine, path: &Utf8Path) -> Result<()> {
    let file = ingest::seccomp::parse(&fs_err::read_to_string(path)?)?;
    let new = KernelVersion { major: 6, minor: 18 };
    let old = KernelVersion { major: 4, minor: 4 };
    let docker: BTreeSet<u8> =
        capability::DOCKER_DEFAULT.iter().filter_map(|c| capability::number(c)).collect();
    let all: BTreeSet<u8> = (0..).take(capability::NAMES.len()).collect();
    let none = BTreeSet::new();
    for (native, capabilities, kernel, engine) in [
        (Abi::X86_64, &none, new, Engine::Docker),
        (Abi::X86_64, &docker, old, Engine::Docker),
        (Abi::X86_64, &all, new, Engine::Podman),
        (Abi::X86_64, &none, new, Engine::Oci),
        (Abi::Aarch64, &docker, new, Engine::Docker),
        (Abi::Riscv64, &none, new, Engine::Docker),
    ] {
        let context = Context { native, capabilities: capabilities.clone(), kernel, engine };
        agrees(machine, path, &file, &context)
            .with_context(|| format!("`{path}` with {context:?}"))?;
    }
    Ok(())
}

fn agrees(machine: &Machine, path: &Utf8Path, file: &SeccompFile, context: &Context) -> Result<()> {
    let (oracle, unknown) = libseccomp(machine, path, context)?;
    let effective = decide(file, context);
    let ours = Libseccomp::open()?.compile(file, context)?;
    ensure!(ours.unknown == unknown, "unknown to libseccomp: {:?}, not {unknown:?}", ours.unknown);
    for (whose, program) in [("the engine's", &oracle), ("our", &ours.program)] {
        let checked = check(program, &effective, &unknown, context.native);
        ensure!(checked.compared > 6 * 1000, "asked of {} calls only", checked.compared);
        // libseccomp is older than the tables
        let known = |difference: &&Difference| difference.cause != Cause::UnknownName;
        let differs = checked.differences.iter().find(known);
        ensure!(differs.is_none(), "{whose} filter differs: {differs:?}");
    }
    Ok(())
}

/// The program that libseccomp makes, and the names that it does not know.
fn libseccomp(
    machine: &Machine,
    path: &Utf8Path,
    context: &Context,
) -> Result<(Program, BTreeSet<String>)> {
    let scratch = machine.scratch()?;
    let held =
        context.capabilities.iter().map(|&number| format!("CAP_{}", capability::display(number)));
    let engine = match context.engine {
        Engine::Docker => "docker",
        Engine::Podman => "podman",
        Engine::Oci => "oci",
    };
    let output = Command::new(Need::PYTHON)
        .arg(machine.root.join("tests/filter/libseccomp.py"))
        .arg(path)
        .arg(context.native.scmp_arch().trim_start_matches("SCMP_ARCH_"))
        .arg(context.kernel.to_string())
        .arg(engine)
        .arg(held.collect::<Vec<_>>().join(","))
        .arg(scratch.join("filter"))
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let program = Program::parse(&fs_err::read(scratch.join("filter"))?)?;
    Ok((program, serde_json::from_slice(&output.stdout)?))
}
