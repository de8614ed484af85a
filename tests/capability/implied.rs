//! Capabilities that are needed without any check, programs that give up privileges, and denials by their class.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use crate::harness::{
    machine::{Machine, Need, Scratch},
    program,
    record::{Record, Recorded},
    test::Test,
};

const HOST: [Need; 3] = [Need::Bpf, Need::Tool("gcc", "gcc"), Need::Tool("setpriv", "util-linux")];
const ENGINE: [Need; 4] = [Need::Bpf, Need::Engine, Need::Images, Need::Tool("gosu", "gosu")];

/// Entry points that give up root, in the Debian image: what they are, what they are given, what they need.
///
/// `su` tells the kernel's audit of it, too.
const DROPS: [(&str, &[&str], &[&str]); 3] = [
    (
        "setpriv",
        &["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "id"],
        &["SETGID", "SETUID"],
    ),
    ("gosu", &["/data/gosu", "1000:1000", "id"], &["SETGID", "SETUID"]),
    ("su", &["su", "-s", "/usr/bin/id", "nobody"], &["AUDIT_WRITE", "SETGID", "SETUID"]),
];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("capability::kept_by_capset", &HOST, |m| on_host(m, "capset_keep", "NET_RAW")),
        Test::new("capability::raised_to_ambient", &HOST, |m| on_host(m, "ambient", "NET_RAW")),
        Test::new("capability::given_by_a_file", &HOST, given_by_a_file),
        Test::new("capability::of_a_setuid_program", &HOST, setuid_program),
        Test::new("capability::of_access_by_the_real_user", &HOST, by_access),
        Test::new("capability::probed_and_the_runtimes_own", &ENGINE, other_classes),
        Test::new("capability::denied_in_a_container", &ENGINE, all_denied),
        Test::new("capability::shell_script_in_a_container", &ENGINE, script_in_container),
    ];
    for (name, command, needs) in DROPS {
        let test = move |machine: &Machine| gives_up(machine, command, needs);
        tests.push(Test::new(format!("capability::{name}_gives_up_root"), &ENGINE, test));
    }
    tests
}

/// CAP_NET_RAW is number 13.
fn on_host(machine: &Machine, what: &str, capability: &str) -> Result<()> {
    let scratch = machine.scratch()?;
    let caps = machine.fixture("caps")?;
    let recorded = Record::new(machine, scratch.join("out"))
        .workload([caps.as_str(), what, "13"])
        .run()?
        .expect(0)?;
    expect(&recorded, &[capability])
}

/// A copy of the fixture that user 1000 can reach.
fn copy(machine: &Machine, scratch: &Scratch) -> Result<Utf8PathBuf> {
    let path = scratch.join("caps");
    fs_err::copy(machine.fixture("caps")?, &path)?;
    program::shell(&format!("chmod 755 {} {path}", scratch.path()))?;
    Ok(path)
}

/// Nothing but the execve itself needs the file's capability.
fn given_by_a_file(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let caps = copy(machine, &scratch)?;
    program::shell(&format!("{} setfcap {caps}", machine.fixture("caps")?))?;
    expect(&as_user(machine, &scratch, &caps, "nothing")?, &["NET_RAW", "SETGID", "SETUID"])
}

/// What a program owned by root uses after it was executed by a user.
fn setuid_program(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let caps = copy(machine, &scratch)?;
    program::shell(&format!("chmod 4755 {caps}"))?;
    expect(&as_user(machine, &scratch, &caps, "raw_socket")?, &["NET_RAW", "SETGID", "SETUID"])
}

/// access(2) asks on behalf of the real user: the kernel lends the thread credentials for it.
fn by_access(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (caps, other) = (copy(machine, &scratch)?, scratch.join("other"));
    program::shell(&format!("touch {other} && chown 1000:1000 {other} && chmod 600 {other}"))?;
    let recorded = Record::new(machine, scratch.join("out"))
        .workload([caps.as_str(), "access_other", other.as_str()])
        .run()?
        .expect(0)?;
    expect(&recorded, &["DAC_READ_SEARCH", "SETUID"])
}

/// A call that fails although it has the capability, and what only the runtime does.
fn other_classes(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let no_such_group = "/bin/caps setgroups 4294967295; true";
    let (recorded, _) = shell_in_container(machine, &scratch, &[], no_such_group)?;
    expect(&recorded, &[])?;
    let probed = class(&recorded, "probed")?;
    ensure!(probed == BTreeSet::from(["SETGID".to_owned()]), "probed are {probed:?}");
    let runtime = class(&recorded, "runtime")?;
    ensure!(runtime.contains("SETUID") && runtime.contains("SETPCAP"), "runc's are {runtime:?}");
    Ok(())
}

fn as_user(machine: &Machine, scratch: &Scratch, caps: &Utf8Path, what: &str) -> Result<Recorded> {
    let drop = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
    let words = drop.iter().copied().chain([caps.as_str(), what]);
    Record::new(machine, scratch.join("out")).workload(words).run()?.expect(0)
}

