//! Conditions on arguments, in force: what a program was seen to give passes, its neighbours do not.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use camino::Utf8Path;
use profiler::model::arguments::{Rule, WATCHED};

use crate::{
    harness::{
        machine::{Machine, Need},
        program,
        record::Record,
        test::Test,
    },
    verify::runs::run,
};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];
const LIMIT: Duration = Duration::from_secs(60);

/// Calls by number, with what they are given, and a neighbour of it: one watched argument with another lowest bit, or another
/// flag. Of ia32 are the two that no other ABI has. No file, process or address is what it says, so nothing happens. Upper halves are set where only lower ones count.
const STRICT: [(&str, &str, &str); 21] = [
    ("bpf", "321:dead00000063", "321:62"),
    ("clone", "56:20211", "56:10000211"),
    ("ioctl", "16:ffffffff,1234567880045430", "16:ffffffff,80045431"),
    ("ipc", "i117:63", "i117:62"),
    ("keyctl", "250:dead0000ffff", "250:fffe"),
    ("kill", "62:7ffffffe,40", "62:7ffffffe,3f"),
    ("memfd_create", "319:0,dead0000ffff", "319:0,fffe"),
    ("mount", "165:0,0,0,dead00001000,0", "165:0,0,0,1001,0"),
    ("personality", "135:ffffffffffffffff", "135:40000"),
    ("prctl", "157:23,dead00000063", "157:23,62"),
    ("ptrace", "101:dead00000063,7ffffffe", "101:62,7ffffffe"),
    ("seccomp", "317:dead00000063", "317:62"),
    ("setns", "308:ffffffff,dead40000000", "308:ffffffff,10000000"),
    ("setsockopt", "54:ffffffff,dead00000001,2", "54:ffffffff,1,3"),
    ("socket", "41:dead00000063,80801,ee00000006", "41:63,80802,6"),
    ("socketcall", "i102:63", "i102:62"),
    ("socketpair", "53:63,80005,11", "53:63,5,12"),
    ("tgkill", "234:7ffffffe,7ffffffe,dead00000040", "234:7ffffffe,7ffffffe,3f"),
    ("tkill", "200:7ffffffe,40", "200:7ffffffe,3f"),
    ("unshare", "272:dead10000001", "272:1"),
    ("userfaultfd", "323:dead00000063", "323:62"),
];

/// The same for what the default choice refuses; what follows the neighbour was not seen and passes all the same.
const ATTACK_SURFACE: [(&str, &str, &str, &str); 5] = [
    ("clone", "56:20211", "56:10000211", "56:211"),
    ("ioctl", "16:ffffffff,5401", "16:ffffffff,dead00005412", "16:ffffffff,5413"),
    ("prctl", "157:3", "157:23,ffffffff", "157:8,7"),
    ("socket", "41:2,1,0", "41:26,5,0", "41:a,2,11"),
    ("personality", "135:ffffffff", "135:40000", "135:ffffffffffffffff"),
];

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("narrow::each_argument_holds_and_its_neighbour_does_not", &NEEDS, strict),
        Test::new("narrow::the_default_cuts_off_what_it_says", &NEEDS, attack_surface),
        Test::new("narrow::filters_of_all_choices_are_as_their_profiles", &NEEDS, compiled),
        Test::new("narrow::abis_have_their_own", &NEEDS, abis),
    ]
}

/// A recording of the fixture with these calls, and its profile.
fn recorded(machine: &Machine, dir: &Utf8Path, choice: &str, words: &[&str]) -> Result<()> {
    let calls = machine.fixture("calls")?;
    let words = [&[calls.as_str(), "-q"], words].concat();
    let args = ["--arguments", choice];
    Record::new(machine, dir).args(args).workload(words).run()?.expect(0)?;
    Ok(())
}

/// The calls that the profile refuses of these.
fn refused(machine: &Machine, dir: &Utf8Path, words: &[&str]) -> Result<BTreeSet<String>> {
    let calls = machine.fixture("calls")?;
    let said = run(machine, dir, &[], &[&[calls.as_str(), "-q"], words].concat())?;
    ensure!(said.json["in_force"]["faults"].as_array().is_some_and(Vec::is_empty), "{}", said.json);
    Ok(said.denied(false).into_iter().collect())
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    names.map(str::to_owned).collect()
}

fn strict(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let dir = scratch.join("out");
    let rules = WATCHED.iter().filter(|row| row.rule != Rule::Never).map(|row| row.call);
    ensure!(STRICT.iter().map(|row| row.0).eq(rules), "not every call that can be a rule is tried");
    let seen: Vec<&str> = STRICT.iter().map(|row| row.1).collect();
    recorded(machine, &dir, "strict", &seen)?;
    let none = refused(machine, &dir, &seen)?;
    ensure!(none.is_empty(), "what was seen is refused: {none:?}");
    let neighbours: Vec<&str> = STRICT.iter().map(|row| row.2).collect();
    let all = refused(machine, &dir, &neighbours)?;
    ensure!(all == names(STRICT.iter().map(|row| row.0)), "of all neighbours, refused are {all:?}");
    Ok(())
}

