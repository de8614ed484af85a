//! Advice beyond calls, proven: a container is recorded, started again by compose with what was advised and nothing else, does the same
//! work, and is refused what it did not do.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::Value;

use crate::harness::{
    docker::Engine,
    machine::{Machine, Need},
    program,
    record::{Record, Recorded},
    test::Test,
};

const NEEDS: [Need; 4] = [Need::Bpf, Need::Engine, Need::Compose, Need::Tool("gcc", "gcc")];

const LIMIT: Duration = Duration::from_secs(120);

/// Unusual paths, a program of its own in /tmp, 300 processes, port 80. It says what it could not do.
const WORK: &str = "b=/bin/busybox; set -e; \
    $b mkdir -p /opt/odd; echo 12345 >/opt/odd/x; echo y >/srv/seeded/y; $b cat /srv/seeded/seed; \
    $b dd if=/dev/zero of=/opt/odd/z bs=1024 count=4 2>/dev/null; \
    $b cp $b /tmp/busybox; /tmp/busybox echo own program ran; \
    for i in $($b seq 300); do sleep 100 & done; \
    echo all started; exec $b httpd -f -p 80 -h /srv/seeded";

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("harden::what_is_advised_is_enough_and_no_more", &NEEDS, |m| {
            proven(m, "docker compose")
        }),
        Test::new(
            "harden::what_is_advised_is_taken_by_compose_1_29",
            &[NEEDS.as_slice(), &[Need::Tool("docker-compose", "docker-compose")]].concat(),
            |m| proven(m, "docker-compose"),
        ),
        Test::new("harden::twice_recorded_is_the_same_advice", &NEEDS, twice),
        Test::new("harden::what_stands_in_the_way_is_told", &NEEDS, hindered),
    ]
}

/// A project of one service, which is down when it is dropped.
struct Project<'a> {
    engine: &'a Engine,
    directory: &'a Utf8Path,
    client: &'static str,
    image: String,
    container: String,
}

