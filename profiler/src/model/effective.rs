//! What a seccomp file does with each call: its decision function, for one way of loading it.
//!
//! Owns the semantics that stand between the text of a file and the filter in the kernel: which rules the engine keeps
//! (Docker's `includes`, `excludes`, `minKernel`, `archMap`), how runc hands them to libseccomp, and what libseccomp
//! makes of them. Sources:
//! <https://github.com/moby/moby/blob/v20.10.24/profiles/seccomp/seccomp_linux.go> (`setupSeccomp`),
//! <https://github.com/containers/common/blob/v0.50.1/pkg/seccomp/seccomp_linux.go> (`setupSeccomp`),
//! <https://github.com/opencontainers/runc/blob/v1.1.5/libcontainer/seccomp/seccomp_linux.go> (`matchCall`),
//! <https://github.com/seccomp/libseccomp/blob/v2.5.4/src/db.c> (`db_col_rule_add`, `_db_rule_add`),
//! <https://github.com/seccomp/libseccomp/blob/v2.5.4/src/arch-x86.c> (`x86_rule_add`).
//! What runc puts before the filter, ENOSYS for numbers above the largest one that is named, is no part of it:
//! [`Effective::largest`] has that number.
//!
//! The order of rules matters in one way that libseccomp does not promise: where conditional rules of one call overlap and
//! have different actions, the first in the file is taken here.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    arch::Abi,
    arguments::Masked,
    capability, error_number,
    seccomp::{Action, Arg, KernelVersion, Op, Rule, SeccompFile},
    syscall,
};

/// By what, where and for whom a file is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The machine's own ABI.
    pub native: Abi,
    /// The bounding set of the container, by number.
    pub capabilities: BTreeSet<u8>,
    /// The machine's kernel.
    pub kernel: KernelVersion,
    /// Who reads the file.
    pub engine: Engine,
}

/// Who reads a file and hands it to the OCI runtime. They differ in the keys that they know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// Docker: `archMap`, `includes`, `excludes`, `minKernel`, `name`.
    Docker,
    /// podman and what else is built on containers/common: those but `minKernel`, and `errno`, `defaultErrno`.
    Podman,
    /// containerd, CRI-O and runtimes by themselves: none of these keys. Conditions on rules are dropped, not the rules.
    Oci,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome {
    /// The action. [`Action::Kill`] is written [`Action::KillThread`], which it means.
    pub action: Action,
    /// The error of [`Action::Errno`], the message of [`Action::Trace`]; otherwise 0.
    pub data: u16,
}

impl Outcome {
    /// What an architecture gets that the filter does not list: libseccomp's default.
    pub const BAD_ARCHITECTURE: Outcome = Outcome { action: Action::KillThread, data: 0 };

    /// An action with its `errnoRet`; without one, EPERM.
    #[must_use]
    pub fn new(action: Action, errno_ret: Option<u32>) -> Outcome {
        // runc and libseccomp take the low 16 bits.
        let data = (errno_ret.unwrap_or(libc::EPERM.unsigned_abs()) & 0xffff) as u16;
        match action {
            Action::Kill => Outcome { action: Action::KillThread, data: 0 },
            Action::Errno | Action::Trace => Outcome { action, data },
            _ => Outcome { action, data: 0 },
        }
    }

    /// Whether the call can reach the kernel: it passes, or a tracer or listener may say so.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        self.action.passes() || matches!(self.action, Action::Trace | Action::Notify)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.action {
            Action::Allow => f.write_str("allow"),
            Action::Log => f.write_str("allow and log"),
            Action::Errno => f.write_str(&error_number::display(self.data.into())),
            Action::Kill | Action::KillThread => f.write_str("kill the thread"),
            Action::KillProcess => f.write_str("kill the process"),
            Action::Trap => f.write_str("SIGSYS"),
            Action::Trace => write!(f, "ask the tracer ({})", self.data),
            Action::Notify => f.write_str("ask the listener"),
        }
    }
}

/// A condition on one argument. Of an ABI with 32-bit registers, all values have 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition {
    /// 0 to 5.
    pub index: u8,
    /// How it is compared.
    pub op: Op,
    /// The value, or the mask.
    pub value: u64,
    /// What is under the mask; otherwise 0.
    pub value_two: u64,
}

