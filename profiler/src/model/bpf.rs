//! Classic BPF as far as seccomp filters use it: a program, what it answers, how long that takes, and whether the kernel
//! has to run it at all.
//!
//! Owns the words that a filter reads and returns. It does not know where a program comes from: `kernel::libseccomp`
//! compiles one. The instructions are those that the kernel takes for a filter and libseccomp writes:
//! <https://github.com/torvalds/linux/blob/v6.12/kernel/seccomp.c> (`seccomp_check_filter`, `seccomp_is_const_allow`).

use thiserror::Error;

use crate::model::{
    arch::Abi,
    effective::Outcome,
    seccomp::{Action, KernelVersion},
};

/// The kernel takes no longer one (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// The first kernel that answers calls from its constant-action cache.
pub const CACHE_SINCE: KernelVersion = KernelVersion { major: 5, minor: 11 };

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Byte offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;
const END: u32 = 64;

/// x32's bit in the number.
const X32: u32 = 0x4000_0000;

/// `struct seccomp_data`, without the instruction pointer, which counts as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    /// The number, with x32's bit 30.
    pub nr: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// The registers.
    pub args: [u64; 6],
}

impl Data {
    /// What the kernel hands to a filter for call `nr` (without x32's bit) of `abi`.
    #[must_use]
    pub const fn of(abi: Abi, nr: u32, args: [u64; 6]) -> Data {
        let (arch, nr) = match abi {
            Abi::X86_64 => (0xc000_003e, nr),
            Abi::X32 => (0xc000_003e, nr | X32),
            Abi::Ia32 => (0x4000_0003, nr),
            Abi::Aarch64 => (0xc000_00b7, nr),
            Abi::Arm => (0x4000_0028, nr),
            Abi::Riscv64 => (0xc000_00f3, nr),
        };
        Data { nr, arch, args }
    }

    fn load(&self, offset: u32) -> u32 {
        match offset {
            NR => self.nr,
            ARCH => self.arch,
            ARGS..END => {
                let arg = self.args[((offset - ARGS) / 8) as usize];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            _ => 0,
        }
    }
}

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// How many instructions a jump that is taken leaves out.
    pub jt: u8,
    /// How many one that is not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// A filter. It always ends: jumps go forward, inside it, and its last instruction returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
}

/// Bytes that are no filter.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ProgramError {
    /// Not a whole number of instructions, or none, or too many.
    #[error("{0} bytes are no filter of 1 to {MAX_INSTRUCTIONS} instructions")]
    Size(usize),
    /// An instruction that no seccomp filter of libseccomp has, or an operand that it must not have.
    #[error("instruction {at} of the filter, {code:#x} with {k:#x}, is none that is known here")]
    Instruction {
        /// Its index.
        at: usize,
        /// Its operation.
        code: u16,
        /// Its operand.
        k: u32,
    },
    /// A jump or the last instruction leads out of the filter.
    #[error("instruction {0} leads out of the filter")]
    Out(usize),
}

/// What a filter answered, and after how many instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// `SECCOMP_RET_*` with its data.
    pub word: u32,
    /// Instructions that were executed.
    pub steps: usize,
}

/// Whether the kernel runs a filter for a call, from 5.11 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// It does not: the filter allows the call whatever its arguments are.
    Yes,
    /// It does, for the filter looks at this argument; or, with `None`, at the instruction pointer.
    Loads(Option<u8>),
    /// It does, for the answer is another one than plain allow.
    Answers(u32),
    /// It does, for calls of x32 have no cache.
    X32,
}

