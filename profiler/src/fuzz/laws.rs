//! The laws, and the entry point.
//!
//! Owns the laws, and no input. They panic where one is broken; that is their use. Built with everything else, so that the
//! bounded run of the tests and a fuzzer of any kind ask for the same.

use std::collections::BTreeSet;

use crate::{
    ingest::{self, layout::Layout, policy::Policy, stack::Stack},
    kernel::{btf::Btf, kallsyms},
    model::{
        arch::Abi,
        arguments::constants,
        audit::{self, Inputs, Machine},
        bpf::{Cached, Data, Program},
        diff::{self, Allowlist, Side},
        effective::{self, Context, Engine},
        explain, lint, merge, minimise, policy,
        profile::{Arguments, Profile},
        recording::Recording,
        seccomp::{KernelVersion, SeccompFile},
    },
    render,
    session::Request,
};

/// A parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parser {
    /// `recording.json`.
    Recording,
    /// `profile.json`.
    Profile,
    /// Seccomp files of every kind, YAML too.
    Seccomp,
    /// Either of the two.
    Policy,
    /// Arguments of `explain --why-not`.
    Argument,
    /// The file in which a reviewer accepts differences.
    Allowlist,
    /// Renderings with a list of capabilities, as the merge driver takes them apart.
    Granted,
    /// A line of the recorder's socket.
    Request,
    /// `minimise.json`, with which a search goes on.
    Search,
    /// Compose files and manifests.
    Stack,
    /// Reports of scanners.
    Scan,
    /// A filter as the kernel gives it out, or the file that a confined command is handed.
    Filter,
    /// The kernel's types.
    Btf,
    /// `/proc/kallsyms`.
    Kallsyms,
}

/// Every parser.
pub const PARSERS: [Parser; 14] = [
    Parser::Recording,
    Parser::Profile,
    Parser::Seccomp,
    Parser::Policy,
    Parser::Argument,
    Parser::Allowlist,
    Parser::Granted,
    Parser::Request,
    Parser::Search,
    Parser::Stack,
    Parser::Scan,
    Parser::Filter,
    Parser::Btf,
    Parser::Kallsyms,
];

/// Reads `bytes`, and asks of what was read what every command asks.
///
/// # Panics
/// When something is broken.
pub fn run(parser: Parser, bytes: &[u8]) {
    // Of what is text, the binary refuses what is not UTF-8 before any parser sees it.
    let text = || std::str::from_utf8(bytes).ok();
    match parser {
        Parser::Filter => drop(Program::parse(bytes).map(|it| filter(&it))),
        Parser::Btf => drop(Btf::parse(bytes).map(|it| types(&it))),
        Parser::Kallsyms => kallsyms(bytes),
        _ => text().into_iter().for_each(|text| of_text(parser, text)),
    }
}

fn of_text(parser: Parser, text: &str) {
    match parser {
        Parser::Recording => drop(ingest::recording::parse(text).map(|it| recording(&it))),
        Parser::Profile => drop(ingest::profile::parse(text).map(|it| profile(&it))),
        Parser::Seccomp => drop(ingest::seccomp::parse(text).map(|it| seccomp(&it, None, text))),
        Parser::Policy => match ingest::policy::parse(text) {
            Ok(Policy::Profile(it)) => profile(&it),
            Ok(Policy::Seccomp(it)) => seccomp(&it, None, text),
            Err(_) => {}
        },
        Parser::Argument => drop(constants::parse_any(text)),
        Parser::Allowlist => drop(ingest::allowlist::parse(text).map(|it| allowlist(&it))),
        Parser::Granted => granted(text),
        Parser::Request => drop(Request::parse(text).map(|it| request(&it))),
        Parser::Search => drop(ingest::minimise::parse(text).map(|it| search(&it))),
        Parser::Stack => drop(ingest::stack::parse(text, &|_| None).map(|it| stack(&it))),
        Parser::Scan => drop(ingest::scan::parse(text)),
        Parser::Filter | Parser::Btf | Parser::Kallsyms => {} // bytes
    }
}

fn stack(read: &Stack) {
    let kernel = KernelVersion { major: 6, minor: 1 };
    let machine = Machine { native: Abi::X86_64, kernel };
    for facts in &read.containers {
        let found = audit::audit(facts, Inputs { machine, profile: None, scan: None });
        assert!(found.iter().all(|it| it.subject == facts.name), "each is told of its container");
        assert!(found.iter().any(|it| it.check.id == "PA001"), "nobody goes unasked for its user");
    }
    for (name, pod) in &read.pods {
        assert_eq!(
            audit::pod_findings(name, &pod.violations()).len(),
            2,
            "a verdict of each policy"
        );
    }
}

