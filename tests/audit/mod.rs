//! Audits of containers of a real engine: what is found differs as the containers do, and every piece of evidence is held against what
//! the kernel, the engine and the files themselves say.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

use crate::harness::{
    docker::{Container, Engine},
    machine::{Machine, Need},
    program::{self, Output},
    test::Test,
};

const NEEDS: [Need; 2] = [Need::Engine, Need::Tool("gcc", "gcc")];
const LIMIT: Duration = Duration::from_secs(60);
const SECRET: &str = "hunter2-5c1f";

/// The tests of this group.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("audit::a_container_with_defaults", &NEEDS, plain),
        Test::new("audit::a_hardened_container", &NEEDS, hardened),
        Test::new("audit::filters_are_told_by_what_they_decide", &NEEDS, filters),
        Test::new("audit::what_it_shares_with_the_host", &NEEDS, shares),
        Test::new("audit::names_of_nothing", &[Need::Engine], nothing),
    ]
}

fn audit(machine: &Machine, args: &[&str]) -> Result<Output> {
    let mut command = program::command(&machine.profiler, ["audit"]);
    program::run(machine.engine()?.environment(command.args(args)), LIMIT)
}

/// The rows of a container, by identifier.
fn rows(machine: &Machine, container: &Container<'_>, args: &[&str]) -> Result<Map<String, Value>> {
    let args = [&[container.name.as_str(), "--format", "json", "--fail-on", "note"], args].concat();
    let output = audit(machine, &args)?.expect(1)?;
    let document: Value = serde_json::from_str(&output.stdout)?;
    let rows = document["checks"].as_array().context("no checks")?;
    ensure!(rows.iter().all(|row| row["subject"] == container.name.as_str()), "{document}");
    let keyed =
        rows.iter().map(|row| (row["id"].as_str().unwrap_or_default().to_owned(), row.clone()));
    Ok(keyed.collect())
}

fn in_state<'r>(rows: &'r Map<String, Value>, state: &str) -> BTreeSet<&'r str> {
    rows.iter().filter(|(_, row)| row["state"] == state).map(|(id, _)| id.as_str()).collect()
}

fn expect(rows: &Map<String, Value>, id: &str, state: &str, says: &str) -> Result<()> {
    let row = rows.get(id).with_context(|| format!("no {id}"))?;
    ensure!(row["state"] == state, "{id} is not {state}: {row}");
    ensure!(row.to_string().contains(says), "{id} does not say `{says}`: {row}");
    Ok(())
}

/// A line of `/proc/PID/status` of the container's first process.
fn status(container: &Container<'_>, name: &str) -> Result<String> {
    let pid = container.inspect()?["State"]["Pid"].as_i64().context("no pid")?;
    let status = fs_err::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("no {name}"))?.trim().to_owned())
}

fn started<'e>(machine: &'e Machine, what: &str, options: &[&str]) -> Result<Container<'e>> {
    let engine: &Engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name(what);
    container.start(&[options, &[&image, "/bin/sleep", "600"]].concat())?;
    container.expect_running()?;
    Ok(container)
}