impl Condition {
    /// Whether it holds for the value of its argument.
    #[must_use]
    pub const fn holds(&self, argument: u64) -> bool {
        match self.op {
            Op::Ne => argument != self.value,
            Op::Lt => argument < self.value,
            Op::Le => argument <= self.value,
            Op::Eq => argument == self.value,
            Op::Ge => argument >= self.value,
            Op::Gt => argument > self.value,
            Op::MaskedEq => argument & self.value == self.value_two,
        }
    }
}

/// What happens to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What happens when all conditions hold; the first rule that applies decides.
    pub rules: Vec<(Vec<Condition>, Outcome)>,
    /// What happens when none does.
    pub otherwise: Outcome,
}

impl Decision {
    /// The same for all arguments.
    #[must_use]
    pub const fn always(outcome: Outcome) -> Decision {
        Decision { rules: Vec::new(), otherwise: outcome }
    }

    /// What happens to the call with these arguments. Of an ABI with 32-bit registers they must have 32 bits.
    #[must_use]
    pub fn verdict(&self, arguments: &[u64; 6]) -> Outcome {
        let argument = |index: u8| arguments.get(usize::from(index)).copied().unwrap_or(0);
        let holds = |conditions: &Vec<Condition>| {
            conditions.iter().all(|condition| condition.holds(argument(condition.index)))
        };
        let rule = self.rules.iter().find(|(conditions, _)| holds(conditions));
        rule.map_or(self.otherwise, |&(_, outcome)| outcome)
    }

    /// What happens to the call where only these bits of its arguments are known; `None` when it depends on others.
    #[must_use]
    pub fn of_known(&self, known: &[Masked]) -> Option<Outcome> {
        let holds = |condition: &Condition| {
            let is_seen = |it: &&Masked| {
                it.index == condition.index
                    && condition.op == Op::MaskedEq
                    && condition.value & !it.mask == 0
            };
            known.iter().find(is_seen).map(|it| condition.holds(it.value))
        };
        for (conditions, outcome) in &self.rules {
            if conditions.iter().all(|condition| holds(condition) == Some(true)) {
                return Some(*outcome);
            }
            if conditions.iter().all(|condition| holds(condition) != Some(false)) {
                return None;
            }
        }
        Some(self.otherwise)
    }

    /// Every outcome that some rule, or none, leads to.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        self.rules.iter().map(|&(_, outcome)| outcome).chain([self.otherwise])
    }
}

/// The decision function of a file in a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// What happens to a call that no rule names.
    pub default: Outcome,
    /// The ABIs that the filter admits; a call of any other is [`Outcome::BAD_ARCHITECTURE`].
    pub abis: BTreeSet<Abi>,
    /// Architectures that the filter admits and that have no table here, as the file spells them.
    pub other_architectures: BTreeSet<String>,
    /// Flags of seccomp(2).
    pub flags: BTreeSet<String>,
    /// Socket of a user space listener.
    pub listener: Option<String>,
    /// The largest number that a rule names, by ABI. runc answers ENOSYS above it.
    pub largest: BTreeMap<Abi, u32>,
    calls: BTreeMap<(Abi, u32), Decision>,
}

impl Effective {
    /// What happens to call `nr` of `abi`.
    #[must_use]
    pub fn decision(&self, abi: Abi, nr: u32) -> Decision {
        if !self.abis.contains(&abi) {
            return Decision::always(Outcome::BAD_ARCHITECTURE);
        }
        let ruled = self.calls.get(&(abi, nr)).cloned();
        ruled.unwrap_or_else(|| Decision::always(self.default))
    }

    /// What happens to call `nr` of `abi` with these registers.
    #[must_use]
    pub fn verdict(&self, abi: Abi, nr: u32, arguments: &[u64; 6]) -> Outcome {
        self.decision(abi, nr).verdict(&arguments.map(|argument| argument & word_mask(abi)))
    }

    /// The calls that rules decide, by ABI and number.
    pub fn ruled(&self) -> impl Iterator<Item = (Abi, u32)> {
        self.calls.keys().copied()
    }

    /// Allows a call whatever the file says of it: a number that no file can name.
    pub fn allow(&mut self, abi: Abi, nr: u32) {
        self.calls.insert((abi, nr), Decision::always(Outcome::new(Action::Allow, None)));
    }

    /// Takes all rules away.
    pub fn forget(&mut self) {
        self.calls.clear();
        self.largest.clear();
    }

    /// Whether a call can reach the kernel, at least with some arguments.
    #[must_use]
    pub fn may_pass(&self, abi: Abi, nr: u32) -> bool {
        self.decision(abi, nr).outcomes().any(|outcome| outcome.may_pass())
    }

