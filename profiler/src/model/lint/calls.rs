//! What the filter as a whole does with calls that matter.

use std::collections::BTreeSet;

use crate::model::{
    arch::Abi,
    effective::Effective,
    errno,
    floor::{self, RuntimeUse, User},
    lint::{Edit, Finding, Lint, Severity, Subject, finding::some_of, names::with_fallback},
    narrow,
    policy::ALWAYS_ALLOWED,
    profile::SyscallReason,
    seccomp::Action,
    syscall,
};

/// Calls without which nothing ends or returns; the other always allowed ones are only rare.
const ENDS: [&str; 4] = ["exit", "exit_group", "rt_sigreturn", "sigreturn"];

pub(super) fn check(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    exits(subject, found);
    fallback(subject, found);
    runtime(subject, found);
    for effective in &subject.effective {
        clone3(effective, found);
        socketcall(effective, found);
    }
}

/// Whether some ABI of the filter has the call and denies it.
fn denied(effective: &Effective, name: &str) -> bool {
    effective.abis.iter().any(|&abi| {
        syscall::number(abi, name).is_some_and(|nr| !narrow::passes_of_runtimes(effective, abi, nr))
    })
}

fn exits(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    for (severity, wanted, effect) in [
        (Severity::Error, true, "processes cannot end or return from a signal handler"),
        (Severity::Warning, false, "tests rarely make these, and nothing works for long without"),
    ] {
        let names: Vec<&'static str> = ALWAYS_ALLOWED
            .into_iter()
            .filter(|name| ENDS.contains(name) == wanted)
            .filter(|name| subject.effective.iter().any(|effective| denied(effective, name)))
            .collect();
        if !names.is_empty() {
            let verb = if names.len() == 1 { "is" } else { "are" };
            let message = format!("{} {verb} denied: {effect}", some_of(&names));
            let edit = Edit::AppendRule { names, action: "SCMP_ACT_ALLOW", errno_ret: None };
            found.push(Finding::new(Lint::MissingExit, severity, "", message).fix(edit));
        }
    }
}

fn fallback(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    let named: BTreeSet<&str> =
        subject.file.syscalls.iter().flat_map(|rule| rule.all_names()).collect();
    let mut flipped = Vec::new();
    let mut unnamed = Vec::new();
    let mut ruled = Vec::new();
    // What is always allowed is told of as missing.
    let names = with_fallback(subject).into_iter();
    for name in names.filter(|name| !ALWAYS_ALLOWED.contains(name)) {
        let wrong = |effective: &Effective, abi: Abi| {
            let nr = syscall::number(abi, name)
                .filter(|&nr| errno::of_denied(abi, nr) == errno::FALLBACK)?;
            let wrong = effective.decision(abi, nr).outcomes().any(|outcome| {
                outcome.action == Action::Errno && u32::from(outcome.data) != errno::FALLBACK
            });
            wrong.then(|| effective.largest.get(&abi).is_some_and(|&largest| nr < largest))
        };
        let wrong: Vec<bool> = subject
            .effective
            .iter()
            .flat_map(|effective| effective.abis.iter().filter_map(|&abi| wrong(effective, abi)))
            .collect();
        match (wrong.is_empty(), named.contains(name), wrong.contains(&true)) {
            (true, ..) => {}
            (false, true, _) => ruled.push(name),
            (false, false, true) => flipped.push(name),
            (false, false, false) => unnamed.push(name),
        }
    }
    let append = |names: Vec<&'static str>| Edit::AppendRule {
        names,
        action: "SCMP_ACT_ERRNO",
        errno_ret: Some(errno::FALLBACK),
    };
    let lint = Lint::FallbackErrno;
    if !flipped.is_empty() {
        let message = format!(
            "{} denied with another error than ENOSYS, because the file names a newer call: libc and language runtimes do not fall back",
            some_of(&flipped)
        );
        found.push(Finding::new(lint, Severity::Warning, "", message).fix(append(flipped)));
    }
    if !unnamed.is_empty() {
        let message = format!(
            "{}: ENOSYS from runc only, which answers so above the largest number that the file names; elsewhere another error",
            some_of(&unnamed)
        );
        found.push(Finding::new(lint, Severity::Note, "", message).fix(append(unnamed)));
    }
    if !ruled.is_empty() {
        let message = format!("rules deny {} with another error than ENOSYS", some_of(&ruled));
        found.push(Finding::new(lint, Severity::Note, "", message));
    }
}