fn plain(machine: &Machine) -> Result<()> {
    let password = format!("DB_PASSWORD={SECRET}");
    let url = format!("QUEUE=amqp://app:{SECRET}@queue/");
    let container = started(
        machine,
        "plain",
        &["-e", &password, "-e", &url, "-e", "LEVEL=info", "-P", "--expose", "8080"],
    )?;
    let make = "busybox cp /bin/busybox /bin/a; chmod 4755 /bin/a; busybox cp /bin/true /tmp/b; chmod 2750 /tmp/b; chmod 2777 /tmp";
    container.exec(&["/bin/sh", "-c", make])?.expect(0)?;
    let rows = rows(machine, &container, &[])?;

    let found = in_state(&rows, "found");
    let expected = [
        "PA001", "PA004", "PA007", "PA008", "PA010", "PA021", "PA022", "PA023", "PA024", "PA026",
        "PA027", "PA029", "PA030", "PA033", "PA034", "PA035",
    ];
    // Whether the engine maps users is the machine's; so is the rest of what is not asked for here.
    let missing: Vec<_> = expected.iter().filter(|id| !found.contains(*id)).collect();
    ensure!(missing.is_empty(), "not found: {missing:?} of {found:?}");
    let more: Vec<_> =
        found.iter().filter(|id| !expected.contains(id) && **id != "PA020").collect();
    ensure!(more.is_empty(), "found, too: {more:?}");

    let uid = status(&container, "Uid")?;
    let uid = uid.split_ascii_whitespace().nth(1).context("an effective uid")?;
    expect(&rows, "PA001", "found", &format!("Uid: {uid} in"))?;
    expect(&rows, "PA004", "found", &format!("CapBnd: {} in", status(&container, "CapBnd")?))?;
    expect(&rows, "PA005", "passed", &format!("Seccomp: {} in", status(&container, "Seccomp")?))?;
    expect(&rows, "PA007", "found", "the kernel's own copy")?;
    expect(
        &rows,
        "PA008",
        "found",
        &format!("NoNewPrivs: {} in", status(&container, "NoNewPrivs")?),
    )?;
    expect(&rows, "PA034", "found", "\"DB_PASSWORD\"")?;
    expect(&rows, "PA034", "found", "QUEUE (a URL with a password)")?;
    let inspect = container.inspect()?;
    let port = &inspect["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"];
    expect(
        &rows,
        "PA027",
        "found",
        &format!("port {} to 8080/tcp", port.as_str().context("a port")?),
    )?;

    let find = ["/bin/busybox", "find", "/", "-xdev", "-type", "f", "-perm", "/6000"];
    let truth = container.exec(&find)?.expect(0)?.stdout;
    let truth: BTreeSet<&str> = truth.lines().collect();
    let evidence = rows["PA033"]["evidence"].as_array().context("evidence")?;
    let told: BTreeSet<&str> =
        evidence.iter().filter_map(|it| it.as_str()?.split(" (").next()).collect();
    ensure!(told == truth && told.contains("/bin/a"), "{told:?} instead of {truth:?}");

    for format in ["human", "json", "sarif", "markdown"] {
        let output = audit(machine, &[&container.name, "--format", format, "--all"])?.expect(1)?;
        ensure!(output.stdout.contains("DB_PASSWORD"), "{}", output.text());
        ensure!(!output.text().contains(SECRET), "the value of a secret is printed as {format}");
    }
    audit(machine, &[&container.name, "--fail-on", "error"])?.expect(0)?;
    Ok(())
}

fn hardened(machine: &Machine) -> Result<()> {
    let labels = ["source", "revision", "version", "licenses"]
        .map(|name| format!("--label=org.opencontainers.image.{name}=x"));
    let mut options: Vec<&str> = "--user 1000:1000 --cap-drop ALL --security-opt no-new-privileges --read-only --tmpfs /tmp \
        -m 64m --memory-reservation 32m --pids-limit 50 --cpus 0.5 --health-cmd true --network none"
        .split_ascii_whitespace()
        .collect();
    options.extend(labels.iter().map(String::as_str));
    let container = started(machine, "hard", &options)?;
    let rows = rows(machine, &container, &[])?;
    let found = in_state(&rows, "found");
    // the filter is the default, the image is named by a tag, and the engine may map no users
    let expected: BTreeSet<&str> = ["PA007", "PA035"].into_iter().collect();
    ensure!(found.iter().all(|id| expected.contains(id) || *id == "PA020"), "{found:?}");
    ensure!(expected.is_subset(&found), "{found:?}");
    audit(machine, &[&container.name])?.expect(0)?;

    ensure!(status(&container, "CapBnd")?.bytes().all(|digit| digit == b'0'));
    expect(&rows, "PA001", "passed", "Uid: 1000 in")?;
    expect(&rows, "PA003", "passed", "CapBnd: 0000000000000000 in")?;
    expect(
        &rows,
        "PA008",
        "passed",
        &format!("NoNewPrivs: {} in", status(&container, "NoNewPrivs")?),
    )?;
    expect(&rows, "PA010", "passed", "tmpfs at /tmp (rw)")?;
    let host = &container.inspect()?["HostConfig"];
    expect(&rows, "PA021", "passed", &format!("at most {} bytes", host["Memory"]))?;
    expect(&rows, "PA022", "passed", &format!("at most {}", host["PidsLimit"]))?;
    expect(&rows, "PA024", "passed", &format!("memory {} bytes", host["MemoryReservation"]))?;
    ensure!(host["NanoCpus"] == 500_000_000, "{host}");
    expect(&rows, "PA023", "passed", "0.500 processors")
}

