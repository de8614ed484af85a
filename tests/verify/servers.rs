//! nginx, redis, PostgreSQL and Flask: recorded, verified with the profile, and found out without an entry that they need.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

use crate::{
    harness::{
        docker::{Container, Engine},
        machine::{Machine, Need},
        program,
        record::Record,
        test::Test,
    },
    verify::runs::{Network, Said, run, without},
};

const NEEDS: [Need; 3] = [Need::Bpf, Need::Engine, Need::Images];

/// How often a profile may grow until it holds: what a server does depends on timing here and there.
const GROWTHS: usize = 3;

/// A server and its test.
struct Server {
    name: &'static str,
    options: &'static [&'static str],
    /// A shell command line; `ask PORT TEXT` sends TEXT and prints the answer.
    test: &'static str,
    /// Calls without which it cannot work.
    needed: &'static [&'static str],
}

const SERVERS: [Server; 4] = [
    Server {
        name: "nginx",
        options: &[],
        test: r#"ask 80 'GET / HTTP/1.0\r\n\r\n' | grep -q 'served by nginx'"#,
        needed: &["bind", "listen"],
    },
    Server {
        name: "redis",
        options: &[],
        test: r#"ask 6379 'SET a b\r\nGET a\r\nQUIT\r\n' | grep -q '^b'"#,
        needed: &["setsockopt"],
    },
    Server {
        name: "postgres",
        options: &["-e", "POSTGRES_PASSWORD=secret"],
        // a request for TLS, which is declined
        test: r#"ask 5432 '\x00\x00\x00\x08\x04\xd2\x16\x2f' 1 | grep -q N"#,
        needed: &["listen"],
    },
    Server {
        name: "flask",
        options: &["-e", "DATABASE_URL=postgresql://postgres:secret@database/postgres"],
        test: r#"ask 8000 'GET /healthz HTTP/1.0\r\n\r\n' | grep -q '200 OK'"#,
        // gunicorn tries for five seconds before it gives up
        needed: &[],
    },
];

/// Asks until it is answered, as long as the container runs, and a while at most.
const ASK: &str = r#"
ask() {
    for try in $(seq 300); do
        if exec 3<>"/dev/tcp/$PROFILER_ADDRESS/$1"; then
            printf "$2" >&3
            if [ -n "$3" ]; then head -c "$3" <&3; else cat <&3; fi
            return
        fi 2>/dev/null
        [ "$(docker inspect -f '{{.State.Running}}' "$PROFILER_CONTAINER")" = true ] || return 1
        sleep 0.1
    done
}
"#;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    SERVERS
        .iter()
        .map(|server| {
            Test::new(format!("verify::{}", server.name), &NEEDS, move |m| holds(m, server))
        })
        .collect()
}

fn holds(machine: &Machine, server: &Server) -> Result<()> {
    let (scratch, engine) = (machine.scratch()?, machine.engine()?);
    let network = Network::new(engine, server.name)?;
    let database = engine.name("database");
    if server.options.iter().any(|option| option.contains("@database")) {
        let alias = ["--network", &network.name, "--network-alias", "database"];
        let image = ["-e", "POSTGRES_PASSWORD=secret", "localhost/postgres:1"];
        database.start(&[alias.as_slice(), &image].concat())?;
        drop(crate::enforce::connect(&database.address()?, 5432)?);
    }
    let script = format!("{ASK}\n{}", server.test);
    let tests = ["bash", "-c", &script];
    let dir = scratch.join("out");
    let container = engine.name(server.name);
    record(machine, engine, server, &network, &container, &dir)?;
    let place = ["--copy-of", container.name.as_str()];
    let mut growths = 0;
    let held = loop {
        let said = run(machine, &dir, &place, &tests)?;
        if said.output.status == 0 || growths == GROWTHS {
            break said;
        }
        growths += 1;
        container.remove();
        let more = scratch.join(&format!("more{growths}"));
        record(machine, engine, server, &network, &container, &more)?;
        let recordings = [dir.join("recording.json"), more.join("recording.json")];
        let mut generate = program::command(&machine.profiler, ["generate", "-o", dir.as_str()]);
        generate.args(recordings);
        program::run(&mut generate, Duration::from_secs(60))?.expect(0)?;
    };
    let held = held.expect(0, "holds")?;
    ensure!(held.json["in_force"]["evidence"] == "kernel", "{}", held.json);
    for name in server.needed {
        let less = without(&dir, &[name], scratch.join(name))?;
        let said: Said = run(machine, &less, &place, &tests)?.expect(1, "fails")?;
        ensure!(said.denied(false).iter().any(|denied| denied == name), "{name}: {}", said.json);
    }
    Ok(())
}

/// Records it from its first start.
fn record(
    machine: &Machine,
    engine: &Engine,
    server: &Server,
    network: &Network<'_>,
    container: &Container<'_>,
    dir: &Utf8Path,
) -> Result<()> {
    let image = format!("localhost/{}:1", server.name);
    let seccomp = format!("seccomp={}", machine.permissive());
    let mut words = vec!["create", "--name", &container.name, "--network", &network.name];
    words.extend(["--security-opt", &seccomp]);
    words.extend(server.options);
    words.push(&image);
    engine.docker(&words)?;
    let script = format!(
        "{ASK}\nPROFILER_CONTAINER={0}\ndocker start {0} && \
         PROFILER_ADDRESS=$(docker inspect -f '{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}}{{{{end}}}}' {0}) && \
         {1} && {1} && docker stop {0}",
        container.name, server.test
    );
    let session = Record::containers(machine, dir, &[&container.name])?
        .limit(Duration::from_secs(180))
        .workload(["bash", "-c", &script]);
    session.run()?.expect(0).context("while it is recorded")?;
    Ok(())
}
