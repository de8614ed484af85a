//! A recorded profile with entries that nothing needs, and the verdicts on it.

use std::{collections::BTreeMap, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use profiler::{
    ingest,
    model::{
        arch::Abi,
        profile::{CapabilityRule, Profile, SyscallReason, SyscallRule},
    },
    render,
};
use serde_json::Value;

use crate::harness::{
    machine::Machine,
    program::{self, Output},
    record::Record,
};

/// How long a whole search may take.
pub const LIMIT: Duration = Duration::from_secs(240);

/// Records `command`, and writes its profile with these calls and capabilities to a directory of its own.
pub fn profile(
    machine: &Machine,
    dir: &Utf8Path,
    command: &[&str],
    calls: &[&str],
    capabilities: &[&str],
) -> Result<Utf8PathBuf> {
    let recorded = Record::new(machine, dir.join("recorded")).workload(command).run()?.expect(0)?;
    plant(&recorded.dir, &dir.join("planted"), calls, capabilities)
}

/// Copies the profile of a result, with more in it.
pub fn plant(
    from: &Utf8Path,
    to: &Utf8Path,
    calls: &[&str],
    capabilities: &[&str],
) -> Result<Utf8PathBuf> {
    let mut profile = read(from)?;
    for name in calls {
        profile.syscalls.push(SyscallRule {
            abi: Abi::X86_64,
            name: (*name).to_owned(),
            reasons: vec![SyscallReason::Workload {
                programs: vec!["needs".into()],
                tests: vec![],
            }],
            arguments: None,
        });
    }
    profile.syscalls.sort_by(|a, b| (a.abi, &a.name).cmp(&(b.abi, &b.name)));
    let lists = &mut profile.capabilities;
    for name in capabilities {
        lists.probed.retain(|rule| rule.name != *name);
        lists.required.push(CapabilityRule {
            name: (*name).to_owned(),
            reasons: lists.required.first().context("one at least")?.reasons.clone(),
            needed: None,
        });
    }
    lists.required.sort_by(|a, b| a.name.cmp(&b.name));
    fs_err::create_dir_all(to)?;
    fs_err::write(to.join("profile.json"), render::json::profile(&profile))?;
    Ok(to.to_owned())
}

/// The profile of a result.
pub fn read(dir: &Utf8Path) -> Result<Profile> {
    Ok(ingest::profile::parse(&fs_err::read_to_string(dir.join("profile.json"))?)?)
}

/// `profiler minimise`, with its report in JSON.
pub fn minimise(machine: &Machine, profile: &Utf8Path, args: &[&str], command: &[&str]) -> Command {
    let words = ["minimise", profile.as_str(), "--format", "json"];
    program::command(&machine.profiler, words.iter().chain(args).chain(&["--"]).chain(command))
}

/// A report.
pub struct Report {
    /// As it was printed.
    pub json: Value,
    verdicts: BTreeMap<String, Value>,
}

impl Report {
    /// Of a search that came to its end.
    pub fn of(output: Output) -> Result<Report> {
        let output = output.expect(0)?;
        let json: Value = serde_json::from_str(&output.stdout)?;
        let lines = json["entries"].as_array().context("entries")?.iter();
        let named = lines.map(|line| Some((line["entry"].as_str()?.to_owned(), line.clone())));
        let verdicts = named.collect::<Option<_>>().context("names")?;
        Ok(Report { json, verdicts })
    }

    /// What is said of an entry; empty when it was not looked at.
    pub fn verdict(&self, entry: &str) -> &str {
        self.line(entry)["verdict"].as_str().unwrap_or_default()
    }

    /// All that is said of an entry.
    pub fn line(&self, entry: &str) -> &Value {
        self.verdicts.get(entry).unwrap_or(&Value::Null)
    }

    /// A number of the report.
    pub fn number(&self, key: &str) -> u64 {
        self.json[key].as_u64().unwrap_or(0)
    }
}