/// Held against the runtimes that the profile was made for, else against every measured one.
fn runtime(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    let lint = Lint::RuntimeCannotStart;
    let no_start = |effective: &Effective| denied(effective, "execve");
    if subject.effective.iter().any(no_start) {
        found.push(Finding::new(
            lint,
            Severity::Error,
            "",
            "`execve` is denied: no entry point starts",
        ));
        return;
    }
    let any = |no_new_privileges| RuntimeUse {
        runtime: String::new(),
        version: String::new(),
        no_new_privileges,
        user: User::NonRoot,
    };
    let (uses, made_for): (Vec<RuntimeUse>, bool) = match (&subject.runtimes, subject.profile) {
        (Some(uses), _) => (uses.clone(), true),
        (None, Some(profile)) => (profile.made_for.runtimes.clone(), true),
        (None, None) => (vec![any(false), any(true)], false),
    };
    let mut told: BTreeSet<(String, bool)> = BTreeSet::new();
    for usage in &uses {
        for floor in floor::lookup(usage) {
            let calls = floor.always.iter().chain(&floor.sometimes);
            let missing: BTreeSet<&str> = calls
                .copied()
                .filter(|name| subject.effective.iter().any(|effective| denied(effective, name)))
                .collect();
            let runtime = format!("{} {}", floor.runtime, floor.version);
            if missing.is_empty() || !told.insert((runtime.clone(), usage.no_new_privileges)) {
                continue;
            }
            let missing: Vec<&str> = missing.into_iter().collect();
            let with = if usage.no_new_privileges { "even with" } else { "without" };
            // as root it may start
            let root = RuntimeUse { user: User::Root, ..usage.clone() };
            let is_same =
                |of: &floor::Floor| (of.runtime, of.version) == (floor.runtime, floor.version);
            let starts = floor::lookup(&root)
                .iter()
                .filter(|of| is_same(of))
                .all(|of| of.always.union(&of.sometimes).all(|name| !missing.contains(name)));
            let whose = if starts { " of a user who is not root" } else { "" };
            let message = format!(
                "{runtime} does not start a container{whose} {with} no-new-privileges: it needs {}",
                some_of(&missing)
            );
            // A hand-over that was recorded went well without.
            let severity = if made_for && !was_seen(subject, &usage.runtime) {
                Severity::Error
            } else {
                Severity::Note
            };
            found.push(Finding::new(lint, severity, "", message));
        }
    }
}

/// Whether the profile is made from a recording of this runtime's hand-over.
fn was_seen(subject: &Subject<'_>, used: &str) -> bool {
    let rules = subject.profile.iter().flat_map(|profile| &profile.syscalls);
    let mut reasons = rules.flat_map(|rule| &rule.reasons);
    reasons
        .any(|reason| matches!(reason, SyscallReason::Handover { runtime, .. } if runtime == used))
}

fn clone3(effective: &Effective, found: &mut Vec<Finding>) {
    // whether clone is filtered by its flags, on each ABI where it is not open, and clone3 is
    let open = effective.abis.iter().filter_map(|&abi| {
        let clone = effective.decision(abi, syscall::number(abi, "clone")?);
        let clone3 = effective.decision(abi, syscall::number(abi, "clone3")?);
        let goes_round = clone.outcomes().any(|outcome| !outcome.may_pass())
            && clone3.outcomes().any(|outcome| outcome.may_pass());
        goes_round.then_some(!clone.rules.is_empty())
    });
    let (severity, message) = match open.max() {
        None => return,
        Some(true) => (
            Severity::Warning,
            "`clone` is filtered by its flags, and `clone3` is allowed, whose flags no filter sees: deny it with ENOSYS",
        ),
        Some(false) => (
            Severity::Note,
            "`clone` is refused, and `clone3` is allowed, which does the same and more with flags that no filter sees",
        ),
    };
    found.push(Finding::new(Lint::Clone3Open, severity, "", message));
}

fn socketcall(effective: &Effective, found: &mut Vec<Finding>) {
    if !effective.abis.contains(&Abi::Ia32) {
        return;
    }
    let filtered = effective.abis.iter().any(|&abi| {
        syscall::number(abi, "socket").is_some_and(|nr| {
            let decision = effective.decision(abi, nr);
            decision.outcomes().any(|outcome| !outcome.may_pass())
                && decision.outcomes().any(|outcome| outcome.may_pass())
        })
    });
    let open = syscall::number(Abi::Ia32, "socketcall").is_some_and(|nr| {
        // With 1 for its first argument it makes a socket; its others are in memory.
        effective.verdict(Abi::Ia32, nr, &[1, 0, 0, 0, 0, 0]).may_pass()
    });
    if filtered && open {
        let message = "`socket` is filtered by its arguments, and 32-bit programs make any socket by `socketcall`: leave \
                       the 32-bit architecture out, or deny `socketcall`";
        found.push(Finding::new(Lint::SocketcallOpen, Severity::Warning, "", message));
    }
}
