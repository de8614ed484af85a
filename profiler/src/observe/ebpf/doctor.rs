//! What this kernel offers to the observer, as checks for `doctor`.

use std::path::Path;

use fs_err as fs;
use profiler_common::globals::OFFSETS;

use super::{
    attach::{Need, attach_points},
    observer::{Observer, Options},
};
use crate::{
    kernel::btf::Btf,
    model::check::{Check, CheckState},
};

/// Attach points, struct fields, and whether loading works. Needs no privileges to tell most of it.
#[must_use]
pub fn checks(sysfs: &Path) -> Vec<Check> {
    let Ok(bytes) = fs::read(sysfs.join("kernel/btf/vmlinux")) else {
        return vec![unknown("attach points", "the kernel's BTF cannot be read")];
    };
    let btf = match Btf::parse(&bytes) {
        Ok(btf) => btf,
        Err(error) => return vec![unknown("attach points", &error.to_string())],
    };
    let mut checks: Vec<Check> = attach_points(&btf)
        .into_iter()
        .map(|(point, present)| {
            let state = match (present, point.need) {
                (true, _) => CheckState::Ok,
                (false, Need::Capabilities) => CheckState::Warning,
                (false, _) => CheckState::Missing,
            };
            let chosen = if present { "tp_btf, chosen" } else { "not in this kernel" };
            Check::new(
                format!("tracepoint {}", point.name),
                state,
                format!("{chosen}: {}", point.purpose),
            )
        })
        .collect();
    checks.push(fields(&btf));
    checks.push(load(sysfs));
    checks
}

fn fields(btf: &Btf<'_>) -> Check {
    let absent: Vec<String> = OFFSETS
        .iter()
        .filter(|offset| btf.offset(offset.of, offset.field).is_none())
        .map(|offset| format!("{}.{}", offset.of, offset.field))
        .collect();
    let required = OFFSETS
        .iter()
        .any(|offset| offset.required && btf.offset(offset.of, offset.field).is_none());
    let state = match (absent.is_empty(), required) {
        (true, _) => CheckState::Ok,
        (false, false) => CheckState::Warning,
        (false, true) => CheckState::Missing,
    };
    let detail = if absent.is_empty() {
        format!("all {} found in BTF", OFFSETS.len())
    } else {
        format!("not in this kernel: {}", absent.join(", "))
    };
    Check::new("kernel struct fields", state, detail)
}

/// Loads and attaches everything for a moment; no cgroup is in scope meanwhile.
fn load(sysfs: &Path) -> Check {
    const NAME: &str = "load and attach";
    match Observer::start(sysfs, Options::default()) {
        Ok(_) => Check::new(NAME, CheckState::Ok, "works"),
        Err(super::error::ObserveError::NotPermitted(_)) => {
            unknown(NAME, "not permitted for this user").hint("sudo profiler doctor")
        }
        Err(error) => {
            let text = error.to_string();
            let message = text.split('\n').next().unwrap_or_default();
            Check::new(NAME, CheckState::Missing, message)
        }
    }
}

fn unknown(name: &str, detail: &str) -> Check {
    Check::new(name, CheckState::Unknown, detail)
}
