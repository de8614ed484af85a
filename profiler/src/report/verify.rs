//! What a verification came to, for people and for programs. Owns the verdict: from what was seen to yes, no, or not known.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::{
        arguments::call,
        recording::{Phase, Target},
        verdict::{Denial, Expected, RefusedCapability},
    },
    report::{
        escape,
        style::{BAD, COMMAND, FAINT, GOOD, HEADING, WARNING, paint},
        text,
    },
};

/// What a verification answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The tests passed, nothing unexpected was refused, and the filter was in force the whole time.
    Holds,
    /// One of these is not so.
    Fails,
    /// Nothing speaks against it, but not all could be seen.
    Incomplete,
}

/// How it was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The profile was in force.
    Enforced,
    /// A filter was in force that refuses nothing.
    LogOnly,
}

/// By what it is known which filter was in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// The kernel gave the filter out, and it decides as the profile does.
    Kernel,
    /// profiler loaded it itself, and the kernel keeps no copy.
    Loaded,
}

/// Something that was wrong with what was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fault {
    /// `unfiltered`, `another-filter`, `capabilities`, `new-privileges` or `gone`.
    pub kind: &'static str,
    /// The process, or the container that is gone. Hostile text.
    pub program: String,
    /// How many calls or capabilities are different.
    pub number: usize,
    /// The first five of them: `mount: EPERM in the profile, allow in force`, or a capability.
    pub examples: Vec<String>,
}

/// What was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InForce {
    /// By what it is known; absent when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// From when the target was there to when its filter was first found to be the right one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// How many processes were looked at.
    pub processes: u64,
    /// How often a thread was looked at.
    pub looks: u64,
    /// Processes from outside that executed their first program as the target's while it was recorded: the entry point,
    /// and what joins. The kernel side sees each, however short it lives.
    pub entered: u64,
    /// Of how many of them the filter was read at that moment.
    pub read: u64,
    /// What was wrong.
    pub faults: Vec<Fault>,
    /// Why the kernel did not give the filter out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// The JSON form; more fields may come, none goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(title = "verify", description = "What `profiler verify --format json` prints of a run.")]
pub struct Document {
    /// The profile, as it was named. Hostile text.
    pub profile: String,
    /// What ran.
    pub target: Target,
    /// How it was run.
    pub mode: Mode,
    /// The tests, or the command itself. Hostile text.
    pub command: Vec<String>,
    /// Its exit status, 128 + signal; absent when it was not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// Why the target did not run as it should. Hostile text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down: Option<String>,
    /// A signal asked for the end.
    pub interrupted: bool,
    /// What was in force.
    pub in_force: InForce,
    /// Calls that were refused; with `log-only`, that would be.
    pub denials: Vec<Denial>,
    /// The profile says which capabilities there are.
    pub gives_capabilities: bool,
    /// Capabilities that were refused to calls that failed.
    pub capabilities: BTreeSet<RefusedCapability>,
    /// How the container failed: it ended in failure, was started again, ran out of memory; with `--quick`, did not stay up or was
    /// unhealthy. Hostile text.
    pub failures: Vec<String>,
    /// What else happened to the container, and is only told; what a command left running. Hostile text.
    pub incidents: Vec<String>,
    /// A process was killed by the filter.
    pub killed: bool,
    /// What could not be seen.
    pub missing: BTreeSet<String>,
    /// The answer.
    pub verdict: Verdict,
}

impl Document {
    /// The answer, from everything else.
    #[must_use]
    pub fn judged(mut self) -> Document {
        let fails = !self.in_force.faults.is_empty()
            || self.unexpected().next().is_some()
            || self.lacks_capability()
            || self.status.is_some_and(|status| status != 0)
            || self.down.is_some()
            || !self.failures.is_empty()
            || self.killed
            || self.interrupted;
        let is_complete =
            self.missing.is_empty() && self.in_force.evidence.is_some() && self.status.is_some();
        self.verdict = match (fails, is_complete) {
            (true, _) => Verdict::Fails,
            (false, true) => Verdict::Holds,
            (false, false) => Verdict::Incomplete,
        };
        self
    }

    /// Where the profile says which ones there are, none may be missed.
    fn lacks_capability(&self) -> bool {
        self.mode == Mode::Enforced && self.gives_capabilities && !self.capabilities.is_empty()
    }

