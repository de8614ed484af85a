//! The filter that a container is recorded under: what it hides is said, by name, with the way out.

use std::time::Duration;

use anyhow::{Result, ensure};
use camino::Utf8Path;

use crate::{
    docker::NEEDS,
    harness::{
        machine::Machine,
        program,
        record::{Record, Recorded},
        test::Test,
    },
};

/// unshare, keyctl and pivot_root, which the engine's default refuses without CAP_SYS_ADMIN.
const REFUSED: [(&str, &str); 3] = [("272", "unshare"), ("250", "keyctl"), ("155", "pivot_root")];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("docker::default_filter_names_what_it_denied", &NEEDS, default_filter),
        Test::new("docker::permissive_profile_denies_nothing", &NEEDS, permissive),
        Test::new("docker::unconfined_lacks_the_handover", &NEEDS, unconfined),
        Test::new("docker::custom_filter_is_told", &NEEDS, custom),
        Test::new("docker::what_was_denied_is_learned", &NEEDS, learned),
        Test::new("docker::the_answer_of_a_supervisor", &NEEDS, supervised),
    ]
}

fn record(machine: &Machine, dir: &Utf8Path, options: &[&str]) -> Result<Recorded> {
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("filter");
    let session = Record::containers(machine, dir, &[&container.name])?.start()?;
    let mut words = vec!["--network=none"];
    words.extend(options);
    words.extend([image.as_str(), "/bin/calls", "278"]);
    words.extend(REFUSED.iter().map(|(nr, _)| *nr));
    container.run(&words)?.expect(0)?;
    session.finish()
}

fn default_filter(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded = record(machine, &scratch.join("out"), &[])?;
    ensure!([0, 3].contains(&recorded.output.status), "{}", recorded.output.text());
    let recording = recorded.recording()?;
    let denied = recording.denied()?;
    for (_, name) in REFUSED {
        ensure!(
            denied.get(name) == Some(&1),
            "`{name}` was refused with EPERM, the recording says {denied:?}"
        );
        recorded.says(name)?;
    }
    ensure!(denied.len() == REFUSED.len(), "more than was refused: {denied:?}");
    recording.expect_numbers(&[278])?;
    expect_setting(&recording.json, "engine-default")?;
    ensure!(recording.missing().contains("filtered"), "that a filter was in force is not said");
    recorded.says("seccomp=")
}

fn permissive(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let seccomp = format!("seccomp={}", machine.permissive());
    let recorded =
        record(machine, &scratch.join("out"), &["--security-opt", &seccomp])?.expect(0)?;
    let recording = recorded.recording()?;
    ensure!(recording.denied()?.is_empty(), "denials: {:?}", recording.denied()?);
    recording.expect_numbers(&[278, 272, 250, 155])?;
    expect_setting(&recording.json, "permissive")?;
    for missing in ["filtered", "handover", "startup", "lost"] {
        ensure!(!recording.missing().contains(missing), "{missing} is said to be missing");
    }
    Ok(())
}

fn unconfined(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded =
        record(machine, &scratch.join("out"), &["--security-opt", "seccomp=unconfined"])?
            .expect(0)?;
    let recording = recorded.recording()?;
    recording.expect_numbers(&[278, 272, 250, 155])?;
    expect_setting(&recording.json, "unconfined")?;
    ensure!(recording.missing().contains("handover"), "the hand-over cannot have been seen");
    // The runtime's floor takes its place.
    let allowed = recorded.emitted().seccomp()?.allowed();
    for call in ["execve", "capset", "prctl", "setgroups", "getcwd"] {
        ensure!(allowed.contains(call), "`{call}`, which the runtime needs, is not allowed");
    }
    Ok(())
}

