//! `cargo xtask demo`: what the profiler does, on this machine, in a few minutes.
//!
//! Owns the story: a command is recorded, then a container under a small integration test, then the same test passes
//! in a fresh container that has nothing but the emitted profile, and two planted calls do not. Everything is in
//! `target/demo` afterwards. Containers that it started are removed, and an engine that it started is stopped.

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::Value;

use crate::{
    engines::Lent,
    sh::{Cmd, cmd, root},
    story::{binary, show, title},
};

/// Where everything goes, from the workspace's root, in which every command runs.
const DIR: &str = "target/demo";
/// The demo's container. The engine is this checkout's own, or one that has our images.
const CONTAINER: &str = "profiler-demo";
const IMAGE: &str = "localhost/nginx:1";
/// Where requests come from: the service's own network, so that nothing is needed on the host.
const CLIENT: &str = "localhost/busybox:1";

/// What is recorded, and what must pass again under the profile.
const TEST: &str = "\
#!/bin/sh
# An integration test of a web server: starts it with the options given, uses it, stops it.
set -eu
docker run --detach --name profiler-demo \"$@\" localhost/nginx:1 >/dev/null
get() {
    docker run --rm --network container:profiler-demo localhost/busybox:1 \\
        wget -q -O - \"$@\"
}
tries=0
until get http://127.0.0.1/ >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt 20 ]; then docker logs profiler-demo; exit 1; fi
    sleep 0.3
done
get http://127.0.0.1/ | grep 'served by nginx'
get http://127.0.0.1/healthz | grep ok
get --post-data 'some text to be uploaded' http://127.0.0.1/upload | grep ok
docker exec profiler-demo nginx -q -t
docker stop --time 20 profiler-demo >/dev/null
docker rm profiler-demo >/dev/null
";

/// Calls that nothing in the test makes: what is typed in the container, and what the kernel's refusal looks like.
const PLANTED: [(&[&str], &str); 2] = [
    (&["mkfifo", "/tmp/planted"], "cannot create fifo '/tmp/planted': Operation not permitted"),
    (&["chroot", "/", "true"], "cannot change root directory to '/': Operation not permitted"),
];

/// Runs the verb.
///
/// # Errors
/// When the profiler cannot be built or something does not hold.
pub fn run() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "recording needs root: it loads eBPF programs, and the demo starts a container engine\n\
         hint: sudo -E env \"PATH=$PATH\" cargo xtask demo"
    );
    let dir = root().join(DIR);
    if dir.exists() {
        fs_err::remove_dir_all(&dir)?;
    }
    fs_err::create_dir_all(&dir)?;

    title("Build the profiler");
    show(cmd("cargo").args(["build", "--package", "profiler"]))?;
    let profiler = binary();
    command(&profiler)?;
    if !Utf8Path::new("/etc/debian_version").exists() {
        println!(
            "\nNo container is recorded: this is not Debian, so the demo's engine and images cannot be made here."
        );
        return Ok(());
    }
    let engine = engine()?;
    container(&profiler, &engine)?;
    println!("\nEverything holds. The files are in {DIR}.");
    Ok(())
}

/// Records a command with its children.
fn command(profiler: &Utf8Path) -> Result<()> {
    title("Record a command, with all that it starts, from its first call");
    let out = format!("{DIR}/tar");
    let archive = format!("{DIR}/licences.tar.gz");
    let script = format!("tar -czf {archive} LICENSE-MIT LICENSE-APACHE && tar -tzf {archive}");
    show(cmd(profiler).args(["record", "-o", &out, "--name", "tar", "--", "sh", "-c", &script]))?;
    let calls = allowed(&out)?;
    // `tar` and the `gzip` that it starts talk through a pipe.
    ensure!(
        ["execve", "pipe2", "write"].iter().all(|call| calls.iter().any(|name| name == call)),
        "`{out}/seccomp.json` lacks what `sh`, `tar` and `gzip` call"
    );
    Ok(())
}