    fn unexpected(&self) -> impl Iterator<Item = &Denial> {
        self.denials.iter().filter(|denial| denial.expected.is_none())
    }
}

/// Writes the JSON form.
///
/// # Errors
/// When `out` takes no more.
pub fn json(document: &Document, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(document)?))
}

/// What a verification's command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// The tests, or the target itself.
    Tests,
    /// It only takes time, while the target is looked at.
    Nothing,
}

/// Writes the report for people: what was run, what was in force, what was refused, the verdict, what to do. `next` are
/// command lines.
///
/// # Errors
/// When `out` takes no more.
pub fn human(
    document: &Document,
    ran: Ran,
    next: &[String],
    out: &mut impl Write,
) -> io::Result<()> {
    let Document { target, in_force, .. } = document;
    let under = match document.mode {
        Mode::Enforced => "under",
        Mode::LogOnly => "as if under",
    };
    let subject = format!(
        "{} `{}` {under} {}",
        target.kind.name(),
        escape::line(&target.name),
        escape::line(&document.profile)
    );
    writeln!(out, "{}", paint(HEADING, &subject))?;
    filter(in_force, document.mode, out)?;
    command(document, ran, out)?;
    denials(document, out)?;
    for refused in &document.capabilities {
        let by = listed(" by ", &refused.programs);
        let line = format!("CAP_{} was refused, and {}{by} failed", refused.name, refused.syscall);
        let label = match document.lacks_capability() {
            true => paint(BAD, "unexpected:"),
            false => paint(WARNING, "warning:"),
        };
        writeln!(out, "  {label} {line}")?;
    }
    for failure in &document.failures {
        writeln!(out, "  {}", paint(BAD, &escape::line(failure)))?;
    }
    for incident in &document.incidents {
        writeln!(out, "  {} {}", paint(WARNING, "warning:"), escape::line(incident))?;
    }
    if !document.missing.is_empty() {
        let missing = listed("", &document.missing);
        writeln!(out, "  {} not known: {missing}", paint(WARNING, "warning:"))?;
    }
    let (style, word) = match document.verdict {
        Verdict::Holds => (GOOD, "holds"),
        Verdict::Fails => (BAD, "does not hold"),
        Verdict::Incomplete => (WARNING, "not known: evidence is incomplete"),
    };
    writeln!(out, "{}: {}", paint(HEADING, "verdict"), paint(style, word))?;
    for command in next {
        writeln!(out, "{}: {}", paint(HEADING, "next"), paint(COMMAND, &escape::line(command)))?;
    }
    Ok(())
}

fn filter(in_force: &InForce, mode: Mode, out: &mut impl Write) -> io::Result<()> {
    let what = match mode {
        Mode::Enforced => "filter",
        Mode::LogOnly => "permissive filter",
    };
    let since =
        in_force.after_ms.map_or_else(String::new, |ms| format!(" since {ms} ms after its start"));
    let evidence = match in_force.evidence {
        Some(Evidence::Kernel) => "read back from the kernel and compared by what it decides",
        Some(Evidence::Loaded) => "loaded by profiler itself",
        None => "not shown",
    };
    let looked = match in_force.processes {
        0 => String::new(),
        processes => {
            let InForce { looks, entered, read, .. } = in_force;
            format!(
                " (entered: {entered}, of these read: {read}; threads looked at: {looks}, processes: {processes})"
            )
        }
    };
    if in_force.faults.is_empty() {
        let found = if in_force.evidence.is_some() { "in force" } else { "may be in force" };
        writeln!(out, "  {what} {found}{since}: {evidence}{}", paint(FAINT, &looked))?;
    }
    for fault in &in_force.faults {
        let program = escape::line(&fault.program);
        let line = match fault.kind {
            "unfiltered" => format!("`{program}` runs under no filter"),
            "another-filter" => format!(
                "`{program}` runs under another filter; {} decided differently",
                text::count(fault.number, "call")
            ),
            "capabilities" => format!("`{program}` can have capabilities beyond the profile's"),
            "gone" => format!("`{program}` was removed meanwhile"),
            _ => format!("`{program}` can gain privileges: no-new-privileges is not set"),
        };
        writeln!(out, "  {} {line}", paint(BAD, "not in force:"))?;
        for example in &fault.examples {
            writeln!(out, "    {}", escape::line(example))?;
        }
        let more = fault.number.saturating_sub(fault.examples.len());
        if more > 0 && !fault.examples.is_empty() {
            writeln!(out, "    and {more} more")?;
        }
    }
    if let Some(reason) = &in_force.unread {
        writeln!(out, "  {}", paint(FAINT, &escape::line(reason)))?;
    }
    Ok(())
}

