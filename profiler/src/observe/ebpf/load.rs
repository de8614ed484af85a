//! Getting programs into the kernel: with little memory, and several at the same time.

use std::{collections::HashMap, thread};

use aya::{
    Ebpf, EbpfLoader,
    programs::{BtfTracePoint, Program, ProgramError},
};
use rustix::{
    process::chroot,
    thread::{UnshareFlags, unshare_unsafe},
};

use super::{
    attach::{AttachPoint, Need, POINTS, Way},
    error::{ObserveError, program_error},
    twins::Twins,
};

/// Gives the memory back to the kernel that loading took: the recorder needs a fraction of it from now on.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "no crate offers it")]
    // SAFETY: no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// aya's loader, without the kernel's types: the object has nothing to relocate. They take tens of MiB, and `EbpfLoader::new` reads them
/// whether they are wanted or not; so it is called by a thread whose root has no `/sys`. Where that is not permitted it only takes longer.
pub fn loader() -> Result<EbpfLoader<'static>, ObserveError> {
    let make = || {
        #[expect(unsafe_code, reason = "no crate offers it safely")]
        // SAFETY: the files of this thread stay shared with the others, and it runs nothing after this closure.
        if unsafe { unshare_unsafe(UnshareFlags::FS) }.is_ok() {
            let _ = chroot("/proc/self/fdinfo");
        }
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        loader
    };
    let thread = thread::Builder::new().spawn(make).map_err(ObserveError::NoThread)?;
    Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// A program for a tracepoint.
pub fn tracepoint<'a>(
    ebpf: &'a mut Ebpf,
    name: &str,
    point: &'static str,
) -> Result<&'a mut BtfTracePoint, ObserveError> {
    let program = ebpf.program_mut(name).ok_or(ObserveError::NoTracepoint(point))?;
    program.try_into().map_err(program_error(point))
}

/// Loads the programs of the tracepoints that are `wanted`, at the same time: the kernel's verifier takes a while for each. What a recording can do
/// without it may refuse.
pub fn load_all(
    ebpf: &mut Ebpf,
    btf: &aya::Btf,
    twins: Option<Twins>,
    wanted: impl Fn(&AttachPoint) -> bool,
) -> Result<(), ObserveError> {
    let mut programs: HashMap<_, _> = ebpf.programs_mut().collect();
    thread::scope(|scope| {
        let mut loading = Vec::new();
        // the last have most to verify, and begin first
        for AttachPoint { name, need, .. } in POINTS.iter().rev().filter(|point| wanted(point)) {
            for program in Way::Tracepoint.programs(name, twins) {
                let program =
                    programs.remove(program.as_str()).ok_or(ObserveError::NoTracepoint(name))?;
                let program: &mut BtfTracePoint =
                    program.try_into().map_err(program_error(name))?;
                let load = move || match program.load(name, btf) {
                    Err(_) if *need == Need::Capabilities => Ok(()),
                    loaded => loaded.map_err(program_error(name)),
                };
                // without a thread there is no program; the caller sees the error, and what was begun ends
                let spawned = thread::Builder::new().spawn_scoped(scope, load);
                loading.push(spawned.map_err(ObserveError::NoThread)?);
            }
        }
        loading.into_iter().try_for_each(|loaded| {
            loaded.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

pub fn load_and_attach(
    program: &mut Program,
    to: &str,
    btf: &aya::Btf,
) -> Result<(), ProgramError> {
    match program {
        Program::BtfTracePoint(program) => {
            if program.fd().is_err() {
                program.load(to, btf)?;
            }
            program.attach().map(drop)
        }
        Program::FExit(program) => {
            program.load(to, btf)?;
            program.attach().map(drop)
        }
        Program::KProbe(program) => {
            program.load()?;
            program.attach(to, 0).map(drop)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}
