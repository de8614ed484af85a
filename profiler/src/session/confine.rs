//! How a command is confined when it is run under a profile directly: what is handed to the process that becomes it, and
//! what that does.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{self, Write as _},
    path::Path,
    process::Command,
};

use caps::{CapSet, Capability};
use fs_err as fs;

use crate::{kernel::filters, model::bpf::Program};

/// A filter and capabilities for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// The filter.
    pub filter: Program,
    /// The capabilities that stay in its bounding set, by number; `None` leaves it alone.
    pub capabilities: Option<BTreeSet<u8>>,
    /// It may gain no privileges.
    pub no_new_privileges: bool,
}

impl Confinement {
    /// Options of the hidden subcommand, and the file that one of them names, to be kept until that has stopped.
    pub(super) fn handed_over(&self) -> io::Result<(Vec<OsString>, tempfile::NamedTempFile)> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(&self.filter.bytes())?;
        let mut options: Vec<OsString> = vec!["--filter".into(), file.path().into()];
        if let Some(kept) = &self.capabilities {
            let numbers: Vec<String> = kept.iter().map(u8::to_string).collect();
            options.extend(["--capabilities".into(), numbers.join(",").into()]);
        }
        if self.no_new_privileges {
            options.push("--no-new-privileges".into());
        }
        Ok((options, file))
    }

    /// The same on the other side. `capabilities` is a list of numbers.
    ///
    /// # Errors
    /// When the file is not what was written.
    pub fn taken_over(
        filter: &Path,
        capabilities: Option<&str>,
        no_new_privileges: bool,
    ) -> io::Result<Confinement> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let filter = Program::parse(&fs::read(filter)?).map_err(invalid)?;
        let numbers = |list: &str| -> BTreeSet<u8> {
            list.split(',').filter_map(|number| number.parse().ok()).collect()
        };
        Ok(Confinement { filter, capabilities: capabilities.map(numbers), no_new_privileges })
    }

    /// Cuts the capabilities of this process: what is not in the bounding set is not in the permitted set after an
    /// execve.
    pub(super) fn cut(&self) -> io::Result<()> {
        if let Some(kept) = &self.capabilities {
            for capability in caps::all() {
                let is_there = caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false);
                if is_there && !kept.contains(&capability.index()) {
                    dropped(capability)?;
                }
            }
            for set in [CapSet::Ambient, CapSet::Inheritable] {
                caps::clear(None, set).map_err(io::Error::other)?;
            }
        }
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true)?;
        }
        Ok(())
    }

    /// Executes the command under the filter. Returns only when that failed.
    pub(super) fn execute(&self, command: Command) -> io::Error {
        filters::execute(command, &self.filter)
    }
}

fn dropped(capability: Capability) -> io::Result<()> {
    caps::drop(None, CapSet::Bounding, capability).map_err(io::Error::other)
}
