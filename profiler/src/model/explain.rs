//! Answers about a policy: what is in it, what each entry does and risks, who needs it, and what would happen to a call.
//!
//! Takes a seccomp file with the context it is loaded in, and the profile that it was rendered from where there is one.
//! It judges nothing that is not in them or in [`crate::model::facts`].

use std::{cmp::Reverse, collections::BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{
    arch::Abi,
    arguments::call,
    capability,
    effective::{self, Condition, Context, Decision, Effective, Outcome},
    facts::{self, Risk},
    narrow,
    near::near,
    profile::{CapabilityReason, CapabilityRule, Combination, DeniedCall, Profile, SyscallReason},
    seccomp::SeccompFile,
    syscall,
};

/// What is asked about.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The filter.
    pub file: &'a SeccompFile,
    /// The policy with reasons, where the filter was made from one.
    pub profile: Option<&'a Profile>,
    /// How the filter is loaded.
    pub context: &'a Context,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// No table has the name.
    #[error("no system call or capability is named `{}`{}", .name.escape_debug(), hint(.near))]
    UnknownName {
        /// What was asked for. Hostile text.
        name: String,
        /// Names that resemble it.
        near: Vec<&'static str>,
    },
    /// The calls exist, but on none of the ABIs that the filter admits.
    #[error("`{name}` is no call of {abis}\nhint: name another architecture with `--arch`")]
    OtherAbi {
        /// The call.
        name: String,
        /// The ABIs that were looked at.
        abis: String,
    },
    /// A call has six arguments.
    #[error("a call has six arguments, and {given} were given")]
    TooManyArguments {
        /// How many.
        given: usize,
    },
}

fn hint(near: &[&str]) -> String {
    match near {
        [] => "\nhint: `profiler explain PROFILE` lists all".to_owned(),
        names => format!("\nhint: did you mean {}?", names.join(", ")),
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A system call.
    Syscall,
    /// A capability.
    Capability,
}

/// What the policy says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Allowed, or required.
    Allowed,
    /// Allowed for some arguments.
    Conditional,
    /// Not allowed, or not added.
    Denied,
    /// The policy says nothing: a seccomp file has no capabilities.
    Unknown,
}

/// What a recording says of a capability: which list of `profile.json` it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A call that succeeded asked for it, or it is a need that shows no check: added.
    Required,
    /// Asked for, but no call is known to have succeeded by it: not added.
    Probed,
    /// Asked for and refused: not added.
    Denied,
    /// Asked for by the OCI runtime only, which has it from the engine: not added.
    Runtime,
}

/// Everything about one call or capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Entry {
    /// Call or capability.
    pub kind: Kind,
    /// The kernel's name; of a capability without `CAP_`.
    pub name: String,
    /// The ABI of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abi: Option<Abi>,
    /// What it does.
    pub what: String,
    /// How bad it is in the hands of a taken process.
    pub risk: Risk,
    /// Why it is in that class.
    pub why: String,
    /// Where the description is from.
    pub source: String,
    /// What Docker's default says of it, for people.
    pub docker_default: String,
    /// What the policy says of it.
    pub standing: Standing,
    /// What happens to the call, in the order in which it is decided: `family == AF_PACKET: EPERM`, `otherwise: allow`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdict: Vec<String>,
    /// With which arguments a call is allowed, in words; from `profile.json`. Hostile text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Only the OCI runtime needs it.
    pub runtime_only: bool,
    /// The list that a capability is in; from `profile.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Refusals of the call while recording; from `profile.json`. Hostile text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<DeniedCall>,
    /// Why a call is allowed; from `profile.json`. Hostile text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<SyscallReason>,
    /// Why a capability is in its list; from `profile.json`. Hostile text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capability_reasons: Vec<CapabilityReason>,
    /// The last line of tests that failed without the capability; from `profile.json`. Hostile text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<String>,
    /// Of a required capability: calls that the kernel asks for it in before it looks at other ways, with what they do without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked_first: Vec<String>,
}

/// What would happen to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WhyNot {
    /// The call.
    pub call: String,
    /// On this ABI.
    pub abi: Abi,
    /// With these first arguments.
    pub arguments: Vec<u64>,
    /// What happens: `allow`, `EPERM`, `kill the process`; `None` when it depends on arguments that were not given.
    pub outcome: Option<String>,
    /// Whether the call reaches the kernel; `None` as above.
    pub passes: Option<bool>,
    /// What decides.
    pub by: DecidedBy,
    /// All conditions on the call, in the order in which they are decided.
    pub verdict: Vec<String>,
    /// Rules that name the call and that this engine leaves out here, by their index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<usize>,
    /// runc answers ENOSYS before the filter is asked: the number is above every number that the file names.
    pub above_largest: bool,
}