/// Records a container under its test and holds a fresh one against the profile.
fn container(profiler: &Utf8Path, engine: &Lent) -> Result<()> {
    let _gone = Gone(engine);
    engine.docker(&["rm", "--force", CONTAINER]).succeeds(); // of a demo that was interrupted
    let test = format!("{DIR}/test.sh");
    let permissive = format!("{DIR}/permissive.json");
    let out = format!("{DIR}/nginx");
    fs_err::write(root().join(&test), TEST)?;
    fs_err::write(root().join(&permissive), cmd(profiler).arg("permissive").stdout()?)?;

    title("Ask what this machine can do");
    // All of it only when something is missing: then that is what the reader needs.
    let doctor = engine.tell(cmd(profiler)).arg("doctor").capture()?;
    let told = String::from_utf8_lossy(&doctor.stdout).trim().to_owned();
    ensure!(doctor.status.success(), "profiler doctor\n{told}");
    println!("profiler doctor: {}", told.lines().last().unwrap_or_default());

    title("Record a container while its integration test runs");
    println!(
        "The test starts the container under a profile that denies nothing (`profiler permissive`), so that the\n\
         calls of the container runtime itself can be told from those before the filter. It is caught from its first call.\n"
    );
    let unfiltered = format!("seccomp={permissive}");
    show(
        engine
            .tell(cmd(profiler))
            .args(["record", "--container", CONTAINER, "--name", "nginx", "-o", &out])
            .args(["--", "sh", &test, "--security-opt", &unfiltered]),
    )?;

    title("The profile");
    let seccomp = read(&out, "seccomp.json")?;
    for line in seccomp.lines().take(12) {
        println!("{line}");
    }
    println!("  ... {} calls are allowed\n", allowed(&out)?.len());
    print!("{}", read(&out, "compose.yaml")?);
    let capabilities = capabilities(&out)?;

    title("The same test, in a fresh container under that profile");
    let mut options = vec![
        "--security-opt".to_owned(),
        format!("seccomp={out}/seccomp.json"),
        "--cap-drop=ALL".to_owned(),
    ];
    options.extend(capabilities.iter().map(|name| format!("--cap-add={name}")));
    show(engine.tell(cmd("sh")).arg(&test).args(&options))?;
    println!("the test passes");

    title("Calls that the test never made");
    start(engine, &[])?;
    for (call, _) in PLANTED {
        exec(engine, call).run().context("under Docker's own default, which should let it pass")?;
        println!("Docker's default  {:24} passes", call.join(" "));
    }
    engine.docker(&["rm", "--force", CONTAINER]).run()?;
    start(engine, &options)?;
    for (call, refusal) in PLANTED {
        let output = exec(engine, call).capture()?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        ensure!(
            !output.status.success() && said.contains(refusal),
            "`{}` was not refused as it should be ({}): {said}",
            call.join(" "),
            output.status
        );
        println!("this profile      {:24} is refused: {said}", call.join(" "));
    }
    Ok(())
}

/// The calls that a result's filter lets pass.
fn allowed(out: &str) -> Result<Vec<String>> {
    let file: Value = serde_json::from_str(&read(out, "seccomp.json")?)?;
    let rules = file["syscalls"].as_array().context("no rules in seccomp.json")?;
    let passing = rules.iter().filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    let names = passing.flat_map(|rule| rule["names"].as_array().into_iter().flatten());
    Ok(names.filter_map(Value::as_str).map(str::to_owned).collect())
}

/// The capabilities that a result asks for.
fn capabilities(out: &str) -> Result<Vec<String>> {
    let file: Value = serde_json::from_str(&read(out, "profile.json")?)?;
    let required = file["capabilities"]["required"].as_array();
    let required = required.context("no list of required capabilities in profile.json")?;
    Ok(required.iter().filter_map(|rule| rule["name"].as_str()).map(str::to_owned).collect())
}

fn read(out: &str, name: &str) -> Result<String> {
    Ok(fs_err::read_to_string(root().join(out).join(name))?)
}

/// The one that `DOCKER_HOST` names, if it has the demo's images; else this checkout's own, started if need be.
fn engine() -> Result<Lent> {
    if let Some(engine) = Lent::named(&[IMAGE, CLIENT]) {
        return Ok(engine);
    }
    title(
        "Start a container engine of this checkout's own (the first time: packages and images, minutes)",
    );
    let engine = Lent::own().context("no container was recorded")?;
    println!("{}", engine.status()?);
    Ok(engine)
}

fn start(engine: &Lent, options: &[String]) -> Result<()> {
    engine
        .docker(&["run", "--detach", "--name", CONTAINER])
        .args(options)
        .arg(IMAGE)
        .dir(root())
        .run()
}

fn exec(engine: &Lent, call: &[&str]) -> Cmd {
    engine.docker(&["exec", CONTAINER]).args(call)
}

/// Removes the demo's container at the end, however it comes.
struct Gone<'a>(&'a Lent);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        // Not there is as good.
        self.0.docker(&["rm", "--force", CONTAINER]).succeeds();
    }
}
