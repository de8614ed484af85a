//! Engines inside containers: what their containers do belongs to the outer one, and is shown.
//!
//! The inner engine is the machine's own, with its programs mounted into a container of fixtures.

use anyhow::{Context as _, Result, ensure};

use crate::harness::{
    machine::{Machine, Need, Scratch},
    pair::{Filter, Options, Pair},
    program,
    record::{Record, Recorded},
    rootfs,
    test::Test,
};

const DOCKER: Pair = Pair { runtime: "runc", engine: "docker" };
const PODMAN: Pair = Pair { runtime: "runc", engine: "podman" };

/// Starts a daemon, and runs a container below the cgroup `PARENT`, or where the daemon would put it.
const DOCKER_IN_DOCKER: &str = r#"
docker() { /usr/bin/docker -H unix:///run/inner.sock "$@"; }
dockerd --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs --data-root=/inner \
    --exec-root=/run/inner --pidfile=/run/inner.pid -H unix:///run/inner.sock ${PARENT:+--cgroup-parent $PARENT} >/tmp/log 2>&1 &
for _ in $(seq 100); do docker version >/dev/null 2>&1 && break; sleep 0.1; done
docker import /in/rootfs.tar inner:1 >/dev/null || { cat /tmp/log >&2; exit 1; }
docker run --rm --network none inner:1 /bin/calls 278
status=$?
kill "$(cat /run/inner.pid)"
wait
exit $status
"#;

const PODMAN_IN_PODMAN: &str = r#"
mkdir -p /etc/containers
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
export TMPDIR=/tmp
podman() {
    /usr/bin/podman --root /inner --runroot /run/inner --tmpdir /run/tmp --storage-driver vfs --cgroup-manager cgroupfs \
        --events-backend none --runtime runc "$@"
}
podman import -q /in/rootfs.tar inner:1 >/dev/null || exit 1
exec_in() { podman run --rm --network none --cgroup-parent "$PARENT" --security-opt seccomp=unconfined inner:1 "$@"; }
exec_in /bin/calls 278
"#;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let needs = |pair, tool, package| {
        [Need::Bpf, Need::Tool("gcc", "gcc"), Need::Tool(tool, package), Need::Pair(pair)]
    };
    let docker = needs(DOCKER, "/usr/sbin/dockerd", "docker.io");
    let podman = needs(PODMAN, "/usr/bin/podman", "podman");
    vec![
        Test::new("scope::docker_in_docker_belongs_to_the_outer", &docker, |machine| {
            belongs(machine, DOCKER, DOCKER_IN_DOCKER)
        }),
        Test::new("scope::podman_in_podman_belongs_to_the_outer", &podman, |machine| {
            belongs(machine, PODMAN, PODMAN_IN_PODMAN)
        }),
        Test::new("scope::an_inner_engine_that_leaves_is_told", &docker, leaves),
    ]
}

fn belongs(machine: &Machine, pair: Pair, script: &str) -> Result<()> {
    let parent = "PARENT=$(sed -n 's/^0:://p' /proc/self/cgroup)/inner";
    let scratch = machine.scratch()?;
    let recorded = run(machine, pair, &scratch, &format!("{parent}\n{script}"))?.expect(0)?;
    let recording = recorded.recording()?;
    let call = recording
        .facts("syscalls")
        .find(|fact| fact["nr"] == 278 && fact["phase"] == "workload")
        .context("the inner container's call is not the outer one's")?;
    let by = call["seen"].to_string();
    ensure!(by.contains(r#""comm":"calls""#), "vmsplice was made by {by}");
    let workload = recording.names("workload")?;
    for call in ["pivot_root", "mount"] {
        ensure!(workload.contains(call), "the inner runtime's `{call}` is missing");
    }
    let inner = recording.runs().filter_map(|run| run["inner_cgroups"].as_u64()).sum::<u64>();
    ensure!(inner > 0, "no inner cgroup is told of");
    ensure!(!recording.missing().contains("left"), "nothing left the outer container");
    recorded.says("inside the target's")
}

/// On a hybrid host, a daemon that knows of no parent makes its containers' cgroups beside the outer one's.
fn leaves(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let recorded = run(machine, DOCKER, &scratch, DOCKER_IN_DOCKER)?;
    let recording = recorded.recording()?;
    ensure!(!recording.numbers("x86_64", "workload").contains(&278), "it was not in scope");
    ensure!(recording.missing().contains("left"), "that processes left is not said");
    recorded.says("left the target's cgroup")
}

/// Records a container in which the script runs, with an image of the fixtures in `/in/rootfs.tar`.
fn run(machine: &Machine, pair: Pair, scratch: &Scratch, script: &str) -> Result<Recorded> {
    let root = rootfs::make(machine)?;
    let given = scratch.join("in");
    fs_err::create_dir(&given)?;
    fs_err::write(given.join("run.sh"), script)?;
    program::shell(&format!("tar -C {} -cf {given}/rootfs.tar .", root.path()))?;
    let given = format!("{given}:/in:ro");
    let mut words = vec!["--tmpfs=/run", "--tmpfs=/etc", "--volume=/inner"];
    for capability in ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"] {
        words.extend(["--cap-add", capability]);
    }
    words.extend(match pair.engine {
        "podman" => ["--security-opt", "unmask=ALL"],
        _ => ["--security-opt", "systempaths=unconfined"],
    });
    for volume in [
        "/sys/fs/cgroup:/sys/fs/cgroup",
        "/usr:/usr:ro",
        "/usr/lib:/lib:ro",
        "/usr/lib64:/lib64:ro",
        &given,
    ] {
        words.extend(["--volume", volume]);
    }
    let options = Options {
        filter: Filter::File(machine.permissive()),
        more: words.into_iter().map(str::to_owned).collect(),
        ..Options::default()
    };
    let mut container = pair.container(machine, "outer");
    let out = scratch.join("out");
    let session = Record::pair(machine, &out, pair, &[&container.name])?.start()?;
    let output = container
        .start(&options, &["/usr/bin/bash", "/in/run.sh"])?
        .wait(std::time::Duration::from_secs(120))?;
    ensure!(
        output.status == 0 && output.stdout == "278 -22\n",
        "the inner container: {}",
        output.text()
    );
    session.finish()
}
