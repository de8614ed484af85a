//! The host's checks as a table for people and as JSON for machines.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::check::{Check, CheckState},
    report::{
        escape,
        style::{BAD, COMMAND, FAINT, GOOD, HEADING, WARNING, paint},
    },
};

/// The JSON form; more fields may come, none goes.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "doctor", description = "What `profiler doctor --format json` prints.")]
pub(super) struct Document<'a> {
    /// Nothing that recording needs is known to be missing.
    ready: bool,
    /// In the order in which they were made.
    checks: &'a [Check],
}

/// Nothing that recording needs is missing. What could not be told may still be.
#[must_use]
pub fn is_ready(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.state != CheckState::Missing)
}

/// Writes a table with styles: state, name, what was found, what to do.
pub fn human(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    let width =
        checks.iter().map(|check| escape::line(&check.name).chars().count()).max().unwrap_or(0);
    for check in checks {
        let style = match check.state {
            CheckState::Ok => GOOD,
            CheckState::Warning => WARNING,
            CheckState::Missing => BAD,
            CheckState::Unknown => FAINT,
        };
        let state = paint(style, &format!("{:7}", check.state.name()));
        let name = escape::line(&check.name);
        writeln!(out, "{state}  {name:width$}  {}", escape::line(&check.detail))?;
        if let Some(hint) = &check.hint {
            writeln!(
                out,
                "{:9}{:width$}  {} {}",
                "",
                "",
                paint(COMMAND, "hint:"),
                escape::line(hint)
            )?;
        }
    }
    let unknown = checks.iter().filter(|check| check.state == CheckState::Unknown).count();
    let verdict = match (is_ready(checks), unknown) {
        (true, 0) => "this host can record",
        (true, _) => "nothing is known to be missing; some of it could not be told",
        (false, _) => "this host cannot record yet",
    };
    writeln!(out, "\n{}", paint(HEADING, verdict))
}

/// Writes `{"ready": ..., "checks": [...]}`.
pub fn json(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    let document = Document { ready: is_ready(checks), checks };
    let document = serde_json::to_string_pretty(&document)?;
    writeln!(out, "{}", escape::json(&document))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Vec<Check> {
        vec![
            Check::new("kernel", CheckState::Ok, "6.1.0-18-amd64 x86_64"),
            Check::new("BTF", CheckState::Missing, "/sys/kernel/btf/vmlinux is not there")
                .hint("run a kernel that was built with CONFIG_DEBUG_INFO_BTF=y"),
            Check::new("BPF JIT", CheckState::Unknown, "only root may ask"),
            Check::new(
                "container engine",
                CheckState::Warning,
                "docker\x1b[31m 20.10\nsecond line",
            ),
        ]
    }

    fn table(checks: &[Check]) -> String {
        let mut out = Vec::new();
        human(checks, &mut out).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("UTF-8");
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn the_table_for_people() {
        insta::assert_snapshot!(table(&checks()));
    }

    #[test]
    fn the_form_for_machines() {
        let mut out = Vec::new();
        json(&checks(), &mut out).expect("a vector takes everything");
        insta::assert_snapshot!(String::from_utf8(out).expect("UTF-8"));
    }

    #[test]
    fn only_what_is_missing_stands_in_the_way() {
        let with = |state| is_ready(&[Check::new("x", state, "")]);
        assert!(with(CheckState::Ok) && with(CheckState::Warning) && with(CheckState::Unknown));
        assert!(!with(CheckState::Missing));
        assert!(table(&[Check::new("x", CheckState::Ok, "")]).ends_with("this host can record\n"));
    }
}
