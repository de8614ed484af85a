//! From programs in a root to the calls that they could make.

use std::collections::BTreeSet;

use crate::{
    binaries::{
        code::Entry,
        loader::Loader,
        reach::{Depth, Files, Part},
        rootfs::Rootfs,
        values::{At, Tracer},
    },
    model::{
        arch::Abi,
        bound::{Bound, Maker},
    },
};

/// In a number of the native entry: a call of x32.
const X32_BIT: u32 = 1 << 30;

/// The bound of programs together: paths inside the root, or names that are looked for as a shell does.
#[must_use]
pub fn bound(rootfs: &Rootfs, programs: &[String], depth: Depth) -> Bound {
    let mut bound = Bound::new();
    let mut loader = Loader::new(rootfs);
    let mut todo: Vec<String> = programs.to_vec();
    let mut done = BTreeSet::new();
    while let Some(program) = todo.pop() {
        if !done.insert(program.clone()) {
            continue;
        }
        let loaded = loader.load(&program);
        if let Some(path) = loader.which(&program) {
            bound.programs.insert(path);
        }
        todo.extend(loaded.interpreters);
        bound.unread.extend(loaded.unread);
        bound.files.extend(loaded.files.iter().map(|part| part.module.path.clone()));
        bound.join(of_files(&Files::new(loaded.files, depth)));
    }
    bound
}

/// The bound of one program's files.
#[must_use]
pub fn of_files(files: &Files) -> Bound {
    let mut bound = Bound::default();
    let mut tracer = Tracer::new(files);
    for (file, Part { module, .. }) in files.parts().iter().enumerate() {
        let sites = module.code.sites.iter().filter(|site| files.is_reached(file, site.function));
        for site in sites {
            let at = At { file, address: site.address };
            let values = tracer.accumulator(at, site.function);
            for (value, at) in values.known {
                if let Some(call) = call(value, site.entry, module.elf.bits) {
                    bound.calls.entry(call).or_default().insert(maker(files, at));
                }
            }
            let is_data = module.code.functions[site.function].doubtful;
            if let Some(at) = values.unknown.filter(|_| !is_data) {
                bound.unbounded.insert(maker(files, at));
            }
        }
    }
    bound
}

/// The call that a number means; `None` for one that the kernel refuses, such as -1.
fn call(value: u64, entry: Entry, bits: u32) -> Option<(Abi, u32)> {
    let nr = value as u32;
    if nr.cast_signed() < 0 {
        return None;
    }
    Some(match (entry, bits) {
        (Entry::Native, 64) if nr & X32_BIT != 0 => (Abi::X32, nr & !X32_BIT),
        (Entry::Native, 64) => (Abi::X86_64, nr),
        _ => (Abi::Ia32, nr),
    })
}

fn maker(files: &Files, at: At) -> Maker {
    let module = &files.parts()[at.file].module;
    let function = module.elf.name(at.address).map_or_else(
        || {
            let function = module.code.function(at.address);
            let start = function.map_or(at.address, |index| module.code.functions[index].start);
            format!("0x{start:x}")
        },
        |(name, _)| name.to_owned(),
    );
    Maker { file: module.path.clone(), function }
}
