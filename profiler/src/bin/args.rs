//! What can be typed.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use profiler::{
    model::{arch::Abi, lint::libseccomp::Version, profile, purpose::RuntimeChoice},
    observe::ebpf::{Twins, Way},
};

use crate::{
    context::{self, ContextArgs},
    exit,
    hardening::HardenArgs,
    output::Committed,
};

/// Record what a container or command asks of the kernel; write the profile that it needs.
#[derive(Debug, Parser)]
#[command(name = "profiler", version, max_term_width = 100, after_help = exit::HELP)]
pub struct Cli {
    /// Log what the tool and its kernel side do
    #[arg(long, global = true)]
    pub debug: bool,

    /// Use colours: when the output is a terminal and NO_COLOR is not set, always, or never
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,

    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Record a container, a compose project, a cgroup or a command, and write its profile
    Record(RecordArgs),
    /// Write a profile and its renderings from recordings
    Generate(GenerateArgs),
    /// Say what a policy allows, what that risks, who needs it, and what would happen to a call
    Explain(ExplainArgs),
    /// Find the traps in seccomp files and profiles
    Lint(LintArgs),
    /// Hold containers, compose files and Kubernetes manifests against a hardening checklist
    Audit(crate::audit::AuditArgs),
    /// Join recordings of one target into one
    Merge(crate::merge::MergeArgs),
    /// Show what two policies decide differently
    Diff(crate::diff::DiffArgs),
    /// Say how complete the evidence is
    Coverage(crate::coverage::CoverageArgs),
    /// Prove that a profile holds
    Verify(crate::verify::VerifyArgs),
    /// Remove from a profile what its tests pass without
    Minimise(crate::minimise::MinimiseArgs),
    /// Let git show and merge profiles by what they decide
    Git(crate::git::GitArgs),
    /// Set the label of the test that runs: what the target does from now on is recorded under it
    Mark(MarkArgs),
    /// Show what this host can do, and what is missing
    Doctor(DoctorArgs),
    /// Print the seccomp profile to record a container under: it loads, and denies nothing
    Permissive,
    /// Print a shell's completions
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all commands to DIR
    Man(ManArgs),
    /// Stop; continued, become COMMAND
    #[command(name = "__enter", hide = true)]
    Enter(EnterArgs),
    /// Wait for the end of standard input, then remove the cgroup that it names
    #[command(name = "__warden", hide = true)]
    Warden,
}

/// Without a target, COMMAND itself is recorded, from its first call. With --container, --project, --service, --cgroup
/// or --pid, COMMAND is the test run: recording ends when it ends.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("of_engine").multiple(true)),
    group(ArgGroup::new("of_project").multiple(true)),
    after_help = "\
Examples:
  profiler record -o out -- ls -l
  profiler record --container backend -- make integration-test
  profiler record --container backend --duration 30s
  profiler record --project compose.yaml -- make integration-test
  profiler record --project shop --service backend --duration 30s
  profiler record --cgroup /k8s.io/backend -- make integration-test

Exit status: the command's when it fails; 0 done; 2 usage or environment; 3 evidence incomplete."
)]
pub struct RecordArgs {
    /// Record the container of this name or id; it need not exist yet (repeatable)
    #[arg(long = "container", value_name = "NAME", group = "of_engine")]
    pub containers: Vec<String>,

    /// Record all services of this compose project: its name, its file, or the file's directory
    #[arg(long, value_name = "NAME|FILE", groups = ["of_engine", "of_project"], conflicts_with = "containers")]
    pub project: Option<PathBuf>,

    /// Record this service only (repeatable); without --project, of the compose file here
    #[arg(long = "service", value_name = "NAME", groups = ["of_engine", "of_project"], conflicts_with = "containers")]
    pub services: Vec<String>,

    /// Leave out containers of `compose run`, which otherwise belong to their service
    #[arg(long, requires = "of_project")]
    pub no_one_off: bool,

    /// Record the cgroup of this path, as in /proc/PID/cgroup; it need not exist yet
    #[arg(long, value_name = "PATH", conflicts_with_all = ["of_engine", "restart", "docker_host"])]
    pub cgroup: Option<PathBuf>,

    /// Record the cgroup of this process, if it shares it with none but its children
    #[arg(long, value_name = "PID", conflicts_with_all = ["of_engine", "cgroup", "restart", "docker_host"],
          value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,

    /// Write results to DIR (default: profiles/NAME); with several containers, or services, to DIR/NAME
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    pub into: IntoArgs,

    #[command(flatten)]
    pub narrow: NarrowArgs,

    #[command(flatten)]
    pub harden: HardenArgs,

    /// Call the result NAME (default: the name of the container, project or cgroup, or the command's file name)
    #[arg(long)]
    pub name: Option<String>,

    /// End after this time: 90s, 5m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "command")]
    pub duration: Option<Duration>,

    /// Wait for targets that do not exist or do not run yet (default)
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,

    /// Fail when the target does not exist
    #[arg(long)]
    pub no_wait: bool,

    /// Restart containers that already run, so that their start-up is recorded
    #[arg(long, requires = "of_engine")]
    pub restart: bool,

