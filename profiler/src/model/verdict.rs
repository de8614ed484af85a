//! What a run under a profile proves: which denials were to be expected, and which show that the profile lacks something.
//!
//! Owns the meaning of "expected". A denial is expected when the user says so, when the recordings that the profile was
//! made of had it already while the tests passed, when the answer is the ENOSYS by which [`crate::model::errno`] sends
//! callers to an older call, when the runtime asked for a call that it is known to do without, or when the profile allows the call
//! whatever its arguments, so that another filter answered. Everything else is not.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{
    arch::Abi,
    capability,
    effective::Effective,
    errno, error_number, floor, narrow,
    profile::Profile,
    recording::{
        ArgumentFact, AuditClass, Missing, Phase, Recording, Sighting, SyscallFact,
        Verdict as Answer,
    },
    syscall,
};

/// Why a denial shows nothing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// `--allow-denied` names it.
    Named,
    /// It was refused while recording, too.
    Recorded,
    /// It got ENOSYS, and callers do without.
    Fallback,
    /// The runtime asked for it, and its measured floor has it not.
    Runtime,
    /// The profile allows it, whatever the arguments: another filter refused it.
    OtherFilter,
}

/// A call that was refused, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Denial {
    /// Number space.
    pub abi: Abi,
    /// The kernel's name, or `syscall_NR`.
    pub name: String,
    /// What the caller got, or would get: `EPERM`, `kill the process`.
    pub answer: String,
    /// When in the thread's life.
    pub phase: Phase,
    /// The filter ended the thread or its process.
    pub killed: bool,
    /// The six argument registers of a first one, whether the call has so many or not, with zeros where nothing was recorded of
    /// them; absent when they were not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<[u64; 6]>,
    /// How often; absent when that was not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Executables that made it; empty when that was not seen. Sorted. Hostile text.
    pub programs: BTreeSet<String>,
    /// Tests in which it was made (`profiler mark`). Sorted. Hostile text.
    pub tests: BTreeSet<String>,
    /// Why it shows nothing wrong; absent when it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
}

/// A capability that was asked for, refused, and missed by the call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct RefusedCapability {
    /// Without `CAP_`.
    pub name: String,
    /// The call that failed.
    pub syscall: String,
    /// Executables that made it. Sorted. Hostile text.
    pub programs: BTreeSet<String>,
}

/// What is known beside the recording.
#[derive(Debug, Clone, Copy)]
pub struct Basis<'a> {
    /// What the profile decides.
    pub effective: &'a Effective,
    /// The profile with its reasons, where there is one.
    pub profile: Option<&'a Profile>,
    /// Names of calls whose denial is taken for granted.
    pub allowed: &'a BTreeSet<String>,
}

/// The calls that a filter refused after it was loaded, in the order of the recording.
#[must_use]
pub fn denials(recording: &Recording, basis: Basis<'_>) -> Vec<Denial> {
    let facts = recording.denials.iter().filter(|fact| fact.phase != Phase::Setup);
    facts
        .map(|fact| {
            let sightings = fact.seen.values().map(|seen| &seen.sighting);
            let number = u32::try_from(fact.errno).unwrap_or(0);
            let is_fallback = !fact.killed
                && number == errno::FALLBACK
                && errno::of_denied(fact.abi, fact.nr) == errno::FALLBACK;
            let mut expected = basis.expected(fact.abi, fact.nr);
            if expected.is_none() && is_fallback {
                expected = Some(Expected::Fallback);
            }
            if expected.is_none() && fact.phase == Phase::Handover && !fact.killed {
                expected = basis.of_runtime(fact.abi, fact.nr);
            }
            if expected.is_none() && basis.effective.always_passes(fact.abi, fact.nr) {
                expected = Some(Expected::OtherFilter);
            }
            let answer = match (fact.killed, number) {
                (true, _) => "killed".to_owned(),
                (false, 0) => "SIGSYS or success".to_owned(),
                (false, number) => error_number::display(number).into_owned(),
            };
            Denial {
                killed: fact.killed,
                arguments: fact.seen.values().find_map(|seen| seen.arguments),
                count: Some(fact.seen.values().map(|seen| seen.count).sum()),
                expected,
                ..denial(fact.abi, fact.nr, fact.phase, answer, sightings)
            }
        })
        .collect()
}

