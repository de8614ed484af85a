//! What a fuzzer calls: each parser with any bytes, and what must hold of whatever it takes.
//!
//! Owns the laws, and no input. They panic where one is broken; that is their use. Built with everything else, so that the
//! bounded run of the tests and libFuzzer ask for the same.

use crate::{
    ingest::{self, layout::Layout, policy::Policy},
    model::{
        arch::Abi,
        effective::{Context, Engine},
        explain, lint, merge, policy,
        profile::Profile,
        recording::Recording,
        seccomp::{KernelVersion, SeccompFile},
        symbol,
    },
    render,
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
}

/// Every parser.
pub const PARSERS: [Parser; 5] =
    [Parser::Recording, Parser::Profile, Parser::Seccomp, Parser::Policy, Parser::Argument];

/// Reads `bytes`, and asks of what was read what every command asks.
///
/// # Panics
/// When something is broken.
pub fn run(parser: Parser, bytes: &[u8]) {
    // The binary refuses what is not UTF-8 before any parser sees it.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parser {
        Parser::Recording => drop(ingest::recording::parse(text).map(|it| recording(&it))),
        Parser::Profile => drop(ingest::profile::parse(text).map(|it| profile(&it))),
        Parser::Seccomp => drop(ingest::seccomp::parse(text).map(|it| seccomp(&it, None, text))),
        Parser::Policy => match ingest::policy::parse(text) {
            Ok(Policy::Profile(it)) => profile(&it),
            Ok(Policy::Seccomp(it)) => seccomp(&it, None, text),
            Err(_) => {}
        },
        Parser::Argument => drop(symbol::parse(text)),
    }
}

fn recording(read: &Recording) {
    let written = render::json::recording(read);
    let again = ingest::recording::parse(&written);
    assert_eq!(again.ok(), Some(merge::canonical(read.clone())), "what is written is read back");
    profile(&policy::derive(
        read,
        &policy::Options { learn_denied: true, ..policy::Options::default() },
    ));
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
        let subject = explain::Subject { file, profile, context };
        drop(subject.ranked());
        for call in ["clone", "socketcall", "personality"] {
            drop(subject.why_not(call, &[1, u64::MAX]));
        }
    }
}
