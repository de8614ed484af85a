//! What a reader of a profile must know about the evidence behind it.
//!
//! Owns the wording. A note is the same for the same evidence: no counts, times or run ids, because the notes are
//! part of a committed file. Names that the workload chose are quoted as they are; whoever prints escapes.

use std::collections::BTreeSet;

use crate::model::{
    floor::{self, RuntimeUse},
    narrow::{self, Narrowed},
    needs::Users,
    profile::{DeniedCall, MadeFor, Note, NoteKind, Profile, SyscallRule},
    recording::{Missing, Phase, Recording, Target, TargetKind},
    shell, syscall,
};

/// The notes for a recording whose allowed calls are `rules`, in a profile for `made_for`. Sorted, each once.
#[must_use]
pub fn derive(recording: &Recording, rules: &[SyscallRule], made_for: &MadeFor) -> Vec<Note> {
    let mut notes = BTreeSet::new();
    let mut note = |kind, text: String| {
        notes.insert(Note { kind, text });
    };
    let target = &recording.target;

    let mut lost = BTreeSet::new();
    for missing in recording.runs.values().flat_map(|run| &run.missing) {
        match missing {
            Missing::Startup => note(NoteKind::Startup, startup(target)),
            Missing::Shutdown => note(
                NoteKind::Shutdown,
                "shut-down was not seen: the recording ended while the target still ran".into(),
            ),
            Missing::Capabilities { reason } => note(
                NoteKind::Capabilities,
                format!("capability checks could not be seen, so none may be dropped: {reason}"),
            ),
            Missing::Handover => note(NoteKind::Handover, handover(target)),
            Missing::Filtered => {
                let denied = recording.denials.iter().filter(|fact| fact.phase != Phase::Setup);
                let names = denied.map(|fact| syscall::display(fact.abi, fact.nr).into_owned());
                note(NoteKind::Filtered, filtered(names.collect()));
            }
            Missing::IoUring => note(NoteKind::IoUring, io_uring()),
            // which ones is a matter of timing, and told with the recording
            Missing::Unread { .. } => note(NoteKind::Capabilities, unread()),
            Missing::Lost { what, .. } if what == "files" => note(NoteKind::Capabilities, unread()),
            // the policy has no stacks and no counts, and takes what is not known of arguments for any
            Missing::Lost { what, .. }
                if ["stacks", "counts", "arguments"].contains(&what.as_str()) => {}
            Missing::Lost { what, .. } => {
                lost.insert(what.as_str());
            }
            Missing::Skipped { .. } => note(
                NoteKind::Lost,
                "the kernel passed by some calls of this host without showing them\nhint: record again, and merge".into(),
            ),
            Missing::Engine => note(
                NoteKind::Engine,
                "the engine went away while recording: containers started after that were not seen"
                    .into(),
            ),
            Missing::Left { .. } => note(
                NoteKind::Left,
                "processes left the target's cgroup: what they did elsewhere was not seen".into(),
            ),
        }
    }
    if !lost.is_empty() {
        let tables = lost.into_iter().collect::<Vec<_>>().join(", ");
        note(
            NoteKind::Lost,
            format!("evidence was lost because tables were full: {tables}\nhint: record again"),
        );
    }

    let mut workload = recording.syscalls.iter().filter(|fact| fact.phase == Phase::Workload);
    if workload.clone().next().is_none() {
        note(
            NoteKind::Empty,
            "no call of the workload was seen: the profile allows nothing it needs".into(),
        );
    }
    if workload.any(|fact| syscall::name(fact.abi, fact.nr) == Some("io_uring_setup")) {
        note(NoteKind::IoUring, io_uring());
    }
    notes.extend(taken_for_runtime(recording));
    notes.extend(unnamed(rules));
    notes.extend(made_for.runtimes.iter().filter_map(unmeasured));
    notes.extend(no_new_privileges(&made_for.runtimes));
    notes.into_iter().collect()
}