/// The calls that were made and that the profile would refuse. None is expected because callers could do without, but where
/// the profile has that in mind: what they would do then was not seen.
#[must_use]
pub fn would_be_denied(recording: &Recording, basis: Basis<'_>) -> Vec<Denial> {
    let facts = recording.syscalls.iter().filter(|fact| fact.phase != Phase::Setup);
    facts
        .filter_map(|fact| {
            let arguments = match basis.judged(recording, fact) {
                Judged::Refused(arguments) => arguments,
                Judged::Passes | Judged::Unknown => return None,
            };
            let decision = basis.effective.decision(fact.abi, fact.nr);
            let answer = match &arguments {
                Some(registers) => decision.verdict(registers).to_string(),
                None => decision.otherwise.to_string(),
            };
            let denial = denial(fact.abi, fact.nr, fact.phase, answer, fact.seen.values());
            let expected = basis.expected(fact.abi, fact.nr);
            let expected = expected.or_else(|| basis.replaced(recording, fact));
            Some(Denial { arguments, expected, ..denial })
        })
        .collect()
}

/// What a filter would do with a call that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    /// All of them pass.
    Passes,
    /// One was made that does not: with these registers, whose bits are 0 where they were not recorded, or with any.
    Refused(Option<[u64; 6]>),
    /// It depends on arguments that were not recorded.
    Unknown,
}

/// The calls that were made and of which the profile lets some pass, by their arguments; which were made is not known.
#[must_use]
pub fn undecided(recording: &Recording, basis: Basis<'_>) -> BTreeSet<String> {
    let facts = recording.syscalls.iter().filter(|fact| fact.phase != Phase::Setup);
    facts
        .filter(|fact| basis.judged(recording, fact) == Judged::Unknown)
        .filter(|fact| basis.expected(fact.abi, fact.nr).is_none())
        .map(|fact| syscall::display(fact.abi, fact.nr).into_owned())
        .collect()
}

impl Basis<'_> {
    fn judged(&self, recording: &Recording, call: &SyscallFact) -> Judged {
        let (abi, nr) = (call.abi, call.nr);
        if !self.effective.may_pass(abi, nr) {
            return Judged::Refused(None);
        }
        if self.effective.always_passes(abi, nr) {
            return Judged::Passes;
        }
        let decision = self.effective.decision(abi, nr);
        let facts = recording.arguments.iter();
        let facts = facts.filter(|it| (it.abi, it.nr, it.phase) == (abi, nr, call.phase));
        let (mut runs, mut unknown) = (BTreeSet::new(), false);
        for ArgumentFact { values, seen, .. } in facts {
            runs.extend(seen.keys());
            match decision.of_known(values) {
                None => unknown = true,
                Some(outcome) if outcome.may_pass() => {}
                Some(_) => {
                    let mut registers = [0; 6];
                    for value in values {
                        registers[usize::from(value.index) % 6] = value.value;
                    }
                    return Judged::Refused(Some(registers));
                }
            }
        }
        let all = call.seen.keys().all(|run| runs.contains(run));
        if unknown || runs.is_empty() || !all { Judged::Unknown } else { Judged::Passes }
    }

    /// Whether the profile refuses a call so that callers take another, which does the same.
    fn replaced(&self, recording: &Recording, call: &SyscallFact) -> Option<Expected> {
        let (abi, nr) = (call.abi, call.nr);
        let name = syscall::name(abi, nr)?;
        let facts = recording.arguments.iter();
        let mut facts = facts.filter(|it| (it.abi, it.nr, it.phase) == (abi, nr, call.phase));
        if !facts.all(|fact| narrow::is_plain(&fact.values)) {
            return None;
        }
        let mut rules = self.profile.into_iter().flat_map(|profile| &profile.syscalls);
        let rule = rules.find(|rule| rule.abi == abi && rule.name == name)?;
        (!rule.allows()).then_some(Expected::Fallback)
    }

    /// Whether a runtime that the profile is for does without a call.
    fn of_runtime(&self, abi: Abi, nr: u32) -> Option<Expected> {
        let name = syscall::name(abi, nr)?;
        let runtimes = &self.profile?.made_for.runtimes;
        runtimes.iter().any(|usage| floor::does_without(usage, name)).then_some(Expected::Runtime)
    }

    fn expected(&self, abi: Abi, nr: u32) -> Option<Expected> {
        let name = syscall::display(abi, nr);
        if self.allowed.contains(name.as_ref()) {
            return Some(Expected::Named);
        }
        let denied = self.profile.into_iter().flat_map(|profile| &profile.denied);
        let mut same = denied.filter(|call| call.abi == abi && call.name == name);
        // with which arguments it was refused is not in the profile: of a call that it allows with some, others are no excuse
        let is_same = same.next().is_some() && !self.effective.may_pass(abi, nr);
        is_same.then_some(Expected::Recorded)
    }
}