    /// Keep the functions from which each call was first made, in recording.json
    #[arg(long)]
    pub stacks: bool,

    /// Count how often each call is made, in recording.json; each call then costs a little more
    #[arg(long)]
    pub counts: bool,

    /// Write a byte to this file descriptor when everything is attached
    #[arg(long, value_name = "FD")]
    pub ready_fd: Option<u32>,

    /// Listen for `profiler mark` at PATH, which must not exist (default: a path of its own, which COMMAND
    /// finds in PROFILER_SOCKET)
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Ask the engine at this address (default: DOCKER_HOST, then the context, then the socket)
    #[arg(long, value_name = "URL", requires = "of_engine")]
    pub docker_host: Option<String>,

    /// Do not put the recorder under its own filter, which allows what it needs while it records
    #[arg(long)]
    pub unfiltered: bool,

    /// See capability checks this way or not at all (default: the first that the kernel takes)
    #[arg(long, value_enum, value_name = "WAY", hide = true)]
    pub attach_capabilities: Option<AttachWay>,

    /// Attach what sees calls and checks twice, or the second alone (default: both where the kernel may leave out one)
    #[arg(long, value_enum, value_name = "WHICH", hide = true)]
    pub attach_twins: Option<AttachTwins>,

    /// The test run, or the workload itself
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Programs that do the same, as they are typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AttachTwins {
    Both,
    Second,
}

impl From<AttachTwins> for Twins {
    fn from(which: AttachTwins) -> Self {
        match which {
            AttachTwins::Both => Twins::Both,
            AttachTwins::Second => Twins::Second,
        }
    }
}

/// A way to attach, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AttachWay {
    Tracepoint,
    Fexit,
    Kprobe,
}