impl<'a> Project<'a> {
    fn new(
        machine: &'a Machine,
        directory: &'a Utf8Path,
        client: &'static str,
        work: &str,
    ) -> Result<Project<'a>> {
        let engine = machine.engine()?;
        let container = engine.name("hard").name.clone();
        let image = format!("localhost/{container}:1");
        // a directory of the image with something in it
        let seed = "echo seed >/srv/seeded/seed";
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
        } } });
        fs_err::write(directory.join("compose.yaml"), file.to_string())?;
        let permissive = format!("seccomp:{}", machine.permissive());
        let permissive =
            serde_json::json!({ "services": { "odd": { "security_opt": [permissive] } } });
        fs_err::write(directory.join("permissive.yaml"), permissive.to_string())?;
        Ok(Project { engine, directory, client, image, container })
    }

    fn compose(&self, files: &[&str], verb: &[&str]) -> Result<String> {
        let mut words = self.client.split(' ').collect::<Vec<_>>();
        words.extend(files.iter().flat_map(|file| ["-f", file]));
        words.extend(verb);
        let mut command = program::command(words[0], &words[1..]);
        self.engine.environment(&mut command).current_dir(self.directory);
        Ok(program::run(&mut command, LIMIT)?.expect(0)?.stdout)
    }

    /// Records the container from its start under these options, into `out`.
    fn record(&self, machine: &Machine, out: &str, options: &[&str]) -> Result<Recorded> {
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

    fn wait(&self) -> Result<()> {
        let said = || self.engine.try_docker(&["logs", &self.container]).map(|out| out.text());
        program::until("the work", Duration::from_secs(30), || {
            said().is_ok_and(|log| log.contains("all started"))
        })
        .with_context(|| said().unwrap_or_default())
    }

    /// Somebody else fetches what it serves.
    fn ask(&self) -> Result<()> {
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
    fn exec(&self, words: &[&str]) -> Result<(i32, String)> {
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

fn advice(recorded: &Recorded) -> Result<Value> {
    let text = fs_err::read_to_string(recorded.dir.join("profile.json"))?;
    let profile: Value = serde_json::from_str(&text)?;
    ensure!(profile["harden"].is_object(), "no advice\n{}", recorded.output.text());
    Ok(profile["harden"].clone())
}

fn proven(machine: &Machine, client: &'static str) -> Result<()> {
    let scratch = machine.scratch()?;
    let project = Project::new(machine, scratch.path(), client, WORK)?;
    let recorded = project.record(machine, "profiles/odd", &["--harden"])?;
    recorded.says("beyond calls")?;
    let advice = advice(&recorded)?;
    let places = advice["read_only"]["places"].as_array().context("places")?;
    let place = |path: &str| {
        let found = places.iter().find(|place| place["path"] == path);
        found.with_context(|| format!("`{path}` is not among {places:#?}"))
    };
    ensure!(place("/tmp")?["tmpfs"]["exec"] == true, "a program ran there: {places:#?}");
    let odd = &place("/opt")?["tmpfs"];
    ensure!(odd.is_object() && odd.get("exec").is_none(), "nothing ran there: {places:#?}");
    ensure!(place("/srv/seeded")?.get("tmpfs").is_none(), "it has files: {places:#?}");
    ensure!(places.len() == 3, "{places:#?}");
    ensure!(advice["no_new_privileges"] == serde_json::json!({}), "{advice:#}");
    let listens = &advice["network"]["listens"];
    ensure!(listens[0]["port"] == 80 && listens.as_array().map(Vec::len) == Some(1), "{listens}");
    ensure!(advice["resources"]["pids"] == 2048, "{:#}", advice["resources"]);
    ensure!(advice["resources"]["memory_mib"].as_u64() >= Some(32), "{:#}", advice["resources"]);
    let reasons = advice["user"]["not_because"].to_string();
    ensure!(reasons.contains("no tmpfs of the user's own"), "root writes to a volume: {reasons}");

    let files = ["compose.yaml", "profiles/odd/compose.yaml"];
    project.compose(&files, &["up", "-d"])?;
    project.wait()?;
    project.ask()?;
    let inspected = project.engine.docker(&["inspect", &project.container])?;
    let host = serde_json::from_str::<Value>(&inspected)?[0]["HostConfig"].clone();
    ensure!(host["ReadonlyRootfs"] == true, "{host:#}");
    ensure!(host["PidsLimit"] == 2048, "{host:#}");
    let options = host["SecurityOpt"].to_string();
    ensure!(options.contains("no-new-privileges"), "{options}");
    ensure!(host["Memory"].as_u64() >= Some(32 << 20), "{host:#}");
    ensure!(host["NanoCpus"].as_u64() >= Some(500_000_000), "{host:#}");

    for (script, refusal) in [
        ("echo x >/elsewhere", "Read-only file system"),
        ("echo x >/etc/passwd", "Read-only file system"),
        ("echo x >>/bin/caps", "Read-only file system"),
        ("/bin/busybox cp /bin/busybox /opt/odd/b; /opt/odd/b true", "Permission denied"),
        ("/bin/busybox dd if=/dev/zero of=/opt/big bs=1M count=24", "No space left"),
    ] {
        let (status, said) = project.exec(&["/bin/sh", "-c", script])?;
        ensure!(status != 0 && said.contains(refusal), "{script}: {status}, {said}");
    }
    // socket(AF_PACKET, SOCK_RAW), socket(AF_ALG, SOCK_SEQPACKET), unshare(CLONE_NEWUSER)
    for call in ["41:11,3,300", "41:26,5,0", "272:10000000"] {
        let (_, said) = project.exec(&["/bin/calls", call])?;
        ensure!(said.contains(&format!("{call} -1\n")), "{call} was answered {said}");
    }
    project.compose(&files, &["down", "-v", "-t", "1"])?;
    Ok(())
}

/// What is committed is the same.
fn twice(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let project = Project::new(machine, scratch.path(), "docker compose", WORK)?;
    let one = project.record(machine, "profiles/odd", &["--harden"])?;
    let read = |recorded: &Recorded, name: &str| fs_err::read_to_string(recorded.dir.join(name));
    let names = ["compose.yaml", "kubernetes.yaml", "networkpolicy.yaml"];
    let first = names.map(|name| read(&one, name).ok());
    let advised = advice(&one)?;
    let other = project.record(machine, "profiles/odd", &["--harden"])?;
    ensure!(advised == advice(&other)?, "{advised:#}\n{:#}", advice(&other)?);
    ensure!(first == names.map(|name| read(&other, name).ok()), "the renderings differ");
    Ok(())
}

/// The root stays writable, and why is said.
fn hindered(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let work = "echo >>/etc/passwd; echo >/file; echo all started; \
                exec /bin/busybox httpd -f -p 80 -h /srv/seeded";
    let project = Project::new(machine, scratch.path(), "docker compose", work)?;
    let recorded = project.record(machine, "profiles/odd", &["--harden=read-only"])?;
    recorded.says("no read-only: `/etc/passwd` of the image is changed")?;
    recorded.says("no read-only: `/file` is created where no volume can be")?;
    let advice = advice(&recorded)?;
    ensure!(advice.as_object().map(serde_json::Map::len) == Some(1), "{advice:#}");
    let compose = fs_err::read_to_string(recorded.dir.join("compose.yaml"))?;
    ensure!(!compose.contains("read_only") && !compose.contains("tmpfs"), "{compose}");
    Ok(())
}
