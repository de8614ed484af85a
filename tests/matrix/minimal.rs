//! Nothing too much: each entry of what is emitted is taken out once, and something breaks.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::{Value, json};

use crate::{
    harness::{
        evidence::Emitted,
        machine::{Machine, Need},
        pair::{Filter, Options, Pair},
        record::Record,
        test::Test,
    },
    matrix::{pair, program},
};

/// One pair for each runtime.
const PAIRS: [Pair; 2] = [pair("runc", "docker26"), pair("crun", "docker-cgroup2")];

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let test = |pair: Pair| {
        let needs = [Need::Bpf, Need::Tool("gcc", "gcc"), Need::Pair(pair)];
        let name = format!("matrix::{}_needs_every_entry", pair.word());
        Test::new(name, &needs, move |machine| needs_every_entry(machine, pair))
    };
    PAIRS.into_iter().map(test).collect()
}

fn needs_every_entry(machine: &Machine, pair: Pair) -> Result<()> {
    let scratch = machine.scratch()?;
    let out = scratch.join("out");
    let mut container = pair.container(machine, "minimal");
    let session = Record::pair(machine, &out, pair, &[&container.name])?.start()?;
    // Another user's start makes the runtime do most under the filter.
    let permissive = Filter::File(machine.permissive());
    let options = Options { user: Some(1000), filter: permissive, ..Options::default() };
    let whole = program::run(&mut container, &options)?;
    session.finish()?.expect(0)?;
    drop(container);

    let emitted = Emitted::new(&out);
    let filter = emitted.seccomp()?;
    let choices = choices(&out)?;
    let capabilities = Some(emitted.capabilities()?);
    let try_with = |filter: &Value| -> Result<Vec<String>> {
        let path = scratch.join("without.json");
        fs_err::write(&path, filter.to_string())?;
        let filter = Filter::File(path);
        let capabilities = capabilities.clone();
        let options = Options { user: Some(1000), filter, capabilities, ..Options::default() };
        program::run(&mut pair.container(machine, "without"), &options)
    };
    let lines = try_with(&filter.json).context("with all entries")?;
    ensure!(lines == whole, "with all entries it prints {lines:?}, not {whole:?}");
    let mut spare = BTreeSet::new();
    for name in filter.allowed().difference(&choices) {
        // runc shrugs off one error of some calls, and dies of another
        let is_spared = [EPERM, ENOSYS].iter().all(|error| {
            try_with(&without(&filter.json, name, *error)).is_ok_and(|lines| lines == whole)
        });
        if is_spared {
            spare.insert(name.clone());
        }
    }
    ensure!(spare.is_empty(), "nothing breaks without {spare:?}");
    Ok(())
}

/// The entries that the profile marks as choices: always allowed, of a runtime's floor for starts of another kind, or made by a runtime that
/// was measured to do without.
fn choices(dir: &Utf8Path) -> Result<BTreeSet<String>> {
    let profile: Value = serde_json::from_str(&fs_err::read_to_string(dir.join("profile.json"))?)?;
    let rules = profile["syscalls"].as_array().context("profile.json has syscalls")?;
    let chosen = rules.iter().filter(|rule| {
        let reasons = rule["reasons"].as_array();
        reasons.is_some_and(|reasons| {
            reasons.iter().all(|reason| {
                ["always-allowed", "floor"].iter().any(|kind| reason["kind"] == *kind)
                    || reason["optional"] == true
            })
        })
    });
    Ok(chosen.filter_map(|rule| rule["name"].as_str().map(str::to_owned)).collect())
}

/// The filter with one name less, which gets this error.
fn without(filter: &Value, name: &str, error: i32) -> Value {
    let mut filter = filter.clone();
    let filter_error = filter["defaultErrnoRet"].as_i64().map_or(EPERM, |error| error as i32);
    for rule in filter["syscalls"].as_array_mut().into_iter().flatten() {
        if let Some(names) = rule["names"].as_array_mut() {
            names.retain(|other| other != name);
        }
    }
    if let Some(rules) = filter["syscalls"].as_array_mut() {
        rules.retain(|rule| rule["names"].as_array().is_some_and(|names| !names.is_empty()));
        // the same action as the default's is no rule
        if filter_error != error {
            rules.push(json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": error }));
        }
    }
    filter
}
