//! Whether the conditions that Docker puts on rules can hold together.

use std::collections::BTreeSet;

use crate::model::{
    arch::Abi, capability, effective::engine_arch, lint::finding::some_of, seccomp::Rule,
};

/// libseccomp's words for architectures without a table here.
const OTHER_ARCHES: [&str; 13] = [
    "loong64",
    "mips",
    "mips64",
    "mips64n32",
    "mipsel",
    "mipsel64",
    "mipsel64n32",
    "parisc",
    "ppc",
    "ppc64",
    "ppc64le",
    "s390",
    "s390x",
];

/// Why no container, machine and kernel exist for which all of `rules` are kept; `None` when some do.
pub(super) fn conflict(rules: &[&Rule]) -> Option<String> {
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
    let fits = |arch: &str| {
        let has = |arches: &[String]| arches.iter().any(|known| known == arch);
        includes().all(|f| f.arches.is_empty() || has(&f.arches))
            && !excludes().any(|f| has(&f.arches))
    };
    let natives = Abi::ALL.into_iter().map(engine_arch);
    if !natives.chain(OTHER_ARCHES).any(fits) {
        let arches: Vec<&str> =
            includes().chain(excludes()).flat_map(|f| &f.arches).map(String::as_str).collect();
        return Some(format!("no machine fits its architectures {}", some_of(&arches)));
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