fn denial<'a>(
    abi: Abi,
    nr: u32,
    phase: Phase,
    answer: String,
    sightings: impl Iterator<Item = &'a Sighting> + Clone,
) -> Denial {
    Denial {
        abi,
        name: syscall::display(abi, nr).into_owned(),
        killed: false,
        arguments: None,
        answer,
        phase,
        count: None,
        programs: programs(sightings.clone()),
        tests: sightings.flat_map(|seen| seen.tests.iter().cloned()).collect(),
        expected: None,
    }
}

fn programs<'a>(sightings: impl Iterator<Item = &'a Sighting>) -> BTreeSet<String> {
    let programs = sightings.flat_map(|seen| &seen.programs);
    programs
        .map(|program| if program.exe.is_empty() { &program.comm } else { &program.exe })
        .cloned()
        .collect()
}

/// The capabilities that the workload was refused in calls that failed, and that the recordings had not, nor `--allow-denied` names.
#[must_use]
pub fn refused_capabilities(
    recording: &Recording,
    basis: Basis<'_>,
) -> BTreeSet<RefusedCapability> {
    let capabilities = basis.profile.map(|profile| &profile.capabilities);
    let known: BTreeSet<&str> = capabilities
        .into_iter()
        .flat_map(|capabilities| capabilities.denied.iter().chain(&capabilities.probed))
        .map(|rule| rule.name.as_str())
        .collect();
    let facts = recording.capabilities.iter().filter(|fact| {
        fact.phase == Phase::Workload
            && fact.verdict == Answer::Denied
            && fact.audit == AuditClass::Audited
            && !fact.overridden
            && fact.seen.values().any(|seen| seen.failed > 0)
    });
    let refused = facts.map(|fact| RefusedCapability {
        name: capability::display(fact.capability).into_owned(),
        syscall: syscall::display(fact.abi, fact.nr).into_owned(),
        programs: programs(fact.seen.values().map(|seen| &seen.sighting)),
    });
    let is_named = |name: &str| basis.allowed.contains(&format!("CAP_{name}"));
    refused
        .filter(|refused| !known.contains(refused.name.as_str()) && !is_named(&refused.name))
        .collect()
}

