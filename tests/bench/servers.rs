//! Throughput of servers in containers, recorded and under the floor against neither: each time between two that are not, so that what drifts
//! does not count. A server and its client share one CPU, so that what is compared is their work and not the scheduler's placing.

use std::{
    fmt::Write as _,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{attached, recorder::Recorder};

/// Rounds of each server and filter; their median counts.
const ROUNDS: usize = 5;

/// Seconds of load in a measurement.
const SECONDS: &str = "4";

/// The CPU of the servers and their clients.
const CPU: &str = "1";

/// How long the recorder runs before it is measured: by then `sys_exit` is detached, if it ever is.
const SETTLED: Duration = Duration::from_secs(8);

/// How long a server may take to answer.
const START: Duration = Duration::from_secs(60);

/// A server and its load.
struct Server {
    /// Its image is `localhost/NAME:1`.
    name: &'static str,
    options: &'static [&'static str],
    /// In a shell of the host, `$A` being the server's address: whether it answers, after setting it up.
    ready: &'static str,
    /// In the same: the last number that it prints is requests or transactions per second.
    load: &'static str,
    loaded_by: &'static str,
}

const SERVERS: [Server; 3] = [
    Server {
        name: "redis",
        options: &[],
        ready: "docker run --rm --entrypoint redis-cli localhost/redis:1 -h $A ping",
        load: "docker run --rm --cpuset-cpus $CPU --entrypoint timeout localhost/redis:1 $S redis-benchmark -h $A -t get -n 100000000 -q \
               | tr '\\r' '\\n' | sed -n 's|.*rps=[0-9.]* (overall: \\([0-9.]*\\)).*|\\1|p' | tail -n 1",
        loaded_by: "redis-benchmark -t get",
    },
    Server {
        name: "nginx",
        options: &[],
        ready: "curl -fsS http://$A/healthz",
        load: "taskset -c $CPU wrk -t 1 -c 20 -d ${S}s http://$A/ | sed -n 's|^Requests/sec: *||p'",
        loaded_by: "wrk -t 1 -c 20",
    },
    Server {
        name: "postgres",
        options: &["-e", "POSTGRES_PASSWORD=secret", "-e", "POSTGRES_DB=app"],
        ready: "docker run --rm -e PGPASSWORD=secret --entrypoint pgbench localhost/postgres:1 -h $A -U postgres -i -q app",
        load: "docker run --rm --cpuset-cpus $CPU -e PGPASSWORD=secret --entrypoint pgbench localhost/postgres:1 -h $A -U postgres -S -c 4 -T $S app \
               | sed -n 's|^tps = \\([0-9.]*\\).*|\\1|p'",
        loaded_by: "pgbench -S -c 4",
    },
];

/// Under which filters: the engine's default, and none.
const FILTERS: [(&str, &[&str]); 2] =
    [("Docker's default", &[]), ("none", &["--security-opt", "seccomp=unconfined"])];

/// Measures each server under each filter and gives the table.
pub fn table() -> Result<String> {
    let mut table = String::from(
        "| server | load | filter | a second | floor | recorded | least and most |\n|---|---|---|---:|---:|---:|---:|\n",
    );
    for server in &SERVERS {
        for (filter, options) in FILTERS {
            let rounds = server.measure(options)?;
            let plain = median(rounds.iter().map(|round| round.plain));
            let floor = median(rounds.iter().map(|round| round.floor / round.plain));
            let ratios = || rounds.iter().map(|round| round.recorded / round.plain);
            let least = ratios().fold(f64::INFINITY, f64::min);
            let most = ratios().fold(0.0, f64::max);
            let _ = writeln!(
                table,
                "| {} | `{}` | {filter} | {plain:.0} | {floor:.3} | {:.3} | {least:.3} to {most:.3} |",
                server.name,
                server.loaded_by,
                median(ratios())
            );
        }
    }
    Ok(table)
}

/// Requests a second of one round.
struct Round {
    /// With nothing attached, on average before and after.
    plain: f64,
    /// With an empty program on `sys_enter`.
    floor: f64,
    /// By a recorder.
    recorded: f64,
}

impl Server {
    fn measure(&self, options: &[&str]) -> Result<Vec<Round>> {
        let container = Container::start(self, options)?;
        let load = || -> Result<f64> {
            let text = shell(self.load, &container.address)?;
            text.trim().parse().with_context(|| format!("{}: {text:?} is no number", self.name))
        };
        load()?; // warm up
        let mut before = load()?;
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            eprintln!("{} {options:?}: round {} of {ROUNDS}", self.name, round + 1);
            let attached = attached::floor(&["floor_enter"])?;
            let floor = load()?;
            drop(attached);
            let dir = tempfile::tempdir()?;
            let recorder = Recorder::start(dir.path(), &["--container", &container.name])?;
            std::thread::sleep(SETTLED);
            let recorded = load()?;
            recorder.interrupt()?;
            let after = load()?;
            rounds.push(Round { plain: (before + after) / 2.0, floor, recorded });
            before = after;
        }
        Ok(rounds)
    }
}

/// A server that answers; removed when dropped.
struct Container {
    name: String,
    address: String,
}

impl Container {
    fn start(server: &Server, options: &[&str]) -> Result<Self> {
        let name = format!("profiler-bench-{}-{}", std::process::id(), server.name);
        let image = format!("localhost/{}:1", server.name);
        let mut container = Self { name, address: String::new() };
        let mut words = vec!["run", "-d", "--cpuset-cpus", CPU, "--name", &container.name];
        words.extend(server.options);
        words.extend(options);
        words.push(&image);
        docker(&words)?;
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        container.address = docker(&["inspect", "--format", format, &container.name])?;
        let begun = Instant::now();
        while let Err(error) = shell(server.ready, &container.address) {
            ensure!(begun.elapsed() < START, "{}: {error:#}", server.name);
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(container)
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

fn shell(script: &str, address: &str) -> Result<String> {
    output(
        Command::new("sh").args(["-c", script]).env("A", address).env("S", SECONDS).env("CPU", CPU),
    )
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

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
