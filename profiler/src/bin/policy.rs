//! What can be compared: from what was named, a file's text or an engine's default, to a side of a diff.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use profiler::{
    ingest,
    model::{
        arch::Abi,
        baseline::Upstream,
        diff::Side,
        effective::{self, Context, Engine},
        harden::{self, Harden},
        policy,
        profile::{Arguments, Profile},
        recording::Recording,
        seccomp::SeccompFile,
    },
    render,
};

use crate::{beside, input};

/// The files of a result directory that hold its policy, best first.
pub const FILES: [&str; 3] = ["profile.json", "recording.json", "seccomp.json"];

/// A policy, read.
pub struct Policy {
    /// What it is called in reports.
    pub label: String,
    /// Path and text of its file, where it has one.
    pub file: Option<(String, String)>,
    kind: Kind,
}

enum Kind {
    Profile(Box<Profile>),
    /// A recording, and what it comes to.
    Recording(Box<Recording>, Box<Profile>),
    Filter(Box<SeccompFile>),
    Upstream(Upstream),
}

/// What a profile was asked to have beside what is in every one.
#[derive(Clone, Default)]
pub struct Asked {
    /// Which arguments it looks into.
    arguments: Arguments,
    /// The advice in it.
    harden: BTreeSet<harden::Kind>,
}

/// How the policies are loaded.
pub struct Loading {
    /// As everything but the reader.
    pub context: Context,
    /// Who reads a file; by its keys when absent.
    pub engine: Option<Engine>,
}

impl Policy {
    /// What `name` names: an engine's default, a file, or a result directory.
    pub fn named(name: &str) -> Result<Policy> {
        if let Some(upstream) = Upstream::ALL.into_iter().find(|upstream| upstream.name() == name) {
            return Ok(Policy { label: name.into(), file: None, kind: Kind::Upstream(upstream) });
        }
        let path = Path::new(name);
        let file = if path.is_dir() { in_directory(path)? } else { path.to_owned() };
        let hint = format!(
            "name a file, a result directory or one of {}; for revisions of git: profiler diff OLD NEW -- PATH",
            Upstream::ALL.map(Upstream::name).join(", ")
        );
        let text = input::text(&file, &hint)?;
        let policy = Policy::of_text(name.into(), file.display().to_string(), text)?;
        policy.hold(|name| beside::on_disk(&file, name))?;
        Ok(policy)
    }

    /// Refuses a profile whose renderings, which `read` finds beside it, are not what it gives.
    pub fn hold(&self, read: impl Fn(&str) -> Result<Option<String>>) -> Result<()> {
        let (Kind::Profile(profile) | Kind::Recording(_, profile), Some((path, _))) =
            (&self.kind, &self.file)
        else {
            return Ok(());
        };
        let name = path.rsplit('/').next().unwrap_or(path);
        // of a recording, only where there is no profile that was made of it
        if name == "profile.json" || (name == "recording.json" && read("profile.json")?.is_none()) {
            beside::hold(profile, path, read)
                .with_context(|| format!("cannot use `{}`", self.label))?;
        }
        Ok(())
    }

    /// A policy by the text of its file.
    pub fn of_text(label: String, path: String, text: String) -> Result<Policy> {
        let kind = parse(&text).with_context(|| format!("cannot use `{label}`"))?;
        Ok(Policy { label, file: Some((path, text)), kind })
    }

    /// What its profile was asked to have; absent where there is none that was made.
    pub fn asked(&self) -> Option<Asked> {
        match &self.kind {
            Kind::Profile(profile) => Some(Asked {
                arguments: profile.made_for.arguments,
                harden: profile.harden.as_ref().map(Harden::kinds).unwrap_or_default(),
            }),
            _ => None,
        }
    }

    /// Makes the profile of a recording as the one that it is compared with was.
    pub fn make(&mut self, asked: &Asked) {
        if let Kind::Recording(recording, profile) = &mut self.kind {
            **profile = derive(recording, asked);
        }
    }

    /// The ABIs that it lists.
    pub fn architectures(&self) -> Vec<Abi> {
        match &self.kind {
            Kind::Profile(profile) | Kind::Recording(_, profile) => profile.architectures.clone(),
            Kind::Filter(file) => {
                let listed =
                    |abi: &Abi| file.architectures.iter().any(|name| name == abi.scmp_arch());
                Abi::ALL.into_iter().filter(listed).collect()
            }
            Kind::Upstream(_) => vec![],
        }
    }

    /// What it does when it is loaded.
    pub fn side(&self, loading: &Loading) -> Result<Side> {
        let decide = |file: &SeccompFile, engine: Engine| {
            let context =
                Context { engine: loading.engine.unwrap_or(engine), ..loading.context.clone() };
            effective::decide(file, &context)
        };
        let label = self.label.clone();
        Ok(match &self.kind {
            Kind::Profile(profile) | Kind::Recording(_, profile) => {
                let file = ingest::seccomp::parse(&render::seccomp::render(profile))?;
                Side::of_profile(label, profile, decide(&file, Engine::Oci))
            }
            Kind::Filter(file) => Side::of_filter(label, decide(file, reader(file))),
            Kind::Upstream(upstream) => {
                Side::of_engine(label, decide(upstream.file(), upstream.engine()))
            }
        })
    }
}

fn in_directory(dir: &Path) -> Result<PathBuf> {
    let found = FILES.iter().map(|name| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "`{}` has none of {}\nhint: name a directory that profiler wrote",
            dir.display(),
            FILES.join(", ")
        )
    })
}

fn parse(text: &str) -> Result<Kind> {
    // Only ours have this key; whatever else is wrong with a text, its own reader says best.
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    Ok(if value.get("schema_version").is_none() {
        Kind::Filter(Box::new(ingest::seccomp::parse(text)?))
    } else if value.get("runs").is_some() {
        let recording = ingest::recording::parse(text)?;
        let profile = derive(&recording, &Asked::default());
        Kind::Recording(Box::new(recording), Box::new(profile))
    } else {
        Kind::Profile(Box::new(ingest::profile::parse(text)?))
    })
}

fn derive(recording: &Recording, asked: &Asked) -> Profile {
    let Asked { arguments, harden } = asked.clone();
    policy::derive(recording, &policy::Options { arguments, harden, ..policy::Options::default() })
}

/// Whose keys a file has.
fn reader(file: &SeccompFile) -> Engine {
    let podmans =
        file.default_errno.is_some() || file.syscalls.iter().any(|rule| rule.errno.is_some());
    if podmans { Engine::Podman } else { Engine::Docker }
}

/// The ABI to load both for: the host's, unless they list others only.
pub fn native(policies: &[&Policy]) -> Result<Abi> {
    let host = rustix::system::uname();
    let host = host.machine().to_str().ok().and_then(policy::native_abi);
    let listed: Vec<Abi> = policies.iter().flat_map(|policy| policy.architectures()).collect();
    match host {
        Some(host) if listed.is_empty() || listed.contains(&host) => Ok(host),
        _ => match listed.into_iter().min() {
            Some(abi) => Ok(abi),
            None => bail!(
                "this machine's architecture is not known\nhint: give one with `--arch x86_64`"
            ),
        },
    }
}
