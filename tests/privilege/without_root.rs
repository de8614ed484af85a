//! Recording as a user with a few capabilities gives what root gets, and without them says which one lacks.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::NEEDS;
use crate::{
    badinput::refuse::{expect_refusal, public_copy},
    harness::{
        evidence::Emitted,
        machine::{Machine, Need},
        program,
        record::{Record, Recorded},
        relay::Relay,
        test::Test,
    },
    scope::tree::Tree,
};

const SETPRIV: Need = Need::Tool("setpriv", "util-linux");

/// All that docs/security.md names for a recording.
const ALL: &str = "bpf perfmon syslog sys_ptrace dac_read_search sys_nice";

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let host = [NEEDS.as_slice(), &[SETPRIV]].concat();
    let engine = [host.as_slice(), &[Need::Engine]].concat();
    vec![
        Test::new("privilege::a_cgroup_is_recorded_as_by_root", &host, cgroup),
        Test::new("privilege::a_container_is_recorded_as_by_root", &engine, container),
        Test::new("privilege::a_command_is_recorded_as_by_root", &host, command),
        Test::new("privilege::what_lacks_is_named", &[Need::Bpf, SETPRIV], lacking),
    ]
}

/// Becomes nobody, with these capabilities and no other.
fn as_nobody(capabilities: &str) -> Vec<String> {
    let added: String = capabilities.split(' ').map(|name| format!(",+{name}")).collect();
    let added = if capabilities.is_empty() { String::new() } else { added };
    let mut words =
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned).to_vec();
    for set in ["inh-caps", "ambient-caps", "bounding-set"] {
        words.push(format!("--{set}=-all{added}"));
    }
    words
}

/// The same calls, with the same arguments, and the same capabilities. How each call ended that a check was made in, only one of two recorders may have
/// seen.
fn expect_same(by_user: &Recorded, by_root: &Recorded) -> Result<()> {
    let (ours, theirs) = (by_user.emitted(), by_root.emitted());
    let text = |emitted: &Emitted| fs_err::read_to_string(emitted.path("seccomp.json"));
    let (filter, roots) = (text(&ours)?, text(&theirs)?);
    ensure!(filter == roots, "root's filter is another one:\n{roots}\nnot\n{filter}");
    let (needed, roots) = (ours.capabilities()?, theirs.capabilities()?);
    ensure!(needed == roots, "by root {roots:?} are needed, not {needed:?}");
    let (missing, roots) = (by_user.recording()?.missing(), by_root.recording()?.missing());
    ensure!(missing == roots, "root misses {roots:?}, not {missing:?}");
    Ok(())
}

/// Two recorders look at the same processes: root's in the cgroup of a third. These execute a file that forces a capability, in a
/// directory that is another user's, and check a capability after the recorder has let go of `sys_exit`.
fn cgroup(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let copy = public_copy(machine, scratch.path())?;
    let (caps, calls) = (machine.fixture("caps")?, machine.fixture("calls")?);
    let locked = scratch.join("locked");
    program::shell(&format!(
        "mkdir {locked} && cp {caps} {locked}/ping && {caps} setfcap {locked}/ping && chown 1:1 {locked} && chmod 700 {locked}"
    ))?;
    let tree = Tree::absent()?;
    tree.create()?;
    let target = ["--cgroup", tree.path.as_str()];
    let by_root = Record::new(machine, scratch.join("root")).args(target).start()?;
    let by_user =
        Record::by(&copy, scratch.join("user")).args(target).under(as_nobody(ALL)).start()?;
    let script = format!(
        "{locked}/ping nothing; {calls} -q 278; sleep 6; chown 1 {0} && chown 2 {0}; sleep 1; chown 3 {0}",
        scratch.join("profiler")
    );
    program::shell(&format!("echo $$ >{} && exec sh -c '{script}'", tree.procs()))?;
    tree.remove()?;
    let (by_root, by_user) = (by_root.finish()?.expect(0)?, by_user.finish()?.expect(0)?);
    expect_same(&by_user, &by_root)?;
    let needed = by_user.emitted().capabilities()?;
    ensure!(needed.contains("NET_RAW") && needed.contains("CHOWN"), "{needed:?}");
    ensure!(!by_user.output.stderr.contains("without CAP_"), "{}", by_user.output.stderr);
    Ok(())
}

