//! A compose project recorded at once: scaled, recreated and one-off containers, then the whole of it under the override.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::Value;

use crate::{
    docker::NEEDS,
    harness::{
        docker::Engine,
        evidence::Recording,
        leftovers::expect_whole_files,
        machine::{Machine, Need},
        program,
        record::{Record, Recorded},
        test::Test,
    },
};

const LIMIT: Duration = Duration::from_secs(120);

/// What an override may say of a service.
const SETTINGS: [&str; 3] = ["security_opt", "cap_drop", "cap_add"];

/// The services, with the calls that each of them alone makes, how many containers each has while it is recorded, and
/// the capabilities that it needs.
const SERVICES: [(&str, &[u32], usize, &[&str]); 3] =
    [("api", &[275, 276], 2, &[]), ("db", &[277], 2, &["CHOWN"]), ("web", &[278], 2, &[])];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let plugin = [NEEDS.as_slice(), &[Need::Compose]].concat();
    let alone = [NEEDS.as_slice(), &[Need::Tool("docker-compose", "docker-compose")]].concat();
    vec![
        Test::new("docker::project_of_compose_2", &plugin, |m| whole(m, "docker compose")),
        Test::new("docker::project_of_compose_1_29", &alone, |m| whole(m, "docker-compose")),
        Test::new("docker::services_that_are_not_there", &plugin, absent),
        Test::new("docker::hostile_labels_of_compose", &NEEDS, hostile),
        Test::new("docker::two_projects_of_one_name_of_compose_2", &plugin, |m| {
            strangers(m, "docker compose")
        }),
        Test::new("docker::two_projects_of_one_name_of_compose_1_29", &alone, |m| {
            strangers(m, "docker-compose")
        }),
        Test::new("docker::a_container_that_never_executed_does_not_count", &NEEDS, idle),
    ]
}

/// A project in a directory of its own, which is down when it is dropped.
struct Project<'a> {
    engine: &'a Engine,
    directory: &'a Utf8Path,
    client: &'static str,
}

impl<'a> Project<'a> {
    fn new(
        machine: &'a Machine,
        directory: &'a Utf8Path,
        client: &'static str,
    ) -> Result<Project<'a>> {
        let engine = machine.engine()?;
        let image = engine.fixture_image(machine)?;
        let base = format!(
            r#"services:
  web:
    image: {image}
    command: ["/bin/sh", "-c", "/bin/calls -q 278; exec /bin/busybox httpd -f -p 8080 -h /etc"]
    ports: ["127.0.0.1::8080"]
    environment: {{PRICE: "5$$", EMPTY: ""}}
    labels: {{owner: "o'hara: \"x\""}}
    tmpfs: [/run]
    security_opt: ["no-new-privileges:true"]
    stop_grace_period: 1s
  db:
    image: {image}
    command: ["/bin/sh", "-c", "touch /tmp/x; chown 1000 /tmp/x; exec sleep 1000"]
    volumes: ["data:/data"]
    stop_grace_period: 1s
  api:
    image: {image}
    command: ["/bin/sh", "-c", "/bin/calls -q ${{NR:-275}}; exec sleep 1000"]
    depends_on: [db]
    stop_grace_period: 1s
volumes:
  data: {{}}
"#
        );
        fs_err::write(directory.join("compose.yaml"), base)?;
        let permissive = SERVICES.map(|(service, ..)| {
            format!("  {service}: {{security_opt: [\"seccomp:{}\"]}}\n", machine.permissive())
        });
        let permissive = format!("services:\n{}", permissive.concat());
        fs_err::write(directory.join("permissive.yaml"), permissive)?;
        Ok(Project { engine, directory, client })
    }

    /// Compose's name for it: the directory's.
    fn name(&self) -> String {
        self.directory.file_name().unwrap_or_default().to_lowercase()
    }

    /// Runs a script in which `compose` is the client.
    fn shell(&self, script: &str) -> Result<String> {
        let script = format!("compose() {{ {} \"$@\"; }}\n{script}", self.client);
        let mut command = program::command("sh", ["-euc", &script]);
        self.engine.environment(&mut command).current_dir(self.directory);
        let output = program::run(&mut command, LIMIT)?;
        Ok(output.expect(0).with_context(|| script)?.stdout)
    }

    /// What compose makes of these files.
    fn config(&self, files: &str) -> Result<Value> {
        let text = self.shell(&format!("compose {files} config"))?;
        serde_saphyr::from_str(&text).with_context(|| text)
    }

    /// Id and service of each container that runs.
    fn running(&self) -> Result<Vec<(String, String)>> {
        let label = format!("label=com.docker.compose.project={}", self.name());
        let format = "{{.ID}} {{.Label \"com.docker.compose.service\"}}";
        let listed = self.engine.docker(&["ps", "--filter", &label, "--format", format])?;
        let pair = |line: &str| {
            let (id, service) = line.split_once(' ').context("an id and a service")?;
            Ok((id.to_owned(), service.to_owned()))
        };
        listed.lines().map(pair).collect()
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.shell("compose -f compose.yaml down -v -t 1 --remove-orphans 2>&1")
        {
            eprintln!("project `{}` stays: {error:#}", self.name());
        }
    }
}