    /// Whether a call can reach the kernel whatever its arguments.
    #[must_use]
    pub fn always_passes(&self, abi: Abi, nr: u32) -> bool {
        self.decision(abi, nr).outcomes().all(|outcome| outcome.may_pass())
    }

    /// The names of the calls of `abi` that pass at least for some arguments.
    #[must_use]
    pub fn passing(&self, abi: Abi) -> BTreeSet<&'static str> {
        let passes = |nr| self.decision(abi, nr).outcomes().any(|outcome| outcome.action.passes());
        syscall::table(abi).iter().filter(|row| passes(row.0)).map(|row| row.1).collect()
    }
}

/// The bits that an argument has in the registers of an ABI, as libseccomp compares them.
#[must_use]
pub const fn word_mask(abi: Abi) -> u64 {
    match abi {
        Abi::X86_64 | Abi::Aarch64 | Abi::Riscv64 => u64::MAX,
        Abi::Ia32 | Abi::X32 | Abi::Arm => 0xffff_ffff,
    }
}

/// Whether the engine keeps a rule: every include must hold, any exclude drops.
#[must_use]
pub fn keeps(rule: &Rule, context: &Context) -> bool {
    let Rule { includes, excludes, .. } = rule;
    if context.engine == Engine::Oci {
        return true;
    }
    let has = |name: &String| {
        capability::number(name).is_some_and(|number| context.capabilities.contains(&number))
    };
    let is_native =
        |arches: &[String]| arches.iter().any(|arch| arch == engine_arch(context.native));
    // containers/common does not know the key
    let is_new = |oldest: Option<KernelVersion>| {
        oldest.filter(|_| context.engine == Engine::Docker).map(|oldest| context.kernel >= oldest)
    };
    let excluded = is_native(&excludes.arches)
        || excludes.caps.iter().any(has)
        || is_new(excludes.min_kernel).unwrap_or(false);
    let included = (includes.arches.is_empty() || is_native(&includes.arches))
        && includes.caps.iter().all(has)
        && is_new(includes.min_kernel).unwrap_or(true);
    included && !excluded
}

/// The architectures that the filter is made for: those with a table, and the others.
///
/// The native one is always there.
#[must_use]
pub fn architectures(file: &SeccompFile, context: &Context) -> (BTreeSet<Abi>, BTreeSet<String>) {
    let native = context.native.scmp_arch();
    let mapped = file.arch_map.iter().find(|map| map.architecture == native);
    let mapped = mapped.filter(|_| context.engine != Engine::Oci);
    let named =
        file.architectures.iter().chain(mapped.iter().flat_map(|map| &map.sub_architectures));
    let mut abis = BTreeSet::from([context.native]);
    let mut others = BTreeSet::new();
    for name in named {
        match Abi::ALL.into_iter().find(|abi| abi.scmp_arch() == name) {
            Some(abi) => {
                abis.insert(abi);
            }
            None if name == "SCMP_ARCH_NATIVE" => {}
            None => {
                others.insert(name.clone());
            }
        }
    }
    (abis, others)
}

/// What a runtime hands to libseccomp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<'a> {
    /// What happens to a call that no rule names.
    pub default: Outcome,
    /// The ABIs that the filter admits.
    pub abis: BTreeSet<Abi>,
    /// Architectures that the filter admits and that have no table here, as the file spells them.
    pub other_architectures: BTreeSet<String>,
    /// The rules that the engine keeps, a name each, in their order.
    pub rules: Vec<NamedRule<'a>>,
}

/// One name of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRule<'a> {
    /// The call, as the file names it.
    pub name: &'a str,
    /// What happens to it.
    pub outcome: Outcome,
    /// The rules that libseccomp gets, each with all its conditions; none when the runtime leaves the rule out.
    pub conditions: Vec<&'a [Arg]>,
}

