//! Programs that need exactly one capability, as root on the host with all of them, and in containers with only that one.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

use crate::harness::{
    machine::{Machine, Need, Scratch},
    program::{self, Running},
    record::{Record, Recorded},
    test::Test,
};

const HOST: [Need; 3] = [Need::Bpf, Need::Tool("gcc", "gcc"), Need::Tool("setpriv", "util-linux")];
const ENGINE: [Need; 3] = [Need::Bpf, Need::Engine, Need::Tool("gcc", "gcc")];

/// What a subcommand of `caps` is given.
enum Argument {
    None,
    Word(&'static str),
    /// A new file's path.
    NewFile,
    /// A file of user 1000 and this group, with this mode.
    OtherFile(u32, u32),
    /// A file of this user and group 1000.
    GroupFile,
    /// A process of user 1000.
    OtherProcess,
}
use Argument::{GroupFile, NewFile, None as Nothing, OtherFile, OtherProcess, Word};

/// Subcommand, its argument, the capability that it needs.
const PROGRAMS: [(&str, Argument, &str); 27] = [
    ("bind_low", Word("923"), "NET_BIND_SERVICE"),
    ("chown_other", NewFile, "CHOWN"),
    ("raw_socket", Nothing, "NET_RAW"),
    ("setuid", Word("1000"), "SETUID"),
    ("setgid", Word("1000"), "SETGID"),
    ("setgroups", Word("1000"), "SETGID"),
    ("mknod", NewFile, "MKNOD"),
    ("nice", Nothing, "SYS_NICE"),
    ("kill_other", OtherProcess, "KILL"),
    ("write_other", OtherFile(1000, 0o600), "DAC_OVERRIDE"),
    // With every capability at hand the kernel takes the smaller one for reading.
    ("read_other", OtherFile(1000, 0o600), "DAC_READ_SEARCH"),
    ("chmod_other", OtherFile(0, 0o644), "FOWNER"),
    // The kernel also tries FSETID here, to keep a set-group-ID bit that the mode does not have.
    ("chmod_other", OtherFile(1000, 0o644), "FOWNER"),
    ("fsetid", GroupFile, "FSETID"),
    ("lease_other", OtherFile(0, 0o644), "LEASE"),
    ("chroot", Nothing, "SYS_CHROOT"),
    ("sethostname", Nothing, "SYS_ADMIN"),
    ("loopback_up", Nothing, "NET_ADMIN"),
    ("mlock", Nothing, "IPC_LOCK"),
    ("ptrace", OtherProcess, "SYS_PTRACE"),
    ("audit", Nothing, "AUDIT_WRITE"),
    ("setfcap", NewFile, "SETFCAP"),
    ("drop_bounding", Nothing, "SETPCAP"),
    ("syslog", Nothing, "SYSLOG"),
    ("wake_alarm", Nothing, "WAKE_ALARM"),
    ("vhangup", Nothing, "SYS_TTY_CONFIG"),
    ("alloc_only", Nothing, ""),
];

/// Subcommand with arguments, in a container that may do exactly what it needs, and that.
const CONTAINERS: [(&[&str], &str); 15] = [
    (&["bind_low", "923"], "NET_BIND_SERVICE"),
    (&["chown_other", "/tmp/new"], "CHOWN"),
    (&["raw_socket"], "NET_RAW"),
    (&["setuid", "1000"], "SETUID"),
    (&["setgid", "1000"], "SETGID"),
    (&["mknod", "/tmp/null"], "MKNOD"),
    (&["nice"], "SYS_NICE"),
    (&["write_other", "/data/other"], "DAC_OVERRIDE"),
    // Without DAC_READ_SEARCH, which containers have not, it takes the larger one.
    (&["read_other", "/data/other"], "DAC_OVERRIDE"),
    (&["chmod_other", "/data/other"], "FOWNER"),
    (&["chroot"], "SYS_CHROOT"),
    (&["loopback_up"], "NET_ADMIN"),
    (&["setfcap", "/tmp/file"], "SETFCAP"),
    (&["drop_bounding"], "SETPCAP"),
    (&["mlock"], "IPC_LOCK"),
];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (number, (what, argument, capability)) in PROGRAMS.iter().enumerate() {
        let twin = PROGRAMS[..number].iter().any(|(earlier, ..)| earlier == what);
        let name = format!("capability::host_{what}{}", if twin { "_of_its_group" } else { "" });
        let test = Test::new(name, &HOST, move |m| on_host(m, what, argument, capability));
        // the rest are in `ways` together, which takes less time
        let everywhere = matches!(*what, "kill_other" | "ptrace" | "alloc_only");
        tests.push(if everywhere { test.on_every_machine() } else { test });
    }
    for (args, capability) in CONTAINERS {
        let name = format!("capability::container_{}", args[0]);
        tests.push(Test::new(name, &ENGINE, move |m| in_container(m, args, capability)));
    }
    tests.extend([
        Test::new("capability::host_denial_that_is_ignored", &HOST, shrug_on_host)
            .on_every_machine(),
        Test::new("capability::container_denial_that_is_ignored", &ENGINE, shrug_in_container),
        Test::new("capability::container_that_allocates", &ENGINE, |m| {
            in_container(m, &["alloc_only"], "")
        }),
        Test::new("capability::shell_script_needs_none", &HOST, shell_script).on_every_machine(),
        Test::new("capability::success_after_outcomes_are_watched", &HOST, late_success),
    ]);
    tests
}