impl From<AttachWay> for Way {
    fn from(way: AttachWay) -> Self {
        match way {
            AttachWay::Tracepoint => Way::Tracepoint,
            AttachWay::Fexit => Way::Fexit,
            AttachWay::Kprobe => Way::Kprobe,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 done; 1 less than --min-coverage; 2 usage or environment.
Evidence that `record` called incomplete (its status 3) is told in the profile's notes.")]
pub struct GenerateArgs {
    /// Recordings of one target; several are merged
    #[arg(required = true, value_name = "RECORDING")]
    pub recordings: Vec<PathBuf>,

    /// Write results to DIR
    #[arg(short, long, value_name = "DIR", required_unless_present = "into")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    pub into: IntoArgs,

    #[command(flatten)]
    pub least: crate::coverage::LeastArgs,

    #[command(flatten)]
    pub narrow: NarrowArgs,

    #[command(flatten)]
    pub harden: HardenArgs,

    /// Allow what a filter denied while recording
    #[arg(long)]
    pub learn_denied: bool,

    /// Also allow what stands in for the allowed calls in other C libraries (musl, newer glibc) and on other kernels
    #[arg(long)]
    pub portable: bool,

    /// Make it for machines of this architecture: x86_64, aarch64, riscv64, arm (default: the recorded one)
    #[arg(long, value_name = "ARCH", value_parser = context::abi)]
    pub arch: Option<Abi>,

    /// Make it for `runc` or `crun`, one version of it, or `any` (default: what was recorded)
    #[arg(long, value_name = "RUNTIME[:VERSION]")]
    pub runtime: Option<RuntimeChoice>,

    /// Make it for a container with no-new-privileges (default: as recorded)
    #[arg(long, alias = "no-new-privs", conflicts_with = "new_privileges")]
    pub no_new_privileges: bool,

    /// Make it for a container without no-new-privileges
    #[arg(long, alias = "new-privs")]
    pub new_privileges: bool,
}

/// The riskiest first; or one entry; or, with --why-not, what would happen to a call.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  profiler explain profiles/backend
  profiler explain profiles/backend ptrace
  profiler explain seccomp.json --why-not socket AF_PACKET SOCK_RAW

Exit status: 0 done; 2 usage, such as a name that does not exist.")]
pub struct ExplainArgs {
    /// A profile.json, a result directory, a seccomp file of any kind, or docker-default and its like
    pub profile: PathBuf,

    /// The call or capability to explain, or advice by its name in --harden (default: all that is allowed, and all advice)
    #[arg(value_name = "SYSCALL|CAP|ADVICE")]
    pub name: Option<String>,

    /// Say what would happen to CALL with these arguments: 17, 0x11, AF_PACKET, CLONE_NEWNS|CLONE_NEWUSER
    #[arg(
        long,
        value_names = ["CALL", "ARG"],
        num_args = 1..=7,
        allow_negative_numbers = true,
        conflicts_with = "name"
    )]
    pub why_not: Vec<String>,

    #[command(flatten)]
    pub context: ContextArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// Traps have stable identifiers; docs/lint.md has a section on each.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  profiler lint profiles/backend seccomp.json
  profiler lint --fail-on error --format sarif seccomp.json > lint.sarif
  profiler lint --fix seccomp.json

Exit status: 0 nothing as bad as --fail-on; 1 findings; 2 usage, or a file that cannot be read.")]
pub struct LintArgs {
    /// Seccomp files of any kind, profile.json, result directories, docker-default and its like
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Mend what can be mended without letting more pass than the finding says; JSON files only
    #[arg(long)]
    pub fix: bool,

    /// The least severity with which the status is 1
    #[arg(long, value_enum, default_value_t = FailOn::Warning)]
    pub fail_on: FailOn,

    #[command(flatten)]
    pub context: ContextArgs,

    /// The version of libseccomp that loads it: 2.5.4 (default: this machine's, or 2.5.4 where there is none)
    #[arg(long, value_name = "VERSION", value_parser = libseccomp)]
    pub libseccomp: Option<Version>,

    /// `runc` or `crun`, one version of it, or `any`, must start under it (default: the profile's, else all are asked)
    #[arg(long, value_name = "RUNTIME[:VERSION]")]
    pub runtime: Option<RuntimeChoice>,

    /// With --runtime: the container has no-new-privileges set
    #[arg(long, requires = "runtime")]
    pub no_new_privileges: bool,

    /// How to print
    #[arg(long, value_enum, default_value_t = LintFormat::Human)]
    pub format: LintFormat,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write profiler.1 and a page for each command here
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    // No descriptions: each would make the help of every command as long as this one's.
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Any finding
    Note,
    /// Warnings and errors
    Warning,
    /// Errors
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LintFormat {
    /// For people
    Human,
    /// For programs
    Json,
    /// For code hosts
    Sarif,
}

fn libseccomp(text: &str) -> Result<Version, String> {
    Version::parse(text).ok_or_else(|| format!("`{text}` is no version like `2.5.4`"))
}

/// How narrow a profile is within a call.
#[derive(Debug, Args)]
pub struct NarrowArgs {
    /// Refuse by their arguments, of calls that are allowed: nothing (off), known attack surface that no run used
    /// (attack-surface), all that no run used, harmless or not (strict) [default: attack-surface, with --into what the
    /// committed profile was made with]
    #[arg(long, value_enum, value_name = "RISK")]
    arguments: Option<Arguments>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arguments {
    // No descriptions, as of `Color`.
    Off,
    AttackSurface,
    Strict,
}

impl NarrowArgs {
    /// What was asked for.
    pub fn choice(&self) -> Option<profile::Arguments> {
        self.arguments.map(|choice| match choice {
            Arguments::Off => profile::Arguments::Off,
            Arguments::AttackSurface => profile::Arguments::AttackSurface,
            Arguments::Strict => profile::Arguments::Strict,
        })
    }
}

/// Advice beyond calls and capabilities.
#[derive(Debug, Args)]
pub struct IntoArgs {
    /// Write results to DIR, joined with what it has: the profile there only grows
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    pub into: Option<PathBuf>,

    /// Remove from the profile in DIR what this evidence does not have, and say what
    #[arg(long, requires = "into")]
    pub prune: bool,
}

impl IntoArgs {
    /// Where results go, and what becomes of those that are there.
    pub fn destination<'a>(&'a self, output: Option<&'a Path>) -> (Option<&'a Path>, Committed) {
        match &self.into {
            None => (output, Committed::Replace),
            Some(dir) if self.prune => (Some(dir), Committed::Prune),
            Some(dir) => (Some(dir), Committed::Grow),
        }
    }
}

/// When it returns, the label is in force. Labels stand in recording.json and profile.json, with the calls that
/// were made under them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  profiler mark login_works                 this label, in place of all others
  profiler mark --begin login_works         this label too, for tests that run at once
  profiler mark --end login_works           this label no more
  profiler mark --end                       no label any more")]
pub struct MarkArgs {
    /// The label: the test's name, for one
    #[arg(value_name = "LABEL", required_unless_present = "end")]
    pub label: Option<String>,

    /// Keep the labels that are in force
    #[arg(long)]
    pub begin: bool,

    /// End LABEL, or all labels
    #[arg(long, conflicts_with = "begin")]
    pub end: bool,

    /// The recorder's socket (default: PROFILER_SOCKET, then the only recorder of this user)
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,

    /// Ask the engine at this address too
    #[arg(long, value_name = "URL")]
    pub docker_host: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Human,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub struct EnterArgs {
    /// Who continues it; without that process it ends.
    #[arg(long)]
    pub parent: u32,

    #[arg(long)]
    pub filter: Option<PathBuf>,

    #[arg(long)]
    pub capabilities: Option<String>,

    #[arg(long)]
    pub no_new_privileges: bool,

    #[arg(last = true)]
    pub command: Vec<OsString>,
}

/// `90`, `90s`, `5m`, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("`{text}` is no time: write `90s`, `5m` or `1h30m`");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| expected())?;
        let unit = rest[digits..].chars().next();
        let seconds = match unit {
            Some('s') | None => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some(_) => return Err(expected()),
        };
        let part = number.checked_mul(seconds).ok_or_else(expected)?;
        total = total.checked_add(Duration::from_secs(part)).ok_or_else(expected)?;
        rest = &rest[digits + usize::from(unit.is_some())..];
    }
    if total.is_zero() { Err(expected()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_units_and_nothing_else() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for bad in
            ["", "s", "5x", "-1s", "0", "1.5s", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