fn command(document: &Document, ran: Ran, out: &mut impl Write) -> io::Result<()> {
    let command = escape::short(&document.command.join(" "), 80);
    let line = match (&document.down, document.status) {
        (Some(reason), _) => paint(BAD, &format!("did not start: {}", escape::line(reason))),
        (None, Some(0)) if ran == Ran::Nothing => format!("looked at during `{command}`"),
        (None, Some(0)) => format!("`{command}` {}", paint(GOOD, "passed")),
        (None, Some(status)) => {
            format!("`{command}` {}", paint(BAD, &format!("failed with status {status}")))
        }
        (None, None) => format!("`{command}` {}", paint(WARNING, "was not run")),
    };
    writeln!(out, "  {line}")?;
    if document.killed {
        writeln!(out, "  {}", paint(BAD, "a process was killed by the filter (SIGSYS)"))?;
    }
    Ok(())
}

fn denials(document: &Document, out: &mut impl Write) -> io::Result<()> {
    let heading = match document.mode {
        Mode::Enforced => "refused",
        Mode::LogOnly => "would be refused",
    };
    if document.denials.is_empty() {
        return writeln!(out, "  nothing {heading}");
    }
    writeln!(out, "  {heading}:")?;
    let width = document.denials.iter().map(|denial| denial.name.len()).max().unwrap_or(0);
    for denial in &document.denials {
        let abi = if denial.abi.name() == std::env::consts::ARCH {
            String::new()
        } else {
            format!("{} ", denial.abi)
        };
        let count = denial.count.map_or_else(String::new, |count| {
            format!(", {}", text::count(usize::try_from(count).unwrap_or(usize::MAX), "time"))
        });
        let phase = match denial.phase {
            Phase::Workload => "",
            _ => ", by the runtime",
        };
        let by = listed(", by ", &denial.programs);
        let tests = listed(", in ", &denial.tests);
        let mark = match denial.expected {
            None => paint(BAD, "unexpected"),
            Some(Expected::Named) => paint(FAINT, "expected: --allow-denied"),
            Some(Expected::Recorded) => paint(FAINT, "expected: refused while recording, too"),
            Some(Expected::Fallback) => paint(FAINT, "expected: ENOSYS, callers do without"),
            Some(Expected::Runtime) => paint(FAINT, "expected: the runtime does without"),
            Some(Expected::OtherFilter) => paint(FAINT, "not by this profile, which allows it"),
        };
        let name = format!("{abi}{:width$}", denial.name);
        let answer = &denial.answer;
        writeln!(out, "    {} {answer}{count}{phase}{by}{tests}: {mark}", paint(HEADING, &name))?;
        if let Some(arguments) = denial.arguments {
            let call = call::call(denial.abi, &denial.name, &arguments);
            writeln!(out, "      {}", paint(FAINT, &call))?;
        }
    }
    Ok(())
}