/// What decides about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DecidedBy {
    /// A rule of the file.
    Rule {
        /// Its index in `syscalls`, from 0.
        index: usize,
    },
    /// No rule applies: the default action.
    Default {},
    /// The filter does not admit the ABI.
    Architecture {},
    /// Several rules, by arguments that were not given.
    Arguments {},
}

impl Subject<'_> {
    fn effective(&self) -> Effective {
        let mut effective = effective::decide(self.file, self.context);
        // No file can name a number without a name; the profile does.
        for rule in self.profile.iter().flat_map(|profile| &profile.syscalls) {
            if syscall::is_unnamed(&rule.name)
                && let Some(nr) = syscall::parse(rule.abi, &rule.name)
            {
                effective.allow(rule.abi, nr);
            }
        }
        effective
    }

    /// Every call that can pass and every capability that is added, the riskiest first.
    #[must_use]
    pub fn ranked(&self) -> Vec<Entry> {
        let effective = self.effective();
        let mut calls: BTreeSet<(Abi, u32)> = effective.ruled().collect();
        for &abi in &effective.abis {
            calls.extend(syscall::table(abi).iter().map(|row| (abi, row.0)));
        }
        let calls = calls.into_iter().map(|(abi, nr)| self.call(&effective, abi, nr));
        let required = self.profile.iter().flat_map(|profile| &profile.capabilities.required);
        let mut entries: Vec<Entry> = calls
            .filter(|entry| entry.standing != Standing::Denied)
            .chain(required.map(|rule| self.capability(&rule.name)))
            .collect();
        entries.sort_by(|a, b| key(a).cmp(&key(b)));
        entries
    }

    /// What was asked for and is not in the policy, or not with all arguments, the riskiest first: refused calls, and capabilities
    /// that are not added.
    #[must_use]
    pub fn left_out(&self) -> Vec<Entry> {
        let effective = self.effective();
        let profiles = || self.profile.iter();
        let number = |call: &DeniedCall| Some((call.abi, syscall::parse(call.abi, &call.name)?));
        let calls: BTreeSet<(Abi, u32)> =
            profiles().flat_map(|profile| &profile.denied).filter_map(number).collect();
        let calls = calls.into_iter().map(|(abi, nr)| self.call(&effective, abi, nr));
        let lists = profiles().map(|profile| &profile.capabilities);
        let rules = lists.flat_map(|lists| [&lists.probed, &lists.denied, &lists.runtime]);
        let names: BTreeSet<&String> = rules.flatten().map(|rule| &rule.name).collect();
        let capabilities = names.into_iter().map(|name| self.capability(name));
        let mut entries: Vec<Entry> = calls
            .chain(capabilities)
            .filter(|it| matches!(it.standing, Standing::Denied | Standing::Conditional))
            .collect();
        entries.sort_by(|a, b| key(a).cmp(&key(b)));
        entries
    }

    /// Everything about the call or capability of this name, on each ABI that the filter admits.
    ///
    /// # Errors
    /// When there is no such name.
    pub fn named(&self, name: &str) -> Result<Vec<Entry>, ExplainError> {
        let mut entries: Vec<Entry> = capability::number(name)
            .map(|number| self.capability(&capability::display(number)))
            .into_iter()
            .collect();
        let effective = self.effective();
        match self.calls(&effective, name) {
            Ok(calls) => {
                entries.extend(calls.into_iter().map(|(abi, nr)| self.call(&effective, abi, nr)));
            }
            Err(error) if entries.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(entries)
    }

    /// What would happen to a call with these first arguments, on each ABI that the filter admits.
    ///
    /// # Errors
    /// When there is no such call, or there are more than six arguments.
    pub fn why_not(&self, name: &str, arguments: &[u64]) -> Result<Vec<WhyNot>, ExplainError> {
        if arguments.len() > 6 {
            return Err(ExplainError::TooManyArguments { given: arguments.len() });
        }
        let effective = self.effective();
        let calls = self.calls(&effective, name)?;
        Ok(calls.into_iter().map(|(abi, nr)| self.judge(&effective, abi, nr, arguments)).collect())
    }

    /// The numbers of a name, or of a number as it is typed, on the ABIs that the filter admits.
    fn calls(&self, effective: &Effective, name: &str) -> Result<Vec<(Abi, u32)>, ExplainError> {
        let found: Vec<(Abi, u32)> = effective
            .abis
            .iter()
            .filter_map(|&abi| {
                let number = syscall::parse(abi, name).or_else(|| name.parse().ok())?;
                Some((abi, number))
            })
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        if facts::syscall(name).is_some() {
            let abis: Vec<&str> = effective.abis.iter().map(|abi| abi.name()).collect();
            return Err(ExplainError::OtherAbi { name: name.into(), abis: abis.join(", ") });
        }
        let names = facts::syscalls().map(|facts| facts.name);
        let near = near(name, names.chain(capability::NAMES));
        Err(ExplainError::UnknownName { name: name.into(), near })
    }

    fn call(&self, effective: &Effective, abi: Abi, nr: u32) -> Entry {
        let name = syscall::display(abi, nr).into_owned();
        let facts = facts::syscall(&name);
        let decision = effective.decision(abi, nr);
        let passing = decision.outcomes().filter(|outcome| outcome.may_pass()).count();
        let standing = match passing {
            0 => Standing::Denied,
            some if some == decision.outcomes().count() => Standing::Allowed,
            _ => Standing::Conditional,
        };
        let rules = self.profile.iter().flat_map(|profile| &profile.syscalls);
        let rule = rules.into_iter().find(|rule| rule.abi == abi && rule.name == name);
        let reasons = rule.map(|rule| rule.reasons.clone()).unwrap_or_default();
        let combinations = rule.and_then(|rule| rule.arguments.as_deref());
        let is_runtimes = |reason: &SyscallReason| {
            matches!(reason, SyscallReason::Handover { .. } | SyscallReason::Floor { .. })
        };
        let choice = self.profile.map(|profile| profile.made_for.arguments).unwrap_or_default();
        let words = |it: &[Combination]| narrow::words(&name, it, choice);
        Entry {
            kind: Kind::Syscall,
            abi: Some(abi),
            what: facts.map_or("a number that no table names", |facts| facts.what).into(),
            risk: facts::of_call(&name),
            why: facts.map_or("nobody knows what it does", |facts| facts.why).into(),
            source: facts.map(|facts| facts.source().into_owned()).unwrap_or_default(),
            docker_default: facts::docker_default(&name).to_string(),
            standing,
            verdict: verdict(abi, &name, &decision),
            arguments: combinations.map(words).unwrap_or_default(),
            runtime_only: !reasons.is_empty() && reasons.iter().all(is_runtimes),
            reasons,
            class: None,
            denied: self
                .profile
                .iter()
                .flat_map(|profile| &profile.denied)
                .filter(|call| call.abi == abi && call.name == name)
                .cloned()
                .collect(),
            capability_reasons: Vec::new(),
            asked_first: Vec::new(),
            needed: None,
            name,
        }
    }

    fn capability(&self, name: &str) -> Entry {
        let facts = facts::capability(name);
        let lists = self.profile.map(|profile| &profile.capabilities);
        let of_name: Vec<(Class, &CapabilityRule)> = lists
            .iter()
            .flat_map(|lists| {
                [
                    (Class::Required, &lists.required),
                    (Class::Probed, &lists.probed),
                    (Class::Denied, &lists.denied),
                    (Class::Runtime, &lists.runtime),
                ]
            })
            .flat_map(|(class, rules)| rules.iter().map(move |rule| (class, rule)))
            .filter(|(_, rule)| rule.name == name)
            .collect();
        let class = of_name.first().map(|(class, _)| *class);
        let granted = facts.is_some_and(|facts| facts.is_docker_default());
        let required = lists.and_then(|lists| lists.required.iter().find(|rule| rule.name == name));
        Entry {
            kind: Kind::Capability,
            name: name.into(),
            abi: None,
            what: facts.map_or("a capability that has no name here", |facts| facts.what).into(),
            risk: facts::of_capability(name),
            why: facts.map_or("nobody knows what it permits", |facts| facts.why).into(),
            source: "capabilities(7)".into(),
            docker_default: if granted { "granted" } else { "not granted" }.into(),
            standing: match lists {
                None => Standing::Unknown,
                Some(_) if required.is_some() => Standing::Allowed,
                Some(_) => Standing::Denied,
            },
            verdict: Vec::new(),
            arguments: Vec::new(),
            runtime_only: class == Some(Class::Runtime),
            class,
            denied: Vec::new(),
            asked_first: required.map(other_ways).unwrap_or_default(),
            reasons: Vec::new(),
            needed: of_name.iter().find_map(|(_, rule)| rule.needed.clone()),
            capability_reasons: of_name
                .iter()
                .flat_map(|(_, rule)| rule.reasons.iter().cloned())
                .collect(),
        }
    }

    fn judge(&self, effective: &Effective, abi: Abi, nr: u32, arguments: &[u64]) -> WhyNot {
        let call = syscall::display(abi, nr).into_owned();
        let decision = effective.decision(abi, nr);
        let mut registers = [0; 6];
        for (register, value) in registers.iter_mut().zip(arguments) {
            *register = value & effective::word_mask(abi);
        }
        let given = |condition: &Condition| usize::from(condition.index) < arguments.len();
        // what a given argument rules out needs no others
        let fails = |condition: &Condition| {
            registers.get(usize::from(condition.index)).is_some_and(|it| !condition.holds(*it))
        };
        let all_given = decision.rules.iter().all(|(conditions, _)| {
            conditions.iter().all(given) || conditions.iter().any(|it| given(it) && fails(it))
        });
        let same = decision.outcomes().collect::<BTreeSet<_>>().len() == 1;
        let outcome = (all_given || same).then(|| decision.verdict(&registers));
        WhyNot {
            by: match outcome {
                None => DecidedBy::Arguments {},
                Some(_) if !effective.abis.contains(&abi) => DecidedBy::Architecture {},
                Some(outcome) => self.decided_by(effective, &call, abi, &registers, outcome),
            },
            outcome: outcome.map(|outcome| outcome.to_string()),
            passes: outcome.map(|outcome| outcome.may_pass()),
            verdict: verdict(abi, &call, &decision),
            left_out: self
                .file
                .syscalls
                .iter()
                .enumerate()
                .filter(|(_, rule)| {
                    rule.all_names().any(|name| name == call)
                        && !effective::keeps(rule, self.context)
                })
                .map(|(index, _)| index)
                .collect(),
            above_largest: effective.largest.get(&abi).is_some_and(|&largest| nr > largest),
            arguments: arguments.to_vec(),
            call,
            abi,
        }
    }

    /// The first rule that by itself gives the call this outcome. An unconditional one comes before conditional ones.
    fn decided_by(
        &self,
        effective: &Effective,
        call: &str,
        abi: Abi,
        registers: &[u64; 6],
        outcome: Outcome,
    ) -> DecidedBy {
        if outcome == effective.default {
            return DecidedBy::Default {};
        }
        let SeccompFile { default_action, default_errno_ret, ref default_errno, .. } = *self.file;
        let alone = |index: usize| {
            // The ABI is admitted, or nobody asks who decided.
            let file = SeccompFile {
                default_errno_ret,
                default_errno: default_errno.clone(),
                architectures: vec![abi.scmp_arch().to_owned()],
                syscalls: self.file.syscalls.get(index).cloned().into_iter().collect(),
                ..SeccompFile::new(default_action)
            };
            let nr = syscall::number(abi, call)?;
            let decision = effective::decide(&file, self.context).decision(abi, nr);
            Some((decision.rules.is_empty(), decision.verdict(registers)))
        };
        let rules = (0..self.file.syscalls.len())
            .filter(|&index| self.file.syscalls.get(index).is_some_and(|rule| names(rule, call)));
        let mut giving: Vec<(bool, usize)> = rules
            .filter_map(|index| Some((alone(index)?, index)))
            .filter(|&((_, verdict), _)| verdict == outcome)
            .map(|((unconditional, _), index)| (!unconditional, index))
            .collect();
        giving.sort_unstable();
        giving.first().map_or(DecidedBy::Default {}, |&(_, index)| DecidedBy::Rule { index })
    }
}