/// The port is taken at first, and free when the recorder has long stopped to watch how calls end.
fn late_success(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let caps = machine.fixture("caps")?;
    let taken = std::net::TcpListener::bind(("0.0.0.0", 925))?;
    let script = format!("{caps} bind_low 925; sleep 9; {caps} bind_low 925");
    let free = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(5));
        drop(taken);
    });
    let recorded = Record::new(machine, scratch.join("out"))
        .workload(["sh", "-c", &script])
        .run()?
        .expect(0)?;
    ensure!(free.join().is_ok(), "the port's holder panicked");
    expect_exactly(&recorded, "NET_BIND_SERVICE")
}

fn on_host(machine: &Machine, what: &str, argument: &Argument, capability: &str) -> Result<()> {
    let scratch = machine.scratch()?;
    let caps = machine.fixture("caps")?;
    let (argument, _other) = prepare(&scratch, argument)?;
    let mut workload = vec![caps.as_str(), what];
    workload.extend(argument.as_deref());
    let mut record =
        Record::new(machine, scratch.join("out")).current_dir(scratch.path()).workload(workload);
    if what == "loopback_up" {
        record = record.under(["unshare", "--net"]); // not the host's
    }
    let recorded = record.run()?.expect(0)?;
    ensure!(
        recorded.output.stdout.ends_with(&format!("{what} ok\n")),
        "{}",
        recorded.output.text()
    );
    expect_exactly(&recorded, capability)
}

fn prepare(scratch: &Scratch, argument: &Argument) -> Result<(Option<String>, Option<Running>)> {
    Ok(match argument {
        Nothing => (None, None),
        Word(word) => (Some((*word).to_owned()), None),
        NewFile => (Some(scratch.join("new").into_string()), None),
        OtherFile(group, mode) => {
            let path = scratch.join("other");
            other_file(&path, *group, *mode)?;
            (Some(path.into_string()), None)
        }
        GroupFile => {
            let path = scratch.join("group");
            fs_err::write(&path, "x")?;
            program::shell(&format!("chown 0:1000 {path}"))?;
            (Some(path.into_string()), None)
        }
        OtherProcess => {
            let mut other = program::command(
                "setpriv",
                ["--reuid=1000", "--regid=1000", "--clear-groups", "sleep", "1000"],
            );
            let other = program::start(&mut other, &[])?;
            let status = format!("/proc/{}/status", other.pid());
            program::until("a process of user 1000", Duration::from_secs(5), || {
                fs_err::read_to_string(&status).is_ok_and(|text| {
                    text.contains("Uid:\t1000\t1000") && text.contains("Name:\tsleep")
                })
            })?;
            (Some(other.pid().to_string()), Some(other))
        }
    })
}

