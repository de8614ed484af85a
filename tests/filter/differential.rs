//! Every (ABI, call), with many arguments, in every context: what `model::effective` says is what libseccomp's filter does.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use camino::Utf8Path;
use profiler::{
    ingest,
    model::{
        arch::Abi,
        capability,
        effective::{Context, Decision, Engine, Outcome, decide},
        seccomp::{Action, KernelVersion, SeccompFile},
        syscall,
    },
};

use crate::{
    filter::bpf::{Data, Program},
    harness::{
        machine::{Machine, Need},
        test::Test,
    },
};

const NEEDS: [Need; 1] = [Need::PythonSeccomp];

/// Numbers that no table names are asked up to here.
const NUMBERS: u32 = 520;

/// Arguments that are drawn for a call with conditions.
const DRAWS: usize = 400;

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
    let (program, unknown) = libseccomp(machine, path, context)?;
    let effective = decide(file, context);
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    for abi in Abi::ALL {
        let named = syscall::table(abi).iter().map(|row| row.0);
        for nr in (0..NUMBERS).chain(named).collect::<BTreeSet<u32>>() {
            // libseccomp is older than the tables.
            if syscall::name(abi, nr).is_some_and(|name| unknown.contains(name)) {
                continue;
            }
            let decision = effective.decision(abi, nr);
            let draws = if decision.rules.is_empty() { 4 } else { DRAWS };
            for _ in 0..draws {
                let args = draw.arguments(&decision);
                let (arch, number) = machine_word(abi, nr);
                let said = outcome(program.run(&Data { nr: number, arch, args })?)?;
                let ours = effective.verdict(abi, nr, &args);
                ensure!(
                    said == ours,
                    "{abi} {}: libseccomp says `{said}`, the model `{ours}`, for {args:x?}",
                    syscall::display(abi, nr)
                );
            }
        }
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

/// `AUDIT_ARCH_*` and the number as the kernel hands them to a filter.
fn machine_word(abi: Abi, nr: u32) -> (u32, u32) {
    match abi {
        Abi::X86_64 => (0xc000_003e, nr),
        Abi::X32 => (0xc000_003e, nr | 0x4000_0000),
        Abi::Ia32 => (0x4000_0003, nr),
        Abi::Aarch64 => (0xc000_00b7, nr),
        Abi::Arm => (0x4000_0028, nr),
        Abi::Riscv64 => (0xc000_00f3, nr),
    }
}

/// `SECCOMP_RET_*`.
fn outcome(ret: u32) -> Result<Outcome> {
    let data = Some(ret & 0xffff);
    Ok(match ret & 0xffff_0000 {
        0x7fff_0000 => Outcome::new(Action::Allow, None),
        0x7ffc_0000 => Outcome::new(Action::Log, None),
        0x7ff0_0000 => Outcome::new(Action::Trace, data),
        0x7fc0_0000 => Outcome::new(Action::Notify, None),
        0x0005_0000 => Outcome::new(Action::Errno, data),
        0x0003_0000 => Outcome::new(Action::Trap, None),
        0x0000_0000 => Outcome::new(Action::KillThread, None),
        0x8000_0000 => Outcome::new(Action::KillProcess, None),
        _ => bail!("{ret:#x} is no answer of a filter"),
    })
}

/// Arguments near the values of a call's conditions, or anywhere; the same in every run.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn arguments(&mut self, decision: &Decision) -> [u64; 6] {
        let conditions: Vec<_> =
            decision.rules.iter().flat_map(|(conditions, _)| conditions).collect();
        let mut args = [0; 6];
        for (index, arg) in (0_u8..).zip(&mut args) {
            let near: Vec<u64> = conditions
                .iter()
                .filter(|condition| condition.index == index)
                .flat_map(|c| {
                    [
                        c.value,
                        c.value_two,
                        !c.value,
                        c.value.wrapping_add(1),
                        c.value.wrapping_sub(1),
                    ]
                })
                .collect();
            let chosen = self.next() as usize;
            *arg = match chosen % 8 {
                0 => 0,
                1 => self.next(),
                2 => self.next() & 0xffff_ffff,
                // the other half of the register
                3 => {
                    near.get(chosen / 8 % near.len().max(1)).copied().unwrap_or(0)
                        | self.next() << 32
                }
                _ => near.get(chosen / 8 % near.len().max(1)).copied().unwrap_or(1),
            };
        }
        args
    }
}