/// `profiler record` with options of its own, in `dir`.
fn record(machine: &Machine, dir: &Utf8Path, args: &[&str]) -> Result<Record> {
    Ok(Record::containers(machine, dir.join("profiles/stack"), &[])?
        .args(args)
        .current_dir(dir)
        .limit(LIMIT))
}

fn whole(machine: &Machine, client: &'static str) -> Result<()> {
    let scratch = machine.scratch()?;
    let project = Project::new(machine, scratch.path(), client)?;
    let script = format!(
        r#"compose() {{ {client} -f compose.yaml -f permissive.yaml "$@"; }}
fetch() {{
  for i in $(seq 100); do
    busybox wget -q -O - "http://$(compose port --index $1 web 8080)/passwd" && return
    sleep 0.1
  done
  exit 1
}}
compose up -d --scale web=2 2>&1
fetch 1
fetch 2
compose run --rm -T db /bin/calls -q 277 2>&1
NR=276 compose up -d --scale web=2 2>&1
compose down -t 1 2>&1"#
    );
    let mut session = Record::containers(machine, "profiles/stack", &[])?
        .args(["--project", "compose.yaml"])
        .current_dir(scratch.path())
        .limit(LIMIT);
    if client == "docker-compose" {
        // where there is no plugin, it is asked about the file, too
        session = session.env("DOCKER_CONFIG", scratch.join("none"));
    }
    let recorded = session.workload(["/bin/sh", "-euc", &script]).run_once()?.expect(0)?;
    for service in SERVICES.map(|(service, ..)| service) {
        recorded.says(&format!("service `{service}` started: recording\n"))?;
    }
    expect_no_doubt(&recorded)?;
    let results = scratch.join("profiles/stack");
    for (service, calls, containers, _) in SERVICES {
        let dir = results.join(service);
        expect_whole_files(&dir)?;
        let recording = Recording::read(&dir)?;
        recording.expect_numbers(calls).with_context(|| format!("service {service}"))?;
        let seen = recording.numbers("x86_64", "workload");
        let foreign: Vec<u32> = (275..=278).filter(|nr| !calls.contains(nr)).collect();
        ensure!(foreign.iter().all(|nr| !seen.contains(nr)), "{service} made others' calls");
        let target = &recording.json["target"];
        ensure!(target["kind"] == "service" && target["name"] == service, "target is {target}");
        let ids = recording.runs().next().and_then(|run| run["container"]["ids"].as_array());
        ensure!(ids.is_some_and(|ids| ids.len() == containers), "{service}: {ids:?}");
        let missing = recording.missing();
        ensure!(
            missing.is_empty(),
            "{service} was caught from its first call to its last: {missing:?}"
        );
    }
    hardened(&project)?;
    late(machine, &project)
}