impl Program {
    /// Reads the `sock_filter` array that the kernel would get, little-endian.
    ///
    /// # Errors
    /// When it could not be run to its end.
    pub fn parse(bytes: &[u8]) -> Result<Program, ProgramError> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || !(1..=MAX_INSTRUCTIONS).contains(&chunks.len()) {
            return Err(ProgramError::Size(bytes.len()));
        }
        let parse = |i: &[u8; 8]| Instruction {
            code: u16::from_le_bytes([i[0], i[1]]),
            jt: i[2],
            jf: i[3],
            k: u32::from_le_bytes([i[4], i[5], i[6], i[7]]),
        };
        let program = Program { instructions: chunks.iter().map(parse).collect() };
        for (at, instruction) in program.instructions.iter().enumerate() {
            let Instruction { code, k, .. } = *instruction;
            let known = match code {
                LOAD => k < END && k.is_multiple_of(4),
                AND | JUMP | JUMP_EQUAL | JUMP_GREATER | JUMP_AT_LEAST | JUMP_ANY_BIT | RETURN => {
                    true
                }
                _ => false,
            };
            if !known {
                return Err(ProgramError::Instruction { at, code, k });
            }
            let last = instruction.next(at).into_iter().flatten().max();
            if last.is_some_and(|next| next >= program.instructions.len()) {
                return Err(ProgramError::Out(at));
            }
        }
        Ok(program)
    }

    /// The `sock_filter` array that [`Program::parse`] reads.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = |i: &Instruction| {
            let ([a, b], [c, d, e, f]) = (i.code.to_le_bytes(), i.k.to_le_bytes());
            [a, b, i.jt, i.jf, c, d, e, f]
        };
        self.instructions.iter().flat_map(bytes).collect()
    }

    /// In order.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// What it answers: `SECCOMP_RET_*` with its data.
    #[must_use]
    pub fn run(&self, data: &Data) -> u32 {
        self.answer(data).word
    }

    /// What it answers, and after how many instructions.
    #[must_use]
    pub fn answer(&self, data: &Data) -> Answer {
        let ended = self.walk(|offset| Some(data.load(offset)));
        // Every load has a value, so a return was reached.
        ended.unwrap_or(Answer { word: 0, steps: self.instructions.len() })
    }

    /// Whether the kernel answers call `nr` of `abi` (without x32's bit) without running it.
    #[must_use]
    pub fn cached(&self, abi: Abi, nr: u32) -> Cached {
        if abi == Abi::X32 {
            return Cached::X32;
        }
        let data = Data::of(abi, nr, [0; 6]);
        let mut unknown = None;
        let ended = self.walk(|offset| match offset {
            NR | ARCH => Some(data.load(offset)),
            _ => {
                unknown = Some(offset);
                None
            }
        });
        match ended {
            Some(Answer { word, .. }) if word == word_of(Outcome::new(Action::Allow, None)) => {
                Cached::Yes
            }
            Some(Answer { word, .. }) => Cached::Answers(word),
            None => Cached::Loads(
                unknown.and_then(|offset| offset.checked_sub(ARGS)).map(|at| (at / 8) as u8),
            ),
        }
    }

    /// The instructions of the longest way through it, whether or not some call takes it.
    #[must_use]
    pub fn longest_path(&self) -> usize {
        let mut longest = vec![0; self.instructions.len()];
        for (at, instruction) in self.instructions.iter().enumerate().rev() {
            let after = instruction.next(at).into_iter().flatten();
            let after = after.filter_map(|next| longest.get(next)).max().copied();
            longest[at] = 1 + after.unwrap_or(0);
        }
        longest.first().copied().unwrap_or(0)
    }

    /// Executes it; `None` when a load has no value.
    fn walk(&self, mut load: impl FnMut(u32) -> Option<u32>) -> Option<Answer> {
        let (mut at, mut a) = (0, 0);
        let mut steps = 0;
        loop {
            let instruction = self.instructions.get(at)?;
            let Instruction { code, k, .. } = *instruction;
            steps += 1;
            let holds = match code {
                LOAD => {
                    a = load(k)?;
                    true
                }
                AND => {
                    a &= k;
                    true
                }
                JUMP_EQUAL => a == k,
                JUMP_GREATER => a > k,
                JUMP_AT_LEAST => a >= k,
                JUMP_ANY_BIT => a & k != 0,
                RETURN => return Some(Answer { word: k, steps }),
                _ => true,
            };
            let [taken, not] = instruction.next(at);
            at = if holds { taken? } else { not? };
        }
    }
}

impl Instruction {
    /// Where it goes on from index `at`: when its condition holds, and when not.
    fn next(self, at: usize) -> [Option<usize>; 2] {
        let by = |skipped: usize| Some(at + 1 + skipped);
        match self.code {
            RETURN => [None, None],
            JUMP => [by(self.k as usize); 2],
            LOAD | AND => [by(0); 2],
            _ => [by(self.jt.into()), by(self.jf.into())],
        }
    }
}

/// `SECCOMP_RET_*` of an outcome; libseccomp's `SCMP_ACT_*` are the same words.
#[must_use]
pub const fn word_of(outcome: Outcome) -> u32 {
    let action = match outcome.action {
        Action::Allow => 0x7fff_0000,
        Action::Log => 0x7ffc_0000,
        Action::Trace => 0x7ff0_0000,
        Action::Notify => 0x7fc0_0000,
        Action::Errno => 0x0005_0000,
        Action::Trap => 0x0003_0000,
        Action::Kill | Action::KillThread => 0,
        Action::KillProcess => 0x8000_0000,
    };
    action | outcome.data as u32
}

