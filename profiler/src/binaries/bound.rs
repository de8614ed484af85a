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
    let mut bound = calls_of(files);
    bound.usual = calls_of(&files.without_errors()).calls.into_keys().collect();
    bound
}

fn calls_of(files: &Files) -> Bound {
    let mut bound = Bound::default();
    let mut tracer = Tracer::new(files);
    for (file, Part { module, .. }) in files.parts().iter().enumerate() {
        let sites = module.code.sites.iter().filter(|site| {
            files.is_reached(file, site.function)
                && !files.is_left_out(file, site.function, site.address)
        });
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        binaries::{
            elf::Elf,
            reach::{Cause, Module},
        },
        model::syscall,
    };

    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    const RET: u8 = 0xc3;

    fn part(path: &str, elf: Elf, cause: Cause) -> Part {
        Part { module: Arc::new(Module::of(path, elf)), causes: BTreeSet::from([cause]) }
    }

    /// The bound of one program that starts at its first instruction: calls by ABI and name, and whether all are known.
    fn of(code: &[&[u8]], starts: &[u64]) -> (Vec<String>, bool) {
        let mut elf = Elf::made(64, &code.concat(), &[], starts);
        elf.entry = 0x1000;
        told(&of_files(&Files::new(vec![part("/x", elf, Cause::Program)], Depth::Functions)))
    }

    fn told(bound: &Bound) -> (Vec<String>, bool) {
        let name = |(abi, nr): &(Abi, u32)| match abi {
            Abi::X86_64 => syscall::display(*abi, *nr).into_owned(),
            other => format!("{other}:{}", syscall::display(*other, *nr)),
        };
        (bound.calls.keys().map(name).collect(), bound.unbounded.is_empty())
    }

    fn known(names: &[&str]) -> (Vec<String>, bool) {
        (names.iter().map(|name| (*name).to_owned()).collect(), true)
    }

    #[test]
    fn constants_reach_the_call() {
        // mov eax, 1; syscall
        assert_eq!(of(&[&[0xb8, 1, 0, 0, 0], &SYSCALL, &[RET]], &[0x1000]), known(&["write"]));
        // xor eax, eax; syscall
        assert_eq!(of(&[&[0x31, 0xc0], &SYSCALL, &[RET]], &[0x1000]), known(&["read"]));
        // mov r9d, 39; nop; mov eax, r9d; syscall
        let moved: [&[u8]; 4] =
            [&[0x41, 0xb9, 39, 0, 0, 0, 0x90], &[0x44, 0x89, 0xc8], &SYSCALL, &[RET]];
        assert_eq!(of(&moved, &[0x1000]), known(&["getpid"]));
        // push 60; pop rax; syscall
        assert_eq!(of(&[&[0x6a, 60, 0x58], &SYSCALL, &[RET]], &[0x1000]), known(&["exit"]));
        // xor eax, eax; mov al, 59; syscall
        let byte: [&[u8]; 3] = [&[0x31, 0xc0, 0xb0, 59], &SYSCALL, &[RET]];
        assert_eq!(of(&byte, &[0x1000]), known(&["execve"]));
        // sub rsp, 24; mov dword [rsp+8], 3; mov eax, [rsp+8]; syscall
        let spilled: [&[u8]; 5] = [
            &[0x48, 0x83, 0xec, 24],
            &[0xc7, 0x44, 0x24, 8, 3, 0, 0, 0],
            &[0x8b, 0x44, 0x24, 8],
            &SYSCALL,
            &[RET],
        ];
        assert_eq!(of(&spilled, &[0x1000]), known(&["close"]));
    }

    #[test]
    fn every_path_counts() {
        // mov eax, 0; test edi, edi; je +5; mov eax, 1; syscall
        let branch: [&[u8]; 5] =
            [&[0xb8, 0, 0, 0, 0], &[0x85, 0xff, 0x74, 5], &[0xb8, 1, 0, 0, 0], &SYSCALL, &[RET]];
        assert_eq!(of(&branch, &[0x1000]), known(&["read", "write"]));
        // mov eax, 2; mov ecx, 3; test edi, edi; cmovne eax, ecx; syscall
        let cmov: [&[u8]; 5] = [
            &[0xb8, 2, 0, 0, 0, 0xb9, 3, 0, 0, 0],
            &[0x85, 0xff],
            &[0x0f, 0x45, 0xc1],
            &SYSCALL,
            &[RET],
        ];
        assert_eq!(of(&cmov, &[0x1000]), known(&["open", "close"]));
        // sbb eax, eax; and eax, 1; add eax, 41; syscall
        let sbb: [&[u8]; 5] =
            [&[0x19, 0xc0], &[0x83, 0xe0, 1], &[0x83, 0xc0, 41], &SYSCALL, &[RET]];
        assert_eq!(of(&sbb, &[0x1000]), known(&["socket", "connect"]));
    }

    #[test]
    fn ways_into_the_kernel_have_their_own_numbers() {
        // mov eax, 11; int 0x80
        let legacy: [&[u8]; 2] = [&[0xb8, 11, 0, 0, 0, 0xcd, 0x80], &[RET]];
        assert_eq!(of(&legacy, &[0x1000]), known(&["ia32:execve"]));
        // mov eax, 0x40000208; syscall
        let x32: [&[u8]; 3] = [&[0xb8, 8, 2, 0, 0x40], &SYSCALL, &[RET]];
        assert_eq!(of(&x32, &[0x1000]), known(&["x32:execve"]));
        // mov eax, 1; call gs:[0x10], in 32-bit code
        let code = [0xb8, 1, 0, 0, 0, 0x65, 0xff, 0x15, 0x10, 0, 0, 0, RET];
        let elf = Elf::made(32, &code, &[], &[0x1000]);
        let files = Files::new(vec![part("/x", elf, Cause::Program)], Depth::Functions);
        assert_eq!(told(&of_files(&files)), known(&["ia32:exit"]));
    }

    #[test]
    fn a_number_that_is_not_known_is_said() {
        // mov eax, [rdi]; syscall
        assert_eq!(of(&[&[0x8b, 0x07], &SYSCALL, &[RET]], &[0x1000]), (Vec::new(), false));
        // syscall at the entry: the accumulator is the kernel's
        assert_eq!(of(&[&SYSCALL, &[RET]], &[0x1000]), (Vec::new(), false));
        // call rax; syscall: what the callee returned
        assert_eq!(of(&[&[0xff, 0xd0], &SYSCALL, &[RET]], &[0x1000]), (Vec::new(), false));
    }

    #[test]
    fn numbers_are_followed_into_callers() {
        // start: mov edi, 39; call wrapper; mov edi, 102; jmp wrapper
        // wrapper at 0x1014: mov rax, rdi; syscall; ret
        // nobody at 0x101a: mov edi, 165; jmp wrapper
        let code: [&[u8]; 9] = [
            &[0xbf, 39, 0, 0, 0],
            &[0xe8, 0x0a, 0, 0, 0],
            &[0xbf, 102, 0, 0, 0],
            &[0xe9, 0, 0, 0, 0],
            &[0x48, 0x89, 0xf8],
            &SYSCALL,
            &[RET],
            &[0xbf, 165, 0, 0, 0],
            &[0xe9, 0xf0, 0xff, 0xff, 0xff],
        ];
        let mut elf = Elf::made(64, &code.concat(), &[], &[0x1000, 0x1014, 0x101a]);
        elf.entry = 0x1000;
        elf.exports.insert("nobody".to_owned(), BTreeSet::from([0x101a]));
        let files = |elf, depth| Files::new(vec![part("/x", elf, Cause::Program)], depth);
        let reached = of_files(&files(elf, Depth::Functions));
        assert_eq!(told(&reached), known(&["getpid", "getuid"]));
        // where all functions count, so does the one that nobody calls
        let mut elf = Elf::made(64, &code.concat(), &[], &[0x1000, 0x1014, 0x101a]);
        elf.entry = 0x1000;
        elf.exports.insert("nobody".to_owned(), BTreeSet::from([0x101a]));
        let all = of_files(&files(elf, Depth::Files));
        assert_eq!(told(&all), known(&["getpid", "getuid", "mount"]));
    }

    #[test]
    fn imports_lead_from_file_to_file() {
        // program: mov edi, 57; call [slot at 0x2000]
        let slot = 0x2000_u32.wrapping_sub(0x100b).to_le_bytes();
        let program = [&[0xbf, 57, 0, 0, 0, 0xff, 0x15][..], &slot, &[RET]].concat();
        // library: syscall() and, at 0x1006, another export
        let library =
            [&[0x48, 0x89, 0xf8][..], &SYSCALL, &[RET], &[0xb8, 1, 0, 0, 0], &SYSCALL, &[RET]];
        let files = |cause| {
            let mut main = Elf::made(64, &program, &[0; 8], &[0x1000]);
            main.entry = 0x1000;
            main.slots.insert(0x2000, "syscall".to_owned());
            let mut libc = Elf::made(64, &library.concat(), &[], &[0x1000, 0x1006]);
            libc.exports.insert("syscall".to_owned(), BTreeSet::from([0x1000]));
            libc.exports.insert("write".to_owned(), BTreeSet::from([0x1006]));
            let parts = vec![part("/x", main, Cause::Program), part("/lib", libc, cause)];
            of_files(&Files::new(parts, Depth::Functions))
        };
        let bound = files(Cause::Needed(0));
        assert_eq!(told(&bound), known(&["fork"]));
        // the function that holds the number is named, not the wrapper
        let makers: Vec<_> = bound.calls.values().flatten().collect();
        assert_eq!((makers.len(), makers[0].file.as_str()), (1, "/x"));
        // loaded at run time, all that it exports may be called, with any number
        let (names, closed) = told(&files(Cause::Always));
        assert_eq!((names.join(" ").as_str(), closed), ("write fork", false));
    }
}
