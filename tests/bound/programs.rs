//! Twenty of Debian's programs do something real under strace; each call must be in the bound of the programs that were
//! executed, by its number. The servers' recordings are held against the bound of their images by `enforce`.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::Value;

use crate::harness::{
    machine::{Machine, Need},
    program::{self, command},
    test::Test,
};

/// How long one program, or the analysis of one, may take: a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// What each is called, its package, and what it does in a directory of its own with `src/1` to `src/3`, `a.tar`.
const PROGRAMS: [(&str, &str, &str); 21] = [
    ("ls", "coreutils", "ls -lR --color=always /etc/apt"),
    ("cp", "coreutils", "cp -a --sparse=always src copy"),
    ("sort", "coreutils", "sort -R --parallel=4 -S 1M -T . src/1 src/2"),
    ("grep", "grep", "grep -rnE '5+' src"),
    ("find", "findutils", "find src -newer a.tar -o -size +1 -exec stat {} +"),
    ("tar", "tar", "tar -czf b.tgz src && tar -xzf b.tgz -C copy"),
    ("gzip", "gzip", "gzip -k src/3 && gzip -dc src/3.gz"),
    ("sed", "sed", "sed -i.bak s/1/2/ src/1"),
    ("mawk", "mawk", "mawk '{ n += $1 } END { print n | \"cat\"; system(\"true\") }' src/1"),
    (
        "bash",
        "bash",
        "bash -c 'for i in 1 2; do echo $i | cat; done; (sleep 0.1 & wait); kill -0 $$; ulimit -n'",
    ),
    ("dash", "dash", "dash -c 'echo a | cat; trap : USR1; kill -USR1 $$; cd /; umask 022'"),
    (
        "/usr/bin/python3",
        "python3",
        "/usr/bin/python3 -c 'import socket, subprocess, threading, sqlite3, ctypes, multiprocessing, mmap, select\n\
         t = threading.Thread(target=print); t.start(); t.join(); subprocess.run([\"/bin/true\"])\n\
         s = socket.socketpair(); select.epoll().register(s[0]); mmap.mmap(-1, 4096)\n\
         sqlite3.connect(\"x.db\").execute(\"create table t (x)\")'",
    ),
    (
        "perl",
        "perl-base",
        "perl -e 'open F, \"<\", \"src/1\"; my @l = <F>; system(\"true\"); fork(); print getpwuid(0)'",
    ),
    (
        "git",
        "git",
        "git init -q r && cd r && cp ../src/1 . && git add 1 && git -c user.name=t -c user.email=t@t commit -qm x && git log",
    ),
    (
        "openssl",
        "openssl",
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout k -out c -subj /CN=x && openssl dgst -sha256 c",
    ),
    ("xz", "xz-utils", "xz -T2 -k a.tar && xz -dc a.tar.xz"),
    ("ps", "procps", "ps -eLf"),
    ("ssh-keygen", "openssh-client", "ssh-keygen -q -t ed25519 -N '' -f key && ssh-keygen -lf key"),
    ("curl", "curl", "curl -s http://127.0.0.1:9/ || curl -s file:///etc/debian_version"),
    ("busybox", "busybox-static", "busybox ls -l /etc/apt && busybox tar tf a.tar"),
    ("setpriv", "util-linux", "setpriv --reuid 65534 --regid 65534 --clear-groups id"),
];

/// The tests of this file: one for each program, so that all violations are seen.
pub fn tests() -> Vec<Test> {
    let test = |(name, package, line): (&'static str, &'static str, &'static str)| {
        let needs = [
            Need::Tool(name, package),
            Need::Tool("strace", "strace"),
            Need::Tool("busybox", "busybox-static"),
        ];
        let title = format!("bound::of_{}", name.rsplit('/').next().unwrap_or(name));
        Test::new(title, &needs, move |machine| contains(machine, line))
    };
    PROGRAMS.into_iter().map(test).collect()
}

