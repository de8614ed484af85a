//! Throughput of servers in containers, recorded and under the floor against neither: each time between two times that are not, so that what drifts
//! does not count. One client works without a break while that changes: a new one is up to a twentieth faster or slower than the last, for itself. A
//! server and its client share one CPU, so that what is compared is their work and not the scheduler's placing.

use std::{
    fmt::Write as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{attached, recorder::Recorder};

/// Rounds of each server and filter.
const ROUNDS: usize = 10;

/// How long each set-up is measured.
const WINDOW: Duration = Duration::from_secs(3);

/// The CPU of the servers and their clients.
const CPU: &str = "1";

/// How long the recorder runs before it is measured: by then `sys_exit` is detached, if it ever is.
const SETTLED: Duration = Duration::from_secs(8);

/// After something was attached or detached, and after the client began.
const PAUSE: Duration = Duration::from_millis(300);

/// How long a server may take to answer.
const START: Duration = Duration::from_secs(60);

/// A server and its load.
struct Server {
    /// Its image is `localhost/NAME:1`.
    name: &'static str,
    options: &'static [&'static str],
    /// In a shell of the host, `$A` being the server's address: whether it answers, after setting it up.
    ready: &'static str,
    /// In the same: works until it is told to end.
    load: &'static str,
    loaded_by: &'static str,
}

const SERVERS: [Server; 3] = [
    Server {
        name: "redis",
        options: &[],
        ready: "docker run --rm --entrypoint redis-cli localhost/redis:1 -h $A ping",
        load: "exec docker run --rm --name $C --cpuset-cpus $CPU --entrypoint redis-benchmark localhost/redis:1 -h $A -t get -n 1000000000 -q",
        loaded_by: "redis-benchmark -t get",
    },
    Server {
        name: "nginx",
        options: &[],
        ready: "curl -fsS http://$A/healthz",
        load: "exec taskset -c $CPU wrk -t 1 -c 20 -d 100000s http://$A/",
        loaded_by: "wrk -t 1 -c 20",
    },
    Server {
        name: "postgres",
        options: &["-e", "POSTGRES_PASSWORD=secret", "-e", "POSTGRES_DB=app"],
        ready: "docker run --rm -e PGPASSWORD=secret --entrypoint pgbench localhost/postgres:1 -h $A -U postgres -i -q app",
        load: "exec docker run --rm --name $C --cpuset-cpus $CPU -e PGPASSWORD=secret --entrypoint pgbench localhost/postgres:1 \
               -h $A -U postgres -S -c 4 -T 100000 app",
        loaded_by: "pgbench -S -c 4",
    },
];

/// Under which filters: the engine's default, and none.
const FILTERS: [(&str, &[&str]); 2] =
    [("Docker's default", &[]), ("none", &["--security-opt", "seccomp=unconfined"])];

/// Measures each server under each filter and gives the table.
pub fn table() -> Result<String> {
    let mut table = String::from(
        "| server | load | filter | packets a second | floor | recorded |\n|---|---|---|---:|---:|---:|\n",
    );
    for server in &SERVERS {
        for (filter, options) in FILTERS {
            let rounds = server.measure(options)?;
            let (plain, _) = mean(rounds.iter().map(|round| round.plain));
            let (floor, floor_error) = mean(rounds.iter().map(|round| round.floor));
            let (recorded, recorded_error) = mean(rounds.iter().map(|round| round.recorded));
            let _ = writeln!(
                table,
                "| {} | `{}` | {filter} | {plain:.0} | {floor:.3} ± {floor_error:.3} | {recorded:.3} ± {recorded_error:.3} |",
                server.name, server.loaded_by,
            );
        }
    }
    Ok(table)
}

/// What one round measured.
struct Round {
    /// Packets a second with nothing attached.
    plain: f64,
    /// With an empty program on `sys_enter`, against the average of what came before and after.
    floor: f64,
    /// By a recorder, likewise.
    recorded: f64,
}

