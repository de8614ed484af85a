//! A directory to type commands in, and the recordings that they are given.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use fs_err as fs;
use profiler::{
    ingest,
    model::{
        arch::Abi,
        recording::{
            AuditClass, CapabilityFact, CheckSighting, Phase, Program, Recording, Sighting,
            SyscallFact, UserNamespace, Verdict,
        },
    },
    render,
};
use tempfile::TempDir;

const BACKEND: &str = include_str!("../data/backend.json");

/// What a command said.
pub struct Said {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    #[track_caller]
    pub fn with(self, status: i32) -> Said {
        assert_eq!(self.status, status, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Both streams, for a snapshot.
    pub fn transcript(&self) -> String {
        format!("status {}\n--- stdout\n{}--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}

/// A directory to type commands in.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().expect("a directory"))
    }

    /// A git repository whose first branch is `main`.
    pub fn repository() -> Place {
        let place = Place::new();
        place.git(&["init", "-q", "-b", "main"]);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn run(&self, mut command: Command, args: &[&str]) -> Said {
        let output = command
            .args(args)
            .current_dir(self.0.path())
            // nothing of the machine's or the user's
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CEILING_DIRECTORIES", self.0.path().parent().unwrap_or(Path::new("/")))
            .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@invalid")])
            .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@invalid")])
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .output()
            .expect("runs");
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            text.replace(&self.0.path().display().to_string(), "DIR")
        };
        Said {
            status: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    pub fn profiler(&self, args: &[&str]) -> Said {
        self.run(Command::cargo_bin("profiler").expect("built"), args)
    }

    #[track_caller]
    pub fn git(&self, args: &[&str]) -> Said {
        self.run(Command::new("git"), args).with(0)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("creates");
        fs::write(path, text).expect("writes");
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("reads")
    }

    /// Commits what `generate` makes of a recording in profiles/backend, as a build does: without the recording.
    pub fn commit(&self, recording: &Recording, message: &str) {
        self.write("recording.json", &render::json::recording(recording));
        self.profiler(&["generate", "recording.json", "--into", "profiles/backend"]).with(0);
        for name in ["recording.json", "profiles/backend/recording.json"] {
            fs::remove_file(self.path(name)).expect("removes");
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }
}

pub fn backend() -> Recording {
    ingest::recording::parse(BACKEND).expect("the fixture is valid")
}

/// The backend in another run, in which `program` also makes a call, and needs a capability for it.
pub fn another(run: &str, call: u32, capability: u8, program: &str, test: &str) -> Recording {
    let text = render::json::recording(&backend()).replace("00000000000000aa", run);
    let mut recording = ingest::recording::parse(&text).expect("a recording");
    let sighting = Sighting {
        first_ms: Some(1),
        programs: [Program { comm: program.into(), exe: program.into() }].into(),
        tests: [test.to_owned()].into(),
        ..Sighting::default()
    };
    recording.syscalls.push(SyscallFact {
        abi: Abi::X86_64,
        nr: call,
        phase: Phase::Workload,
        seen: [(run.to_owned(), sighting.clone())].into(),
    });
    let seen = CheckSighting { checks: 1, succeeded: 1, failed: 0, unsettled: 0, sighting };
    recording.capabilities.push(CapabilityFact {
        capability,
        phase: Phase::Workload,
        verdict: Verdict::Granted,
        audit: AuditClass::Audited,
        user_namespace: UserNamespace::Host,
        overridden: false,
        abi: Abi::X86_64,
        nr: call,
        asked_by: String::new(),
        seen: [(run.to_owned(), seen)].into(),
    });
    recording
}

pub const MOUNT: u32 = 165;
pub const PTRACE: u32 = 101;
pub const SOCKETPAIR: u32 = 53;

pub fn mounts() -> Recording {
    another("00000000000000b1", MOUNT, 21, "import", "test_upload")
}

pub fn traces() -> Recording {
    another("00000000000000b2", PTRACE, 19, "debugger", "test_crash")
}
