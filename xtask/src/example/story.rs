//! `cargo xtask example taskapp`: the story, from compose's defaults to a project that is confined to what its suite needs.
//!
//! Owns its order. The project is removed with its data at the end, however it comes, and an engine that was started for it is stopped.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::{
    Args,
    facts::Facts,
    latency::Latency,
    planted,
    stack::{Confined, HOME, SERVICES, Stack},
    table::{self, Measured},
};
use crate::{
    apt,
    engines::Lent,
    sh::{Cmd, cmd, root},
    story::{binary, show, title},
};

/// Options of `record` that make the override harden more than calls and capabilities, where there are no profiles yet; others keep what they
/// were made with.
const HARDEN: &[&str] = &["--harden"];
/// What the suite, and looking into the containers, need.
const PACKAGES: [&str; 3] = ["python3", "python3-pytest", "util-linux"];
/// The base of the images.
const BASE: &str = "localhost/debian:bookworm";

/// Tells it.
///
/// # Errors
/// When the application cannot be built, does not pass its suite, or may do when hardened what it must not.
pub fn taskapp(args: &Args) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "recording needs root: it loads eBPF programs, and the example starts a container engine\n\
         hint: sudo -E env \"PATH=$PATH\" cargo xtask example taskapp"
    );
    apt::ensure(&PACKAGES)?;
    let profiler = profiler()?;
    let engine = match Lent::named(&[BASE]) {
        Some(engine) => engine,
        None => {
            title("Start a container engine of this checkout's own");
            Lent::own()?
        }
    };
    let work = root().join("target/example/taskapp");
    if work.exists() {
        fs_err::remove_dir_all(&work)?;
    }
    fs_err::create_dir_all(&work)?;
    let out = args.output.clone().unwrap_or_else(|| Utf8PathBuf::from("profiles/examples/taskapp"));
    let hardened = vec![out.join("compose.yaml").into_string()];
    let permissive = cmd(&profiler).arg("permissive").stdout()?;
    let stack = Stack::new(&engine, &work, hardened, &permissive)?;
    stack.remove()?; // of a run that was interrupted

    title("Build the images");
    stack.build()?;
    println!("localhost/taskapp-db:1, localhost/taskapp-backend:1, localhost/taskapp-frontend:1");

    title("Record all services while the integration test runs");
    let into = root().join(&out).join("compose.yaml").exists();
    let said = record(&stack, &profiler, Confined::Permissive, &out, into)?;
    let of_default = docker_default(&said)?;
    title(
        "And once more, hardened but for the filter: programs do other things where they are not root",
    );
    stack.prepare_rehearsal()?;
    record(&stack, &profiler, Confined::Rehearsed, &out, true)?;

    title("The same test, hardened by what was found");
    let said = watch(stack.tell(cmd("sh")).args(&stack.test(Confined::Hardened)[1..]))?;
    let suite_after = last_of_pytest(&said)?;
    title("The same test with compose's defaults");
    let said = watch(stack.tell(cmd("sh")).args(&stack.test(Confined::Default)[1..]))?;
    let suite_before = last_of_pytest(&said)?;

    title("Start both in turns, measure, and try what an intruder would");
    stack.up(Confined::Default)?; // the database is made
    stack.down(Confined::Default)?;
    let mut before = Rounds::default();
    let mut after = Rounds::default();
    for round in 1..=args.rounds {
        for (confined, rounds) in
            [(Confined::Default, &mut before), (Confined::Hardened, &mut after)]
        {
            rounds.add(&stack, confined, &profiler)?;
            let took = rounds.start_up.last().copied().unwrap_or_default();
            println!("round {round}, {confined:?}: healthy after {:.1} s", took.as_secs_f64());
        }
    }
    let calls = SERVICES.map(|service| allowed(&out.join(service)));
    let calls = calls.into_iter().collect::<Result<Vec<_>>>()?;
    let before = before.measured(vec![of_default; SERVICES.len()], suite_before)?;
    let after = after.measured(calls, suite_after)?;

    title("Before and after");
    let table = table::table(&before, &after);
    print!("{table}");
    planted::expect_refused(&before.planted, &after.planted)?;
    expect_confined(&after)?;
    if args.write_docs {
        let short = table::short(&table);
        let home = root().join(HOME);
        for (dir, mark, table) in [(&home, table::WHOLE, &table), (&root(), table::SHORT, &short)] {
            let path = dir.join("README.md");
            let text = fs_err::read_to_string(&path)?;
            fs_err::write(&path, table::put(&text, mark, table)?)?;
        }
    }
    println!("\nEverything holds. The profiles are in {out}.");
    Ok(())
}

/// The profiler to use: PROFILER_BIN, or this checkout's, built now.
fn profiler() -> Result<String> {
    if let Ok(given) = std::env::var("PROFILER_BIN") {
        return Ok(given);
    }
    title("Build the profiler");
    show(cmd("cargo").args(["build", "--package", "profiler"]))?;
    Ok(binary().into_string())
}