fn other_file(path: &Utf8Path, group: u32, mode: u32) -> Result<()> {
    fs_err::write(path, "x")?;
    program::shell(&format!("chmod {mode:o} {path} && chown 1000:{group} {path}"))?;
    Ok(())
}

fn in_container(machine: &Machine, args: &[&str], capability: &str) -> Result<()> {
    let only = format!("--cap-add={capability}");
    let mut options = vec!["--cap-drop=ALL"];
    if !capability.is_empty() {
        options.push(&only);
    }
    let scratch = machine.scratch()?;
    let recorded = record_container(machine, &scratch, &options, args)?;
    expect_exactly(&recorded, capability)
}

fn record_container(
    machine: &Machine,
    scratch: &Scratch,
    options: &[&str],
    args: &[&str],
) -> Result<Recorded> {
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("caps");
    fs_err::create_dir(scratch.join("data"))?;
    other_file(&scratch.join("data/other"), 0, 0o600)?;
    let data = format!("{}:/data", scratch.join("data"));
    let seccomp = format!("seccomp={}", machine.permissive());
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    let mut words = vec![
        "--network=none",
        "--sysctl=net.ipv4.ip_unprivileged_port_start=1024",
        "--security-opt",
        &seccomp,
        "--volume",
        &data,
        "--tmpfs=/tmp",
    ];
    words.extend(options);
    words.extend([image.as_str(), "/bin/caps"]);
    words.extend(args);
    let ran = container.run(&words)?.expect(0)?;
    ensure!(ran.stdout.ends_with(&format!("{} ok\n", args[0])), "{}", ran.text());
    session.finish()?.expect(0)
}

fn shrug_on_host(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let caps = machine.fixture("caps")?;
    let recorded = Record::new(machine, scratch.join("out"))
        .workload([caps.as_str(), "shrug"])
        .run()?
        .expect(0)?;
    expect_denied_not_added(&recorded)
}

fn shrug_in_container(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded = record_container(machine, &scratch, &["--cap-drop=ALL"], &["shrug"])?;
    expect_denied_not_added(&recorded)
}

/// NET_RAW (13) was refused: the evidence and the summary say so, the profile does not add it.
fn expect_denied_not_added(recorded: &Recorded) -> Result<()> {
    expect_exactly(recorded, "")?;
    let recording = recorded.recording()?;
    let told = recording.facts("capabilities").any(|fact| {
        fact["capability"] == 13 && fact["verdict"] == "denied" && fact["phase"] == "workload"
    });
    ensure!(told, "the refusal is not in the recording: {}", recording.json["capabilities"]);
    recorded.says("NET_RAW")
}

fn expect_exactly(recorded: &Recorded, capability: &str) -> Result<()> {
    let expected: BTreeSet<_> =
        [capability.to_owned()].into_iter().filter(|name| !name.is_empty()).collect();
    let added = recorded.emitted().capabilities()?;
    let evidence = || {
        let recording = recorded.recording().context("evidence")?;
        anyhow::Ok(
            recording.facts("capabilities").map(|fact| format!("{fact}\n")).collect::<String>(),
        )
    };
    ensure!(
        added == expected,
        "{added:?} are added, {expected:?} are needed; evidence:\n{}",
        evidence()?
    );
    Ok(())
}

/// A shell with children causes a dozen checks, as root with everything granted: none of them is a need.
fn shell_script(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let script = "ls -l /etc >f; sort f | head -3; (cd /; cat /proc/meminfo) | wc -l; rm f; ulimit -n 64; kill -0 $$";
    let recorded = Record::new(machine, scratch.join("out"))
        .current_dir(scratch.path())
        .workload(["/bin/sh", "-c", script])
        .run()?
        .expect(0)?;
    expect_exactly(&recorded, "")
}
