//! Whether a compiled filter does what its file says, and what the filter costs.
//!
//! Owns the comparison: every call of every ABI, and numbers that no table names, is asked of both the program and
//! [`Effective`]. Calls with conditions are asked with arguments at and around the values that the conditions have.
//! It compiles nothing: `kernel::libseccomp` does.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{
    arch::Abi,
    bpf::{self, Cached, Data, Program},
    effective::{Decision, Effective, Outcome},
    syscall,
};

/// Numbers below it are asked whether or not a table names them. The kernels' tables end below 512.
const NUMBERS: u32 = 1024;

/// The largest number without x32's bit.
const LARGEST: u32 = 0x3fff_ffff;

/// How often a call with conditions is asked, each time with other arguments.
const DRAWS: usize = 400;

/// Calls that busy programs make most.
const HOT: [&str; 14] = [
    "read",
    "write",
    "recvfrom",
    "sendto",
    "recvmsg",
    "sendmsg",
    "epoll_wait",
    "epoll_pwait",
    "futex",
    "poll",
    "openat",
    "close",
    "newfstatat",
    "mmap",
];

/// A filter, held against its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StaticCheck {
    /// How many pairs of ABI and number were asked.
    pub compared: usize,
    /// Where file and filter are of different mind. By ABI and number.
    pub differences: Vec<Difference>,
    /// Instructions of the filter, without those that runc puts before it.
    pub instructions: usize,
    /// Instructions of the longest way through it.
    pub longest_path: usize,
    /// The way of calls that busy programs make most, where they pass: the machine's own ABI.
    pub hot: Vec<Path>,
    /// Which calls a kernel since 5.11 lets pass without running the filter, by ABI.
    pub cache: Vec<Cache>,
}

/// A call that the filter answers otherwise than its file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// Number space.
    pub abi: Abi,
    /// The number, without x32's bit 30.
    pub nr: u32,
    /// Its name, or `syscall_NR`.
    pub name: String,
    /// The registers with which it was asked.
    pub arguments: [u64; 6],
    /// What the file says.
    pub profile: String,
    /// What the filter does.
    pub filter: String,
    /// Why.
    pub cause: Cause,
    /// Whether it makes the check fail: a call that should pass and is denied, or anything without an innocent cause.
    pub fails: bool,
}

/// Why a filter differs from its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// libseccomp compiled it so.
    Compiled,
    /// This libseccomp does not know the name, so the rule is not in the filter.
    UnknownName,
    /// The number has no name by which a file could have it.
    Unnamed,
}

/// How far a call goes through the filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Path {
    /// The call.
    pub name: String,
    /// Instructions until its answer, with arguments of 0.
    pub instructions: usize,
    /// A kernel since 5.11 executes none of them.
    pub cached: bool,
}

/// What the constant-action cache does for the named calls of an ABI that pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Cache {
    /// Number space.
    pub abi: Abi,
    /// Calls that are answered from it. By number.
    pub cached: Vec<String>,
    /// Calls for which the filter runs. By number.
    pub uncached: Vec<Uncached>,
}

/// A call that passes, or may, and for which the filter runs each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Uncached {
    /// The call.
    pub name: String,
    /// Why.
    pub because: String,
}

impl StaticCheck {
    /// Whether file and filter agree where it matters.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.differences.iter().any(|difference| difference.fails)
    }
}

/// Holds `program` against `effective`. `unknown`: the names that the libseccomp which compiled it does not know.
#[must_use]
pub fn check(
    program: &Program,
    effective: &Effective,
    unknown: &BTreeSet<String>,
    native: Abi,
) -> StaticCheck {
    let mut draw = Draw::default();
    let (mut compared, mut differences) = (0, Vec::new());
    for abi in Abi::ALL {
        for nr in numbers(abi) {
            compared += 1;
            let decision = effective.decision(abi, nr);
            let draws = if decision.rules.is_empty() { 4 } else { DRAWS };
            let differs = (0..draws).find_map(|_| {
                let arguments = draw.arguments(&decision);
                let answer = outcome(program.run(&Data::of(abi, nr, arguments)));
                let says = effective.verdict(abi, nr, &arguments);
                (answer != Ok(says)).then_some((arguments, says, answer))
            });
            let Some((arguments, says, answer)) = differs else { continue };
            let name = syscall::display(abi, nr);
            let cause = match syscall::name(abi, nr) {
                None => Cause::Unnamed,
                Some(name) if unknown.contains(name) => Cause::UnknownName,
                Some(_) => Cause::Compiled,
            };
            let passes = |outcome: Outcome| outcome.may_pass();
            differences.push(Difference {
                abi,
                nr,
                name: name.into_owned(),
                arguments,
                profile: says.to_string(),
                filter: answer
                    .map_or_else(|word| format!("{word:#x}"), |outcome| outcome.to_string()),
                // an answer other than the one that a denied call should get costs nobody anything
                fails: cause != Cause::UnknownName
                    || decision.outcomes().any(passes)
                    || answer.is_ok_and(passes),
                cause,
            });
        }
    }
    StaticCheck {
        compared,
        differences,
        instructions: program.instructions().len(),
        longest_path: program.longest_path(),
        hot: hot(program, native),
        cache: abis(native)
            .iter()
            .filter(|abi| effective.abis.contains(abi))
            .map(|&abi| cache(program, abi))
            .collect(),
    }
}

