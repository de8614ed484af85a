//! The story, on stderr. What a target controls is escaped by `report`.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    path::Path,
};

use profiler::{
    model::{
        arch::Abi,
        baseline,
        narrow::{self, Named},
        policy::native_abi,
        profile::{
            CapabilityReason, CapabilityRule, NoteKind, Outcome, Profile, SyscallReason,
            SyscallRule,
        },
        recording::{Recording, TargetKind},
        seccomp::KernelVersion,
        syscall,
    },
    report::{
        escape,
        progress::{Progress, ProgressLine, Surface},
        summary::{self, CapabilityLine, PolicySummary, REQUIRED, Summary, WrittenFile},
    },
    session::Event,
};
use tracing_subscriber::EnvFilter;

use crate::args::Color;

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// Where the hints put what `profiler permissive` prints.
const PERMISSIVE_PROFILE: &str = "permissive.json";

/// Lets `--debug` show what the library and the kernel side log.
pub fn init_log(debug: bool) {
    if debug {
        let filter = EnvFilter::new("warn,profiler=debug");
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).init();
    }
}

/// Decides about colour, for everything that is printed.
pub fn init_color(color: Color) {
    match color {
        Color::Auto => {} // anstream asks the terminal, NO_COLOR and CLICOLOR
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
}

/// A whole error: the message with its causes, then the hint.
pub fn error(error: &anyhow::Error) {
    let mut causes: Vec<String> = Vec::new();
    let mut hint = None;
    for cause in error.chain() {
        let text = cause.to_string();
        let (message, its_hint) = match text.split_once("\nhint: ") {
            Some((message, hint)) => (message, Some(hint.to_owned())),
            None => (text.as_str(), None),
        };
        // some errors repeat their source
        if !causes.iter().any(|said| said.contains(message)) {
            causes.push(message.to_owned());
        }
        hint = hint.or(its_hint);
    }
    say(&format!("error: {}", escape::line(&causes.join(": "))));
    if let Some(hint) = hint {
        say(&format!("hint: {}", escape::line(&hint)));
    }
}

/// Something that is not as well as it could be. Hostile text.
pub fn warning(text: &str) {
    say(&format!("warning: {}", escape::line(text)));
}

/// Tells a session's events: lines for what happens, one status line for progress.
pub struct Teller {
    line: ProgressLine,
    targets: Vec<String>,
    /// What is recorded while there is no target yet, for people.
    whole: String,
}

impl Teller {
    /// Nothing told yet. `project` is one whose services are known only when they start.
    pub fn new(project: Option<&str>) -> Self {
        let surface = if stderr().is_terminal() {
            let columns = rustix::termios::tcgetwinsize(stderr()).map_or(0, |size| size.ws_col);
            Surface::Terminal { columns: if columns == 0 { COLUMNS } else { usize::from(columns) } }
        } else {
            Surface::Lines
        };
        let whole = project.map(|name| format!("project `{name}`")).unwrap_or_default();
        Teller { line: ProgressLine::new(surface), targets: Vec::new(), whole }
    }

    /// Tells one event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Waiting { kind, name } => {
                let target = self.target(*kind, name);
                self.say(&format!("waiting for {target}"));
            }
            Event::Recording { kind, name } => {
                let target = self.target(*kind, name);
                self.say(&format!("recording {target}"));
            }
            Event::Caught { kind, name } => {
                self.say(&format!("{} `{name}` started: recording", kind.name()));
            }
            Event::Ended { kind, name } => self.say(&format!("{} `{name}` ended", kind.name())),
            Event::NoSocket { error } => {
                self.say(&format!("warning: {error}; labels cannot be set in this recording"));
            }
            Event::Step { text } => self.say(text),
            Event::Leftover { error: text } | Event::Warning { text } => {
                self.say(&format!("warning: {text}"));
            }
            Event::EngineGone { reason } => {
                self.say(&format!("warning: {reason}; containers that start now are not found"));
            }
            Event::Progress { elapsed, quiet, syscalls, capabilities, denials } => {
                let progress = Progress {
                    target: self.all(),
                    elapsed: *elapsed,
                    syscalls: *syscalls,
                    capabilities: *capabilities,
                    denied: *denials,
                    since_new: (*syscalls > 0).then_some(*quiet),
                };
                if let Some(text) = self.line.update(&progress) {
                    write_raw(&text);
                }
            }
        }
    }

    /// Removes the status line.
    pub fn end(&mut self) {
        if let Some(text) = self.line.clear() {
            write_raw(text);
        }
    }

    fn target(&mut self, kind: TargetKind, name: &str) -> String {
        let target = format!("{} `{name}`", kind.name());
        self.targets.push(target.clone());
        target
    }

    fn all(&self) -> String {
        if self.targets.is_empty() { self.whole.clone() } else { self.targets.join(", ") }
    }

    fn say(&mut self, text: &str) {
        self.end();
        say(&escape::line(text));
    }
}

/// The summary of a finished recording. `base` are the options that name the project's own compose files; `given` the arguments
/// with which it was recorded, if that was just now.
pub fn summary(
    recording: &Recording,
    profile: &Profile,
    dir: &Path,
    files: &[(&str, String)],
    base: &str,
    given: Option<&[String]>,
) {
    let dir = dir.display().to_string();
    let files: Vec<WrittenFile> = files
        .iter()
        .map(|(name, _)| WrittenFile { path: format!("{dir}/{name}"), purpose: purpose(name) })
        .collect();
    let summary = Summary {
        recording,
        policy: &policy_summary(recording, profile),
        dir: &dir,
        base,
        given,
        files: &files,
        permissive_profile: PERMISSIVE_PROFILE,
        syscall_name: &syscall::name,
    };
    let _ = summary::write(&summary, &mut anstream::stderr()); // nobody is left to tell
}