fn attack_surface(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let dir = scratch.join("out");
    // clone3 without flags; its size is none that the kernel takes
    let seen: Vec<&str> = ATTACK_SURFACE.iter().map(|row| row.1).chain(["p435:0,8"]).collect();
    recorded(machine, &dir, "attack-surface", &seen)?;
    let others = ATTACK_SURFACE.iter().map(|row| row.3);
    let passing: Vec<&str> = seen.iter().copied().chain(others).collect();
    let none = refused(machine, &dir, &passing)?;
    ensure!(none.is_empty(), "what is harmless is refused: {none:?}");
    let neighbours: Vec<&str> = ATTACK_SURFACE.iter().map(|row| row.2).collect();
    let all = refused(machine, &dir, &neighbours)?;
    let expected = names(ATTACK_SURFACE.iter().map(|row| row.0));
    ensure!(all == expected, "of all neighbours, refused are {all:?}");
    // what would be refused is known without refusing it
    let calls = machine.fixture("calls")?;
    let words = [&[calls.as_str(), "-q", "41:26,5,0"], passing.as_slice()].concat();
    let said = run(machine, &dir, &["--log-only"], &words)?.expect(1, "fails")?;
    ensure!(said.denied(false) == ["socket"], "{}", said.json);
    ensure!(said.json["denials"].to_string().contains("[38,5,0,"), "{}", said.json);
    Ok(())
}

fn generate(machine: &Machine, args: &[&str]) -> Result<()> {
    let mut generate = program::command(&machine.profiler, ["generate"]);
    generate.args(args);
    program::run(&mut generate, LIMIT)?.expect(0)?;
    Ok(())
}

/// By libseccomp's own word, for values around those that conditions name, and any others.
fn compiled(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let dir = scratch.join("out");
    let seen: Vec<&str> = STRICT.iter().map(|row| row.1).chain(["i359:2,1,0", "i102:1"]).collect();
    let more: Vec<&str> = ATTACK_SURFACE.iter().map(|row| row.1).chain(["10:1,0,7"]).collect();
    recorded(machine, &dir, "strict", &[seen.as_slice(), &more].concat())?;
    let recording = dir.join("recording.json");
    let choose = |choice: &str, to: &[&str]| {
        generate(machine, &[&[recording.as_str(), "--arguments", choice], to].concat())
    };
    let [wide, off, joined] = ["wide", "off", "joined"].map(|name| scratch.join(name));
    choose("attack-surface", &["-o", wide.as_str()])?;
    choose("off", &["-o", off.as_str()])?;
    choose("attack-surface", &["-o", joined.as_str()])?;
    choose("strict", &["--into", joined.as_str()])?;
    for dir in [&dir, &wide, &off, &joined] {
        let args = ["verify", "--static", "--arch", "x86_64", dir.as_str()];
        let said = program::run(&mut program::command(&machine.profiler, args), LIMIT)?;
        said.expect(0)?;
    }
    // none of the calls that busy programs make leaves the kernel's cache
    let args = ["verify", "--static", "--arch", "x86_64", dir.as_str()];
    let said = program::run(&mut program::command(&machine.profiler, args), LIMIT)?.expect(0)?;
    ensure!(
        !said.stdout.lines().any(|line| line.contains("not ") && line.contains("mprotect")),
        "{}",
        said.text()
    );
    Ok(())
}

/// A 64-bit program, and the same that makes calls of ia32. A file has no rules for one ABI: only what has another name there
/// can be refused to one.
fn abis(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let native = scratch.join("native");
    recorded(machine, &native, "strict", &["262:ffffffff,0,0,0", "110"])?;
    let calls = machine.fixture("calls")?;
    let ia32 = run(machine, &native, &[], &[calls.as_str(), "-q", "i64"])?;
    ensure!(ia32.output.status == 1 && ia32.json["denials"][0]["killed"] == true, "{}", ia32.json);

    let both = scratch.join("both");
    recorded(machine, &both, "strict", &["262:ffffffff,0,0,0", "i64", "i359:2,1,0"])?;
    let none = refused(machine, &both, &["262:ffffffff,0,0,0", "i64", "i359:2,1,0"])?;
    ensure!(none.is_empty(), "what was seen is refused: {none:?}");
    // newfstatat is fstatat64 there
    let only = refused(machine, &both, &["i300:ffffffff,0,0,0"])?;
    ensure!(only == names(["fstatat64"].into_iter()), "{only:?}");
    // getppid has one name, and one rule
    let shared = refused(machine, &both, &["110", "41:2,1,0"])?;
    ensure!(shared.is_empty(), "{shared:?}");
    let family = refused(machine, &both, &["41:26,5,0", "i359:26,5,0"])?;
    ensure!(family == names(["socket"].into_iter()), "{family:?}");
    Ok(())
}
