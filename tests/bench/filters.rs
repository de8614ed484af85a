//! Filters that are made of what was recorded, and what runs under one.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use profiler::{
    ingest,
    kernel::{libseccomp::Libseccomp, version},
    model::{
        capability,
        effective::{Context, Engine},
        policy,
        seccomp::{Action, Arg, KernelVersion, Op, Rule, SeccompFile},
    },
};

use crate::caller::{self, Call};

/// Whose filter, and what happens to a call that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Docker's default, for its default capabilities.
    Docker,
    /// The recorded caller's that makes this call. fcntl is known with the caller's command alone.
    Of(Call, Action),
}

/// The filters, in files.
pub struct Filters {
    dir: Utf8PathBuf,
    program: Utf8PathBuf,
}

impl Filters {
    /// Records the callers, and compiles what is made of that into a directory; `program` is `below.c`'s.
    pub fn new(dir: &Utf8Path, program: &Utf8Path) -> Result<Self> {
        let filters = Self { dir: dir.to_owned(), program: program.to_owned() };
        let upstream = "../profiles/upstream/docker-default.json";
        let docker = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join(upstream);
        filters.compile(Filter::Docker, &parse(&docker)?, Engine::Docker)?;
        for call in [Call::Plain, Call::Watched] {
            let recorded = filters.recorded(call)?;
            for action in [Action::Log, Action::Notify] {
                let file = knowing(&recorded, call, action);
                filters.compile(Filter::Of(call, action), &file, Engine::Oci)?;
            }
        }
        Ok(filters)
    }

    /// What starts a program under a filter: the words before the program's own.
    pub fn under(&self, filter: Filter) -> [String; 3] {
        let asks = matches!(filter, Filter::Of(_, Action::Notify));
        let verb = if asks { "notify" } else { "filter" };
        [self.program.to_string(), verb.to_owned(), self.path(filter).into_string()]
    }

    fn path(&self, filter: Filter) -> Utf8PathBuf {
        self.dir.join(format!("{filter:?}"))
    }

    /// The profile of a caller.
    fn recorded(&self, call: Call) -> Result<SeccompFile> {
        let itself = std::env::current_exe()?;
        let out = self.dir.join(call.name());
        let status = Command::new(itself.with_file_name("profiler"))
            .args(["record", "-o", out.as_str(), "--"])
            .arg(&itself)
            .args([caller::WORD, "5000", call.name()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(status.success(), "the caller could not be recorded");
        parse(&out.join("seccomp.json"))
    }

    fn compile(&self, filter: Filter, file: &SeccompFile, engine: Engine) -> Result<()> {
        let numbers = capability::DOCKER_DEFAULT.iter().filter_map(|name| capability::number(name));
        let context = Context {
            native: policy::native_abi(std::env::consts::ARCH).context("no table")?,
            capabilities: numbers.collect::<BTreeSet<u8>>(),
            kernel: KernelVersion::of_release(&version::uname().release).context("no version")?,
            engine,
        };
        let compiled = Libseccomp::open()?.compile(file, &context)?;
        Ok(fs_err::write(self.path(filter), compiled.program.bytes())?)
    }
}

fn parse(path: &Utf8Path) -> Result<SeccompFile> {
    Ok(ingest::seccomp::parse(&fs_err::read_to_string(path)?)?)
}

/// What a profile allows, and another action for all else.
fn knowing(profile: &SeccompFile, call: Call, action: Action) -> SeccompFile {
    let mut file = profile.clone();
    file.default_action = action;
    file.syscalls.retain(|rule| rule.action == Action::Allow);
    if call == Call::Watched {
        let value = 1; // F_GETFD
        let args = vec![Arg { index: 1, value, value_two: 0, op: Op::Eq }];
        let one = file.syscalls.first().map(|rule| Rule {
            names: vec![call.name().to_owned()],
            args,
            ..rule.clone()
        });
        for rule in &mut file.syscalls {
            rule.names.retain(|name| name != call.name());
        }
        file.syscalls.extend(one);
    }
    file
}
