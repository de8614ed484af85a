//! A policy as it is put in force: what the engine gets, what the kernel gets, and what must be found there.

use std::collections::BTreeSet;

use crate::{
    kernel::libseccomp::{Libseccomp, LibseccompError},
    model::{
        bpf::Program,
        capability,
        effective::{self, Context, Effective},
        in_force::{self, Difference},
        seccomp::SeccompFile,
    },
};

/// A filter and capabilities, to be put in force.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The seccomp file, as engines read it.
    pub text: String,
    /// What it decides.
    pub effective: Effective,
    /// Its filter, as this machine's libseccomp compiles it.
    pub program: Program,
    /// The capabilities to be had, by number; `None` when they stay as they are.
    pub capabilities: Option<BTreeSet<u8>>,
    /// Whether no-new-privileges is set; `None` when it stays as it is.
    pub no_new_privileges: Option<bool>,
    unknown: BTreeSet<String>,
}

impl Policy {
    /// Compiles it. `file` is what `text` says.
    ///
    /// # Errors
    /// When there is no libseccomp, or it refuses the file.
    pub fn new(
        text: String,
        file: &SeccompFile,
        context: &Context,
        capabilities: Option<BTreeSet<u8>>,
        no_new_privileges: Option<bool>,
    ) -> Result<Policy, LibseccompError> {
        let compiled = Libseccomp::open()?.compile(file, context)?;
        Ok(Policy {
            text,
            effective: effective::decide(file, context),
            program: compiled.program,
            capabilities,
            no_new_privileges,
            unknown: compiled.unknown,
        })
    }

    /// The calls that the best of these filters decides in another way; empty when one of them is this policy's. `None`
    /// when there is no filter.
    pub(super) fn differences(&self, loaded: &[Program]) -> Option<Vec<Difference>> {
        let of = |program| in_force::differences(&self.effective, program, &self.unknown);
        loaded.iter().map(of).min_by_key(Vec::len)
    }

    /// The names of the capabilities, as engines take them.
    pub(super) fn capability_names(&self) -> Option<Vec<String>> {
        let name = |number: &u8| capability::display(*number).into_owned();
        Some(self.capabilities.as_ref()?.iter().map(name).collect())
    }
}