/// What the engine keeps of `file` in `context`, as runc hands it to libseccomp.
#[must_use]
pub fn loaded<'a>(file: &'a SeccompFile, context: &Context) -> Loaded<'a> {
    let errno = |by_name: &Option<String>, number: Option<u32>| {
        let name = by_name.as_deref().filter(|_| context.engine == Engine::Podman);
        name.and_then(error_number::parse).or(number)
    };
    let (abis, other_architectures) = architectures(file, context);
    let default =
        Outcome::new(file.default_action, errno(&file.default_errno, file.default_errno_ret));
    let mut rules = Vec::new();
    for rule in file.syscalls.iter().filter(|rule| keeps(rule, context)) {
        let outcome = Outcome::new(rule.action, errno(&rule.errno, rule.errno_ret));
        let indices: BTreeSet<u32> = rule.args.iter().map(|arg| arg.index).collect();
        let conditions = if outcome == default {
            Vec::new() // runc skips it, which matters where an earlier rule has another action
        } else if indices.len() < rule.args.len() {
            // an index that is there twice makes each condition a rule of its own
            rule.args.chunks(1).collect()
        } else {
            vec![rule.args.as_slice()]
        };
        // `name` is a key of Docker and podman
        let single = rule.name.iter().filter(|_| context.engine != Engine::Oci);
        for name in rule.names.iter().chain(single) {
            rules.push(NamedRule { name, outcome, conditions: conditions.clone() });
        }
    }
    Loaded { default, abis, other_architectures, rules }
}

/// The decision function of `file` in `context`.
#[must_use]
pub fn decide(file: &SeccompFile, context: &Context) -> Effective {
    let loaded = loaded(file, context);
    let mut effective = Effective {
        default: loaded.default,
        abis: loaded.abis.clone(),
        other_architectures: loaded.other_architectures,
        flags: file.flags.iter().cloned().collect(),
        listener: file.listener_path.clone(),
        largest: BTreeMap::new(),
        calls: BTreeMap::new(),
    };
    for rule in &loaded.rules {
        for &abi in &loaded.abis {
            effective.add(abi, rule);
        }
    }
    effective
}

impl Effective {
    /// One name of one rule, as libseccomp takes it.
    fn add(&mut self, abi: Abi, rule: &NamedRule<'_>) {
        let number = syscall::number(abi, rule.name);
        if let Some(nr) = number {
            let largest = self.largest.entry(abi).or_default();
            *largest = nr.max(*largest);
        }
        for args in &rule.conditions {
            let conditions: Vec<Condition> = args.iter().map(|arg| condition(abi, arg)).collect();
            if let Some((nr, which)) = multiplexed(abi, rule.name) {
                let call = Condition { index: 0, op: Op::Eq, value: which, value_two: 0 };
                let others = conditions.iter().filter(|condition| condition.index != 0);
                self.add_rule(
                    abi,
                    nr,
                    [call].into_iter().chain(others.copied()).collect(),
                    rule.outcome,
                );
            }
            if let Some(nr) = number {
                self.add_rule(abi, nr, conditions, rule.outcome);
            }
        }
    }

    fn add_rule(&mut self, abi: Abi, nr: u32, conditions: Vec<Condition>, outcome: Outcome) {
        let default = self.default;
        let decision = self.calls.entry((abi, nr)).or_insert_with(|| Decision::always(default));
        if decision.otherwise != default {
            return; // an unconditional rule came before
        }
        if conditions.is_empty() {
            *decision = Decision::always(outcome);
        } else {
            decision.rules.push((conditions, outcome));
        }
    }
}

fn condition(abi: Abi, arg: &Arg) -> Condition {
    let mask = word_mask(abi);
    let value_two = if arg.op == Op::MaskedEq { arg.value_two & mask } else { 0 };
    // An index above 5 is refused on reading.
    Condition { index: arg.index as u8, op: arg.op, value: arg.value & mask, value_two }
}

/// The calls of socketcall(2) and ipc(2), by the number that their first argument has.
const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The call that does what `name` says too, and the first argument with which it does: libseccomp adds a rule for both.
/// Of the ABIs here, only ia32 has such calls.
fn multiplexed(abi: Abi, name: &str) -> Option<(u32, u64)> {
    if abi != Abi::Ia32 {
        return None;
    }
    if let Some(which) = SOCKETCALL.iter().zip(1..).find(|(known, _)| **known == name) {
        return Some((syscall::number(abi, "socketcall")?, which.1));
    }
    let &(_, which) = IPC.iter().find(|(known, _)| *known == name)?;
    Some((syscall::number(abi, "ipc")?, which))
}

/// Docker's and libseccomp's word for an architecture in `includes` and `excludes`.
#[must_use]
pub const fn engine_arch(abi: Abi) -> &'static str {
    match abi {
        Abi::X86_64 => "amd64",
        Abi::Ia32 => "x86",
        Abi::X32 => "x32",
        Abi::Aarch64 => "arm64",
        Abi::Arm => "arm",
        Abi::Riscv64 => "riscv64",
    }
}
