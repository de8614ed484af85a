//! Which filter it runs under, told by what the filter decides and not by its name.

use std::collections::BTreeSet;

use super::{
    Severity,
    facts::{Filter, Known, Unknown},
    run::{Answer, Subject, count},
};
use crate::model::{
    arch::Abi,
    baseline,
    bpf::{self, Data, Program},
    capability,
    diff::{self, Side},
    effective::{self, Context, Effective, Engine},
    facts::{self, Risk},
    in_force, syscall,
};

/// Calls that are named.
const SHOWN: usize = 8;

/// How a filter compares with Docker's default.
struct Compared {
    /// Calls that pass with some arguments, and do not under the default.
    wider: Vec<(String, Risk)>,
    /// It decides something in another way, too.
    differs: bool,
    /// Where it was read.
    read: &'static str,
}

pub(super) fn missing(subject: &Subject<'_>) -> Known<Answer> {
    if let Some(process) = &subject.facts.process {
        let mode = format!("Seccomp: {} in /proc/PID/status", process.seccomp_mode);
        if process.seccomp_mode == 0 {
            return Ok(Answer::found(Severity::Error, "no filter is in force").with([mode]));
        }
        if let Ok(filters) = &process.filters
            && !filters.iter().any(|filter| denies(filter, subject.inputs.machine.native))
        {
            let told = "a filter is in force, and it lets every call pass";
            return Ok(Answer::found(Severity::Error, told).with([mode]));
        }
        return Ok(Answer::Passed(format!("a filter is in force ({mode})")));
    }
    Ok(match subject.facts.seccomp.as_ref()? {
        Filter::Unconfined => Answer::found(Severity::Error, "it is unconfined: no filter"),
        Filter::File(file) if !file.denies() => {
            Answer::found(Severity::Error, "its filter lets every call pass")
        }
        Filter::EngineDefault => Answer::Passed("the engine's default".into()),
        Filter::File(_) => Answer::Passed("a filter of its own".into()),
    })
}

pub(super) fn wider(subject: &Subject<'_>) -> Known<Answer> {
    let Some(compared) = compared(subject)? else { return Ok(Answer::Moot) };
    if compared.wider.is_empty() {
        return Ok(Answer::Passed(format!(
            "lets nothing pass that Docker's default refuses ({})",
            compared.read
        )));
    }
    // Another version of the default is none of the user's making.
    if subject.facts.seccomp == Ok(Filter::EngineDefault) {
        return Ok(Answer::Passed(format!(
            "the engine's default; {} more than {}'s pass ({})",
            compared.wider.len(),
            baseline::DOCKER_DEFAULT_SOURCE,
            compared.read
        )));
    }
    let worst = compared.wider.iter().map(|(_, risk)| *risk).max();
    let severity = if worst >= Some(Risk::High) { Severity::Error } else { Severity::Warning };
    let told =
        format!("lets {} pass that Docker's default refuses", count(compared.wider.len(), "call"));
    Ok(Answer::found(severity, told)
        .with([gravest(&compared.wider), format!("read: {}", compared.read)])
        .tighten(unmade(subject)?))
}

pub(super) fn not_its_own(subject: &Subject<'_>) -> Known<Answer> {
    let Some(compared) = compared(subject)? else { return Ok(Answer::Moot) };
    let by_name = subject.facts.seccomp == Ok(Filter::EngineDefault);
    if compared.differs && !by_name {
        let unmade = unmade(subject)?;
        let own = format!("a filter of its own ({})", compared.read);
        return Ok(Answer::Passed(unmade.map_or(own.clone(), |told| format!("{own}: {told}"))));
    }
    let evidence = if compared.differs {
        format!("differs from {}'s ({})", baseline::DOCKER_DEFAULT_SOURCE, compared.read)
    } else {
        format!(
            "decides every call as {}'s does ({})",
            baseline::DOCKER_DEFAULT_SOURCE,
            compared.read
        )
    };
    Ok(Answer::found(Severity::Note, "the filter is the engine's default")
        .with([evidence])
        .tighten(unmade(subject)?))
}

/// `None` where there is no filter.
fn compared(subject: &Subject<'_>) -> Known<Option<Compared>> {
    let (default, native) = (default(subject), subject.inputs.machine.native);
    if let Some(process) = &subject.facts.process {
        if process.seccomp_mode == 0 {
            return Ok(None);
        }
        // What was asked for says it as well where the kernel does not give the filter out.
        if let Ok(filters) = &process.filters {
            let of = |filter: &Program| of_program(&default, filter, native);
            let nearest = filters.iter().map(of).min_by_key(|it| (it.wider.len(), it.differs));
            return Ok(nearest);
        }
    }
    Ok(match subject.facts.seccomp.as_ref()? {
        Filter::Unconfined => None,
        Filter::EngineDefault => {
            Some(Compared { wider: Vec::new(), differs: false, read: "by the engine's word" })
        }
        Filter::File(file) => {
            let side = |effective| Side::of_filter(String::new(), effective);
            let own = effective::decide(file, &context(subject));
            let diff = diff::diff(&side(default), &side(own));
            let grows = diff.entries.iter().filter(|entry| entry.grows);
            Some(Compared {
                wider: grows.map(|entry| (name(&entry.subject, native), entry.risk)).collect(),
                differs: !diff.entries.is_empty(),
                read: "its file",
            })
        }
    })
}