/// At most five, after `before`; nothing when there are none.
fn listed(before: &str, names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return String::new();
    }
    let mut shown: Vec<String> = names.iter().take(5).map(|name| escape::short(name, 40)).collect();
    if names.len() > 5 {
        shown.push(format!("{} more", names.len() - 5));
    }
    format!("{before}{}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{arch::Abi, recording::TargetKind};

    fn document() -> Document {
        Document {
            profile: "profiles/web".to_owned(),
            target: Target { kind: TargetKind::Container, name: "web".to_owned() },
            mode: Mode::Enforced,
            command: vec!["make".to_owned(), "test".to_owned()],
            status: Some(0),
            down: None,
            interrupted: false,
            in_force: InForce {
                evidence: Some(Evidence::Kernel),
                after_ms: Some(12),
                processes: 3,
                looks: 40,
                entered: 2,
                read: 2,
                faults: vec![],
                unread: None,
            },
            denials: vec![],
            gives_capabilities: true,
            capabilities: BTreeSet::new(),
            failures: vec![],
            incidents: vec![],
            killed: false,
            missing: BTreeSet::new(),
            verdict: Verdict::Incomplete,
        }
    }

    fn denial(expected: Option<Expected>) -> Denial {
        Denial {
            abi: Abi::X86_64,
            name: "mount".to_owned(),
            killed: false,
            arguments: Some([0x7ffc, 0, 0, 0x1002, 0, 0]),
            answer: "EPERM".to_owned(),
            phase: Phase::Workload,
            count: Some(2),
            programs: BTreeSet::from(["\x1b[2J".to_owned()]),
            tests: BTreeSet::from(["login".to_owned()]),
            expected,
        }
    }

    #[test]
    fn it_holds_only_when_all_is_well_and_all_was_seen() {
        let verdict = |change: fn(&mut Document)| {
            let mut document = document();
            change(&mut document);
            document.judged().verdict
        };
        assert_eq!(verdict(|_| {}), Verdict::Holds);
        assert_eq!(verdict(|it| it.denials.push(denial(Some(Expected::Named)))), Verdict::Holds);
        let incomplete: [fn(&mut Document); 3] = [
            |it| it.in_force.evidence = None,
            |it| it.status = None,
            |it| {
                it.missing.insert("denials".to_owned());
            },
        ];
        for change in incomplete {
            assert_eq!(verdict(change), Verdict::Incomplete);
        }
        let lacks = |it: &mut Document| {
            it.capabilities.insert(RefusedCapability {
                name: "CHOWN".to_owned(),
                syscall: "chown".to_owned(),
                programs: BTreeSet::new(),
            });
        };
        let mut of_a_seccomp_file = Document { gives_capabilities: false, ..document() };
        lacks(&mut of_a_seccomp_file);
        assert_eq!(of_a_seccomp_file.judged().verdict, Verdict::Holds);
        let fails: [fn(&mut Document); 8] = [
            lacks,
            |it| it.denials.push(denial(None)),
            |it| it.status = Some(7),
            |it| it.down = Some("no".to_owned()),
            |it| it.killed = true,
            |it| it.failures.push("it ended".to_owned()),
            |it| it.interrupted = true,
            |it| {
                let fault = Fault {
                    kind: "unfiltered",
                    program: "x".to_owned(),
                    number: 0,
                    examples: vec![],
                };
                it.in_force.faults.push(fault);
            },
        ];
        for change in fails {
            assert_eq!(verdict(change), Verdict::Fails);
        }
    }

    #[test]
    fn the_report_is_short_and_escaped() {
        let mut document = document();
        document.denials.push(denial(None));
        let mut out = Vec::new();
        let next = ["profiler generate x".to_owned()];
        human(&document.judged(), Ran::Tests, &next, &mut out).expect("writes");
        let text = anstream::adapter::strip_bytes(&out).into_vec();
        assert_eq!(
            String::from_utf8(text).expect("UTF-8"),
            "container `web` under profiles/web\n  \
             filter in force since 12 ms after its start: read back from the kernel and compared by what it decides (entered: 2, of these read: 2; threads looked at: 40, processes: 3)\n  \
             `make test` passed\n  refused:\n    \
             mount EPERM, 2 times, by \\x1b[2J, in login: unexpected\n      \
             mount(dev_name: 0x7ffc, dir_name: 0, type: 0, flags: MS_NOSUID|MS_BIND, data: 0)\n\
             verdict: does not hold\nnext: profiler generate x\n"
        );
    }

    #[test]
    fn where_there_are_no_tests_none_are_spoken_of() {
        let program = "web".to_owned();
        let gone = Fault { kind: "gone", program, number: 0, examples: vec![] };
        for (status, faults) in
            [(Some(0), vec![]), (Some(1), vec![]), (None, vec![]), (Some(0), vec![gone])]
        {
            let command = ["sleep", "3"].map(str::to_owned).into();
            let in_force = InForce { faults, ..document().in_force };
            let document = Document { command, status, in_force, ..document() };
            let mut out = Vec::new();
            human(&document.judged(), Ran::Nothing, &[], &mut out).expect("writes");
            let text = String::from_utf8(out).expect("UTF-8");
            assert!(text.contains("`sleep 3`") && !text.contains("test"), "{text}");
            assert!(!text.contains("passed"), "{text}");
        }
    }
}
