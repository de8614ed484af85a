//! The socket: who finds it, what it accepts, and what it leaves behind.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{MetadataExt as _, symlink},
        net::{UnixListener, UnixStream},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use camino::Utf8Path;

use super::{of, set};
use crate::harness::{
    machine::{Machine, Need},
    program::{self, Output},
    record::Record,
    test::Test,
};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("labels::hostile_names_are_inert", &NEEDS, hostile),
        Test::new("labels::no_recorder_is_an_error", &[], no_recorder),
        Test::new("labels::the_socket_is_private_and_follows_no_link", &NEEDS, private),
    ]
}

/// A conversation with a recorder.
struct Conversation {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Conversation {
    fn begin(path: &Utf8Path) -> Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { answers: BufReader::new(stream.try_clone()?), stream })
    }

    /// The answer to a line; empty when the recorder hangs up.
    fn ask(&mut self, line: &[u8]) -> Result<String> {
        self.stream.write_all(line)?;
        self.stream.write_all(b"\n")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer)
    }
}

fn hostile(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (socket, go) = (scratch.join("socket"), scratch.join("go"));
    let calls = machine.fixture("calls")?;
    let script = "until [ -e $2 ]; do sleep 0.02; done; $1 -q 278";
    let session = Record::new(machine, scratch.join("out"))
        .args(["--socket", socket.as_str()])
        .workload(["/bin/sh", "-c", script, "sh", calls.as_str(), go.as_str()])
        .start()?;
    let mut talk = Conversation::begin(&socket)?;
    for (line, wrong) in [
        (b"".as_slice(), "expected"),
        (b"mark", "expected"),
        (b"mark ", "at least one"),
        (b"drop tables", "expected"),
        (b"mark a\x1b[31mb", "control"),
        (b"mark a\0b", "control"),
        (b"mark a\rb", "control"),
        (b"end never", "not in force"),
    ] {
        let answer = talk.ask(line)?;
        ensure!(answer.starts_with("error: ") && answer.contains(wrong), "{line:?}: {answer:?}");
    }
    // text that would act in a terminal, in Markdown, in YAML or in HTML; bytes that are no text; and much of it
    let names =
        ["\u{202e}gnp", "a: &b [<script>`|$(id)", "\"'\\", "../../etc", "no\u{0301}\u{200b}w"];
    for name in names {
        ensure!(talk.ask(format!("begin {name}").as_bytes())? == "ok\n", "{name:?} is refused");
    }
    ensure!(talk.ask(b"begin \xff\xfe")? == "ok\n", "bytes that are no text");
    ensure!(talk.ask(&[b"begin ".as_slice(), &[b'x'; 3000]].concat())? == "ok\n", "a long name");
    let answer = talk.ask(&[b"begin ".as_slice(), &[b'y'; 100_000]].concat());
    ensure!(!answer.is_ok_and(|answer| answer == "ok\n"), "a line without end is accepted");
    fs_err::write(&go, "")?;
    let recorded = session.finish()?.expect(0)?;
    let mut expected = set(names);
    expected.extend(["\u{fffd}\u{fffd}".to_owned(), "x".repeat(256)]);
    let found = of(&recorded.recording()?, 278);
    ensure!(found == expected, "the call carries {found:?}");
    for file in ["recording.json", "profile.json", "seccomp.json"] {
        let text = fs_err::read_to_string(recorded.dir.join(file))?;
        let acts = |c: char| c != '\n' && c.is_control() || "\u{202e}\u{200b}".contains(c);
        ensure!(!text.contains(acts), "{file} holds a character that acts");
    }
    ensure!(!recorded.output.stderr.contains(['\x1b', '\u{202e}']), "{}", recorded.output.stderr);
    Ok(())
}

fn mark(machine: &Machine, args: &[&str], socket: Option<&str>) -> Result<Output> {
    let mut command = program::command(&machine.profiler, [&["mark"], args].concat());
    command.env_remove("PROFILER_SOCKET");
    if let Some(socket) = socket {
        command.env("PROFILER_SOCKET", socket);
    }
    program::run(&mut command, Duration::from_secs(30))
}

fn no_recorder(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let nowhere = scratch.join("nowhere");
    for output in [
        mark(machine, &["a"], Some(nowhere.as_str()))?,
        mark(machine, &["--socket", nowhere.as_str(), "--begin", "a"], None)?,
        mark(machine, &["--end"], Some(nowhere.as_str()))?,
    ] {
        let output = output.expect(2)?;
        let lines: Vec<&str> = output.stderr.lines().collect();
        ensure!(
            lines.len() == 2 && lines[0].starts_with("error: no recorder answers at `"),
            "{lines:?}"
        );
    }
    mark(machine, &[], None)?.expect(2)?;
    mark(machine, &["--begin", "--end", "a"], None)?.expect(2)?;
    let output = mark(machine, &["a\tb"], Some(nowhere.as_str()))?.expect(2)?;
    ensure!(output.stderr.contains("no control characters"), "{}", output.stderr);
    Ok(())
}

fn private(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let record = |socket: &Utf8Path, dir: &str| {
        Record::new(machine, scratch.join(dir))
            .args(["--socket", socket.as_str()])
            .workload(["/bin/sleep", "1000"])
    };
    // what is there is left alone
    let (file, link) = (scratch.join("file"), scratch.join("link"));
    fs_err::write(&file, "precious")?;
    symlink(scratch.join("elsewhere"), &link)?;
    for taken in [&file, &link] {
        let output = record(taken, "refused").run()?.expect(2)?.output;
        ensure!(output.stderr.contains("cannot create the socket `"), "{}", output.stderr);
    }
    ensure!(fs_err::read_to_string(&file)? == "precious", "the file was changed");
    ensure!(
        link.symlink_metadata()?.is_symlink() && !scratch.join("elsewhere").exists(),
        "followed"
    );
    // one that a killed recorder left is replaced
    let socket = scratch.join("socket");
    drop(UnixListener::bind(&socket)?);
    let session = record(&socket, "out").start()?;
    let mode = fs_err::symlink_metadata(&socket)?.mode() & 0o777;
    ensure!(mode == 0o600, "its mode is {mode:o}");
    // two recorders do not take it from each other
    record(&socket, "second").run()?.expect(2)?;
    ensure!(mark(machine, &["a"], Some(socket.as_str()))?.status == 0, "the first answers no more");
    session.interrupt()?;
    ensure!(!socket.exists(), "it is left behind");
    let left: Vec<_> = fs_err::read_dir(scratch.path())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(".profiler"))
        .collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