/// Recorded with what engines give, and then run with the emitted list alone.
fn gives_up(machine: &Machine, command: &[&str], needs: &[&str]) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let container = engine.name("drop");
    fs_err::create_dir(scratch.join("data"))?;
    program::shell(&format!("cp $(command -v gosu) {}", scratch.join("data/gosu")))?;
    let data = format!("{}:/data", scratch.join("data"));
    let permissive = format!("seccomp={}", machine.permissive());
    let run = |options: &[&str]| {
        let fixed = ["--rm", "--network=none", "--volume", &data];
        container.run(&[&fixed, options, &["localhost/debian:bookworm"], command].concat())
    };
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    let before = run(&["--security-opt", &permissive])?.expect(0)?;
    let recorded = session.finish()?.expect(0)?;
    ensure!(!before.stdout.contains("uid=0"), "it is still root: {}", before.stdout);
    expect(&recorded, needs)?;

    let filter = format!("seccomp={}", recorded.emitted().path("seccomp.json"));
    let added: Vec<String> = needs.iter().map(|name| format!("--cap-add={name}")).collect();
    let mut options = vec!["--security-opt", &filter, "--cap-drop=ALL"];
    options.extend(added.iter().map(String::as_str));
    let after = run(&options)?.expect(0)?;
    ensure!(after.stdout == before.stdout, "{:?}, before {:?}", after.stdout, before.stdout);
    Ok(())
}

/// With none granted, each program's capability is told as refused, and none is added.
fn all_denied(machine: &Machine) -> Result<()> {
    const REFUSED: [(&str, &str); 9] = [
        ("bind_low 923", "NET_BIND_SERVICE"),
        ("chown_other /tmp/new", "CHOWN"),
        ("raw_socket", "NET_RAW"),
        ("setuid 1000", "SETUID"),
        ("setgid 1000", "SETGID"),
        ("mknod /tmp/null", "MKNOD"),
        ("chroot", "SYS_CHROOT"),
        ("drop_bounding", "SETPCAP"),
        ("sethostname", "SYS_ADMIN"),
    ];
    let scratch = machine.scratch()?;
    let script: Vec<String> = REFUSED
        .iter()
        .map(|(program, _)| format!("/bin/caps {program} && echo {program} worked"))
        .collect();
    let script = format!("{}; true", script.join("; "));
    let options =
        ["--cap-drop=ALL", "--tmpfs=/tmp", "--sysctl=net.ipv4.ip_unprivileged_port_start=1024"];
    let (recorded, output) = shell_in_container(machine, &scratch, &options, &script)?;
    ensure!(!output.contains("worked"), "{output}");
    expect(&recorded, &[])?;
    let denied = class(&recorded, "denied")?;
    let expected: BTreeSet<String> = REFUSED.iter().map(|(_, name)| (*name).to_owned()).collect();
    ensure!(denied == expected, "denied are {denied:?}, not {expected:?}");
    Ok(())
}

/// Four commands and three capabilities: seventeen checks are refused, and none of them matters.
fn script_in_container(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let options = ["--cap-drop=ALL", "--cap-add=CHOWN", "--cap-add=SETUID", "--cap-add=SETGID"];
    let (recorded, _) = shell_in_container(
        machine,
        &scratch,
        &options,
        "ls -l /bin; cat /etc/passwd; sleep 0.1; echo done",
    )?;
    expect(&recorded, &[])?;
    let denied = class(&recorded, "denied")?;
    ensure!(denied.is_empty(), "{denied:?} are told as refused");
    Ok(())
}

fn shell_in_container(
    machine: &Machine,
    scratch: &Scratch,
    options: &[&str],
    script: &str,
) -> Result<(Recorded, String)> {
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("shell");
    let permissive = format!("seccomp={}", machine.permissive());
    let fixed = ["--rm", "--network=none", "--security-opt", &permissive];
    let command = [image.as_str(), "/bin/sh", "-c", script];
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    let ran = container.run(&[&fixed, options, &command].concat())?.expect(0)?;
    Ok((session.finish()?.expect(0)?, ran.stdout))
}

fn expect(recorded: &Recorded, needs: &[&str]) -> Result<()> {
    let required = recorded.emitted().capabilities()?;
    let needs: BTreeSet<String> = needs.iter().map(|name| (*name).to_owned()).collect();
    ensure!(
        required == needs,
        "{required:?} are required, not {needs:?}\n{}",
        recorded.output.text()
    );
    Ok(())
}

/// The names in one list of profile.json's capabilities.
fn class(recorded: &Recorded, class: &str) -> Result<BTreeSet<String>> {
    let profile = recorded.emitted().path("profile.json");
    let profile: serde_json::Value = serde_json::from_slice(&fs_err::read(profile)?)?;
    let rules = profile["capabilities"][class].as_array().context("a list")?;
    Ok(rules.iter().filter_map(|rule| rule["name"].as_str().map(str::to_owned)).collect())
}
