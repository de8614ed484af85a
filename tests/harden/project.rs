//! A project of one service that is recorded and started again as advised.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::Value;

use crate::harness::{
    docker::Engine,
    machine::Machine,
    program,
    record::{Record, Recorded},
};

const LIMIT: Duration = Duration::from_secs(120);

/// A project of one service, which is down when it is dropped.
pub struct Project<'a> {
    pub engine: &'a Engine,
    directory: &'a Utf8Path,
    client: &'static str,
    image: String,
    pub container: String,
}

impl<'a> Project<'a> {
    /// Of the fixture image with a file in `/srv/seeded`, doing `work`.
    pub fn new(
        machine: &'a Machine,
        directory: &'a Utf8Path,
        client: &'static str,
        work: &str,
    ) -> Result<Project<'a>> {
        Project::seeded(machine, directory, client, work, ":", &[])
    }

    /// The same, with what `seed` puts into the image, and with new volumes.
    pub fn seeded(
        machine: &'a Machine,
        directory: &'a Utf8Path,
        client: &'static str,
        work: &str,
        seed: &str,
        volumes: &[&str],
    ) -> Result<Project<'a>> {
        let engine = machine.engine()?;
        let container = engine.name("hard").name.clone();
        let image = format!("localhost/{container}:1");
        // a directory of the image with something in it
        let seed = format!("echo seed >/srv/seeded/seed; {seed}");
        let base = engine.fixture_image(machine)?;
        let maker = engine.name("maker");
        let script = format!("/bin/busybox mkdir -p /srv/seeded /run; {seed}");
        maker.run(&["--network=none", &base, "/bin/sh", "-c", &script])?.expect(0)?;
        engine.docker(&["commit", &maker.name, &image])?;
        let work = work.replace('$', "$$");
        let file = serde_json::json!({ "services": { "odd": {
            "image": image,
            "container_name": container,
            "command": ["/bin/sh", "-c", work],
            "stop_grace_period": "1s",
            "deploy": { "resources": { "limits": { "memory": "512M" } } },
            "volumes": volumes.iter().map(|path| format!("data:{path}")).collect::<Vec<_>>(),
        } }, "volumes": { "data": {} } });
        fs_err::write(directory.join("compose.yaml"), file.to_string())?;
        let permissive = format!("seccomp:{}", machine.permissive());
        let permissive =
            serde_json::json!({ "services": { "odd": { "security_opt": [permissive] } } });
        fs_err::write(directory.join("permissive.yaml"), permissive.to_string())?;
        Ok(Project { engine, directory, client, image, container })
    }

    /// Compose with these files, in the project's directory; what it prints.
    pub fn compose(&self, files: &[&str], verb: &[&str]) -> Result<String> {
        let mut words = self.client.split(' ').collect::<Vec<_>>();
        words.extend(files.iter().flat_map(|file| ["-f", file]));
        words.extend(verb);
        let mut command = program::command(words[0], &words[1..]);
        self.engine.environment(&mut command).current_dir(self.directory);
        Ok(program::run(&mut command, LIMIT)?.expect(0)?.stdout)
    }

    /// Records the container from its start under these options, into `out`.
    pub fn record(&self, machine: &Machine, out: &str, options: &[&str]) -> Result<Recorded> {
        let out = self.directory.join(out);
        let session = Record::containers(machine, &out, &[&self.container])?
            .args(options)
            .current_dir(self.directory)
            .limit(LIMIT)
            .start()?;
        let files = ["compose.yaml", "permissive.yaml"];
        self.compose(&files, &["up", "-d"])?;
        self.wait()?;
        self.ask()?;
        std::thread::sleep(Duration::from_secs(2)); // for a few looks
        self.compose(&files, &["down", "-v", "-t", "1"])?;
        session.finish()?.expect(0)
    }

    /// Until it says that it is ready.
    pub fn wait(&self) -> Result<()> {
        let said = || self.engine.try_docker(&["logs", &self.container]).map(|out| out.text());
        program::until("the work", Duration::from_secs(30), || {
            said().is_ok_and(|log| log.contains("all started"))
        })
        .with_context(|| said().unwrap_or_default())
    }

    /// Somebody else fetches what it serves.
    pub fn ask(&self) -> Result<()> {
        let network = format!("container:{}", self.container);
        let container = self.engine.name("asks");
        let url = "http://127.0.0.1:80/seed";
        let script = format!(
            "for i in 1 2 3 4 5; do /bin/busybox wget -q -O - {url} && exit; sleep 1; done; exit 1"
        );
        let words = ["--network", &network, &self.image, "/bin/sh", "-c", &script];
        let output = container.run(&words)?.expect(0)?;
        ensure!(output.stdout == "seed\n", "it serves {}", output.stdout);
        Ok(())
    }

    /// What a shell in it says, and its status.
    pub fn exec(&self, words: &[&str]) -> Result<(i32, String)> {
        let mut all = vec!["exec", &self.container];
        all.extend(words);
        let output = self.engine.try_docker(&all)?;
        Ok((output.status, output.text()))
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.compose(&["compose.yaml"], &["down", "-v", "-t", "1"]) {
            eprintln!("container `{}` stays: {error:#}", self.container);
        }
        let _ = self.engine.try_docker(&["image", "rm", "-f", &self.image]);
    }
}

/// The advice of its profile.
pub fn advice(recorded: &Recorded) -> Result<Value> {
    let text = fs_err::read_to_string(recorded.dir.join("profile.json"))?;
    let profile: Value = serde_json::from_str(&text)?;
    ensure!(profile["harden"].is_object(), "no advice\n{}", recorded.output.text());
    Ok(profile["harden"].clone())
}