fn policy_summary(recording: &Recording, profile: &Profile) -> PolicySummary {
    let newest = recording.runs.values().max_by_key(|run| run.started_unix_s);
    let native = newest.and_then(|run| native_abi(&run.host.machine));
    let docker_default = newest.and_then(|run| {
        let kernel = KernelVersion::of_release(&run.host.kernel)?;
        Some(baseline::docker_default(native?, kernel).len())
    });
    let for_runtime = |reasons: &[SyscallReason]| {
        reasons.iter().all(|reason| {
            matches!(reason, SyscallReason::Handover { .. } | SyscallReason::Floor { .. })
        })
    };
    let capabilities = &profile.capabilities;
    let classes = [
        (REQUIRED, &capabilities.required),
        ("probed", &capabilities.probed),
        ("denied", &capabilities.denied),
        ("runtime", &capabilities.runtime),
    ];
    PolicySummary {
        no_new_privileges: profile.made_for.no_new_privileges(),
        allowed: native.map_or(profile.syscalls.len(), |abi| profile.allowed_calls(abi)),
        by_runtime_only: profile.syscalls.iter().filter(|rule| for_runtime(&rule.reasons)).count(),
        narrowed: narrow::by_name(profile)
            .into_iter()
            .filter(|(_, named)| *named != Named::Any)
            .map(|(name, _)| name.to_owned())
            .collect(),
        learned: profile.syscalls.iter().filter_map(learned).collect(),
        docker_default: docker_default.unwrap_or(0),
        capabilities: classes
            .into_iter()
            .flat_map(|(class, rules)| rules.iter().map(move |rule| capability_line(class, rule)))
            .collect(),
        harden: profile.harden.clone(),
        // what a run misses is told from the recording itself
        notes: profile
            .notes
            .iter()
            .filter(|note| {
                matches!(
                    note.kind,
                    NoteKind::Empty
                        | NoteKind::UnnamedSyscalls
                        | NoteKind::Runtime
                        | NoteKind::NoNewPrivileges
                        | NoteKind::AnyArguments
                        | NoteKind::Arguments
                )
            })
            .map(|note| note.text.clone())
            .collect(),
    }
}

/// The call that a rule allows because it was refused while recording, if that is why.
fn learned(rule: &SyscallRule) -> Option<(Abi, u32)> {
    let is_why = |reason: &SyscallReason| matches!(reason, SyscallReason::Denied { .. });
    let nr = syscall::parse(rule.abi, &rule.name)?;
    rule.reasons.iter().any(is_why).then_some((rule.abi, nr))
}

fn capability_line(class: &'static str, rule: &CapabilityRule) -> CapabilityLine {
    CapabilityLine {
        name: rule.name.clone(),
        class,
        reasons: rule.reasons.iter().map(|reason| capability_reason(&rule.name, reason)).collect(),
    }
}

fn capability_reason(capability: &str, reason: &CapabilityReason) -> String {
    // the kernel asks for none but SETPCAP there: the others are in the set that the program keeps
    let kept = reason.syscall == "capset" && capability != "SETPCAP";
    let kept = if kept { " (keeps it, used or not)" } else { "" };
    let programs = match reason.programs.as_slice() {
        [] => String::new(),
        programs => format!(" by {}", programs.join(", ")),
    };
    let outcome = match reason.outcome {
        Outcome::Succeeded => "",
        Outcome::NotObserved => " (outcome not observed)",
        Outcome::Failed => " (failed)",
    };
    format!("{}{programs}{kept}{outcome}", reason.syscall)
}

fn purpose(file: &str) -> &'static str {
    match file {
        "recording.json" => "evidence: keep it as a CI artifact",
        "profile.json" => "policy with reasons: commit it",
        "seccomp.json" => "filter for Docker, podman, containerd, CRI-O",
        "compose.yaml" => "override for compose",
        "kubernetes.yaml" => "securityContext patch",
        "networkpolicy.yaml" => "NetworkPolicy to review",
        _ => "",
    }
}

/// One line of the story.
pub fn note(text: &str) {
    say(&escape::line(text));
}

fn say(text: &str) {
    write_raw(&format!("{text}\n"));
}

fn write_raw(text: &str) {
    let mut out = anstream::stderr();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush()); // nobody is left to tell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_without_a_container_yet_is_named() {
        let mut teller = Teller::new(Some("shop"));
        assert_eq!(teller.all(), "project `shop`");
        teller.target(TargetKind::Service, "web");
        teller.target(TargetKind::Service, "db");
        assert_eq!(teller.all(), "service `web`, service `db`");
    }

    #[test]
    fn what_a_program_only_keeps_is_told_from_what_it_uses() {
        let reason = |syscall: &str| CapabilityReason {
            abi: Abi::X86_64,
            syscall: syscall.to_owned(),
            outcome: Outcome::Succeeded,
            programs: vec!["setpriv".to_owned()],
            tests: vec![],
        };
        let told = |capability, syscall| capability_reason(capability, &reason(syscall));
        assert_eq!(told("CHOWN", "capset"), "capset by setpriv (keeps it, used or not)");
        assert_eq!(told("SETPCAP", "capset"), "capset by setpriv");
        assert_eq!(told("CHOWN", "chown"), "chown by setpriv");
    }
}
