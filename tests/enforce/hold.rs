//! Each server recorded under its traffic, then started anew with nothing but the emitted filter and capabilities: the
//! same traffic, with and without no-new-privileges.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use camino::Utf8Path;

use crate::{
    bound,
    enforce::{
        judge::{Processes, expect_clean},
        servers::{DATABASE, SERVERS, Server, until_database},
    },
    harness::{
        docker::{Container, Engine},
        machine::{Machine, Need},
        program,
        record::{Record, Recorded},
        test::Test,
    },
};

const NEEDS: [Need; 4] = [Need::Bpf, Need::Engine, Need::Images, Need::Tool("ps", "procps")];

/// How often a profile is enforced after each kind of recording, and how.
const PRIVILEGES: [&[&str]; 2] = [&[], &["--security-opt", "no-new-privileges"]];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for server in &SERVERS {
        for confined in ["permissive", "unconfined"] {
            let name = format!("enforce::{}_recorded_{confined}", server.name);
            tests.push(Test::new(name, &NEEDS, move |m| holds(m, server, confined)));
        }
    }
    tests.push(Test::new(
        "enforce::nginx_recorded_with_no_new_privileges",
        &NEEDS,
        no_new_privileges,
    ));
    tests
}

/// How often a server's users come while it is recorded: what it does depends on timing here and there.
pub const RECORDED_ROUNDS: usize = 3;

/// What a run of a server left to compare with.
pub struct Run {
    processes: Processes,
    log: String,
}

fn holds(machine: &Machine, server: &Server, confined: &str) -> Result<()> {
    let scratch = machine.scratch()?;
    let filter = match confined {
        "unconfined" => "seccomp=unconfined".to_owned(),
        _ => format!("seccomp={}", machine.permissive()),
    };
    let (recorded, before) = record(machine, server, scratch.path(), &["--security-opt", &filter])?;
    if confined == "permissive" {
        let recording = recorded.emitted().path("recording.json");
        bound::holds(machine, &format!("localhost/{}:1", server.name), &recording)?;
    }
    let flags = flags(&recorded)?;
    for privileges in PRIVILEGES {
        enforce(
            machine,
            server,
            &[flags.clone(), privileges.iter().map(|w| (*w).to_owned()).collect()].concat(),
            &before,
        )
        .with_context(|| format!("under {} {}", flags.join(" "), privileges.join(" ")))?;
    }
    Ok(())
}

/// Recorded with no-new-privileges, it holds with it: the runtime's part is smaller then.
fn no_new_privileges(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let server = &SERVERS[0];
    let filter = format!("seccomp={}", machine.permissive());
    let options = ["--security-opt", &filter, "--security-opt", "no-new-privileges"];
    let (recorded, before) = record(machine, server, scratch.path(), &options)?;
    let mut flags = flags(&recorded)?;
    flags.extend(["--security-opt".to_owned(), "no-new-privileges".to_owned()]);
    enforce(machine, server, &flags, &before)
}

/// Records the server while its users use it, from its creation to its end.
fn record(
    machine: &Machine,
    server: &Server,
    scratch: &Utf8Path,
    options: &[&str],
) -> Result<(Recorded, Run)> {
    let engine = machine.engine()?;
    let container = engine.name(server.name);
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .args(["--name", server.name])
        .start()?;
    let run = serve(engine, server, &container, options, RECORDED_ROUNDS)
        .context("while it is recorded")?;
    let recorded = session.finish()?.expect(0)?;
    for missing in ["startup", "shutdown", "filtered", "lost"] {
        if recorded.recording()?.missing().contains(missing) {
            bail!("{missing} is said to be missing\n{}", recorded.output.stderr);
        }
    }
    Ok((recorded, run))
}

/// Runs it under the emitted flags and compares.
fn enforce(machine: &Machine, server: &Server, flags: &[String], before: &Run) -> Result<()> {
    let engine = machine.engine()?;
    let container = engine.name(server.name);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let run = serve(engine, server, &container, &flags, 1)?;
    ensure!(
        run.processes.roles() == before.processes.roles(),
        "the processes are {:?}, and were {:?}",
        run.processes.roles(),
        before.processes.roles()
    );
    expect_clean(&run.log, &before.log)
}

/// Starts it, uses it `rounds` times, judges it and stops it.
fn serve(
    engine: &Engine,
    server: &Server,
    container: &Container<'_>,
    options: &[&str],
    rounds: usize,
) -> Result<Run> {
    let database = engine.name("database");
    let mut address = String::new();
    if server.options.iter().any(|option| option.contains("{database}")) {
        database.start(&["-e", DATABASE[0], "-e", DATABASE[1], "localhost/postgres:1"])?;
        address = database.address()?;
        until_database(engine, &address)?;
    }
    let own: Vec<String> =
        server.options.iter().map(|option| option.replace("{database}", &address)).collect();
    let image = format!("localhost/{}:1", server.name);
    let mut words: Vec<&str> = own.iter().map(String::as_str).collect();
    words.extend(options);
    words.push(&image);
    container.start(&words)?;
    let used = (|| {
        let address = container.address()?;
        match server.name {
            "postgres" => until_database(engine, &address)?,
            _ => drop(crate::enforce::traffic::connect(&address, server.port)?),
        }
        // Workers that a server starts after it listens.
        thread::sleep(Duration::from_secs(1));
        let first = Processes::of(container)?;
        for _ in 0..rounds {
            (server.traffic)(engine, &address)?;
        }
        container.expect_running()?;
        let last = Processes::of(container)?;
        first.expect_alive(&last)?;
        last.expect_unprivileged(server)?;
        anyhow::Ok(first)
    })();
    let processes = used.with_context(|| {
        // who waits for whom: the database is another container
        let waiting =
            program::shell("ps -eo pid,stat,wchan:24,args | grep -E '[p]ostgres|[g]unicorn'");
        let waiting = waiting.unwrap_or_default();
        format!("its log:\n{}\nprocesses:\n{waiting}", container.log().unwrap_or_default())
    })?;
    container.verb(&["stop", "-t", "100"])?;
    let state = container.inspect()?;
    ensure!(state["RestartCount"] == 0, "it restarted");
    let status = &state["State"]["ExitCode"];
    ensure!(
        *status == server.stopped,
        "stopped, it exits with {status}, not {}\n{}",
        server.stopped,
        container.log()?
    );
    Ok(Run { processes, log: container.log()? })
}

/// The flags that the emitted files amount to.
pub fn flags(recorded: &Recorded) -> Result<Vec<String>> {
    let emitted = recorded.emitted();
    emitted.seccomp()?;
    let mut flags = vec![
        "--security-opt".to_owned(),
        format!("seccomp={}", emitted.path("seccomp.json")),
        "--cap-drop=ALL".to_owned(),
    ];
    flags
        .extend(emitted.capabilities()?.iter().map(|capability| format!("--cap-add={capability}")));
    Ok(flags)
}