/// The override changes what it is for and nothing else, and the project runs under it.
fn hardened(project: &Project<'_>) -> Result<()> {
    const FILES: &str = "-f compose.yaml -f profiles/stack/compose.yaml";
    let mut before = project.config("-f compose.yaml")?;
    let mut after = project.config(FILES)?;
    for (service, _, _, capabilities) in SERVICES {
        let take = |config: &mut Value| -> Result<[Value; 3]> {
            let settings = config["services"][service].as_object_mut().context("a service")?;
            Ok(SETTINGS.map(|key| settings.remove(key).unwrap_or_default()))
        };
        let [own, ..] = take(&mut before)?;
        let [security, drop, add] = take(&mut after)?;
        let is_kept = |option| security.as_array().is_some_and(|all| all.contains(option));
        ensure!(own.as_array().into_iter().flatten().all(is_kept), "{service}: {security}");
        let security = security.to_string();
        let path = format!("{service}/seccomp.json");
        ensure!(security.contains("seccomp:") && security.contains(&path), "{service}: {security}");
        ensure!(drop == serde_json::json!(["ALL"]), "{service}: cap_drop is {drop}");
        let expected = if capabilities.is_empty() { Value::Null } else { capabilities.into() };
        ensure!(add == expected, "{service}: cap_add is {add}");
    }
    ensure!(after == before, "the override changes more:\n{before:#}\n{after:#}");

    project.shell(&format!("compose {FILES} up -d --scale web=2 2>&1"))?;
    let running = project.running()?;
    ensure!(running.len() == 4, "four containers run: {running:?}");
    for (id, service) in &running {
        let pid = project.engine.docker(&["inspect", "--format", "{{.State.Pid}}", id])?;
        let status = fs_err::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).unwrap_or_default().to_owned()
        };
        ensure!(field("Seccomp:") == "2", "{service} is under no filter:\n{status}");
        let no_new = if service == "web" { "1" } else { "0" };
        ensure!(field("NoNewPrivs:") == no_new, "{service}: the file's own option:\n{status}");
        let granted = if service == "db" { "0000000000000001" } else { "0000000000000000" };
        for set in ["CapEff:", "CapBnd:"] {
            ensure!(field(set) == granted, "{service}: {set} {}", field(set));
        }
    }
    let fetch = format!(
        "for i in $(seq 100); do
           busybox wget -q -O - \"http://$(compose {FILES} port web 8080)/passwd\" && exit
           sleep 0.1
         done
         exit 1"
    );
    ensure!(project.shell(&fetch)?.contains("root:x:0:0"), "the page");
    let web = running.iter().find(|(_, service)| service == "web").context("web runs")?;
    // what was never recorded is refused
    let call = project.engine.try_docker(&["exec", &web.0, "/bin/calls", "275"])?;
    ensure!(call.stdout == "275 -1\n", "splice is not refused: {}", call.text());
    let chown = project.engine.try_docker(&["exec", &web.0, "chown", "1000", "/etc/passwd"])?;
    ensure!(chown.status != 0, "chown is not refused: {}", chown.text());
    Ok(())
}

/// The project runs: its services are found without a file, and what already ran says so.
fn late(machine: &Machine, project: &Project<'_>) -> Result<()> {
    let out = project.directory.join("late");
    let recorded = Record::containers(machine, &out, &[])?
        .args(["--project", &project.name(), "--duration", "1s"])
        .run()?;
    expect_no_doubt(&recorded)?;
    let services: BTreeSet<String> = below(&out)?;
    ensure!(services.iter().eq(["api", "compose.yaml", "db", "web"]), "{services:?}");
    for (service, ..) in SERVICES {
        recorded.says(&format!("recording service `{service}`\n"))?;
        let missing = Recording::read(&out.join(service))?.missing();
        ensure!(missing.contains("startup"), "{service}: {missing:?}");
    }
    Ok(())
}

/// Compose wrote all labels, from files of this project.
fn expect_no_doubt(recorded: &Recorded) -> Result<()> {
    let doubts = ["compose made no container", "different compose files", "says that it was made"];
    let said = doubts.iter().find(|doubt| recorded.output.stderr.contains(**doubt));
    ensure!(said.is_none(), "{}", recorded.output.text());
    Ok(())
}

/// The names in a directory.
fn below(dir: &Utf8Path) -> Result<BTreeSet<String>> {
    let entries = dir.read_dir_utf8()?;
    entries.map(|entry| Ok(entry?.file_name().to_owned())).collect()
}

