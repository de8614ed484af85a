//! `profiler git`: what git needs to know to show and merge policies by what they decide.
//!
//! Owns one section each in the repository's own configuration and one block in its .gitattributes. It changes nothing else, and
//! `uninstall` takes back what `install` wrote.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use fs_err as fs;
use profiler::{
    ingest,
    model::{arch::Abi, seccomp::Action, shell, union},
    render, report,
    session::store,
};

use crate::repository::{self, git};

/// Lets git show profiles as one line for each fact, and merge two branches that both grew one.
#[derive(Debug, Args)]
pub struct GitArgs {
    #[command(subcommand)]
    verb: GitVerb,
}

#[derive(Debug, Subcommand)]
enum GitVerb {
    /// Write the drivers into this repository's .git/config and .gitattributes
    Install {
        /// Where the profiles are, from the top of the repository
        #[arg(long, value_name = "DIR", default_value = "profiles")]
        profiles: String,

        /// Only print what would be written
        #[arg(long)]
        dry_run: bool,
    },
    /// Take back what `install` wrote
    Uninstall,
    /// Print a policy as git is to show it; git calls this
    #[command(hide = true)]
    Textconv { file: PathBuf },
    /// Merge two versions of a file into OURS; git calls this
    #[command(hide = true)]
    MergeDriver { base: PathBuf, ours: PathBuf, theirs: PathBuf, path: PathBuf },
}

const BEGIN: &str =
    "# profiler: written by `profiler git install`, removed by `profiler git uninstall`";
/// The same after a last line that had no end.
const BEGIN_JOINED: &str = "# profiler: written by `profiler git install` after a line without end, removed by `profiler git uninstall`";
const END: &str = "# profiler: end";

/// The files, and what git does with each.
const FILES: [(&str, &str); 4] = [
    ("profile.json", "diff=profiler merge=profiler"),
    ("seccomp.json", "diff=profiler merge=profiler"),
    ("compose.yaml", "merge=profiler"),
    ("kubernetes.yaml", "merge=profiler"),
];

