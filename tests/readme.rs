//! What README.md claims: its verbs and flags exist, its links lead somewhere, its examples run.
//!
//! A fenced block below the comment `<!-- run -->` is run by `sh -eu` in an empty directory, with the binary under test in
//! PATH; below `<!-- run with engine -->` it finds an engine, too. Blocks share the directory and run in the file's order.
//! Below `<!-- as emitted: PATH -->` stands what the blocks before it wrote to PATH, but for comments.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

use crate::harness::{
    machine::{Machine, Need},
    program,
    test::Test,
};

const LIMIT: Duration = Duration::from_secs(300);

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("readme::verbs_and_flags_exist", &[], verbs),
        Test::new("readme::files_are_shown", &[], shown),
        Test::new("readme::links_lead_somewhere", &[], links),
        Test::new("readme::examples_run", &[Need::Bpf], |m| examples(m, "run")),
        Test::new(
            "readme::examples_with_an_engine_run",
            &[Need::Bpf, Need::Engine, Need::Compose],
            |m| {
                let before = m.engine()?.containers()?;
                let outcome = examples(m, "run with engine");
                // The names are README's; nothing else starts containers meanwhile.
                for left in m.engine()?.containers()?.difference(&before) {
                    m.engine()?.docker(&["rm", "-f", "-v", left])?;
                }
                outcome
            },
        )
        .alone(),
    ]
}

fn text(machine: &Machine) -> Result<String> {
    Ok(fs_err::read_to_string(machine.root.join("README.md"))?)
}

/// Everything that looks like a command line of `profiler` is one: the verb is there, and so is each flag.
fn verbs(machine: &Machine) -> Result<()> {
    let text = text(machine)?;
    let mut seen = BTreeSet::new();
    for line in text.lines().flat_map(|line| line.split(['`', '|', ';', '&'])) {
        let Some(rest) = line
            .trim()
            .trim_start_matches("$ ")
            .trim_start_matches("sudo ")
            .strip_prefix("profiler ")
        else {
            continue;
        };
        let mut words =
            rest.split_whitespace().take_while(|word| *word != "--" && !word.starts_with('#'));
        let Some(verb) = words.next().filter(|verb| verb.bytes().all(|b| b.is_ascii_lowercase()))
        else {
            continue;
        };
        let flags: Vec<_> = words
            .filter(|word| word.starts_with('-'))
            .map(|flag| flag.split('=').next().unwrap_or(flag))
            .collect();
        let known = [
            "record", "generate", "merge", "diff", "explain", "verify", "coverage", "monitor",
            "doctor",
        ];
        if !known.contains(&verb) && flags.is_empty() {
            continue; // prose
        }
        let help = program::run(&mut program::command(&machine.profiler, [verb, "--help"]), LIMIT)?
            .expect(0)?;
        for flag in flags {
            let listed =
                help.stdout.split([' ', ',', '\n', '=', '[', ']']).any(|word| word == flag);
            ensure!(listed, "`profiler {verb}` has no `{flag}`:\n{}", help.stdout);
        }
        seen.insert(verb.to_owned());
    }
    for verb in ["record", "generate", "doctor"] {
        ensure!(seen.contains(verb), "README.md does not show `profiler {verb}`");
    }
    Ok(())
}

/// The two files that are meant to be read are there, after something that writes them.
fn shown(machine: &Machine) -> Result<()> {
    let text = text(machine)?;
    let mut engine = false;
    let mut seen = BTreeSet::new();
    for (marker, _) in marked(&text) {
        match marker {
            Marker::Run(comment) => engine = comment == "run with engine",
            Marker::Emitted(path) => {
                ensure!(engine, "`{path}` is shown before a block that could have written it");
                seen.insert(path);
            }
        }
    }
    for file in ["profiles/backend/compose.yaml", "profiles/backend/kubernetes.yaml"] {
        ensure!(seen.contains(file), "README.md shows no `{file}` as emitted");
    }
    Ok(())
}

fn links(machine: &Machine) -> Result<()> {
    let text = text(machine)?;
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
        let path = target.split('#').next().unwrap_or(target);
        ensure!(
            machine.root.join(path).exists(),
            "README.md links to `{path}`, which is not there"
        );
    }
    Ok(())
}

/// What a comment says of the fenced block below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker<'a> {
    /// It is run by those who look for this comment.
    Run(&'a str),
    /// It shows a file.
    Emitted(&'a str),
}

/// The blocks with a marker, in order. A marker without a block has none.
fn marked(text: &str) -> impl Iterator<Item = (Marker<'_>, Option<&str>)> {
    text.split("\n<!-- ").skip(1).filter_map(|rest| {
        let (comment, rest) = rest.split_once(" -->\n")?;
        let marker = match comment.strip_prefix("as emitted: ") {
            Some(path) => Marker::Emitted(path),
            None if comment == "run" || comment.starts_with("run ") => Marker::Run(comment),
            None => return None,
        };
        let block = rest.strip_prefix("```").and_then(|block| block.split_once('\n'));
        Some((
            marker,
            block.and_then(|(_, block)| block.split_once("\n```")).map(|(block, _)| block),
        ))
    })
}

/// Runs the blocks below the comment `wanted`, and compares the files that are shown after each.
fn examples(machine: &Machine, wanted: &str) -> Result<()> {
    let text = text(machine)?;
    let scratch = machine.scratch()?;
    let (mut blocks, mut ours) = (0, false);
    for (marker, block) in marked(&text) {
        let block = block.with_context(|| format!("no fenced block below {marker:?}"))?;
        match marker {
            Marker::Run(comment) => {
                ours = comment == wanted;
                if ours {
                    run(machine, scratch.path(), block)?;
                    blocks += 1;
                }
            }
            Marker::Emitted(path) if ours => {
                let written = fs_err::read_to_string(scratch.join(path))?;
                let written: Vec<_> =
                    written.lines().filter(|line| !line.starts_with('#')).collect();
                ensure!(
                    written == block.lines().collect::<Vec<_>>(),
                    "README.md shows `{path}` otherwise than it was written:\n{}",
                    written.join("\n")
                );
            }
            Marker::Emitted(_) => {}
        }
    }
    ensure!(blocks > 0, "README.md has no block below `<!-- {wanted} -->`");
    Ok(())
}

fn run(machine: &Machine, dir: &Utf8Path, script: &str) -> Result<()> {
    let bin = machine.profiler.parent().map_or("", |dir| dir.as_str());
    let mut shell = program::command("sh", ["-euc", script]);
    if let Ok(engine) = machine.engine() {
        engine.environment(&mut shell);
    }
    shell.current_dir(dir).env("PATH", format!("{bin}:{}", crate::harness::machine::search_path()));
    let output = program::run(&mut shell, LIMIT)?;
    ensure!(output.status == 0, "status {} of\n{script}\n{}", output.status, output.text());
    Ok(())
}