fn absent(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let project = Project::new(machine, scratch.path(), "docker compose")?;
    let run = |args: &[&str]| -> Result<Recorded> {
        record(machine, scratch.path(), args)?.workload(["/bin/true"]).run()
    };
    let wrong = run(&["--service", "wbe"])?.expect(2)?;
    wrong.says("error: `compose.yaml` has no service `wbe`\nhint: it has api, db, web\n")?;
    // what compose takes by itself counts, unless a file is named
    fs_err::write(scratch.join("compose.override.yaml"), "services: {more: {image: x}}\n")?;
    for project in [&["--project", "."][..], &[]] {
        let wrong = run(&[project, &["--service", "wbe"]].concat())?.expect(2)?;
        wrong.says("has no service `wbe`\nhint: it has api, db, more, web\n")?;
    }
    let wrong = run(&["--project", "compose.yaml", "--service", "more"])?.expect(2)?;
    wrong.says("error: `compose.yaml` has no service `more`\nhint: it has api, db, web\n")?;
    fs_err::write(scratch.join(".env"), "COMPOSE_FILE=compose.yaml\n")?;
    let wrong = run(&["--project", ".", "--service", "more"])?.expect(2)?;
    wrong.says("error: `compose.yaml` has no service `more`\nhint: it has api, db, web\n")?;
    let wrong = run(&["--project", "absent.yaml"])?.expect(2)?;
    wrong.says("error: cannot read the compose file `absent.yaml`")?;

    let never = run(&["--project", ".", "--service", "web"])?.expect(3)?;
    never.says("waiting for service `web`\n")?;
    let name = project.name();
    never.says(&format!(
        "error: service `web` did not run in project `{name}` while it was recorded\nhint: "
    ))?;
    run(&["--project", &name])?
        .expect(3)?
        .says(&format!("no container of project `{name}` ran"))?;
    let none = run(&["--project", &name, "--no-wait"])?.expect(2)?;
    none.says(&format!("project `{name}` has no container\n"))?;
    ensure!(!scratch.join("profiles").exists(), "nothing was recorded, so nothing is left");

    project.shell("compose -f compose.yaml up --no-start db 2>&1")?;
    let none = run(&["--project", &name, "--service", "wbe", "--no-wait"])?.expect(2)?;
    none.says(&format!("project `{name}` has no container of service `wbe`\nhint: it has db; "))?;
    let never = run(&["--project", &name, "--service", "wbe"])?.expect(3)?;
    never.says("has no container of service `wbe` yet; it has db\n")
}

/// Containers with labels that compose did not write.
fn hostile(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let project = format!("pt{}hostile", std::process::id());
    let long = "x".repeat(4096);
    let services =
        ["web_1.x", "..", ".", "a\"b'\n  c: {}", "$(touch x)", "../../x", "\x1b[31m", &long];
    let session = record(machine, scratch.path(), &["--project", &project])?.start()?;
    session.expect_line(&format!("waiting for services of project `{project}`"))?;
    // the odd ones first: when one that is none has ended, the recording goes on
    for service in services.iter().rev() {
        let container = engine.name("hostile");
        let labels = [("project", project.as_str()), ("service", service)];
        let labels = labels.map(|(key, value)| format!("--label=com.docker.compose.{key}={value}"));
        let words = [labels[0].as_str(), &labels[1], "--network=none", &image];
        container.run(&[words.as_slice(), &["/bin/calls", "-q", "278"]].concat())?.expect(0)?;
    }
    let recorded = session.finish()?.expect(0)?;
    recorded
        .says("bears the label of the project and no service name that compose could have given")?;
    recorded.says("compose made no container of service `web_1.x`, which has its labels only")?;
    ensure!(!recorded.output.stderr.contains('\x1b'), "{}", recorded.output.text());
    let results = scratch.join("profiles/stack");
    ensure!(below(&results)?.iter().eq(["compose.yaml", "web_1.x"]), "{:?}", below(&results)?);
    ensure!(below(scratch.path())?.iter().eq(["profiles"]), "{:?}", below(scratch.path())?);
    Recording::read(&results.join("web_1.x"))?.expect_numbers(&[278])?;
    let text = fs_err::read_to_string(results.join("compose.yaml"))?;
    let written: Value = serde_saphyr::from_str(&text)?;
    let path = format!("seccomp:{results}/web_1.x/seccomp.json");
    ensure!(written["services"]["web_1.x"]["security_opt"][0] == path.as_str(), "{text}");
    ensure!(written["services"].as_object().is_some_and(|all| all.len() == 1), "{text}");
    Ok(())
}

