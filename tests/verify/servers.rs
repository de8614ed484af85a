//! nginx, redis, PostgreSQL and Flask: recorded, verified with the profile that allows only arguments that were seen, and found
//! out without each of five entries that they need. Another program is refused what it has no business with there.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    harness::{
        docker::{Container, Engine},
        machine::{Machine, Need, Scratch},
        program,
        record::Record,
        test::Test,
    },
    verify::runs::{Network, run, without},
};

const NEEDS: [Need; 3] = [Need::Bpf, Need::Engine, Need::Images];

/// How often a run may be repeated: with a profile that has grown, or because the recorder could not tell.
const AGAIN: usize = 3;

/// Calls that are made in some runs only: where threads or processes meet at a lock, a signal comes in between, or memory is
/// given back. A first recording may lack these, and no other.
const TIMING: [&str; 10] = [
    "futex",
    "kill",
    "madvise",
    "mremap",
    "poll",
    "pselect6",
    "restart_syscall",
    "rt_sigreturn",
    "sched_yield",
    "tgkill",
];

/// A server and its test.
struct Server {
    name: &'static str,
    options: &'static [&'static str],
    /// Where its data is. It need not be made anew when an entry is missing.
    data: Option<&'static str>,
    /// A shell command line; `ask PORT TEXT` sends TEXT and prints the answer.
    test: &'static str,
    /// A first recording may lack calls of [`TIMING`]. Else it must hold as it is.
    grows: bool,
    /// Calls without which it ends, or closes the connection, or answers wrongly, each at once.
    needed: [&'static str; 5],
}

const SERVERS: [Server; 4] = [
    Server {
        name: "nginx",
        options: &[],
        data: None,
        test: r#"ask 80 'GET / HTTP/1.0\r\n\r\n' | grep -q 'served by nginx'"#,
        grows: false,
        needed: ["bind", "listen", "recvfrom", "writev", "sendfile"],
    },
    Server {
        name: "redis",
        options: &[],
        data: None,
        test: r#"ask 6379 'SET a b\r\nGET a\r\nQUIT\r\n' | grep -q '^b'"#,
        grows: false,
        needed: ["bind", "listen", "setsockopt", "pipe2", "epoll_ctl"],
    },
    Server {
        name: "postgres",
        options: &["-e", "POSTGRES_PASSWORD=secret"],
        data: Some("/var/lib/postgresql/data"),
        // a request for TLS, which is declined
        test: r#"ask 5432 '\x00\x00\x00\x08\x04\xd2\x16\x2f' 1 | grep -q N"#,
        grows: true,
        needed: ["shmget", "bind", "listen", "recvfrom", "sendto"],
    },
    Server {
        name: "flask",
        options: &["-e", "DATABASE_URL=postgresql://postgres:secret@database/postgres"],
        data: None,
        test: r#"ask 8000 'GET /healthz HTTP/1.0\r\n\r\n' | grep -q '200 OK'"#,
        grows: true,
        needed: ["clone", "getsockname", "connect", "recvfrom", "sendto"],
    },
];

/// Asks until it is answered, as long as the container runs, and a while at most. (The address of one that has ended takes
/// seconds to refuse.)
const ASK: &str = r#"
ask() {
    for try in $(seq 300); do
        [ "$(docker inspect -f '{{.State.Running}}' "$PROFILER_CONTAINER")" = true ] || return 1
        if exec 3<>"/dev/tcp/$PROFILER_ADDRESS/$1"; then
            printf "$2" >&3
            timeout 20 head -c "${3:-1000000}" <&3
            return
        fi 2>/dev/null
        sleep 0.1
    done
}
"#;

