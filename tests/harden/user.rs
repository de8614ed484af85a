//! Who a container is to be started as: what the image and the volumes let a user do decides, and a run as that user proves it.

use anyhow::{Context as _, Result, ensure};

use super::project::{Project, advice};
use crate::harness::{
    machine::{Machine, Need},
    test::Test,
};

const NEEDS: [Need; 4] = [Need::Bpf, Need::Engine, Need::Compose, Need::Tool("gcc", "gcc")];

/// As the entry points of databases do: root gives a volume away, and becomes a user, who reads a key, writes, and listens on port 80.
const WORK: &str = "b=/bin/busybox; \
    if [ $($b id -u) = 0 ]; then $b chown 1000:1000 /srv/data; exec $b su -s /bin/sh user -c \"$2\"; fi; eval \"$2\"";

/// What the user does.
const USERS: &str = "set -e; /bin/busybox cat /srv/key >/srv/data/copy; echo all started; \
    exec /bin/busybox httpd -f -p 80 -h /srv/seeded";

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("harden::a_user_who_gets_at_everything_is_advised", &NEEDS, advised),
        Test::new("harden::a_user_who_would_be_kept_out_is_not", &NEEDS, barred),
    ]
}

fn project<'a>(
    machine: &'a Machine,
    directory: &'a camino::Utf8Path,
    seed: &str,
) -> Result<Project<'a>> {
    let work = WORK.replace("\"$2\"", &format!("'{USERS}'"));
    Project::seeded(machine, directory, "docker compose", &work, seed, &["/srv/data"])
}

fn advised(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let seed = "b=/bin/busybox; $b mkdir -m 700 /srv/data; $b chown 1000:1000 /srv/data; \
                echo key >/srv/key; $b chown 0:1000 /srv/key; $b chmod 640 /srv/key";
    let project = project(machine, scratch.path(), seed)?;
    let recorded = project.record(machine, "profiles/odd", &["--harden"])?;
    let user = advice(&recorded)?["user"].clone();
    ensure!(user["users"][0]["uid"] == 1000 && user.get("not_because").is_none(), "{user:#}");

    let files = ["compose.yaml", "profiles/odd/compose.yaml"];
    project.compose(&files, &["up", "-d"])?;
    project.wait()?;
    project.ask()?;
    let pid = project.engine.docker(&["inspect", "-f", "{{.State.Pid}}", &project.container])?;
    let status = fs_err::read_to_string(format!("/proc/{}/status", pid.trim()))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let ids = field("Uid:").context("no user")?.split_whitespace().collect::<Vec<_>>();
    ensure!(ids == ["1000"; 4], "its first process is of {ids:?}");
    ensure!(field("CapEff:").map(str::trim) == Some("0000000000000000"), "{status}");
    project.compose(&files, &["down", "-v", "-t", "1"])?;
    Ok(())
}

fn barred(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let seed = "b=/bin/busybox; $b mkdir -m 755 /srv/data; echo other >/srv/other; $b chmod 600 /srv/other; \
                echo key >/srv/key";
    let project = project(machine, scratch.path(), seed)?;
    let recorded = project.record(machine, "profiles/odd", &["--harden=user"])?;
    recorded.says("`/srv/other` of the image is 0:0's with mode 600")?;
    recorded.says("a new volume at `/srv/data` is not 1000:1000's")?;
    let compose = fs_err::read_to_string(recorded.dir.join("compose.yaml"))?;
    ensure!(!compose.contains("user:"), "{compose}");
    Ok(())
}
