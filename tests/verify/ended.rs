//! A container that ends in failure, before the tests or while they run, does not hold; one that they stop does.

use anyhow::{Result, ensure};

use crate::{
    harness::{
        machine::{Machine, Need},
        test::Test,
    },
    verify::runs::run,
};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let needs = [Need::Bpf, Need::Engine, Need::Images];
    vec![Test::new("verify::a_container_that_fails_does_not_hold", &needs, ended)]
}

fn ended(machine: &Machine) -> Result<()> {
    let engine = machine.engine()?;
    let wait = "exec sleep 1000";
    for (script, tests, status, failures, told) in [
        (wait, "docker kill $PROFILER_CONTAINER >&2", 1, "the container ended with status 137", ""),
        (
            wait,
            "docker stop $PROFILER_CONTAINER >&2",
            0,
            "",
            "the container was stopped while the tests ran: status 137",
        ),
        (
            "sleep 0.1; exit 3",
            "docker wait $PROFILER_CONTAINER >&2",
            1,
            "the container ended with status 3",
            "",
        ),
        ("sleep 0.1", "docker wait $PROFILER_CONTAINER >&2", 0, "", ""),
    ] {
        let container = engine.name("ended");
        let name = container.name.as_str();
        let create = ["create", "--name", name, "--network=none", "--stop-timeout=0"];
        engine.docker(&[&create[..], &["localhost/busybox:1", "sh", "-c", script]].concat())?;
        let place = ["--copy-of", name];
        let verdict = if status == 0 { "holds" } else { "fails" };
        let said = run(machine, &machine.permissive(), &place, &["sh", "-c", tests])?;
        let said = said.expect(status, verdict)?;
        let all = |what: &str| -> Vec<&str> {
            said.json[what].as_array().into_iter().flatten().filter_map(|it| it.as_str()).collect()
        };
        ensure!(all("failures").concat() == failures, "{script}, {tests}: {}", said.json);
        ensure!(all("incidents").concat() == told, "{script}, {tests}: {}", said.json);
    }
    Ok(())
}