/// Records the integration test, to a new profile or into the one that is there; what was said.
fn record(
    stack: &Stack<'_>,
    profiler: &str,
    confined: Confined,
    out: &Utf8Path,
    into: bool,
) -> Result<String> {
    let record = stack.tell(cmd(profiler)).args(["record", "--project"]);
    let record = record.arg(format!("{HOME}/compose.yaml"));
    let record = match into {
        true => record.args(["--into", out.as_str()]),
        false => record.args(["-o", out.as_str()]).args(HARDEN),
    };
    watch(record.arg("--").args(stack.test(confined)))
}

/// What is measured of one way to start the project, round by round.
#[derive(Default)]
struct Rounds {
    start_up: Vec<std::time::Duration>,
    latency: Latency,
    seen: Option<(Facts, Vec<planted::Outcome>)>,
}

impl Rounds {
    /// Starts it, measures, looks into it the first time, and stops it.
    fn add(&mut self, stack: &Stack<'_>, confined: Confined, profiler: &str) -> Result<()> {
        self.start_up.push(stack.up(confined)?);
        self.latency.measure(stack.port())?;
        if self.seen.is_none() {
            self.seen = Some((Facts::of(stack, profiler)?, planted::attempt(stack)?));
        }
        stack.down(confined)
    }

    fn measured(self, calls: Vec<usize>, suite: String) -> Result<Measured> {
        let (facts, planted) = self.seen.context("no round was made")?;
        let Self { start_up, latency, .. } = self;
        Ok(Measured { facts, calls, start_up, latency, planted, suite })
    }
}

/// What must be so of a hardened project, whatever the numbers.
fn expect_confined(after: &Measured) -> Result<()> {
    for (service, name) in after.facts.services.iter().zip(SERVICES) {
        ensure!(
            !service.users.contains("root"),
            "{name}: a process is root's: {:?}",
            service.users
        );
        ensure!(service.effective == 0, "{name}: a process has {} capabilities", service.effective);
        ensure!(service.no_new_privileges, "{name}: no-new-privileges is not set");
        ensure!(!service.writable.iter().any(|path| path == "/"), "{name}: `/` can be written to");
        ensure!(service.limits.iter().all(|limit| *limit > 0), "{name}: {:?}", service.limits);
    }
    Ok(())
}

/// Runs a command visibly and hands back what it said, on either stream.
fn watch(command: Cmd) -> Result<String> {
    let line = command.line().replace(&format!("{}/", root()), "");
    println!("$ {line}\n");
    let (reader, writer) = std::io::pipe()?;
    let mut command = command.into_command();
    command.current_dir(root()).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
    drop(command); // or the pipe never ends
    let mut said = String::new();
    for text in BufReader::new(reader).split(b'\n') {
        let text = String::from_utf8_lossy(&text?).into_owned();
        println!("{text}");
        said.push_str(&text);
        said.push('\n');
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(said)
}

/// How many calls Docker's default lets pass on this machine, which `record` says.
fn docker_default(said: &str) -> Result<usize> {
    let number = |line: &str| {
        let (before, _) = line.split_once(" of Docker's default")?;
        before.rsplit(' ').next()?.parse().ok()
    };
    said.lines().find_map(number).context("`profiler record` says nothing of Docker's default")
}

/// The last line of pytest: `41 passed in 5.10s`.
fn last_of_pytest(said: &str) -> Result<String> {
    let is_last = |line: &&str| line.contains(" passed") && line.contains(" in ");
    let line = said.lines().rev().find(is_last).context("pytest does not say what passed")?;
    ensure!(!line.contains("skipped"), "not all of the suite ran: {line}");
    Ok(line.trim_matches(['=', ' ']).to_owned())
}

/// How many calls a result's filter lets pass.
fn allowed(dir: &Utf8Path) -> Result<usize> {
    let path = root().join(dir).join("seccomp.json");
    let file: Value = serde_json::from_str(&fs_err::read_to_string(path)?)?;
    let rules = file["syscalls"].as_array().context("no rules in seccomp.json")?;
    let passing = rules.iter().filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    let names = passing.flat_map(|rule| rule["names"].as_array().into_iter().flatten());
    let names: std::collections::BTreeSet<_> = names.filter_map(Value::as_str).collect();
    Ok(names.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_what_was_said() -> Result<()> {
        let said = "x\n  system calls  72 allowed, 220 fewer than the 292 of Docker's default\n";
        assert_eq!(docker_default(said)?, 292);
        assert!(docker_default("nothing").is_err());
        assert_eq!(last_of_pytest("....\n41 passed in 5.10s\n")?, "41 passed in 5.10s");
        assert!(last_of_pytest("40 passed, 1 skipped in 5.10s").is_err());
        Ok(())
    }
}
