//! Interrupted, and killed: the same command goes on, and comes to what it would have come to.

use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use super::{
    NEEDS,
    planted::{self, LIMIT, Report},
};
use crate::{
    badinput::refuse::expect_refusal,
    harness::{
        machine::{Machine, Need},
        program,
        record::Record,
        syscalls,
        test::Test,
    },
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let on_engine = [Need::Bpf, Need::Engine, Need::Tool("gcc", "gcc")];
    vec![
        Test::new("minimise::killed_and_resumed_it_gives_the_same_answer", &NEEDS, resumed),
        Test::new("minimise::killed_with_a_copy_up_it_gives_the_same_answer", &on_engine, copies),
    ]
}

/// The runs that a search has made so far.
fn runs(out: &Utf8Path) -> Vec<Value> {
    let text = fs_err::read_to_string(out.join("minimise.json")).unwrap_or_default();
    let state: Value = serde_json::from_str(&text).unwrap_or_default();
    state["runs"].as_array().cloned().unwrap_or_default()
}

fn resumed(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (needs, log) = (machine.fixture("needs")?, scratch.join("log"));
    let begun = format!("+{log}");
    let done_without = format!("?{}", syscalls::number("fspick")?);
    let command = [needs.as_str(), &begun, ",100", &done_without, "16", "46"];
    let profile = planted::profile(machine, scratch.path(), &command, &["bpf", "ptrace"], &[])?;
    let (whole, parts) = (scratch.join("whole"), scratch.join("parts"));
    let search = |out: &Utf8Path| {
        let args = ["--syscalls", "-o", out.as_str()];
        planted::minimise(machine, &profile, &args, &command)
    };
    let answer = Report::of(program::run(&mut search(&whole), LIMIT)?)?;
    let all = runs(&whole);
    ensure!(all.len() > 6, "{} runs are too few to be interrupted", all.len());

    fs_err::write(&log, "")?;
    let mut known = 0;
    for (signal, after) in [(Signal::INT, 2), (Signal::KILL, 5)] {
        let running = program::start(&mut search(&parts), &[])?;
        program::until("some runs", LIMIT, || runs(&parts).len() >= after)?;
        running.signal(signal);
        let output = running.wait(LIMIT)?;
        if signal == Signal::INT {
            expect_refusal(&output, &["interrupted after", "goes on from there"])?;
        } else {
            ensure!(output.status == 128 + 9, "{}", output.text());
        }
        let now = runs(&parts);
        ensure!(now.len() >= after && now.len() < all.len(), "{} runs", now.len());
        known = now.len();
    }
    let output = program::run(&mut search(&parts), LIMIT)?;
    let says = format!("{known} runs are known");
    ensure!(output.stderr.contains(&says), "not {says:?}\n{}", output.text());
    let again = Report::of(output)?;
    ensure!(
        again.json["entries"] == answer.json["entries"],
        "{} is not {}",
        again.json,
        answer.json
    );
    let removed =
        |runs: &[Value]| -> Vec<Value> { runs.iter().map(|run| run["removed"].clone()).collect() };
    ensure!(removed(&runs(&parts)) == removed(&all), "other runs than without interruptions");
    // Two were cut off.
    let begun = fs_err::metadata(&log)?.len();
    ensure!(begun <= all.len() as u64 + 2, "{begun} runs for {}", all.len());

    // A finished one is told again, without a run.
    Report::of(program::run(&mut search(&parts), LIMIT)?)?;
    ensure!(fs_err::metadata(&log)?.len() == begun, "a run was made again");
    // Runs of another command say nothing.
    let args = ["--syscalls", "-o", parts.as_str()];
    let other =
        program::run(&mut planted::minimise(machine, &profile, &args, &["/bin/true"]), LIMIT)?;
    expect_refusal(&other, &["another command", "minimise.json"])
}

/// The tests of a copy: what the container says of itself. They leave a process behind. Where there is a file `hold`, their
/// second run holds on.
const TESTS: &str = r#"cd "$0"
sleep 6001 &
echo $! >> children
echo >> begun
if [ -e hold ] && [ $(wc -l < begun) = 2 ]; then
    rm hold
    echo $$ > held.new
    mv held.new held
    exec sleep 6002
fi
said() { docker logs $PROFILER_CONTAINER 2>&1; }
until said | grep -qE 'done|bad'; do sleep 0.05; done
said | grep needs:
said | grep -q done
"#;

