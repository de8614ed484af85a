//! A kernel may let capability checks be seen in several ways: the same programs yield the same facts in each.

use std::{collections::BTreeSet, env};

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::Value;

use crate::harness::{
    machine::{Machine, Need, Scratch},
    program,
    record::{Record, Recorded, TRIES},
    test::Test,
};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];

/// In the order in which the recorder tries them.
const WAYS: [&str; 3] = ["tracepoint", "fexit", "kprobe"];

/// Subcommand of `caps`, its argument, and the capability that it needs. Files are in a directory of
/// their own; the interface is up before the port is taken.
const PROGRAMS: [(&str, &str, &str); 21] = [
    ("loopback_up", "", "NET_ADMIN"),
    ("bind_low", "923", "NET_BIND_SERVICE"),
    ("chown_other", "owned", "CHOWN"),
    ("raw_socket", "", "NET_RAW"),
    ("setuid", "1000", "SETUID"),
    ("setgroups", "1000", "SETGID"),
    ("mknod", "node", "MKNOD"),
    ("nice", "", "SYS_NICE"),
    ("write_other", "other", "DAC_OVERRIDE"),
    ("read_other", "other", "DAC_READ_SEARCH"),
    ("lease_other", "readable", "LEASE"),
    ("chmod_other", "readable", "FOWNER"),
    ("chroot", "", "SYS_CHROOT"),
    ("sethostname", "", "SYS_ADMIN"),
    ("mlock", "", "IPC_LOCK"),
    ("audit", "", "AUDIT_WRITE"),
    ("setfcap", "capable", "SETFCAP"),
    ("drop_bounding", "", "SETPCAP"),
    ("syslog", "", "SYSLOG"),
    ("wake_alarm", "", "WAKE_ALARM"),
    ("vhangup", "", "SYS_TTY_CONFIG"),
];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("capability::ways_agree", &NEEDS, agree).on_every_machine(),
        Test::new("capability::two_programs_count_a_check_once", &NEEDS, once),
    ]
}

/// Each way that the kernel offers, and the one that is chosen unasked. PROFILER_WAYS says which it must offer.
fn agree(machine: &Machine) -> Result<()> {
    let chosen = record(machine, &[])?.context("no way to see capability checks")?;
    let expect_same = |facts: &BTreeSet<String>, by: &str| {
        let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
            a.difference(b).map(|fact| format!("\n  {fact}")).collect::<String>()
        };
        ensure!(
            *facts == chosen,
            "only by {by}:{}\nonly unasked:{}",
            only(facts, &chosen),
            only(&chosen, facts)
        );
        Ok(())
    };
    let mut offered = Vec::new();
    for way in WAYS {
        let Some(facts) = record(machine, &["--attach-capabilities", way])? else { continue };
        offered.push(way);
        expect_same(&facts, way)?;
    }
    for which in ["both", "second"] {
        let facts = record(machine, &["--attach-twins", which])?.context("no way with twins")?;
        expect_same(&facts, which)?;
    }
    ensure!(!offered.is_empty(), "what is chosen unasked is none of {WAYS:?}");
    if let Ok(expected) = env::var("PROFILER_WAYS") {
        let offered = offered.join(" ");
        ensure!(offered == expected, "the kernel offers `{offered}`, not `{expected}`");
    }
    Ok(())
}

/// One program asks once, whichever programs see it.
fn once(machine: &Machine) -> Result<()> {
    let caps = machine.fixture("caps")?;
    for args in [&[][..], &["--attach-twins=both"], &["--attach-twins=second"]] {
        let scratch = machine.scratch()?;
        let recorded = Record::new(machine, scratch.join("out"))
            .args(args)
            .workload([caps.as_str(), "sethostname"])
            .run()?
            .expect(0)?;
        let recording = recorded.recording()?;
        let mut facts = recording.facts("capabilities");
        let fact = facts
            .find(|fact| fact["asked_by"].as_str().is_some_and(|by| by.ends_with("sethostname")))
            .context("the check was seen")?;
        let seen = fact["seen"].as_object().and_then(|seen| seen.values().next());
        let count = seen.context("it was seen in the run")?["succeeded"].as_u64();
        ensure!(count == Some(1), "asked once, counted {count:?} with {args:?}");
    }
    Ok(())
}