/// What the recording could not see that bears on denials: names of full tables, or `engine`.
#[must_use]
pub fn lost(recording: &Recording) -> BTreeSet<String> {
    let missing = recording.runs.values().flat_map(|run| &run.missing);
    missing
        .filter_map(|missing| match missing {
            Missing::Lost { what, .. }
                if matches!(what.as_str(), "denials" | "scopes" | "syscalls") =>
            {
                Some(what.clone())
            }
            Missing::Engine => Some("engine".to_owned()),
            Missing::Skipped { .. } => Some("calls".to_owned()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        arguments::Masked,
        effective::{Context, Engine, decide},
        seccomp::{Action, KernelVersion, SeccompFile},
    };

    fn recording() -> Recording {
        let denial = |nr: u32, errno: i32, phase: &str, killed: bool| {
            format!(
                r#"{{"abi":"x86_64","nr":{nr},"phase":"{phase}","errno":{errno},"killed":{killed},"seen":{{"r":
                {{"count":2,"arguments":[1,2,3,4,5,6],"sighting":{{"programs":[{{"comm":"x","exe":"app"}}],"tests":["t"]}}}}}}}}"#
            )
        };
        let check = |capability: u8, audit: &str, failed: u64| {
            format!(
                r#"{{"capability":{capability},"phase":"workload","verdict":"denied","audit":"{audit}","user_namespace":"host",
                "overridden":false,"abi":"x86_64","nr":92,"asked_by":"","seen":{{"r":{{"checks":1,"succeeded":0,"failed":{failed},
                "sighting":{{}}}}}}}}"#
            )
        };
        let denials = [
            denial(165, 1, "setup", false),
            denial(165, 1, "workload", false),
            denial(435, 38, "workload", false),
            denial(436, 38, "workload", true),
            denial(0, 1, "workload", false),
        ];
        let capabilities = [check(0, "audited", 1), check(1, "audited", 0), check(2, "noaudit", 1)];
        let text = format!(
            r#"{{"schema_version":1,"target":{{"kind":"command","name":"x"}},"runs":{{}},"syscalls":[
            {{"abi":"x86_64","nr":0,"phase":"workload","seen":{{}}}},{{"abi":"x86_64","nr":435,"phase":"workload","seen":{{}}}},
            {{"abi":"x86_64","nr":165,"phase":"setup","seen":{{}}}}],
            "capabilities":[{}],"denials":[{}]}}"#,
            capabilities.join(","),
            denials.join(",")
        );
        serde_json::from_str(&text).expect("a recording")
    }

    fn context() -> Context {
        Context {
            native: Abi::X86_64,
            capabilities: BTreeSet::new(),
            kernel: KernelVersion { major: 6, minor: 1 },
            engine: Engine::Oci,
        }
    }

    fn effective() -> Effective {
        let mut effective = decide(&SeccompFile::new(Action::Errno), &context());
        effective.allow(Abi::X86_64, 0);
        effective
    }

    #[test]
    fn denials_are_told_apart() {
        let (effective, allowed) = (effective(), BTreeSet::new());
        let basis = Basis { effective: &effective, profile: None, allowed: &allowed };
        let denials = denials(&recording(), basis);
        let said: Vec<_> = denials.iter().map(|it| (it.name.as_str(), it.expected)).collect();
        assert_eq!(
            said,
            [
                ("mount", None),
                ("clone3", Some(Expected::Fallback)),
                ("close_range", None),
                ("read", Some(Expected::OtherFilter))
            ],
            "the runtime's before the filter is none"
        );
        assert_eq!((denials[0].count, denials[0].arguments), (Some(2), Some([1, 2, 3, 4, 5, 6])));
        assert_eq!(denials[0].programs, BTreeSet::from(["app".to_owned()]));
        assert_eq!((denials[0].answer.as_str(), denials[2].answer.as_str()), ("EPERM", "killed"));
        let allowed = BTreeSet::from(["mount".to_owned()]);
        let named = super::denials(&recording(), Basis { allowed: &allowed, ..basis });
        assert_eq!(named[0].expected, Some(Expected::Named));
    }

    #[test]
    fn a_call_that_passes_for_some_arguments_is_not_excused() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
            {"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"}]}]}"#;
        let file: SeccompFile = serde_json::from_str(text).expect("a filter");
        let (effective, allowed) = (decide(&file, &context()), BTreeSet::new());
        let basis = Basis { effective: &effective, profile: None, allowed: &allowed };
        let read = denials(&recording(), basis).into_iter().find(|it| it.name == "read");
        assert_eq!(read.and_then(|it| it.expected), None);
        assert_eq!(undecided(&recording(), basis), BTreeSet::from(["read".to_owned()]));
    }

    #[test]
    fn arguments_that_were_recorded_decide() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
            {"names":["read"],"action":"SCMP_ACT_ALLOW",
             "args":[{"index":0,"value":255,"valueTwo":7,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        let file: SeccompFile = serde_json::from_str(text).expect("a filter");
        let (effective, allowed) = (decide(&file, &context()), BTreeSet::new());
        let basis = Basis { effective: &effective, profile: None, allowed: &allowed };
        let mut recording = recording();
        recording.syscalls.truncate(1);
        for (mask, value, refused, open) in
            [(0xffff, 7, None, false), (0xffff, 8, Some(8), false), (0xf, 7, None, true)]
        {
            let fact = format!(
                r#"{{"abi":"x86_64","nr":0,"phase":"workload","values":[{{"index":0,"mask":{mask},"value":{value}}}],
                "seen":{{"r":{{}}}}}}"#
            );
            recording.arguments = vec![serde_json::from_str(&fact).expect("a fact")];
            let denials = would_be_denied(&recording, basis);
            let first = denials.first().and_then(|it| it.arguments).map(|it| it[0]);
            assert_eq!(first, refused, "{mask:#x} {value}");
            assert_eq!(!undecided(&recording, basis).is_empty(), open, "{mask:#x} {value}");
        }
    }

    #[test]
    fn what_was_not_recorded_matters_only_where_it_decides() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
            {"names":["prctl"],"action":"SCMP_ACT_ALLOW","args":[
             {"index":0,"value":4294967295,"valueTwo":35,"op":"SCMP_CMP_MASKED_EQ"},
             {"index":1,"value":4294967295,"valueTwo":8,"op":"SCMP_CMP_MASKED_EQ"}]},
            {"names":["prctl"],"action":"SCMP_ACT_ALLOW","args":[
             {"index":0,"value":4294967295,"valueTwo":15,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        let file: SeccompFile = serde_json::from_str(text).expect("a filter");
        let effective = decide(&file, &context());
        let of = |values: &[u64]| {
            let values = values.iter().zip(0..);
            let known: Vec<Masked> =
                values.map(|(&value, index)| Masked { index, mask: 0xffff_ffff, value }).collect();
            let prctl = effective.decision(crate::model::arch::Abi::X86_64, 157);
            prctl.of_known(&known).map(|outcome| outcome.may_pass())
        };
        for (values, passes) in [
            (&[15][..], Some(true)),
            (&[16], Some(false)),
            (&[35, 8], Some(true)),
            (&[35, 9], Some(false)),
            (&[35], None),
            (&[], None),
        ] {
            assert_eq!(of(values), passes, "{values:?}");
        }
    }

    /// A profile with one rule that decides by arguments, or refuses so that callers take another call, and one recorded denial.
    fn profile(rule: &str, denied: &str) -> Profile {
        let text = format!(
            r#"{{"schema_version":1,"target":{{"kind":"command","name":"x"}},"made_for":{{"runtimes":[],"recorded_under":[]}},
            "architectures":["x86_64"],"notes":[],"syscalls":[{rule}],"denied":[{denied}],
            "capabilities":{{"known":true,"required":[],"probed":[],"denied":[],"runtime":[]}}}}"#
        );
        serde_json::from_str(&text).expect("a profile")
    }

    #[test]
    fn a_recorded_denial_excuses_no_other_arguments() {
        let denied =
            |name| format!(r#"{{"abi":"x86_64","name":"{name}","errno":1,"programs":[]}}"#);
        let profile = profile("", &[denied("mount"), denied("close_range")].join(","));
        let allowed = BTreeSet::new();
        let effective = effective();
        let is = |effective: &Effective, name: &str| {
            let basis = Basis { effective, profile: Some(&profile), allowed: &allowed };
            let denials = denials(&recording(), basis);
            denials.into_iter().find(|it| it.name == name).expect("refused").expected
        };
        assert_eq!(is(&effective, "mount"), Some(Expected::Recorded));
        let some: SeccompFile = serde_json::from_str(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ALLOW",
            "args":[{"index":3,"value":4096,"valueTwo":4096,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#,
        )
        .expect("a file");
        let effective = decide(&some, &context());
        assert_eq!(is(&effective, "mount"), None, "it is allowed with some");
    }

    #[test]
    fn what_clone_cannot_do_is_not_replaced_by_it() {
        let profile = profile(
            r#"{"abi":"x86_64","name":"clone3","reasons":[{"kind":"always-allowed"}],"arguments":[]}"#,
            "",
        );
        let (effective, allowed) = (effective(), BTreeSet::new());
        let basis = Basis { effective: &effective, profile: Some(&profile), allowed: &allowed };
        let mut recording = recording();
        let call = recording.syscalls.iter().find(|fact| fact.nr == 435).expect("clone3").clone();
        for (value, expected) in [(0, Some(Expected::Fallback)), (1, None)] {
            let values = vec![Masked { index: 0, mask: 0x7e02_0081, value }];
            let SyscallFact { abi, nr, phase, seen } = call.clone();
            recording.arguments = vec![ArgumentFact { abi, nr, phase, values, seen }];
            let denials = would_be_denied(&recording, basis);
            assert_eq!((denials[0].name.as_str(), denials[0].expected), ("clone3", expected));
        }
    }

    #[test]
    fn what_the_runtime_does_without_is_expected_of_it_only() {
        let (effective, allowed) = (effective(), BTreeSet::new());
        let profile: Profile = serde_json::from_str(
            r#"{"schema_version":1,"target":{"kind":"container","name":"x"},"made_for":{"runtimes":[
            {"runtime":"runc","version":"1.1.5","no_new_privileges":false,"user":"root"}],"recorded_under":[]},
            "architectures":[],"notes":[],"syscalls":[],"denied":[],
            "capabilities":{"known":true,"required":[],"probed":[],"denied":[],"runtime":[]}}"#,
        )
        .expect("a profile");
        let basis = Basis { effective: &effective, profile: Some(&profile), allowed: &allowed };
        let mut recording = recording();
        let mut denial = recording.denials.remove(1);
        // getpid, and capset
        for (nr, phase, expected) in [
            (39, Phase::Handover, Some(Expected::Runtime)),
            (126, Phase::Handover, None),
            (39, Phase::Workload, None),
        ] {
            (denial.nr, denial.phase) = (nr, phase);
            recording.denials = vec![denial.clone()];
            assert_eq!(denials(&recording, basis)[0].expected, expected, "{nr} {phase:?}");
        }
    }

    #[test]
    fn what_would_be_denied_is_not_excused_by_its_errno() {
        let (effective, allowed) = (effective(), BTreeSet::new());
        let basis = Basis { effective: &effective, profile: None, allowed: &allowed };
        let denials = would_be_denied(&recording(), basis);
        assert_eq!(denials.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["clone3"]);
        assert_eq!(denials[0].expected, None);
    }

    #[test]
    fn a_capability_counts_when_its_check_was_real_and_the_call_failed() {
        let (effective, allowed) = (effective(), BTreeSet::new());
        let basis = Basis { effective: &effective, profile: None, allowed: &allowed };
        let refused = refused_capabilities(&recording(), basis);
        let names: Vec<_> =
            refused.iter().map(|it| (it.name.as_str(), it.syscall.as_str())).collect();
        assert_eq!(names, [("CHOWN", "chown")]);
    }
}
