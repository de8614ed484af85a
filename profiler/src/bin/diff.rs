//! `profiler diff`: two policies, or the policies of two revisions.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use fs_err as fs;
use profiler::{
    ingest,
    model::{
        diff::{self, Allowlist, Date, Diff, FailOn, Gate, Side},
        effective::Context,
        facts::Risk,
    },
    report::diff::{Compared, Report, Source, json, markdown, sarif, write},
};

use crate::{
    beside,
    context::{self, ContextArgs},
    exit, input,
    policy::{self, Loading, Policy},
    repository::Commit,
};

/// OLD and NEW are each a profile.json, a recording.json, a result directory, any seccomp file (Docker, OCI, podman, a
/// SeccompProfile in YAML), docker-default, podman-default or containerd-default. With PATH they are revisions of git, and
/// without NEW the second is the working tree.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  profiler diff docker-default profiles/backend
  profiler diff main HEAD -- profiles
  profiler diff HEAD --fail-on growth --allow profiles/allow.yaml -- profiles/backend

Exit status: 0 nothing fails; 1 something does: by default any difference; 2 usage or environment.")]
pub struct DiffArgs {
    /// The old policy, or the old revision
    pub old: String,

    /// The new policy, or the new revision
    #[arg(required_unless_present = "paths")]
    pub new: Option<String>,

    /// How to print
    #[arg(long, value_enum, default_value_t = DiffFormat::Human)]
    pub format: DiffFormat,

    /// What fails: growth, risk=low|moderate|high|critical (growth of at least that risk), any
    #[arg(long, value_name = "WHAT", value_parser = fail_on, default_value = "any")]
    pub fail_on: FailOn,

    /// Accept the differences that this file names: a list `allow` of `entry`, `reason`, `expires`, in YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub allow: Option<PathBuf>,

    #[command(flatten)]
    pub context: ContextArgs,

    /// Compare what is at or below PATH in two revisions
    #[arg(last = true, value_name = "PATH")]
    pub paths: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For a terminal
    Human,
    /// For a comment on a change
    Markdown,
    /// For programs
    Json,
    /// For code scanning
    Sarif,
}

/// What is compared with what; `None` is nothing.
type Pair = (Option<Policy>, Option<Policy>, String);

/// Compares, prints, and says by the exit status whether anything fails.
pub fn run(args: &DiffArgs) -> Result<ExitCode> {
    let gate = Gate {
        fail_on: args.fail_on,
        allowlist: args.allow.as_deref().map(allowlist).transpose()?.unwrap_or_default(),
        today: today()?,
    };
    let mut pairs = match (&args.new, args.paths.as_slice()) {
        (Some(new), []) => {
            vec![(Some(Policy::named(&args.old)?), Some(Policy::named(new)?), String::new())]
        }
        (new, paths) => revisions(&args.old, new.as_deref(), paths)?,
    };
    for (old, new, _) in &mut pairs {
        let asked = [&*old, &*new].into_iter().flatten().find_map(Policy::asked);
        if let Some(asked) = asked {
            old.iter_mut().chain(new).for_each(|policy| policy.make(&asked));
        }
    }
    let mut diffs = Vec::new();
    for (old, new, place) in &pairs {
        let policies: Vec<&Policy> = old.iter().chain(new).collect();
        let native = args.context.arch.map_or_else(|| policy::native(&policies), Ok)?;
        let compare = |context| compare(old.as_ref(), new.as_ref(), place, &loading(args, context));
        let mut diff = compare(args.context.of(native, context::dockers()))?;
        if args.fail_on != FailOn::Any {
            for (context, words) in args.context.gates(native) {
                diff.grow(compare(context)?, &words);
            }
        }
        diffs.push(diff);
    }
    let unused = gate.unused(&diffs);
    let compared = diffs.iter().zip(&pairs).map(|(diff, (_, new, _))| {
        let file = new.as_ref().and_then(|policy| policy.file.as_ref());
        let file = file.map(|(path, text)| Source { path, text });
        Compared { diff, verdicts: gate.judge(diff), file }
    });
    let report = Report { compared: compared.collect(), unused };
    print(&report, args.format)?;
    Ok(if report.failing() > 0 { exit::DIFFERS.into() } else { ExitCode::SUCCESS })
}