impl Server {
    fn measure(&self, options: &[&str]) -> Result<Vec<Round>> {
        let container = Container::start(self, options)?;
        let mut client = Client::start(self, &container)?;
        let mut rate = || -> Result<f64> {
            std::thread::sleep(PAUSE);
            client.is_at_work()?;
            let (begun, before) = (Instant::now(), container.packets()?);
            std::thread::sleep(WINDOW);
            #[expect(clippy::cast_precision_loss, reason = "some hundred thousand")]
            let packets = (container.packets()? - before) as f64;
            ensure!(packets > 0.0, "{}: its client stands still", self.name);
            Ok(packets / begun.elapsed().as_secs_f64())
        };
        rate()?; // warm up
        let mut first = rate()?;
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let attached = attached::floor(&["floor_enter"])?;
            let floor = rate()?;
            drop(attached);
            let second = rate()?;
            let dir = tempfile::tempdir()?;
            let recorder = Recorder::start(dir.path(), &["--container", &container.name])?;
            std::thread::sleep(SETTLED);
            let recorded = rate()?;
            recorder.interrupt()?;
            let third = rate()?;
            let measured = Round {
                plain: second,
                floor: floor * 2.0 / (first + second),
                recorded: recorded * 2.0 / (second + third),
            };
            eprintln!(
                "{} {options:?}: round {} of {ROUNDS}: {:.0} a second, floor {:.3}, recorded {:.3}",
                self.name,
                round + 1,
                measured.plain,
                measured.floor,
                measured.recorded
            );
            rounds.push(measured);
            first = third;
        }
        Ok(rounds)
    }
}

/// A client that works until it is dropped.
struct Client {
    child: Child,
    /// The container that it runs in, if it does.
    container: String,
}

impl Client {
    fn start(server: &Server, of: &Container) -> Result<Self> {
        let container = format!("{}-client", of.name);
        let child = script(server.load, &of.address)
            .env("C", &container)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { child, container })
    }

    fn is_at_work(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the client ended: {ended:?}");
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
        let _ = docker(&["rm", "-f", "-v", &self.container]); // it may run on the host
    }
}

/// A server that answers; removed when dropped.
struct Container {
    name: String,
    address: String,
    pid: String,
}

impl Container {
    fn start(server: &Server, options: &[&str]) -> Result<Self> {
        let name = format!("profiler-bench-{}-{}", std::process::id(), server.name);
        let image = format!("localhost/{}:1", server.name);
        let mut container = Self { name, address: String::new(), pid: String::new() };
        let mut words = vec!["run", "-d", "--cpuset-cpus", CPU, "--name", &container.name];
        words.extend(server.options);
        words.extend(options);
        words.push(&image);
        docker(&words)?;
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        container.address = docker(&["inspect", "--format", format, &container.name])?;
        let begun = Instant::now();
        while let Err(error) = output(&mut script(server.ready, &container.address)) {
            ensure!(begun.elapsed() < START, "{}: {error:#}", server.name);
            std::thread::sleep(Duration::from_millis(500));
        }
        container.pid = docker(&["inspect", "--format", "{{.State.Pid}}", &container.name])?;
        Ok(container)
    }

    /// How many packets it has sent. An answer takes one, nginx's two.
    fn packets(&self) -> Result<u64> {
        let table = fs_err::read_to_string(format!("/proc/{}/net/dev", self.pid))?;
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"));
        let sent = line.and_then(|line| line.split_ascii_whitespace().nth(9)?.parse().ok());
        sent.context("no eth0 in its /proc/PID/net/dev")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Err(error) = docker(&["rm", "-f", "-v", &self.name]) {
            eprintln!("{error:#}");
        }
    }
}

fn docker(words: &[&str]) -> Result<String> {
    output(Command::new("docker").args(words))
}

fn script(text: &str, address: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", text]).env("A", address).env("CPU", CPU);
    command
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The mean, and its standard error.
fn mean(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values: Vec<f64> = values.collect();
    #[expect(clippy::cast_precision_loss, reason = "some ten")]
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0) / count).sqrt())
}