/// The outcome that a filter's answer means; `None` when it means none.
#[must_use]
pub fn outcome_of(word: u32) -> Option<Outcome> {
    let data = Some(word & 0xffff);
    [
        Action::Allow,
        Action::Log,
        Action::Trace,
        Action::Notify,
        Action::Errno,
        Action::Trap,
        Action::KillThread,
        Action::KillProcess,
    ]
    .into_iter()
    .map(|action| Outcome::new(action, data))
    .find(|&outcome| word_of(outcome) == word)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn program(instructions: &[(u16, u8, u8, u32)]) -> Result<Program, ProgramError> {
        let bytes = instructions.iter().flat_map(|&(code, jt, jf, k)| {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&code.to_le_bytes());
            bytes[2..4].copy_from_slice(&[jt, jf]);
            bytes[4..].copy_from_slice(&k.to_le_bytes());
            bytes
        });
        let bytes: Vec<u8> = bytes.collect();
        let program = Program::parse(&bytes)?;
        assert_eq!(program.bytes(), bytes);
        Ok(program)
    }

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;

    /// Allows 1, 2 when its second argument is 7, and has 3 logged.
    fn small() -> Program {
        program(&[
            (LOAD, 0, 0, NR),
            (JUMP_EQUAL, 5, 0, 1),
            (JUMP_EQUAL, 0, 2, 2),
            (LOAD, 0, 0, 24),
            (JUMP_EQUAL, 2, 1, 7),
            (JUMP_EQUAL, 2, 0, 3),
            (RETURN, 0, 0, EPERM),
            (RETURN, 0, 0, ALLOW),
            (RETURN, 0, 0, 0x7ffc_0000),
        ])
        .expect("sound")
    }

    #[test]
    fn a_program_answers_by_number_and_argument() {
        let filter = small();
        let run = |nr, second| filter.answer(&Data::of(Abi::X86_64, nr, [0, second, 0, 0, 0, 0]));
        assert_eq!(run(1, 0), Answer { word: ALLOW, steps: 3 });
        assert_eq!(run(2, 7), Answer { word: ALLOW, steps: 6 });
        assert_eq!(run(2, 8), Answer { word: EPERM, steps: 6 });
        assert_eq!(run(3, 0).word, 0x7ffc_0000);
        assert_eq!(run(4, 0).word, EPERM);
        assert_eq!(filter.longest_path(), 6);
    }

    #[test]
    fn the_cache_holds_what_needs_no_argument() {
        let filter = small();
        assert_eq!(filter.cached(Abi::X86_64, 1), Cached::Yes);
        assert_eq!(filter.cached(Abi::X86_64, 2), Cached::Loads(Some(1)));
        assert_eq!(filter.cached(Abi::X86_64, 3), Cached::Answers(0x7ffc_0000));
        assert_eq!(filter.cached(Abi::X86_64, 4), Cached::Answers(EPERM));
        assert_eq!(filter.cached(Abi::X32, 1), Cached::X32);
        let pointer = program(&[(LOAD, 0, 0, 8), (RETURN, 0, 0, ALLOW)]).expect("sound");
        assert_eq!(pointer.cached(Abi::X86_64, 1), Cached::Loads(None));
    }

    #[test]
    fn what_could_not_be_run_to_its_end_is_refused() {
        assert_eq!(Program::parse(&[]), Err(ProgramError::Size(0)));
        assert_eq!(Program::parse(&[0; 7]), Err(ProgramError::Size(7)));
        assert_eq!(program(&[(LOAD, 0, 0, NR)]), Err(ProgramError::Out(0)));
        assert_eq!(program(&[(JUMP_EQUAL, 1, 0, 0), (RETURN, 0, 0, 0)]), Err(ProgramError::Out(0)));
        assert_eq!(
            program(&[(JUMP, 0, 0, u32::MAX), (RETURN, 0, 0, 0)]),
            Err(ProgramError::Out(0))
        );
        for (code, k) in [(LOAD, 64), (LOAD, 2), (0x61, 0)] {
            let refused = program(&[(code, 0, 0, k), (RETURN, 0, 0, 0)]);
            assert_eq!(refused, Err(ProgramError::Instruction { at: 0, code, k }));
        }
    }

    #[test]
    fn outcomes_and_words_are_the_same() {
        for action in [Action::Allow, Action::Errno, Action::KillProcess, Action::Trace] {
            let outcome = Outcome::new(action, Some(38));
            assert_eq!(outcome_of(word_of(outcome)), Some(outcome));
        }
        assert_eq!(outcome_of(0x1234_0000), None);
    }

    proptest! {
        #[test]
        fn what_is_taken_ends(
            code in vec(
                (
                    select(vec![LOAD, AND, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN]),
                    0..4_u8,
                    0..4_u8,
                    select(vec![0, 1, 4, 16, 60, ALLOW]),
                ),
                1..12,
            ),
            nr in 0..4_u32,
            first in 0..4_u64,
        ) {
            // enough ends for all jumps but the longest
            let ends = [(RETURN, 0, 0, ALLOW); 8];
            let code: Vec<_> = code.into_iter().chain(ends).collect();
            if let Ok(filter) = program(&code) {
                let data = Data::of(Abi::X86_64, nr, [first, 0, 0, 0, 0, 0]);
                let answer = filter.answer(&data);
                prop_assert!((1..=filter.longest_path()).contains(&answer.steps));
                // what the kernel answers from its cache, it would answer so whatever the arguments are
                match filter.cached(Abi::X86_64, nr) {
                    Cached::Yes => prop_assert_eq!(answer.word, ALLOW),
                    Cached::Answers(word) => prop_assert_eq!(answer.word, word),
                    Cached::Loads(_) | Cached::X32 => {}
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = Program::parse(&bytes);
        }
    }
}