/// Whether a rule names the call, or one that libseccomp also makes a rule of the multiplexed call for.
fn names(rule: &crate::model::seccomp::Rule, call: &str) -> bool {
    matches!(call, "socketcall" | "ipc") || rule.all_names().any(|name| name == call)
}

fn key(entry: &Entry) -> (Reverse<Risk>, Kind, &str, Option<Abi>) {
    (Reverse(entry.risk), entry.kind, &entry.name, entry.abi)
}

fn verdict(abi: Abi, call: &str, decision: &Decision) -> Vec<String> {
    let line = |(conditions, outcome): &(Vec<Condition>, Outcome)| {
        format!("{}: {outcome}", call::conditions(Some(abi), call, conditions).join(", "))
    };
    let otherwise = match decision.rules.as_slice() {
        [] => decision.otherwise.to_string(),
        _ => format!("otherwise: {}", decision.otherwise),
    };
    decision.rules.iter().map(line).chain([otherwise]).collect()
}

/// What the calls of a rule may do without its capability; nothing when tests have shown that it is needed.
fn other_ways(rule: &CapabilityRule) -> Vec<String> {
    let ways: BTreeSet<String> = rule
        .reasons
        .iter()
        .filter(|_| rule.needed.is_none())
        .flat_map(|reason| {
            facts::asked_first(&rule.name, &reason.syscall)
                .map(|row| format!("{}: {}", reason.syscall, row.without))
        })
        .collect();
    ways.into_iter().collect()
}
