//! Whether the conditions that Docker puts on rules can hold together.

use std::collections::BTreeSet;

use crate::model::{arch::Abi, capability, effective::engine_arch, seccomp::Rule};

/// Why no container, machine and kernel exist for which all of `rules` are kept; `None` when some do.
///
/// `natives` are the ABIs that the machine may have.
pub(super) fn conflict(rules: &[&Rule], natives: &[Abi]) -> Option<String> {
    let includes = || rules.iter().map(|rule| &rule.includes);
    let excludes = || rules.iter().map(|rule| &rule.excludes);
    let unknown = includes().flat_map(|f| &f.caps).find(|cap| capability::number(cap).is_none());
    if let Some(cap) = unknown {
        return Some(format!("no capability is named `{cap}`"));
    }
    let asked: BTreeSet<_> =
        includes().flat_map(|f| &f.caps).map(|c| capability::number(c)).collect();
    let barred = excludes()
        .flat_map(|f| &f.caps)
        .find(|cap| capability::number(cap).is_some_and(|number| asked.contains(&Some(number))));
    if let Some(cap) = barred {
        return Some(format!("`{cap}` is both included and excluded"));
    }
    let has = |arches: &[String], abi: Abi| arches.iter().any(|arch| arch == engine_arch(abi));
    let kept = natives.iter().any(|&abi| {
        includes().all(|f| f.arches.is_empty() || has(&f.arches, abi))
            && !excludes().any(|f| has(&f.arches, abi))
    });
    if !kept {
        let arches: Vec<&str> =
            includes().chain(excludes()).flat_map(|f| &f.arches).map(String::as_str).collect();
        return Some(format!(
            "no machine fits its architectures {}",
            super::finding::some_of(&arches)
        ));
    }
    let oldest = includes().filter_map(|f| f.min_kernel).max();
    let end = excludes().filter_map(|f| f.min_kernel).min();
    match (oldest, end) {
        (Some(oldest), Some(end)) if oldest >= end => {
            Some(format!("kernels from {oldest} on are included, those from {end} on excluded"))
        }
        _ => None,
    }
}