/// Serves the verbs below `git`.
pub fn run(args: &GitArgs) -> Result<ExitCode> {
    match &args.verb {
        GitVerb::Install { profiles, dry_run } => install(profiles, *dry_run)?,
        GitVerb::Uninstall => uninstall()?,
        GitVerb::Textconv { file } => textconv(file)?,
        GitVerb::MergeDriver { base, ours, theirs, path } => {
            return merge([base, ours, theirs], path);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn install(profiles: &str, dry_run: bool) -> Result<()> {
    let top = PathBuf::from(repository::top()?);
    let exe = std::env::current_exe().context("cannot find this program's own path")?;
    let exe =
        exe.to_str().context("this program's path is not UTF-8\nhint: install it elsewhere")?;
    // git replaces %O and the like in a merge driver
    let exe = shell::quote(exe).into_owned();
    let settings = [
        ("diff.profiler.textconv", format!("{exe} git textconv")),
        ("merge.profiler.name", "what either side allows".to_owned()),
        (
            "merge.profiler.driver",
            format!("{} git merge-driver %O %A %B %P", exe.replace('%', "%%")),
        ),
    ];
    let (before, rest) = attributes(&top)?;
    let written = with_block(&rest, &block(profiles)?);
    let mut out = anstream::stdout().lock();
    for (key, value) in &settings {
        writeln!(out, ".git/config: {key} = {value}")?;
        if !dry_run {
            configure(["config", "--local", key, value])?;
        }
    }
    writeln!(out, ".gitattributes: {} lines for {profiles}, to be committed", FILES.len())?;
    if !dry_run && before.as_deref() != Some(written.as_str()) {
        store::write(&top, &[(".gitattributes", written)])?;
    }
    Ok(())
}

fn uninstall() -> Result<()> {
    let top = PathBuf::from(repository::top()?);
    for section in ["diff.profiler", "merge.profiler"] {
        let pattern = format!("^{}\\.", section.replace('.', "\\."));
        if git(["config", "--local", "--get-regexp", &pattern])?.is_ok() {
            configure(["config", "--local", "--remove-section", section])?;
        }
    }
    let (before, rest) = attributes(&top)?;
    match before {
        Some(before) if before == rest => {}
        Some(_) if rest.is_empty() => fs::remove_file(top.join(".gitattributes"))?,
        Some(_) => store::write(&top, &[(".gitattributes", rest)])?,
        None => {}
    }
    Ok(())
}

fn configure<const N: usize>(args: [&str; N]) -> Result<()> {
    match git(args)? {
        Ok(_) => Ok(()),
        Err(said) => {
            bail!("cannot change .git/config: {said}\nhint: is it writable, and not locked?")
        }
    }
}

/// The repository's .gitattributes as it is, and without our block.
fn attributes(top: &Path) -> Result<(Option<String>, String)> {
    let path = top.join(".gitattributes");
    match path.symlink_metadata() {
        Err(_) => return Ok((None, String::new())),
        Ok(found) if found.is_symlink() => {
            bail!("`{}` is a link, which git does not follow\nhint: make it a file", path.display())
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(&path)?;
    let without = || {
        let (begin, joined) = match text.find(BEGIN_JOINED) {
            Some(at) => (at, true),
            None => (text.find(BEGIN)?, false),
        };
        let end = begin + text.get(begin..)?.find(END)? + END.len() + 1;
        let head = text.get(..begin)?;
        let head = if joined { head.strip_suffix('\n').unwrap_or(head) } else { head };
        Some(format!("{head}{}", text.get(end..).unwrap_or_default()))
    };
    let rest = without().unwrap_or_else(|| text.clone());
    Ok((Some(text), rest))
}

fn with_block(rest: &str, block: &str) -> String {
    if rest.is_empty() || rest.ends_with('\n') {
        format!("{rest}{BEGIN}\n{block}{END}\n")
    } else {
        format!("{rest}\n{BEGIN_JOINED}\n{block}{END}\n")
    }
}

/// The lines for the files below `profiles`.
fn block(profiles: &str) -> Result<String> {
    let dir = profiles.trim_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if dir.is_empty() || !dir.chars().all(plain) || dir.split('/').any(|part| part == "..") {
        bail!(
            "`{profiles}` cannot stand in .gitattributes\nhint: --profiles profiles, from the top of the repository"
        );
    }
    let below =
        if dir == "." { String::new() } else { format!("/{}", dir.trim_start_matches("./")) };
    Ok(FILES.map(|(name, what)| format!("{below}/**/{name} {what}\n")).concat())
}

/// A policy as lines; what is none, as it is.
fn textconv(file: &Path) -> Result<()> {
    let bytes = fs::read(file)?;
    let shown = std::str::from_utf8(&bytes).ok().and_then(|text| {
        let profile = ingest::profile::parse(text).map(|profile| report::facts::profile(&profile));
        profile
            .or_else(|_| ingest::seccomp::parse(text).map(|file| report::facts::seccomp(&file)))
            .ok()
    });
    let shown = shown.map_or(bytes, String::into_bytes);
    std::io::stdout().write_all(&shown).context("cannot write to stdout")
}

/// Writes what both sides come to over `ours`. What cannot be joined is left to git's own merge of lines.
fn merge([base, ours, theirs]: [&Path; 3], path: &Path) -> Result<ExitCode> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let texts = read(ours).zip(read(theirs));
    let joined = texts.and_then(|(ours, theirs)| match path.file_name()?.to_str()? {
        "profile.json" => profiles(&ours, &theirs),
        "seccomp.json" => filters(&ours, &theirs),
        _ => renderings(&read(base).unwrap_or_default(), &ours, &theirs),
    });
    match joined {
        Some(text) => fs::write(ours, text)?,
        None => return by_lines(base, ours, theirs),
    }
    Ok(ExitCode::SUCCESS)
}

fn profiles(ours: &str, theirs: &str) -> Option<String> {
    let (ours, theirs) = (ingest::profile::parse(ours).ok()?, ingest::profile::parse(theirs).ok()?);
    Some(render::json::profile(&union::union(&ours, &theirs).ok()?))
}

/// Two files that profiler wrote, which hold nothing but ABIs and allowed names.
fn filters(ours: &str, theirs: &str) -> Option<String> {
    let (our_abis, our_names) = written(ours)?;
    let (their_abis, their_names) = written(theirs)?;
    let abis: BTreeSet<Abi> = our_abis.into_iter().chain(their_abis).collect();
    let names = our_names.iter().chain(&their_names).map(String::as_str).collect();
    Some(render::seccomp::of_names(&abis.into_iter().collect::<Vec<_>>(), names))
}

/// What a seccomp file allows, if profiler would write it just so.
fn written(text: &str) -> Option<(Vec<Abi>, BTreeSet<String>)> {
    let file = ingest::seccomp::parse(text).ok()?;
    let abi = |name: &String| Abi::ALL.into_iter().find(|abi| abi.scmp_arch() == name);
    let abis: Vec<Abi> = file.architectures.iter().map(abi).collect::<Option<_>>()?;
    let allowed = file.syscalls.iter().filter(|rule| rule.action == Action::Allow);
    let names: BTreeSet<String> = allowed.flat_map(|rule| rule.names.iter().cloned()).collect();
    let again = render::seccomp::of_names(&abis, names.iter().map(String::as_str).collect());
    (again == text).then_some((abis, names))
}

/// Compose and Kubernetes: the capabilities of both; all else by lines.
fn renderings(base: &str, ours: &str, theirs: &str) -> Option<String> {
    let (our_rest, our_names) = render::granted::split(ours)?;
    let (their_rest, their_names) = render::granted::split(theirs)?;
    let (base_rest, _) = render::granted::split(base).unwrap_or_default();
    let rest = if our_rest == their_rest || their_rest == base_rest {
        our_rest
    } else if our_rest == base_rest {
        their_rest
    } else {
        return None;
    };
    render::granted::join(&rest, &our_names.into_iter().chain(their_names).collect())
}

/// git's own merge, with its marks of conflict.
fn by_lines(base: &Path, ours: &Path, theirs: &Path) -> Result<ExitCode> {
    let args = [
        "merge-file".as_ref(),
        "--".as_ref(),
        ours.as_os_str(),
        base.as_os_str(),
        theirs.as_os_str(),
    ];
    Ok(if git(args)?.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