fn print(report: &Report<'_>, format: DiffFormat) -> Result<()> {
    let mut out = anstream::stdout().lock();
    let done = match format {
        DiffFormat::Human => write(report, &mut out),
        DiffFormat::Markdown => out.write_all(markdown::render(report).as_bytes()),
        DiffFormat::Json => out.write_all(json::render(report)?.as_bytes()),
        DiffFormat::Sarif => out.write_all(sarif::render(report)?.as_bytes()),
    };
    done.and_then(|()| out.flush()).context("cannot write to stdout")
}

fn compare(
    old: Option<&Policy>,
    new: Option<&Policy>,
    place: &str,
    loading: &Loading,
) -> Result<Diff> {
    let side = |policy: Option<&Policy>| policy.map(|policy| policy.side(loading)).transpose();
    let absent = format!("{place} (absent)");
    Ok(match (side(old)?, side(new)?) {
        (Some(old), Some(new)) => diff::diff(&old, &new),
        (Some(old), None) => diff::gone(&old, absent),
        (None, Some(new)) => diff::diff(&Side::nothing(absent, &new), &new),
        (None, None) => bail!("nothing is compared at `{place}`"),
    })
}

fn loading(args: &DiffArgs, context: Context) -> Loading {
    Loading { context, engine: args.context.engine() }
}

/// The policies at or below each path, in both revisions, or in the second's stead the working tree.
fn revisions(old: &str, new: Option<&str>, paths: &[String]) -> Result<Vec<Pair>> {
    let old = Commit::named(old)?;
    let new = new.map(Commit::named).transpose()?;
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    for path in paths {
        let before = of_commit(&old, path)?;
        let after = match &new {
            Some(new) => {
                let placed = of_commit(new, path)?;
                hold(new, path, &placed)?;
                placed
            }
            None => of_tree(path)?,
        };
        if before.is_empty() && after.is_empty() {
            let new = new.as_ref().map_or("the working tree", Commit::name);
            bail!(
                "no policy at or below `{path}` in `{}` nor in `{new}`\nhint: git ls-tree -r --name-only {} -- profiles",
                old.name(),
                old.name()
            );
        }
        for (place, policy) in before {
            pairs.entry(place.clone()).or_insert((None, None, place)).0 = Some(policy);
        }
        for (place, policy) in after {
            pairs.entry(place.clone()).or_insert((None, None, place)).1 = Some(policy);
        }
    }
    Ok(pairs.into_values().collect())
}

/// Where a policy is, and what it is.
type Placed = Vec<(String, Policy)>;

fn of_commit(commit: &Commit, path: &str) -> Result<Placed> {
    let blobs = commit.files(path)?;
    let files = || blobs.iter().filter(|blob| !blob.is_link);
    let mut placed = Placed::new();
    for (place, file) in choose(files().map(|blob| blob.path.as_str())) {
        let Some(blob) = files().find(|blob| blob.path == file) else { continue };
        let label = format!("{}:{place}", commit.name());
        placed.push((place, Policy::of_text(label, file.clone(), commit.text(blob)?)?));
    }
    Ok(placed)
}

/// Of a revision that is judged: nothing in it may be other than it looks. The old one need not be sound, else nothing that mends
/// it could pass.
fn hold(commit: &Commit, path: &str, placed: &Placed) -> Result<()> {
    if let Some(link) = commit.files(path)?.iter().find(|blob| blob.is_link) {
        return Err(link_error(&link.path, commit.name()));
    }
    for (_, policy) in placed {
        let Some((path, _)) = &policy.file else { continue };
        let find = |name: &str| sibling(path, name).map(|path| commit.file(&path)).transpose();
        policy.hold(|name| match find(name)?.flatten() {
            Some(blob) if blob.is_link && beside::is_above(name) => Ok(None),
            Some(blob) if blob.is_link => Err(link_error(&blob.path, commit.name())),
            Some(blob) => commit.text(&blob).map(Some),
            None => Ok(None),
        })?;
    }
    Ok(())
}