/// Over a socket to which everyone may write.
fn container(machine: &Machine) -> Result<()> {
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let scratch = machine.scratch()?;
    let copy = public_copy(machine, scratch.path())?;
    let socket = scratch.join("engine");
    let relay = Relay::start(engine.host(), &socket)?;
    program::shell(&format!("chmod 666 {socket}"))?;
    let container = engine.name("nobody");
    let by_root = Record::containers(machine, scratch.join("root"), &[&container.name])?.start()?;
    let by_user = Record::by(&copy, scratch.join("user"))
        .args(["--container", &container.name])
        .env("DOCKER_HOST", relay.host())
        .under(as_nobody(ALL))
        .start()?;
    let permissive = format!("--security-opt=seccomp={}", machine.permissive());
    container
        .run(&["--rm", "--network=none", &permissive, &image, "/bin/calls", "-q", "278"])?
        .expect(0)?;
    let (by_root, by_user) = (by_root.finish()?.expect(0)?, by_user.finish()?.expect(0)?);
    expect_same(&by_user, &by_root)?;
    by_user.recording()?.expect_numbers(&[278])
}

/// In a cgroup of the user's own.
fn command(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let copy = public_copy(machine, scratch.path())?;
    let calls = machine.fixture("calls")?;
    fs_err::copy(&calls, scratch.join("calls"))?;
    let workload = [scratch.join("calls").into_string(), "-q".to_owned(), "278".to_owned()];
    let tree = Tree::absent()?;
    tree.create()?;
    let enter = format!("echo $$ >{} && exec \"$0\" \"$@\"", tree.procs());
    let inside =
        |words: Vec<String>| [["sh", "-c", &enter].map(str::to_owned).to_vec(), words].concat();

    let refused = Record::by(&copy, scratch.join("refused"))
        .workload(&workload)
        .under(inside(as_nobody(ALL)))
        .run()?;
    expect_refusal(&refused.output, &["cannot create cgroup", tree.dir.as_str()])?;
    program::shell(&format!("chown 65534 {} {}", tree.dir, tree.procs()))?;
    let by_user = Record::by(&copy, scratch.join("user"))
        .workload(&workload)
        .under(inside(as_nobody(ALL)))
        .run()?
        .expect(0)?;
    let by_root =
        Record::new(machine, scratch.join("root")).workload(&workload).run()?.expect(0)?;
    expect_same(&by_user, &by_root)?;
    by_user.recording()?.expect_numbers(&[278])
}

fn lacking(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let copy = public_copy(machine, scratch.path())?;
    let run = |capabilities: &str, args: &[&str]| {
        let words = as_nobody(capabilities);
        let args = words[1..]
            .iter()
            .map(String::as_str)
            .chain([copy.as_str()])
            .chain(args.iter().copied());
        program::run(&mut program::command(&words[0], args), Duration::from_secs(30))
    };
    let out = scratch.join("out");
    let record = ["record", "--cgroup", "/pt-nobody", "-o", out.as_str(), "--", "/bin/true"];
    for (capabilities, words) in [
        ("", &["CAP_BPF, CAP_PERFMON\n", "root"][..]),
        ("bpf", &["CAP_PERFMON\n"]),
        ("perfmon", &["CAP_BPF\n"]),
    ] {
        let output = run(capabilities, &record)?;
        expect_refusal(&output, words)?;
        ensure!(!out.exists(), "an output directory was made");
    }
    // it records, and says what that is worth
    let told = run("bpf perfmon", &record)?;
    for name in ["CAP_SYSLOG", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"] {
        ensure!(told.stderr.contains(&format!("warning: without {name}, ")), "{}", told.text());
    }
    let verify =
        ["verify", &*machine.permissive().into_string(), "--", "/bin/true"].map(str::to_owned);
    let verify: Vec<&str> = verify.iter().map(String::as_str).collect();
    expect_refusal(&run(ALL, &verify)?, &["CAP_SYS_ADMIN, CAP_SETPCAP"])
}