fn filters(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let write = |name: &str, text: &str| -> Result<String> {
        let path = scratch.join(name);
        fs_err::write(&path, text)?;
        Ok(format!("--security-opt=seccomp={path}"))
    };
    let default =
        fs_err::read_to_string(machine.root.join("profiles/upstream/docker-default.json"))?;
    let renamed = write("strict-and-safe.json", &default)?;
    let wider = write("default.json", &default.replacen("\"accept\",", "\"accept\", \"bpf\",", 1))?;
    let permissive = format!("--security-opt=seccomp={}", machine.permissive());
    let cases: [(&str, &str, &[&str]); 4] = [
        ("renamed", &renamed, &["PA007"]),
        ("wider", &wider, &["PA006"]),
        ("permissive", &permissive, &["PA005", "PA006"]),
        ("unconfined", "--security-opt=seccomp=unconfined", &["PA005"]),
    ];
    for (name, option, expected) in cases {
        let container = started(machine, name, &["--network=none", option])?;
        let rows = rows(machine, &container, &["--no-files"])?;
        let found = in_state(&rows, "found");
        let found: Vec<&str> =
            ["PA005", "PA006", "PA007"].into_iter().filter(|id| found.contains(id)).collect();
        ensure!(found == expected, "{name}: {found:?} instead of {expected:?}");
        if name == "wider" {
            let first = rows["PA006"]["evidence"][0].as_str().context("evidence")?;
            let others = first.split(", ").all(|call| call.ends_with("bpf (critical)"));
            ensure!(first.starts_with("bpf (critical)") && others, "{first}");
            expect(&rows, "PA006", "found", "the kernel's own copy")?;
        }
        expect(&rows, "PA033", "unknown", "not read")?;
    }
    Ok(())
}

fn shares(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    fs_err::write(scratch.join("docker.sock"), "")?;
    let socket = format!("{}:/run/s:ro", scratch.join("docker.sock"));
    let own = format!("{}:/data", scratch.path());
    let options = "--pid host --network host --ipc host --uts host --device /dev/null:/dev/xnull --ulimit core=-1 \
        --cap-add SYS_PTRACE -v /etc:/x:ro -v";
    let mut options: Vec<&str> = options.split_ascii_whitespace().collect();
    options.extend([&*socket, "-v", &*own]);
    let container = started(machine, "shares", &options)?;
    let rows = rows(machine, &container, &["--no-files"])?;
    for (id, says) in [
        ("PA003", "SYS_PTRACE"),
        ("PA011", " at /data (rw)"),
        ("PA012", " at /run/s (ro)"),
        ("PA013", "/etc at /x (ro)"),
        ("PA015", "/dev/null"),
        ("PA016", ""),
        ("PA017", ""),
        ("PA018", ""),
        ("PA019", ""),
        ("PA025", "core"),
    ] {
        expect(&rows, id, "found", says)?;
    }
    let capabilities = u64::from_str_radix(&status(&container, "CapBnd")?, 16)?;
    ensure!(capabilities & 1 << 19 != 0, "SYS_PTRACE is not in {capabilities:x}");
    audit(machine, &[&container.name, "--fail-on", "error"])?.expect(1)?;
    Ok(())
}

fn nothing(machine: &Machine) -> Result<()> {
    for (name, says) in [
        ("pt-no-such", "no container `pt-no-such`"),
        ("none.yaml", "`none.yaml` is no file"),
        ("/", "is no file"),
    ] {
        let output = audit(machine, &[name])?.expect(2)?;
        ensure!(output.stdout.is_empty() && output.stderr.contains(says), "{}", output.text());
        ensure!(output.stderr.contains("\nhint: "), "{}", output.text());
    }
    Ok(())
}