fn contains(machine: &Machine, line: &str) -> Result<()> {
    let scratch = machine.scratch()?;
    let (dir, trace) = (scratch.join("w"), scratch.join("trace"));
    fs_err::create_dir_all(dir.join("src"))?;
    fs_err::create_dir_all(dir.join("copy"))?;
    for name in ["1", "2", "3"] {
        let numbers: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
        fs_err::write(dir.join("src").join(name), numbers.join("\n"))?;
    }
    program::run(command("busybox", ["tar", "cf", "a.tar", "src"]).current_dir(&dir), LIMIT)?
        .expect(0)?;
    let words = ["-f", "-qq", "-s", "0", "-o", trace.as_str(), "/bin/sh", "-c", line];
    let ran = program::run(command("strace", words).current_dir(&dir), LIMIT)?;
    ensure!(ran.status == 0, "the program failed\n{}", ran.text());

    let (seen, executed) = traced(&trace)?;
    ensure!(seen.len() > 15, "strace saw {seen:?} only");
    let mut words = vec!["coverage", "--rootfs", "/", "--format", "json"];
    for path in &executed {
        words.extend(["--program", path]);
    }
    let surface = surface(program::run(&mut command(&machine.profiler, words), LIMIT)?.expect(0)?)?;
    let bound = names(&surface, &["unseen", "unseen_and_denied"]);
    let outside: Vec<_> = seen.difference(&bound).collect();
    ensure!(
        outside.is_empty(),
        "seen, but not in the bound of {} calls of {executed:?}: {outside:?}\nunread: {}",
        bound.len(),
        surface["unread"]
    );
    // a bound of everything would hold everything
    ensure!(bound.len() < 340 && !bound.contains("kexec_load"), "{} calls", bound.len());
    Ok(())
}

/// The calls after the first execve, and the programs that were executed.
fn traced(trace: &Utf8Path) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let text = fs_err::read_to_string(trace)?;
    let (mut calls, mut executed) = (BTreeSet::new(), BTreeSet::new());
    for (index, line) in text.lines().enumerate() {
        let (_, rest) = line.split_once(' ').context("a line of strace starts with a pid")?;
        let rest = rest.trim_start();
        if rest.starts_with("<... ") || rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        let (call, arguments) = rest.split_once('(').unwrap_or((rest, ""));
        if call == "execve"
            && let Some(path) = arguments.strip_prefix('"').and_then(|rest| rest.split('"').next())
            && Utf8Path::new(path).is_file()
        {
            executed.insert(path.to_owned());
        }
        if index > 0 {
            calls.insert(call.to_owned());
        }
    }
    Ok((calls, executed))
}

/// Every call of a server's recording is in the bound of its image.
///
/// # Errors
/// When one is not, with the list.
pub fn holds(machine: &Machine, image: &str, recorded: &Utf8Path) -> Result<()> {
    let mut coverage = command(
        &machine.profiler,
        ["coverage", "--image", image, "--format", "json", recorded.as_str()],
    );
    let output = program::run(machine.engine()?.environment(&mut coverage), LIMIT)?.expect(0)?;
    let surface = surface(output)?["surface"].clone();
    let seen = surface["seen"].as_u64().unwrap_or(0);
    ensure!(seen > 30, "{seen} calls seen");
    ensure!(
        surface["not_in_bound"].as_array().is_some_and(Vec::is_empty),
        "not in the bound: {}\nof {}, unread: {}",
        surface["not_in_bound"],
        surface["programs"],
        surface["unread"]
    );
    Ok(())
}

fn surface(output: program::Output) -> Result<Value> {
    serde_json::from_str(&output.stdout).with_context(|| output.text())
}

/// The names in lists of calls.
fn names(surface: &Value, lists: &[&str]) -> BTreeSet<String> {
    let calls = lists.iter().filter_map(|list| surface[*list].as_array()).flatten();
    let native = calls.filter(|call| call["abi"] == "x86_64");
    native.filter_map(|call| call["name"].as_str().map(str::to_owned)).collect()
}
