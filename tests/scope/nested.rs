//! Engines inside containers: what their containers do belongs to the outer one, and is shown.
//!
//! The inner engine is the machine's own, with its programs mounted into a container of fixtures.

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

use super::{NEEDS, tree::Tree};
use crate::harness::{
    evidence::Recording,
    machine::{Machine, Need, Scratch},
    pair::{Filter, Options, Pair},
    program,
    record::{Record, Recorded},
    rootfs,
    syscalls::{self, NATIVE},
    test::Test,
};

const DOCKER: Pair = Pair { runtime: "runc", engine: "docker" };
const DOCKER_CGROUP2: Pair = Pair { runtime: "runc", engine: "docker-cgroup2" };
const PODMAN: Pair = Pair { runtime: "runc", engine: "podman" };
const PODMAN_CGROUP2: Pair = Pair { runtime: "runc", engine: "podman-cgroup2" };

/// The cgroups that the inner engine is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    /// What the outer engine mounted: of a hybrid host the trees of version 1 alone.
    Own,
    /// All of the machine's.
    Machines,
}

/// What a container does that has an engine in it: its cgroups must be writable, and processes are in leaves alone.
const PREPARE: &str = r#"
cgroups=/sys/fs/cgroup
if [ -e $cgroups/cgroup.procs ]; then
    mount -o remount,bind,rw $cgroups && mkdir $cgroups/init && echo $$ >$cgroups/init/cgroup.procs || exit 1
else
    for tree in $cgroups/*; do mount -o remount,bind,rw "$tree" || exit 1; done
fi
"#;

/// Starts a daemon as it is, and runs a container.
const DOCKER_IN_DOCKER: &str = r#"
docker() { /usr/bin/docker -H unix:///run/inner.sock "$@"; }
dockerd --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs --data-root=/inner \
    --exec-root=/run/inner --pidfile=/run/inner.pid -H unix:///run/inner.sock >/tmp/log 2>&1 &
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
podman run --rm --network none --pids-limit 0 --security-opt seccomp=unconfined inner:1 /bin/calls 278
"#;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    use Given::{Machines, Own};
    const CASES: [(&str, Pair, Given); 5] = [
        ("docker_in_docker", DOCKER, Own),
        ("docker_in_docker_with_the_machines_cgroups", DOCKER, Machines),
        ("docker_in_docker_on_cgroup2", DOCKER_CGROUP2, Own),
        ("podman_in_podman_with_the_machines_cgroups", PODMAN, Machines),
        ("podman_in_podman_on_cgroup2", PODMAN_CGROUP2, Own),
    ];
    let mut tests: Vec<Test> = CASES
        .into_iter()
        .map(|(what, pair, given)| {
            let (tool, package, script) = match pair.engine {
                "docker" | "docker-cgroup2" => ("/usr/sbin/dockerd", "docker.io", DOCKER_IN_DOCKER),
                _ => ("/usr/bin/podman", "podman", PODMAN_IN_PODMAN),
            };
            let tools = [Need::Tool("gcc", "gcc"), Need::Tool(tool, package)];
            let needs = [&[Need::Bpf, Need::Pair(pair)], &tools[..]].concat();
            Test::new(format!("scope::{what}_belongs_to_the_outer"), &needs, move |machine| {
                belongs(machine, pair, given, script)
            })
        })
        .collect();
    tests.push(
        Test::new("scope::a_cgroup_that_a_member_makes_is_its_own", &NEEDS, made)
            .on_every_machine(),
    );
    tests
}

fn belongs(machine: &Machine, pair: Pair, given: Given, script: &str) -> Result<()> {
    let scratch = machine.scratch()?;
    let prepare = if given == Given::Own { PREPARE } else { "" };
    let script = format!("{prepare}{script}");
    let recorded = run(machine, pair, given, &scratch, &script)?;
    // a program of the inner container that ends at once may be gone before the capabilities of its file are read
    let unread = recorded.output.status == 3 && recorded.recording()?.missing().contains("unread");
    let recorded = recorded.expect(if unread { 3 } else { 0 })?;
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
    ensure!(!recording.missing().contains("left"), "nothing left the outer container");
    // without a way to the unified tree, the inner engine's containers stay in the outer one's cgroup of it
    let stays = (pair, given) == (DOCKER, Given::Own);
    let inner = inner_cgroups(&recording);
    ensure!((inner == 0) == stays, "{inner} inner cgroups are told of");
    if stays { Ok(()) } else { recorded.says("or by it elsewhere") }
}

fn inner_cgroups(recording: &Recording) -> u64 {
    recording.runs().filter_map(|run| run["inner_cgroups"].as_u64()).sum()
}

/// A cgroup elsewhere is the target's until another brings a process into it; what others make in it never is.
fn made(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (tree, calls) = (Tree::absent()?, machine.fixture("calls")?);
    let (dir, ready, go) = (&tree.dir, scratch.join("ready"), scratch.join("go"));
    program::shell(&format!("mkfifo {ready} {go}"))?;
    let numbers =
        syscalls::numbers(&["tee", "sync_file_range", "vmsplice", "move_pages", "utimensat"])?;
    let inside = |dir: &Utf8Path, call: usize| {
        format!("(echo 0 >{dir}/cgroup.procs && exec {calls} -q {})", numbers[call])
    };
    let workload = format!(
        "set -e; mkdir {dir} {dir}/own; {}; {}; echo >{ready}; read -r _ <{go}; {}",
        inside(dir, 0),
        inside(&dir.join("own"), 1),
        inside(dir, 2),
    );
    let session =
        Record::new(machine, scratch.join("out")).workload(["sh", "-c", &workload]).start()?;
    program::shell(&format!("read -r _ <{ready}; mkdir {dir}/other"))?;
    program::shell(&inside(&dir.join("other"), 3))?;
    program::shell(&inside(dir, 4))?;
    program::shell(&format!("echo >{go}"))?;
    let recorded = session.finish()?.expect_what_runs()?;
    let recording = recorded.recording()?;
    recording.expect_numbers(&numbers[..2])?;
    let workload = recording.numbers(NATIVE, "workload");
    ensure!(!numbers[2..].iter().any(|nr| workload.contains(nr)), "{workload:?}");
    ensure!(inner_cgroups(&recording) == 2, "{} inner cgroups", inner_cgroups(&recording));
    ensure!(recording.missing().contains("left"), "that others use it is not told");
    Ok(())
}

/// Records a container in which the script runs, with an image of the fixtures in `/in/rootfs.tar`.
fn run(
    machine: &Machine,
    pair: Pair,
    cgroups: Given,
    scratch: &Scratch,
    script: &str,
) -> Result<Recorded> {
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
        "podman" | "podman-cgroup2" => ["--security-opt", "unmask=ALL"],
        _ => ["--security-opt", "systempaths=unconfined"],
    });
    if cgroups == Given::Machines {
        words.extend(["--volume", "/sys/fs/cgroup:/sys/fs/cgroup"]);
    }
    for volume in ["/usr:/usr:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro", &given] {
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