/// Only arguments that were seen.
const STRICT: [&str; 2] = ["--arguments", "strict"];

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
    let container = engine.name(server.name);
    let dir = grown(machine, &scratch, server, &network, &container)?;
    refuses(machine, engine, server, &dir)?;

    let again = engine.name(server.name);
    let mut options = vec!["--stop-timeout=1".to_owned()];
    if let Some(place) = server.data {
        let named = "{{range .Mounts}}{{.Destination}}={{.Name}}\n{{end}}";
        let mounts = container.verb(&["inspect", "--format", named])?;
        let volume = mounts.lines().find_map(|line| line.strip_prefix(place)?.strip_prefix('='));
        let volume = volume.with_context(|| format!("no volume at {place}: {mounts}"))?;
        options.extend(["-v".to_owned(), format!("{volume}:{place}")]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    create(machine, engine, server, &network, &again, &options)?;
    let place = ["--copy-of", again.name.as_str()];
    let script = script(server);
    let tests = ["bash", "-c", &script];
    for name in server.needed {
        let less = without(&dir, &[name], scratch.join(name))?;
        let said = run(machine, &less, &place, &tests)?.expect(1, "fails")?;
        ensure!(said.denied(false).iter().any(|denied| denied == name), "{name}: {}", said.json);
        ensure!(said.json["status"] != 0, "the tests need {name}: {}", said.json);
    }
    Ok(())
}

/// What no server was seen to do: AF_ALG, AF_VSOCK, AF_PACKET, a clone that cannot be but asks for a user namespace, and a user
/// namespace. Root does it, unless a filter refuses.
fn refuses(machine: &Machine, engine: &Engine, server: &Server, dir: &Utf8Path) -> Result<()> {
    let mount = format!("{}:/calls:ro", machine.fixture("calls")?);
    let image = format!("localhost/{}:1", server.name);
    let attack = ["41:26,5,0", "41:28,1,0", "41:11,3,0", "56:10000211", "272:10000000"];
    for (filter, refuses) in [(machine.permissive(), false), (dir.join("seccomp.json"), true)] {
        let seccomp = format!("seccomp={filter}");
        let mut words = vec!["--rm", "--cap-add", "SYS_ADMIN", "--network", "none", "-v", &mount];
        words.extend(["--security-opt", &seccomp, "--entrypoint", "/calls", "--user", "0", &image]);
        words.extend(attack);
        let output = engine.name("attack").run(&words)?.expect(0)?;
        let lines: Vec<&str> = output.stdout.lines().collect();
        let as_wanted = lines.iter().all(|line| line.ends_with(" -1") == refuses);
        ensure!(lines.len() == attack.len() && as_wanted, "under {filter}: {lines:?}");
    }
    Ok(())
}

/// A profile that holds.
fn grown(
    machine: &Machine,
    scratch: &Scratch,
    server: &Server,
    network: &Network<'_>,
    container: &Container<'_>,
) -> Result<Utf8PathBuf> {
    let engine = machine.engine()?;
    let dir = scratch.join("out");
    let place = ["--copy-of", container.name.as_str()];
    let script = script(server);
    let tests = ["bash", "-c", &script];
    create(machine, engine, server, network, container, &[])?;
    record(machine, server, container, &dir)?;
    for again in 0..=AGAIN {
        let said = run(machine, &dir, &place, &tests)?;
        if said.output.status == 3 && again < AGAIN {
            continue;
        }
        if said.output.status == 0 || again == AGAIN {
            let held = said.expect(0, "holds")?;
            ensure!(held.json["in_force"]["evidence"] == "kernel", "{}", held.json);
            break;
        }
        let missed = said.denied(false);
        ensure!(
            server.grows
                && !missed.is_empty()
                && missed.iter().all(|name| TIMING.contains(&name.as_str())),
            "the first recording does not hold, it lacks {missed:?}\n{}",
            said.output.text()
        );
        container.remove();
        create(machine, engine, server, network, container, &[])?;
        let more = scratch.join(&format!("more{again}"));
        record(machine, server, container, &more)?;
        let recordings = [dir.join("recording.json"), more.join("recording.json")];
        let mut generate = program::command(&machine.profiler, ["generate", "-o", dir.as_str()]);
        generate.args(STRICT).args(recordings);
        program::run(&mut generate, Duration::from_secs(60))?.expect(0)?;
    }
    Ok(dir)
}

/// The test, for bash.
fn script(server: &Server) -> String {
    format!("{ASK}\n{}", server.test)
}

fn create(
    machine: &Machine,
    engine: &Engine,
    server: &Server,
    network: &Network<'_>,
    container: &Container<'_>,
    options: &[&str],
) -> Result<()> {
    let image = format!("localhost/{}:1", server.name);
    let seccomp = format!("seccomp={}", machine.permissive());
    let mut words = vec!["create", "--name", &container.name, "--network", &network.name];
    words.extend(["--security-opt", &seccomp]);
    words.extend(server.options);
    words.extend(options);
    words.push(&image);
    engine.docker(&words)?;
    Ok(())
}

/// Records it from its first start.
fn record(
    machine: &Machine,
    server: &Server,
    container: &Container<'_>,
    dir: &Utf8Path,
) -> Result<()> {
    let script = format!(
        "{ASK}\nPROFILER_CONTAINER={0}\ndocker start {0} && \
         PROFILER_ADDRESS=$(docker inspect -f '{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}}{{{{end}}}}' {0}) && \
         {1} && {1} && docker stop {0}",
        container.name, server.test
    );
    let session = Record::containers(machine, dir, &[&container.name])?
        .args(STRICT)
        .limit(Duration::from_secs(180))
        .workload(["bash", "-c", &script]);
    session.run()?.expect(0).context("while it is recorded")?;
    Ok(())
}
