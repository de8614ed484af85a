//! Files with capabilities that root executes: root gets nothing by them, and cannot execute them without.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use camino::Utf8PathBuf;

use crate::harness::{
    machine::{Machine, Need, Scratch},
    program,
    record::{Record, Recorded},
    test::Test,
};

const HOST: [Need; 3] = [Need::Bpf, Need::Tool("gcc", "gcc"), Need::Tool("setpriv", "util-linux")];
const ENGINE: [Need; 4] = [Need::Bpf, Need::Engine, Need::Images, Need::Tool("gcc", "gcc")];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("capability::forced_by_a_file_on_root", &HOST, forced),
        Test::new("capability::not_forced_without_the_effective_bit", &HOST, not_forced),
        Test::new("capability::of_a_file_that_changes", &HOST, changes),
        Test::new("capability::forced_by_files_in_a_container", &ENGINE, in_container),
    ]
}

/// A copy of the fixture that has CAP_NET_RAW, by this subcommand of it.
fn file(machine: &Machine, scratch: &Scratch, how: &str) -> Result<Utf8PathBuf> {
    let (caps, path) = (machine.fixture("caps")?, scratch.join("ping"));
    fs_err::copy(&caps, &path)?;
    program::shell(&format!("chmod 755 {} {path} && {caps} {how} {path}", scratch.path()))?;
    Ok(path)
}

fn record(machine: &Machine, scratch: &Scratch, words: &[&str]) -> Result<Recorded> {
    Record::new(machine, scratch.join("out")).workload(words).run()?.expect(0)
}

/// The program ends as soon as it has begun.
fn forced(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let ping = file(machine, &scratch, "setfcap")?;
    expect(&record(machine, &scratch, &[ping.as_str(), "nothing"])?, &["NET_RAW"])?;
    let without = format!("setpriv --bounding-set=-net_raw {ping} nothing");
    ensure!(program::shell(&without).is_err(), "it is executed without the capability");
    Ok(())
}

fn not_forced(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let ping = file(machine, &scratch, "setfcap_permitted")?;
    expect(&record(machine, &scratch, &[ping.as_str(), "nothing"])?, &[])?;
    program::shell(&format!("setpriv --bounding-set=-net_raw {ping} nothing"))?;
    Ok(())
}

/// One that has the capability only when it is executed for the second time.
fn changes(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (caps, ping) = (machine.fixture("caps")?, scratch.join("ping"));
    let script =
        format!("cp {caps} {ping} && {ping} nothing && {caps} setfcap {ping} && {ping} nothing");
    let recorded = record(machine, &scratch, &["/bin/sh", "-c", &script])?;
    let required = recorded.emitted().capabilities()?;
    ensure!(required.contains("NET_RAW"), "{required:?}\n{}", recorded.output.text());
    Ok(())
}

/// Two children of a shell that end at once, in the container's own file system: what is emitted lets them be executed, and
/// less does not.
fn in_container(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    file(machine, &scratch, "setfcap")?;
    let data = format!("{}:/data:ro", scratch.path());
    let script = "cp --preserve=xattr /data/ping /ping && /ping nothing && cd / && ./ping nothing && sleep 0.2 && echo both; exit $?";
    let container = engine.name("files");
    let run = |options: &[&str]| {
        let fixed = ["--rm", "--network=none", "--volume", &data];
        let command = ["localhost/debian:bookworm", "/bin/sh", "-c", script];
        container.run(&[&fixed, options, &command].concat())
    };
    let permissive = format!("seccomp={}", machine.permissive());
    let options = ["--security-opt", &permissive, "--cap-add=SETFCAP"];
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    run(&options)?.expect(0)?;
    let recorded = session.finish()?.expect(0)?;
    expect(&recorded, &["NET_RAW", "SETFCAP"])?;

    let filter = format!("seccomp={}", recorded.emitted().path("seccomp.json"));
    let with = |capabilities: &[&'static str]| {
        let fixed = ["--security-opt", filter.as_str(), "--cap-drop=ALL"];
        run(&[&fixed, capabilities].concat())
    };
    let both = with(&["--cap-add=NET_RAW", "--cap-add=SETFCAP"])?.expect(0)?;
    ensure!(both.stdout.ends_with("both\n"), "{}", both.stdout);
    let less = with(&["--cap-add=SETFCAP"])?.expect(126)?;
    ensure!(less.stderr.contains("Operation not permitted"), "{}", less.stderr);
    Ok(())
}

fn expect(recorded: &Recorded, needs: &[&str]) -> Result<()> {
    let required = recorded.emitted().capabilities()?;
    let needs: BTreeSet<String> = needs.iter().map(|name| (*name).to_owned()).collect();
    let missing = recorded.recording()?.missing();
    let unread = missing.contains("unread");
    let text = recorded.output.text();
    ensure!(required == needs && !unread, "{required:?} are required, not {needs:?}\n{text}");
    Ok(())
}