fn custom(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let profile = scratch.join("custom.json");
    let rule =
        r#"{"names":["unshare","keyctl","pivot_root"],"action":"SCMP_ACT_ERRNO","errnoRet":13}"#;
    fs_err::write(
        &profile,
        format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#),
    )?;
    let seccomp = format!("seccomp={profile}");
    let recorded = record(machine, &scratch.join("out"), &["--security-opt", &seccomp])?;
    ensure!([0, 3].contains(&recorded.output.status), "{}", recorded.output.text());
    let recording = recorded.recording()?;
    let denied = recording.denied()?;
    for (_, name) in REFUSED {
        ensure!(
            denied.get(name) == Some(&13),
            "`{name}` was refused with EACCES, the recording says {denied:?}"
        );
    }
    expect_setting(&recording.json, "custom")
}

/// Denied under the engine's default, learned, and then neither denied nor failing.
fn learned(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let run = |dir: &Utf8Path, options: &[&str]| {
        let container = engine.name("namespaces");
        let session = Record::containers(machine, dir, &[&container.name])?.start()?;
        let words = [&["--network=none"], options, &[&image, "/bin/namespaces"]].concat();
        let printed = container.run(&words)?.expect(0)?.stdout;
        anyhow::Ok((printed, session.finish()?))
    };
    let (printed, recorded) = run(&scratch.join("default"), &[])?;
    ensure!(printed == "clone3 38\nkeyctl 1\nunshare 1\n", "by default: {printed}");
    let denied = recorded.recording()?.denied()?;
    for (name, errno) in [("clone3", 38), ("keyctl", 1), ("unshare", 1)] {
        ensure!(denied.get(name) == Some(&errno), "`{name}`: the recording says {denied:?}");
    }

    let profile = scratch.join("learned");
    let file = scratch.join("default/recording.json");
    let args = ["generate", file.as_str(), "--learn-denied", "-o", profile.as_str()];
    program::run(&mut program::command(&machine.profiler, args), Duration::from_secs(30))?
        .expect(0)?;
    let seccomp = format!("seccomp={profile}/seccomp.json");
    let enforced = ["--security-opt", &seccomp, "--cap-drop=ALL"];
    let (printed, recorded) = run(&scratch.join("enforced"), &enforced)?;
    ensure!(printed == "clone3 0\nkeyctl 0\nunshare 0\n", "enforced: {printed}");
    let denied = recorded.recording()?.denied()?;
    ensure!(denied.is_empty(), "still denied: {denied:?}");
    Ok(())
}

/// What a supervisor refuses is a denial, what it lets pass is a call, and a trap is no success of the call.
fn supervised(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let container = engine.name("supervised");
    let session = Record::containers(machine, scratch.join("out"), &[&container.name])?.start()?;
    let script = "/bin/refused errno 276; /bin/refused continue 278; /bin/refused trap 279; \
                  /bin/refused interrupted 275";
    let words = ["--network=none", &image, "sh", "-c", script];
    let printed = container.run(&words)?.expect(0)?.stdout;
    ensure!(printed == "-18\n-22\ntrapped\n-22\n", "the answers were {printed}");
    let recording = session.finish()?.recording()?;
    let denied = recording.denied()?;
    // glibc asks for clone3, which the engine's default refuses
    let expected = [("clone3", 38), ("tee", 18), ("move_pages", 0)];
    ensure!(
        denied == expected.map(|(name, errno)| (name.to_owned(), errno)).into(),
        "the recording says {denied:?}"
    );
    let workload = recording.names("workload")?;
    for name in ["vmsplice", "splice"] {
        ensure!(workload.contains(name), "`{name}`, which a supervisor let pass, is missing");
    }
    for name in ["tee", "move_pages"] {
        ensure!(!workload.contains(name), "`{name}` was not made");
    }
    Ok(())
}

fn expect_setting(recording: &serde_json::Value, setting: &str) -> Result<()> {
    let runs = recording["runs"].as_object().into_iter().flat_map(|runs| runs.values());
    let told: Vec<_> = runs.map(|run| run["container"]["seccomp"].clone()).collect();
    ensure!(told == [setting], "the filter is said to be {told:?}, it was {setting}");
    Ok(())
}