/// The notes of two profiles that are joined, for what they say together.
#[must_use]
pub fn union(
    of_both: [&[Note]; 2],
    rules: &[SyscallRule],
    denied: &[DeniedCall],
    runtimes: &[RuntimeUse],
) -> Vec<Note> {
    let empty = of_both.iter().all(|notes| notes.iter().any(|note| note.kind == NoteKind::Empty));
    let mut joined = BTreeSet::new();
    for note in of_both.into_iter().flatten() {
        let text = match note.kind {
            NoteKind::UnnamedSyscalls | NoteKind::NoNewPrivileges | NoteKind::Arguments => continue,
            NoteKind::Empty if !empty => continue,
            NoteKind::Filtered => filtered(denied.iter().map(|call| call.name.clone()).collect()),
            _ => note.text.clone(),
        };
        joined.insert(Note { kind: note.kind, text });
    }
    joined.extend(unnamed(rules));
    joined.extend(runtimes.iter().filter_map(unmeasured));
    joined.extend(no_new_privileges(runtimes));
    joined.into_iter().collect()
}

/// In a cgroup nobody says who the runtime is: it is told by what it does, and a service may do the same.
fn taken_for_runtime(recording: &Recording) -> Option<Note> {
    if recording.target.kind != TargetKind::Cgroup {
        return None;
    }
    let setup = recording.syscalls.iter().filter(|fact| fact.phase == Phase::Setup);
    let mut users = Users::default();
    users.extend(setup.flat_map(|fact| fact.seen.values()));
    let (programs, _) = users.into_lists();
    if programs.is_empty() {
        return None;
    }
    let text = format!(
        "taken for a runtime that sets up the container, so what they did before its entry point is not allowed: {}\n\
         hint: where one of them is the service itself, let it enter the cgroup by itself",
        programs.join(", ")
    );
    Some(Note { kind: NoteKind::Runtime, text })
}

/// The notes for calls that were made with more combinations than are kept, one for each.
pub fn any_arguments(narrowed: &Narrowed) -> impl Iterator<Item = Note> {
    narrowed.any.iter().map(|(abi, name)| Note {
        kind: NoteKind::AnyArguments,
        text: format!(
            "{abi} {name}: more combinations of arguments were seen than are kept, so any are allowed"
        ),
    })
}

/// The notes for what becomes of a profile's conditions in a filter.
#[must_use]
pub fn arguments(profile: &Profile) -> Vec<Note> {
    let mut notes = BTreeSet::new();
    for (abi, by, call) in narrow::goes_round(profile) {
        let text = match by {
            "clone3" => format!(
                "{abi} clone3 is allowed, and no filter sees its flags: it goes round the conditions on {call}\n\
                 hint: record again; where no run makes namespaces by it, it is refused so that C libraries take {call}"
            ),
            _ => format!(
                "{abi} {by} goes round the conditions on {call}: libseccomp allows it with every rule on {call}\n\
                 hint: leave {abi} out where no program needs it"
            ),
        };
        notes.insert(Note { kind: NoteKind::Arguments, text });
    }
    let replaced = |rule: &&SyscallRule| !rule.allows() && rule.name == "clone3";
    if profile.syscalls.iter().any(|rule| replaced(&rule)) {
        let text = "clone3 is answered with ENOSYS, so that C libraries take clone, whose flags a filter sees: a program that \
                    calls clone3 by itself and has no other way fails\nhint: profiler verify tells; `--arguments off` allows it";
        notes.insert(Note { kind: NoteKind::Arguments, text: text.into() });
    }
    notes.into_iter().collect()
}

fn unnamed(rules: &[SyscallRule]) -> Option<Note> {
    let unnamed: Vec<String> = rules
        .iter()
        .filter(|rule| syscall::is_unnamed(&rule.name))
        .map(|rule| format!("{} {}", rule.abi, rule.name))
        .collect();
    if unnamed.is_empty() {
        return None;
    }
    let list = unnamed.join(", ");
    let text = format!(
        "no table names these calls, so a seccomp file cannot allow them and they will be denied: \
         {list}\nhint: use a newer profiler"
    );
    Some(Note { kind: NoteKind::UnnamedSyscalls, text })
}

fn unmeasured(usage: &RuntimeUse) -> Option<Note> {
    let floors = floor::lookup(usage);
    if floors.iter().any(|floor| floor.exact) {
        return None;
    }
    let measured: Vec<String> =
        floors.iter().map(|floor| format!("{} {}", floor.runtime, floor.version)).collect();
    let text = format!(
        "{} was not measured: where the recording does not show its own calls, those of {} are allowed",
        usage.label(),
        measured.join(", ")
    );
    Some(Note { kind: NoteKind::Runtime, text })
}

