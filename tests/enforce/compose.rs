//! The whole application under compose: recorded at once, then up again with the emitted overrides and nothing else.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{
    enforce::{
        hold::RECORDED_ROUNDS,
        judge::{Processes, expect_clean},
        servers::{SERVERS, Server},
    },
    harness::{
        docker::{Container, Engine},
        machine::{Machine, Need},
        program,
        record::Record,
        test::Test,
    },
};

const NEEDS: [Need; 5] =
    [Need::Bpf, Need::Engine, Need::Compose, Need::Images, Need::Tool("ps", "procps")];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![Test::new("enforce::five_services_under_compose", &NEEDS, five)]
}

/// A compose project that is down when it is dropped.
struct Project<'a> {
    engine: &'a Engine,
    directory: &'a camino::Utf8Path,
    name: String,
}

impl Project<'_> {
    fn compose(&self, files: &[String], verb: &[&str]) -> Result<()> {
        let mut words = vec!["compose", "-p", &self.name];
        for file in files {
            words.extend(["-f", file]);
        }
        words.extend(verb);
        let mut command = program::command("docker", words);
        self.engine.environment(&mut command).current_dir(self.directory);
        program::run(&mut command, Duration::from_secs(180))?.expect(0)?;
        Ok(())
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.compose(&["compose.yaml".to_owned()], &["down", "-v", "-t", "1"]) {
            eprintln!("project `{}` stays: {error:#}", self.name);
        }
    }
}

fn five(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let engine = machine.engine()?;
    let containers: Vec<Container<'_>> =
        SERVERS.iter().map(|server| engine.name(server.name)).collect();
    let project =
        Project { engine, directory: scratch.path(), name: format!("pt{}", std::process::id()) };
    fs_err::write(scratch.join("compose.yaml"), base(&containers))?;
    let permissive = override_all(&format!("security_opt: [\"seccomp:{}\"]", machine.permissive()));
    fs_err::write(scratch.join("permissive.yaml"), permissive)?;
    let base = "compose.yaml".to_owned();

    let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
    let session = Record::containers(machine, "profiles", &names)?
        .current_dir(scratch.path())
        .limit(Duration::from_secs(600))
        .start()?;
    project.compose(&[base.clone(), "permissive.yaml".to_owned()], &["up", "-d"])?;
    let before =
        use_all(engine, &containers, RECORDED_ROUNDS).context("while they are recorded")?;
    project.compose(&[base.clone(), "permissive.yaml".to_owned()], &["down", "-v", "-t", "20"])?;
    session.finish()?.expect(0)?;

    let mut files = vec![base];
    files.extend(names.iter().map(|name| format!("profiles/{name}/compose.yaml")));
    project.compose(&files, &["up", "-d"])?;
    let after = use_all(engine, &containers, 1).context("under the emitted overrides")?;
    for (container, ((roles, log), (roles_before, log_before))) in
        containers.iter().zip(after.iter().zip(&before))
    {
        ensure!(roles == roles_before, "{}: {roles:?}, before {roles_before:?}", container.name);
        expect_clean(log, log_before).with_context(|| container.name.clone())?;
        let host = container.inspect()?["HostConfig"].clone();
        ensure!(
            host["CapDrop"].to_string().contains("ALL"),
            "{}: CapDrop {}",
            container.name,
            host["CapDrop"]
        );
        let filtered = host["SecurityOpt"].to_string().contains("defaultAction");
        ensure!(filtered, "{}: no filter is set: {}", container.name, host["SecurityOpt"]);
    }
    Ok(())
}

/// Who runs as whom, and the log.
type Seen = (std::collections::BTreeSet<(String, u32, u32)>, String);

fn use_all(engine: &Engine, containers: &[Container<'_>], rounds: usize) -> Result<Vec<Seen>> {
    let mut first = Vec::new();
    for (server, container) in SERVERS.iter().zip(containers) {
        drop(
            crate::enforce::traffic::connect(&container.address()?, server.port)
                .with_context(|| log(container))?,
        );
    }
    std::thread::sleep(Duration::from_secs(2));
    for container in containers {
        first.push(Processes::of(container)?);
    }
    for (server, container) in SERVERS.iter().zip(containers) {
        for _ in 0..rounds {
            (server.traffic)(engine, &container.address()?)
                .with_context(|| format!("{}: {}", server.name, log(container)))?;
        }
    }
    let mut seen = Vec::new();
    for ((server, container), first) in SERVERS.iter().zip(containers).zip(first) {
        container.expect_running()?;
        let last = Processes::of(container)?;
        first.expect_alive(&last)?;
        last.expect_unprivileged(server)?;
        seen.push((first.roles(), container.log()?));
    }
    Ok(seen)
}

fn log(container: &Container<'_>) -> String {
    format!("its log:\n{}", container.log().unwrap_or_default())
}

fn base(containers: &[Container<'_>]) -> String {
    let service = |(server, container): (&Server, &Container<'_>)| {
        let mut text = format!(
            "  {}:\n    image: localhost/{}:1\n    container_name: {}\n",
            server.name, server.name, container.name
        );
        let environment: Vec<String> = server
            .options
            .iter()
            .filter(|option| **option != "-e")
            .map(|option| format!("      - {}\n", option.replace("{database}", "postgres")))
            .collect();
        if !environment.is_empty() {
            text.push_str(&format!("    environment:\n{}", environment.concat()));
        }
        text
    };
    format!("services:\n{}", SERVERS.iter().zip(containers).map(service).collect::<String>())
}

fn override_all(setting: &str) -> String {
    let services = SERVERS.iter().map(|server| format!("  {}:\n    {setting}\n", server.name));
    format!("services:\n{}", services.collect::<String>())
}