fn of_program(default: &Effective, filter: &Program, native: Abi) -> Compared {
    let differences = in_force::differences(default, filter, &BTreeSet::new());
    let passes = |it: &&in_force::Difference| {
        it.found.is_some_and(effective::Outcome::may_pass) && !it.wanted.may_pass()
    };
    let told = |it: &in_force::Difference| {
        let name = syscall::display(it.abi, it.nr);
        (call(it.abi.name(), &name, native), facts::of_call(&name))
    };
    Compared {
        wider: differences.iter().filter(passes).map(told).collect(),
        differs: !differences.is_empty(),
        read: "the kernel's own copy",
    }
}

/// Docker's default as it would be loaded for this container.
fn default(subject: &Subject<'_>) -> Effective {
    effective::decide(baseline::docker_default_file(), &context(subject))
}

fn context(subject: &Subject<'_>) -> Context {
    let machine = subject.inputs.machine;
    let named = subject.facts.capabilities.as_ref().ok();
    let own = named.map(|names| names.iter().filter_map(|name| capability::number(name)).collect());
    let usual = || capability::DOCKER_DEFAULT.iter().filter_map(|name| capability::number(name));
    Context {
        native: machine.native,
        capabilities: own.unwrap_or_else(|| usual().collect()),
        kernel: machine.kernel,
        engine: Engine::Docker,
    }
}

/// Whether any call of the machine's own is refused whatever its arguments.
fn denies(filter: &Program, native: Abi) -> bool {
    syscall::table(native).iter().any(|row| {
        let outcome = bpf::outcome_of(filter.run(&Data::of(native, row.0, [0; 6])));
        outcome.is_some_and(|outcome| !outcome.may_pass())
    })
}

/// What a recording did not make of what the filter in force lets pass.
fn unmade(subject: &Subject<'_>) -> Known<Option<String>> {
    let Some(profile) = subject.inputs.profile else { return Ok(None) };
    let native = subject.inputs.machine.native;
    let needed: BTreeSet<&str> = profile
        .syscalls
        .iter()
        .filter(|rule| rule.abi == native && rule.allows())
        .map(|rule| rule.name.as_str())
        .collect();
    let allowed = passing(subject)?;
    let unmade: Vec<(String, Risk)> = allowed
        .iter()
        .filter(|name| !needed.contains(**name))
        .map(|name| ((*name).to_owned(), facts::of_call(name)))
        .collect();
    Ok(Some(format!(
        "{} of {} calls that pass are not in the profile: {}",
        unmade.len(),
        allowed.len(),
        gravest(&unmade)
    )))
}

fn passing(subject: &Subject<'_>) -> Known<BTreeSet<&'static str>> {
    let native = subject.inputs.machine.native;
    if let Some(process) = &subject.facts.process
        && let Ok(filters) = &process.filters
        && let [filter] = filters.as_slice()
    {
        let passes = |nr| {
            let outcome = bpf::outcome_of(filter.run(&Data::of(native, nr, [0; 6])));
            outcome.is_some_and(effective::Outcome::may_pass)
        };
        let table = syscall::table(native).iter();
        return Ok(table.filter(|row| passes(row.0)).map(|row| row.1).collect());
    }
    Ok(match subject.facts.seccomp.as_ref()? {
        Filter::Unconfined => return Err(Unknown::because("it has no filter")),
        Filter::EngineDefault => default(subject).passing(native),
        Filter::File(file) => effective::decide(file, &context(subject)).passing(native),
    })
}

/// `bpf` of the machine's own ABI, `ia32 bpf` of another.
fn call(abi: &str, name: &str, native: Abi) -> String {
    if abi == native.name() { name.to_owned() } else { format!("{abi} {name}") }
}

fn name(entry: &diff::Subject, native: Abi) -> String {
    match entry {
        diff::Subject::Syscall { abi, name } => call(abi.name(), name, native),
        other => other.to_string(),
    }
}

/// The gravest, by name.
fn gravest(calls: &[(String, Risk)]) -> String {
    let mut calls: Vec<&(String, Risk)> = calls.iter().collect();
    calls.sort_by_key(|(name, risk)| (std::cmp::Reverse(*risk), name.contains(' '), name.clone()));
    let shown: Vec<String> =
        calls.iter().take(SHOWN).map(|(name, risk)| format!("{name} ({risk})")).collect();
    let more = calls.len().saturating_sub(SHOWN);
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    shown.join(", ") + &rest
}
