//! A web server of podman's: a copy under its profile holds, fails without what it needs, and its neighbour without the
//! profile is noticed.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    harness::{
        machine::{Machine, Need},
        pair::{Filter, Options, Pair, Sandbox},
        program::{self, Running},
        record::Record,
        test::Test,
    },
    verify::runs::{Said, command, said, without},
};

const PAIR: Pair = Pair { runtime: "runc", engine: "podman" };
const NEEDS: [Need; 3] = [Need::Bpf, Need::Tool("gcc", "gcc"), Need::Pair(PAIR)];
const LIMIT: Duration = Duration::from_secs(120);

/// busybox's httpd; nothing ends it but a signal.
const SERVER: [&str; 7] = ["/bin/busybox", "httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/etc"];
/// Unlike wget, which waits for an answer only when it is late, this makes the same calls each time.
const REQUEST: &str = "/bin/busybox nc 127.0.0.1 8080";

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![Test::new("verify::a_web_server_of_podman", &NEEDS, web)]
}

fn web(machine: &Machine) -> Result<()> {
    let (scratch, podman) = (machine.scratch()?, Podman::of(machine)?);
    let dir = scratch.join("out");
    let mut original = PAIR.container(machine, "web");
    let session = Record::pair(machine, &dir, PAIR, &[&original.name])?.start()?;
    // the server has no handler for SIGTERM
    let options = |filter| Options {
        filter,
        more: vec!["--stop-timeout=0".to_owned()],
        ..Options::default()
    };
    let permissive = options(Filter::File(machine.permissive()));
    let client = podman.serve(&mut original, &permissive)?;
    original.kill()?;
    client.wait(LIMIT)?;
    session.finish()?.expect(0)?;

    let copy = ["--copy-of", original.name.as_str()];
    let line = podman.request("$PROFILER_CONTAINER");
    let held = podman.verify(&dir, &copy, &line)?.expect(0, "holds")?;
    ensure!(held.json["in_force"]["evidence"] == "kernel", "{}", held.json);
    // the server, and each request that was made from inside
    let entered = held.json["in_force"]["entered"].as_u64().unwrap_or(0);
    ensure!(entered >= 2 && held.json["in_force"]["read"] == entered, "{}", held.json);

    for gone in ["bind", "listen"] {
        let less = without(&dir, &[gone], scratch.join(gone))?;
        let said = podman.verify(&less, &copy, &line)?.expect(1, "fails")?;
        ensure!(said.denied(false).iter().any(|name| name == gone), "{gone}: {}", said.json);
    }

    for (filter, fault) in
        [(Filter::Unconfined, "unfiltered"), (permissive.filter.clone(), "another-filter")]
    {
        let mut other = PAIR.container(machine, "other");
        let client = podman.serve(&mut other, &options(filter))?;
        let said = podman.verify(&dir, &["--container", &other.name], "true")?;
        let said = said.expect(1, "fails")?;
        ensure!(said.faults().iter().any(|kind| kind == fault), "{fault}: {}", said.json);
        other.kill()?;
        client.wait(LIMIT)?;
    }
    Ok(())
}

struct Podman<'m> {
    machine: &'m Machine,
    client: Utf8PathBuf,
    host: String,
}

impl<'m> Podman<'m> {
    fn of(machine: &'m Machine) -> Result<Self> {
        let host = PAIR.host(machine)?.context("podman's service has an address")?;
        let client = machine.root.join("target/engines").join(PAIR.engine).join("podman");
        Ok(Podman { machine, client, host })
    }

    /// Asks the server from inside until it answers.
    fn request(&self, container: &str) -> String {
        let client = &self.client;
        format!(
            "for each in 1 2 3 4 5 6 7 8; do printf 'GET /passwd HTTP/1.0\\r\\n\\r\\n' | {client} exec -i {container} {REQUEST} | \
             grep root:x && exit; sleep 0.5; done; exit 1"
        )
    }

    /// Starts the server, and asks it.
    fn serve(&self, container: &mut Sandbox<'_>, options: &Options) -> Result<Running> {
        let running = container.start(options, &SERVER)?;
        let line = self.request(&container.name);
        let mut last = String::new();
        program::until("the server's answer", LIMIT, || {
            let output = program::run(&mut program::command("sh", ["-c", &line]), LIMIT);
            last = output.map_or_else(|error| format!("{error:#}"), |output| output.text());
            last.contains("root:x:0:0")
        })
        .with_context(|| last.clone())?;
        Ok(running)
    }

    fn verify(&self, profile: &Utf8Path, place: &[&str], line: &str) -> Result<Said> {
        let mut command: Command = command(self.machine, profile, place, &["sh", "-c", line]);
        said(program::run(command.env("DOCKER_HOST", &self.host), LIMIT)?)
    }
}