fn no_new_privileges(runtimes: &[RuntimeUse]) -> Option<Note> {
    let settings: BTreeSet<bool> = runtimes.iter().map(|usage| usage.no_new_privileges).collect();
    (settings.len() > 1).then(|| Note {
        kind: NoteKind::NoNewPrivileges,
        text: "no-new-privileges was set in some runs only: the profile allows what both need and does not set it"
            .into(),
    })
}

/// The notes for a profile that is for something else than what was recorded: what that costs, in calls. `rules` are its own,
/// `as_recorded` is the profile for what was recorded.
#[must_use]
pub fn purpose(as_recorded: &Profile, made_for: &MadeFor, rules: &[SyscallRule]) -> Vec<Note> {
    let names = |rules: &[SyscallRule]| -> BTreeSet<String> {
        rules.iter().filter(|rule| rule.allows()).map(|rule| rule.name.clone()).collect()
    };
    let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    let uses = |made_for: &MadeFor| match made_for.runtimes.as_slice() {
        [] => "no runtime".to_owned(),
        uses => list(
            uses.iter()
                .map(|usage| match usage.no_new_privileges {
                    true => format!("{} with no-new-privileges", usage.label()),
                    false => usage.label(),
                })
                .collect(),
        ),
    };
    let (recorded, own) = (names(&as_recorded.syscalls), names(rules));
    let mut text =
        format!("made for {}; recorded under {}", uses(made_for), uses(&as_recorded.made_for));
    for (change, names) in
        [("allowed for that", &own - &recorded), ("no longer allowed", &recorded - &own)]
    {
        if !names.is_empty() {
            text.push_str(&format!("; {change}: {}", list(names)));
        }
    }
    let mut notes = vec![Note { kind: NoteKind::Runtime, text }];
    let recorded = &as_recorded.made_for;
    if made_for.no_new_privileges()
        && !recorded.no_new_privileges()
        && !recorded.runtimes.is_empty()
    {
        notes.push(Note {
            kind: NoteKind::NoNewPrivileges,
            text: "made for no-new-privileges and recorded without: set-user-ID programs and file capabilities give \
                   nothing then\nhint: record it with --security-opt no-new-privileges"
                .into(),
        });
    }
    notes
}

fn startup(target: &Target) -> String {
    let fact = "start-up was not seen: the target already ran when the recording began";
    match target.kind {
        TargetKind::Container => {
            let name = shell::quote(&target.name);
            format!(
                "{fact}\nhint: profiler record --restart --container {name} -- COMMAND, or start \
                 the container while profiler waits for it"
            )
        }
        TargetKind::Service => {
            let name = shell::quote(&target.name);
            format!(
                "{fact}\nhint: profiler record --restart --service {name} -- COMMAND, or start \
                 the service while profiler waits for it"
            )
        }
        TargetKind::Command | TargetKind::Cgroup => {
            format!("{fact}\nhint: start it while profiler records")
        }
    }
}

fn handover(target: &Target) -> String {
    let source = match target.kind {
        TargetKind::Container | TargetKind::Service => {
            "comes from measurements, not from this recording"
        }
        TargetKind::Command | TargetKind::Cgroup => "is not known",
    };
    format!(
        "the {} ran unconfined: what its runtime calls under a filter {source}\n\
         hint: record it under the profile that `profiler permissive` prints",
        target.kind.name()
    )
}

fn filtered(denied: BTreeSet<String>) -> String {
    let calls = if denied.is_empty() {
        "it refused nothing that was seen".to_owned()
    } else {
        format!("it refused {}", denied.into_iter().collect::<Vec<_>>().join(", "))
    };
    format!(
        "the target ran under a filter that denies, and {calls}: what it does after a refused call was not \
         seen\nhint: record it under the profile that `profiler permissive` prints"
    )
}

fn unread() -> String {
    "root executed a file whose capabilities could not be read: those that it forces (`getcap`) may lack\nhint: record again"
        .into()
}

fn io_uring() -> String {
    "io_uring is used: its operations are not syscalls, so they were not seen and no seccomp filter stops them"
        .into()
}
