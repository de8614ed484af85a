//! Advice beyond calls, proven: a container is recorded, started again by compose with what was advised and nothing else, does the same
//! work, and is refused what it did not do.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::project::{Project, advice};
use crate::harness::{
    machine::{Machine, Need},
    record::Recorded,
    test::Test,
};

const NEEDS: [Need; 4] = [Need::Bpf, Need::Engine, Need::Compose, Need::Tool("gcc", "gcc")];

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
    ensure!(reasons.contains("`/srv/seeded` is written to"), "root writes to a volume: {reasons}");

    let written = fs_err::read_to_string(recorded.dir.join("compose.yaml"))?;
    ensure!(written.contains("deploy:") == (client == "docker compose"), "{written}");
    // limits of the user's own in the old place, beside those in the new
    let own = serde_json::json!({ "services": { "odd": { "mem_limit": "16m", "cpus": 0.1, "pids_limit": 9 } } });
    fs_err::write(scratch.path().join("limits.yaml"), own.to_string())?;
    let files = ["compose.yaml", "limits.yaml", "profiles/odd/compose.yaml"];
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
    ensure!(host["MemoryReservation"].as_u64() >= Some(8 << 20), "{host:#}");
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