/// Another directory has a project of the same name, with a service of the same name.
fn strangers(machine: &Machine, client: &'static str) -> Result<()> {
    let scratch = machine.scratch()?;
    // no two clients' names may differ by dashes only: 1.29 takes the name without them for its own, of an older version
    let version = if client == "docker-compose" { "1" } else { "2" };
    let [own, other] = ["own", "other"]
        .map(|dir| scratch.join(&format!("pt{dir}{version}x{}", std::process::id())));
    for dir in [&own, &other] {
        fs_err::create_dir(dir)?;
    }
    let project = Project::new(machine, &own, client)?;
    let (name, image) = (project.name(), project.engine.fixture_image(machine)?);
    let text = format!(
        "services: {{web: {{image: {image}, command: [/bin/calls, -q, \"276\"], network_mode: none}}}}\n"
    );
    fs_err::write(other.join("compose.yaml"), text)?;
    let link = scratch.join("link");
    fs_err::os::unix::fs::symlink(&own, &link)?;
    let script = format!(
        r#"compose() {{ {client} "$@"; }}
compose -p {name} -f ../{}/compose.yaml up -d 2>&1
compose -f compose.yaml -f permissive.yaml up -d --force-recreate web 2>&1
compose -f compose.yaml down -t 1 2>&1"#,
        other.file_name().unwrap_or_default()
    );
    let run = |typed: &str, out: &str| -> Result<Recorded> {
        Record::containers(machine, scratch.join(out), &[])?
            .args(["--project", typed, "--service", "web"])
            .env("COMPOSE_PROJECT_NAME", &name)
            .current_dir(&own)
            .limit(LIMIT)
            .workload(["/bin/sh", "-euc", &script])
            .run_once()?
            .expect(0)
    };
    let stranger = other.join("compose.yaml");
    for (typed, out) in [("compose.yaml", "file"), (link.as_str(), "linked")] {
        let recorded = run(typed, out)?;
        recorded.says("compose.yaml`: it is not recorded; --project NAME records all")?;
        recorded.says(&format!("in `{other}`, and not from `"))?;
        let seen = Recording::read(&scratch.join(out).join("web"))?.numbers("x86_64", "workload");
        ensure!(seen.contains(&278) && !seen.contains(&276), "only its own: {seen:?}");
    }
    let recorded = run(&name, "named")?;
    recorded
        .says(&format!("containers of project `{name}` were made from different compose files"))?;
    for dir in [&own, &other] {
        ensure!(recorded.output.stderr.contains(dir.as_str()), "{}", recorded.output.text());
    }
    let seen = Recording::read(&scratch.join("named/web"))?.numbers("x86_64", "workload");
    ensure!(seen.contains(&278) && seen.contains(&276), "a name is believed: {seen:?} {stranger}");
    Ok(())
}

/// One whose creation fails in the runtime, with settings of its own, beside one that runs.
fn idle(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let project = format!("pt{}idle", std::process::id());
    let labels = [("project", project.as_str()), ("service", "worker")]
        .map(|(key, value)| format!("--label=com.docker.compose.{key}={value}"));
    let permissive = format!("--security-opt=seccomp={}", machine.permissive());
    let script = "touch /tmp/x; /bin/calls -q 278; exec sleep 4";
    let good: [&str; 5] = [&permissive, &image, "/bin/sh", "-c", script];
    let bad: [&str; 3] = ["--privileged", &image, "/no/such/program"];
    let fixed = [labels[0].as_str(), &labels[1], "--network=none"];
    let fails = || -> Result<String> {
        let container = engine.name("idle");
        // where capabilities are refused that is what fails, and otherwise that there is no such program
        let output = container.run(&[fixed.as_slice(), &bad].concat())?;
        ensure!([125, 127].contains(&output.status), "{}", output.text());
        Ok(container.name.clone())
    };
    let start = |out: &str| -> Result<_> {
        let session = Record::containers(machine, scratch.join(out), &[])?
            .args(["--project", &project, "--harden"])
            .limit(LIMIT)
            .start()?;
        session.expect_line(&format!("waiting for services of project `{project}`"))?;
        Ok(session)
    };
    let session = start("both")?;
    let runs = engine.name("runs");
    runs.start(&[fixed.as_slice(), &good].concat())?;
    let name = fails()?;
    let recorded = session.finish()?.expect(0)?;
    recorded.says(&format!("service `worker`: `{name}` never executed the entry point, so "))?;
    ensure!(!recorded.output.stderr.contains("different settings"), "{}", recorded.output.text());
    recorded.says("of the 14 it was started with")?;
    ensure!(!recorded.output.stderr.contains("not known"), "{}", recorded.output.text());
    let recording = Recording::read(&scratch.join("both/worker"))?;
    recording.expect_numbers(&[278])?;
    let run_of = recording.runs().next().context("a run")?;
    ensure!(run_of["usage"]["root"]["changes"].is_array(), "{}", run_of["usage"]["root"]);
    ensure!(run_of["container"]["privileged"] != true, "{}", run_of["container"]);

    drop(runs);
    let session = start("alone")?;
    fails()?;
    let recorded = session.finish()?.expect(3)?;
    ensure!(
        !recorded.output.stderr.contains("never executed the entry point"),
        "{}",
        recorded.output.text()
    );
    recorded.says("of the 41 it was started with")
}