fn link_error(path: &str, place: &str) -> anyhow::Error {
    anyhow!(
        "`{}` in `{place}` is a symbolic link, which is not followed\nhint: make it a file, or name a PATH without it",
        path.escape_debug()
    )
}

/// The path of a file by its name from the directory of `path`; `None` above the top of the repository.
fn sibling(path: &str, name: &str) -> Option<String> {
    let dir = path.rsplit_once('/').map(|(dir, _)| dir);
    match (name.strip_prefix("../"), dir) {
        (Some(name), dir) => sibling(dir?, name),
        (None, Some(dir)) => Some(format!("{dir}/{name}")),
        (None, None) => Some(name.to_owned()),
    }
}

/// The same of the working tree, with what [`hold`] refuses.
fn of_tree(path: &str) -> Result<Placed> {
    let top = PathBuf::from(crate::repository::top()?);
    let top = top.canonicalize().with_context(|| format!("cannot find `{}`", top.display()))?;
    let refuse = |path: &Path| link_error(&path.to_string_lossy(), "the working tree");
    if Path::new(path).is_symlink() {
        return Err(refuse(Path::new(path)));
    }
    let Ok(start) = Path::new(path).canonicalize() else { return Ok(vec![]) };
    let mut files = Vec::new();
    let mut open = vec![start];
    while let Some(at) = open.pop() {
        let kind = fs::symlink_metadata(&at)?.file_type();
        if kind.is_dir() && at.file_name().is_none_or(|name| name != ".git") {
            for entry in fs::read_dir(&at)? {
                open.push(entry?.path());
            }
        } else if kind.is_symlink() {
            return Err(refuse(at.strip_prefix(&top).unwrap_or(&at)));
        } else if kind.is_file()
            && let Some(path) = at.strip_prefix(&top).ok().and_then(Path::to_str)
        {
            files.push(path.to_owned());
        }
    }
    let mut placed = Placed::new();
    for (place, file) in choose(files.iter().map(String::as_str)) {
        let text = input::text(&top.join(&file), "is this the right file?")?;
        let policy = Policy::of_text(place.clone(), file.clone(), text)?;
        policy.hold(|name| match sibling(&file, name) {
            Some(_) => beside::on_disk(&top.join(&file), name),
            None => Ok(None),
        })?;
        placed.push((place, policy));
    }
    Ok(placed)
}

/// The best file of each directory that has one; a path that is a file itself, whatever its name. By place.
fn choose<'a>(paths: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let paths: Vec<&str> = paths.collect();
    if let &[file] = paths.as_slice() {
        let (dir, name) = file.rsplit_once('/').unwrap_or((".", file));
        let place = if policy::FILES.contains(&name) { dir } else { file };
        return BTreeMap::from([(place.to_owned(), file.to_owned())]);
    }
    let mut chosen = BTreeMap::new();
    for wanted in policy::FILES {
        for path in &paths {
            let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
            if name == wanted {
                chosen.entry(dir.to_owned()).or_insert_with(|| (*path).to_owned());
            }
        }
    }
    chosen
}

fn allowlist(path: &Path) -> Result<Allowlist> {
    let hint = "an allow file has a list `allow` of `entry`, `reason`, `expires`; see docs/diff.md";
    let text = input::text(path, hint)?;
    ingest::allowlist::parse(&text).with_context(|| format!("cannot use `{}`", path.display()))
}

fn today() -> Result<Date> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(Date::of_unix_s(now.as_secs()))
}

fn fail_on(text: &str) -> Result<FailOn, String> {
    let risk = text.strip_prefix("risk=");
    let risk = risk.and_then(|risk| Risk::ALL.into_iter().find(|known| known.name() == risk));
    match (text, risk) {
        ("any", _) => Ok(FailOn::Any),
        ("growth", _) => Ok(FailOn::Growth),
        (_, Some(risk)) => Ok(FailOn::Risk(risk)),
        _ => {
            Err("expected `growth`, `any`, or `risk=` with `low`, `moderate`, `high` or `critical`"
                .into())
        }
    }
}