fn filter(read: &Program) {
    assert!(read.longest_path() <= read.instructions().len(), "it only goes forward");
    for nr in [0, 59, 322, u32::MAX >> 2] {
        let data = |argument| Data::of(Abi::X86_64, nr, [argument; 6]);
        let answers = [0, 1, u64::MAX].map(|argument| read.run(&data(argument)));
        if read.cached(Abi::X86_64, nr) == Cached::Yes {
            assert!(answers.iter().all(|word| *word == answers[0]), "arguments make no difference");
        }
    }
}

fn types(read: &Btf<'_>) {
    for name in ["cap_capable", "task_struct", "pt_regs", ""] {
        let _ = (read.parameters(name), read.size(name), read.has_tracepoint(name));
        let _ = (read.offset(name, "pid"), read.has_constant(name, "pid"));
    }
}

fn kallsyms(bytes: &[u8]) {
    let addresses: BTreeSet<u64> = [0, 1, 0xff00_0010, u64::MAX].into();
    let names = kallsyms::names(bytes, &addresses);
    assert!(names.keys().all(|address| addresses.contains(address)), "only what was asked for");
}

fn allowlist(read: &Allowlist) {
    for allowed in &read.allow {
        assert_eq!(allowed.expires.to_string().parse(), Ok(allowed.expires), "a date is a date");
    }
}

fn granted(text: &str) {
    let Some((rest, names)) = render::granted::split(text) else { return };
    let joined = render::granted::join(&rest, &names).unwrap_or_default();
    // A line's end is written as `\n` alone.
    if !text.contains('\r') {
        let again = render::granted::split(&joined);
        assert_eq!(again, Some((rest, names)), "what is put in is taken out");
    }
}

fn request(read: &Request) {
    assert_eq!(Request::parse(&read.to_string()).as_ref(), Ok(read), "what is sent is understood");
}

fn search(read: &minimise::State) {
    let written = render::json::minimise(read);
    let again = ingest::minimise::parse(&written);
    assert_eq!(again.ok().as_ref(), Some(read), "what is written is read back");
    let entries: BTreeSet<_> = read.runs.iter().flat_map(|run| &run.removed).cloned().collect();
    let tried = |entry| minimise::Candidate { entry, standing: minimise::Standing::Try };
    let candidates: Vec<_> = entries.into_iter().map(tried).collect();
    for prove in [false, true] {
        let settings = minimise::Settings { repeats: 2, prove };
        drop(minimise::plan(&candidates, settings, &read.runs)); // whatever was run, it goes on
    }
}

fn recording(read: &Recording) {
    let written = render::json::recording(read);
    let again = ingest::recording::parse(&written);
    assert_eq!(again.ok(), Some(merge::canonical(read.clone())), "what is written is read back");
    for arguments in [Arguments::Off, Arguments::AttackSurface, Arguments::Strict] {
        let options = policy::Options { learn_denied: true, arguments, ..Default::default() };
        profile(&policy::derive(read, &options));
    }
}

fn profile(read: &Profile) {
    let written = render::json::profile(read);
    assert_eq!(
        ingest::profile::parse(&written).ok().as_ref(),
        Some(read),
        "what is written is read back"
    );
    let text = render::seccomp::render(read);
    match ingest::seccomp::parse(&text) {
        Ok(file) => seccomp(&file, Some(read), &text),
        Err(error) => panic!("a file of ours is refused: {error}"),
    }
}

fn seccomp(file: &SeccompFile, profile: Option<&Profile>, text: &str) {
    let context = |native, engine| Context {
        native,
        capabilities: [0, 21].into(),
        kernel: KernelVersion { major: 6, minor: 1 },
        engine,
    };
    let contexts = vec![context(Abi::X86_64, Engine::Docker), context(Abi::Aarch64, Engine::Oci)];
    let findings = lint::lint(&lint::Subject::new(file, profile, None, contexts.clone()));
    let fixes: Vec<_> = findings.into_iter().filter_map(|finding| finding.fix).collect();
    if let Some(layout) = Layout::of(text) {
        let edited = layout.edited(&fixes);
        assert!(ingest::seccomp::parse(&edited).is_ok(), "a fixed file is refused: {edited}");
        assert_eq!(layout.edited(&[]), text, "no edit is no change");
    }
    for context in &contexts {
        let side = Side::of_filter("file".into(), effective::decide(file, context));
        let entries = diff::diff(&side, &side).entries;
        assert!(entries.is_empty(), "a file differs from itself: {entries:?}");
        let subject = explain::Subject { file, profile, context };
        drop((subject.ranked(), subject.left_out()));
        for call in ["clone", "socketcall", "personality"] {
            drop(subject.why_not(call, &[1, u64::MAX]));
        }
    }
}