fn copies(machine: &Machine) -> Result<()> {
    let engine = machine.engine()?;
    let scratch = machine.scratch()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("killed");
    let seccomp = format!("seccomp={}", machine.permissive());
    // An address that nobody else uses: a port that no other test has.
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = format!("127.77.{high}.{low}:8080");
    let published = format!("{address}:8080");
    let serves = "/bin/needs @/etc/passwd 16 46 && echo done || echo bad; exec sleep 1000";
    engine.docker(&[
        "create",
        "--name",
        &container.name,
        "--publish",
        &published,
        "--stop-signal=KILL",
        "--security-opt",
        &seccomp,
        &image,
        "/bin/busybox",
        "sh",
        "-c",
        serves,
    ])?;
    let start =
        "docker start $0; until docker logs $0 | grep -q done; do sleep 0.05; done; docker stop $0";
    let recorded = Record::containers(machine, scratch.join("recorded"), &[&container.name])?
        .workload(["sh", "-c", start, &container.name])
        .run()?
        .expect(0)?;
    let profile = planted::plant(&recorded.dir, &scratch.join("planted"), &[], &["SYS_TIME"])?;
    let tests = ["sh", "-c", TESTS, scratch.path().as_str()];
    let search = |out: &Utf8Path| {
        let args = ["--repeats=1", "--copy-of", &container.name, "--replace", "-o", out.as_str()];
        let mut search = planted::minimise(machine, &profile, &args, &tests);
        engine.environment(&mut search);
        search
    };
    let (whole, parts, busy) = (scratch.join("whole"), scratch.join("parts"), scratch.join("busy"));
    let output = program::run(&mut search(&whole), LIMIT)?;
    let answer = Report::of(output)?;
    ensure!(answer.verdict("CAP_SYS_TIME") == "not-needed", "{}", answer.json);
    ensure!(answer.verdict("CAP_CHOWN") == "needed", "{}", answer.json);
    // What the tests left behind is gone.
    for pid in fs_err::read_to_string(scratch.join("children"))?.lines() {
        let line = fs_err::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        ensure!(!line.contains("6001"), "{pid} still runs");
    }

    // A port that another has is no verdict, whatever is left out.
    let text = fs_err::read_to_string(whole.join("minimise.json"))?;
    let mut state: Value = serde_json::from_str(&text)?;
    state["runs"].as_array_mut().context("runs")?.truncate(1);
    fs_err::create_dir_all(&busy)?;
    fs_err::write(busy.join("minimise.json"), state.to_string())?;
    let listener = TcpListener::bind(&address)?;
    let refused = program::run(&mut search(&busy), LIMIT)?;
    expect_refusal(&refused, &["could not be started", "says nothing of the profile"])?;
    ensure!(runs(&busy).len() == 1 && !busy.join("profile.json").exists(), "{}", refused.text());
    drop(listener);

    // Killed while a copy has the port and the original is stopped for it.
    container.verb(&["start"])?;
    fs_err::write(scratch.join("hold"), "")?;
    fs_err::write(scratch.join("begun"), "")?;
    let held = scratch.join("held");
    let running = program::start(&mut search(&parts), &[])?;
    program::until("a run that holds on", LIMIT, || held.exists())?;
    running.signal(Signal::KILL);
    running.wait(LIMIT)?;
    let group = Pid::from_raw(fs_err::read_to_string(&held)?.trim().parse()?);
    kill_process_group(group.context("a process id")?, Signal::KILL)?;
    let up = || container.inspect().map(|said| said["State"]["Running"] == true);
    let copies = || {
        let label = "label=profiler.minimise";
        let all = engine.docker(&["ps", "-q", "--filter", label])?;
        let ours =
            |id: &&str| engine.docker(&["port", id]).is_ok_and(|ports| ports.contains(&address));
        anyhow::Ok(all.lines().filter(ours).count())
    };
    ensure!(!up()? && copies()? == 1, "the copy is not in the original's place");

    let output = program::run(&mut search(&parts), LIMIT)?;
    ensure!(output.stderr.contains("1 runs are known"), "{}", output.text());
    let again = Report::of(output)?;
    ensure!(
        again.json["entries"] == answer.json["entries"],
        "{} is not {}",
        again.json,
        answer.json
    );
    ensure!(up()? && copies()? == 0, "the original is not in its place again");
    let text = fs_err::read_to_string(parts.join("minimise.json"))?;
    ensure!(!text.contains("\"stopped\""), "{text}");
    Ok(())
}