/// The facts of all programs in one recording, each with the capability that it needs; nothing when the kernel does not
/// have this way.
fn record(machine: &Machine, args: &[&str]) -> Result<Option<BTreeSet<String>>> {
    let mut again = TRIES;
    loop {
        let scratch = machine.scratch()?;
        let recorded = run_all(machine, &scratch, args)?;
        if again > 0 && recorded.lacks_runs() {
            again -= 1;
            continue;
        }
        // no try was complete: then all that is compared must have been seen all the same
        let recorded = recorded.expect_what_runs()?;
        let recording = recorded.recording()?;
        if recording.missing().contains("capabilities") {
            return Ok(None);
        }
        expect_each(&recorded).with_context(|| format!("recorded with {args:?}"))?;
        let facts = recording.facts("capabilities");
        // memory accounting depends on where the kernel has put things
        let stable = facts.filter(|fact| fact["phase"] == "workload" && fact["audit"] != "memory");
        return Ok(Some(stable.map(without_counts).collect()));
    }
}

/// One recording of all programs, in a directory of their own.
fn run_all(machine: &Machine, scratch: &Scratch, args: &[&str]) -> Result<Recorded> {
    let caps = machine.fixture("caps")?;
    program::shell(&format!(
        "cd {}; for file in other readable; do echo x >$file; chown 1000:0 $file; done; chmod 600 other",
        scratch.path()
    ))?;
    // the kernel asks for CAP_SYSLOG without audit here
    let mut script = "set -e; head -1 /proc/kallsyms >/dev/null\n".to_owned();
    for (what, argument, _) in PROGRAMS {
        // a program is known by its file's name
        fs_err::copy(&caps, scratch.join(&format!("caps_{what}")))?;
        script.push_str(&format!("./caps_{what} {what} {argument}\n"));
    }
    script.push_str(&format!("{caps} shrug\n"));
    Record::new(machine, scratch.join("out"))
        .args(args)
        .current_dir(scratch.path())
        .workload(["/bin/sh", "-c", &script])
        .under(["unshare", "--net"])
        .run_once()
}

/// A fact as text, without what differs from run to run.
fn without_counts(fact: &Value) -> String {
    let mut fact = fact.clone();
    if let Some(fields) = fact.as_object_mut() {
        fields.remove("seen");
    }
    fact.to_string()
}

/// Exactly what the programs need, and each by its program.
fn expect_each(recorded: &Recorded) -> Result<()> {
    let expected: BTreeSet<String> = PROGRAMS.iter().map(|(.., name)| (*name).to_owned()).collect();
    let emitted = recorded.emitted();
    let required = emitted.capabilities()?;
    ensure!(required == expected, "{required:?} are required, {expected:?} are needed");
    let profile = read(&emitted.path("profile.json"))?;
    let rules = profile["capabilities"]["required"].as_array().context("a list")?;
    for (what, _, capability) in PROGRAMS {
        let program = Value::from(format!("caps_{what}"));
        let rule =
            rules.iter().find(|rule| rule["name"] == capability).context("it is required")?;
        let programs = rule["reasons"].as_array().into_iter().flatten();
        let named = programs
            .flat_map(|reason| reason["programs"].as_array().into_iter().flatten())
            .any(|name| *name == program);
        ensure!(named, "{capability} is needed by {program}, not as in {rule}");
    }
    Ok(())
}

fn read(path: &Utf8Path) -> Result<Value> {
    Ok(serde_json::from_str(&fs_err::read_to_string(path)?)?)
}