/// The answer of a filter; the word itself when no action has it.
fn outcome(word: u32) -> Result<Outcome, u32> {
    bpf::outcome_of(word).ok_or(word)
}

/// The ABIs that a machine's kernel has.
const fn abis(native: Abi) -> &'static [Abi] {
    match native {
        Abi::X86_64 | Abi::X32 => &[Abi::X86_64, Abi::Ia32, Abi::X32],
        Abi::Ia32 => &[Abi::Ia32],
        Abi::Aarch64 => &[Abi::Aarch64, Abi::Arm],
        Abi::Arm => &[Abi::Arm],
        Abi::Riscv64 => &[Abi::Riscv64],
    }
}

fn numbers(abi: Abi) -> BTreeSet<u32> {
    let named = syscall::table(abi).iter().map(|row| row.0);
    (0..NUMBERS).chain(named).chain([LARGEST]).collect()
}

fn hot(program: &Program, native: Abi) -> Vec<Path> {
    let path = |&name: &&str| {
        let nr = syscall::number(native, name)?;
        let answer = program.answer(&Data::of(native, nr, [0; 6]));
        outcome(answer.word).ok().filter(|outcome| outcome.action.passes())?;
        let cached = program.cached(native, nr) == Cached::Yes;
        Some(Path { name: name.to_owned(), instructions: answer.steps, cached })
    };
    HOT.iter().filter_map(path).collect()
}

fn cache(program: &Program, abi: Abi) -> Cache {
    let mut cache = Cache { abi, cached: Vec::new(), uncached: Vec::new() };
    for &(nr, name) in syscall::table(abi) {
        let because = match program.cached(abi, nr) {
            Cached::Yes => {
                cache.cached.push(name.to_owned());
                continue;
            }
            Cached::Loads(Some(index)) => format!("the filter looks at argument {index}"),
            Cached::Loads(None) => "the filter looks at the instruction pointer".to_owned(),
            Cached::Answers(word) => match outcome(word) {
                Ok(outcome) if outcome.may_pass() => format!("its answer is `{outcome}`"),
                _ => continue, // it is denied
            },
            Cached::X32 => {
                let word = program.run(&Data::of(abi, nr, [0; 6]));
                if !outcome(word).is_ok_and(Outcome::may_pass) {
                    continue;
                }
                "the kernel has no cache for x32".to_owned()
            }
        };
        cache.uncached.push(Uncached { name: name.to_owned(), because });
    }
    cache
}

/// Arguments near the values of a call's conditions, or anywhere; the same in every run.
struct Draw(u64);

impl Default for Draw {
    fn default() -> Self {
        Draw(0x9e37_79b9_7f4a_7c15)
    }
}

impl Draw {
    /// xorshift64.
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
                .flat_map(|condition| {
                    let value = condition.value;
                    let beside = [value.wrapping_add(1), value.wrapping_sub(1)];
                    [value, condition.value_two, !value].into_iter().chain(beside)
                })
                .collect();
            let chosen = self.next() as usize;
            let near = near.get(chosen / 8 % near.len().max(1)).copied();
            *arg = match chosen % 8 {
                0 => 0,
                1 => self.next(),
                2 => self.next() & 0xffff_ffff,
                // the other half of the register
                3 => near.unwrap_or(0) | self.next() << 32,
                _ => near.unwrap_or(1),
            };
        }
        args
    }
}
