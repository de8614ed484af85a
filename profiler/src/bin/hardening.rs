//! `--harden`, of `record` and `generate`: how it is typed, and what is told to whoever types it otherwise.

use std::collections::BTreeSet;

use clap::{
    Args, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};
use profiler::model::{harden::Kind, recording::Target};

#[derive(Debug, Args)]
pub struct HardenArgs {
    /// Also advise what the container can be run without: all, or some of read-only, user, no-new-privileges, network, resources;
    /// containers only
    #[arg(long, value_enum, value_name = "LIST", num_args = 0..=1, require_equals = true, value_delimiter = ',',
          default_missing_value = "all", hide_possible_values = true)]
    harden: Option<Vec<Hardening>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Hardening {
    // No descriptions, as of `Color`.
    All,
    ReadOnly,
    User,
    NoNewPrivileges,
    Network,
    Resources,
}

impl HardenArgs {
    /// What was asked for.
    pub fn kinds(&self) -> Option<BTreeSet<Kind>> {
        let asked = self.harden.as_ref()?.iter();
        Some(asked.flat_map(|hardening| hardening.kinds().iter().copied()).collect())
    }
}

impl Hardening {
    const fn kinds(self) -> &'static [Kind] {
        match self {
            Hardening::All => &Kind::ALL,
            Hardening::ReadOnly => &[Kind::ReadOnly],
            Hardening::User => &[Kind::User],
            Hardening::NoNewPrivileges => &[Kind::NoNewPrivileges],
            Hardening::Network => &[Kind::Network],
            Hardening::Resources => &[Kind::Resources],
        }
    }
}

/// Tells whoever typed `--harden user` how a value is given to it: it may stand without one, so what follows is not taken for its.
pub fn with_hint(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let is_one = |name: &str| Hardening::from_str(name, false).is_ok();
    let is_asked = std::env::args_os().any(|typed| typed == "--harden");
    if is_asked && error.kind() == ErrorKind::UnknownArgument && word.split(',').all(is_one) {
        let hint = format!("its value is joined with `=`: --harden={word}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
    error
}

/// The answer to `--harden` for what is in no container.
pub fn only_of_containers(target: &Target) -> anyhow::Error {
    anyhow::anyhow!(
        "`--harden` is for containers, and `{}` is a {}\nhint: profiler record --harden --container NAME -- COMMAND",
        target.name,
        target.kind.name()
    )
}
