//! The lookup in the table of calls.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use super::{Risk, files, kernel, memory, network, process};

/// Calls that share a risk and its reason.
pub(super) struct Family {
    /// What they are about.
    pub(super) title: &'static str,
    pub(super) risk: Risk,
    pub(super) why: &'static str,
    /// Name, source (empty: the manual page of that name), and what the call does. By name.
    pub(super) calls: &'static [(&'static str, &'static str, &'static str)],
}

/// What is known about a call. All texts are for people: plain, without a final period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyscallFacts {
    /// The kernel's name.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// What it belongs to: `mounting`.
    pub family: &'static str,
    /// How bad it is in the hands of a taken process.
    pub risk: Risk,
    /// Why it is in that class.
    pub why: &'static str,
    source: &'static str,
}

impl SyscallFacts {
    /// Where the description is from: `open(2)` of man-pages, or `kernel: PATH`.
    #[must_use]
    pub fn source(&self) -> Cow<'static, str> {
        if self.source.is_empty() {
            Cow::Owned(format!("{}(2)", self.name))
        } else {
            Cow::Borrowed(self.source)
        }
    }
}

fn families() -> impl Iterator<Item = &'static Family> {
    [files::FAMILIES, kernel::FAMILIES, memory::FAMILIES, network::FAMILIES, process::FAMILIES]
        .into_iter()
        .flatten()
}

static BY_NAME: LazyLock<BTreeMap<&'static str, SyscallFacts>> = LazyLock::new(|| {
    let rows = families().flat_map(|family| {
        family.calls.iter().map(|&(name, source, what)| {
            let Family { title, risk, why, .. } = *family;
            (name, SyscallFacts { name, what, family: title, risk, why, source })
        })
    });
    rows.collect()
});

/// The facts of the call with this name, on whatever ABI; `None` for a name that no table has.
#[must_use]
pub fn syscall(name: &str) -> Option<&'static SyscallFacts> {
    BY_NAME.get(name)
}

/// The facts of every call, by name.
pub fn syscalls() -> impl Iterator<Item = &'static SyscallFacts> {
    BY_NAME.values()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{arch::Abi, syscall::table};

    #[test]
    fn every_known_call_has_facts_and_nothing_else_has() {
        let known: BTreeSet<&str> =
            Abi::ALL.into_iter().flat_map(|abi| table(abi).iter().map(|row| row.1)).collect();
        let described: BTreeSet<&str> = syscalls().map(|facts| facts.name).collect();
        let missing: Vec<_> = known.difference(&described).collect();
        let extra: Vec<_> = described.difference(&known).collect();
        assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
    }

    #[test]
    fn each_call_is_in_one_family_and_families_are_sorted() {
        let rows: usize = families().map(|family| family.calls.len()).sum();
        assert_eq!(rows, BY_NAME.len(), "a call is in two families");
        let mut titles = BTreeSet::new();
        for family in families() {
            assert!(titles.insert(family.title), "{} twice", family.title);
            assert!(family.calls.is_sorted_by_key(|row| row.0), "{}", family.title);
        }
    }

    #[test]
    fn texts_are_whole_and_of_one_style() {
        for facts in syscalls() {
            for text in [facts.what, facts.why, facts.family] {
                assert!(text.len() > 3 && !text.ends_with('.'), "{}: {text}", facts.name);
                assert!(!text.contains("  ") && text.trim() == text, "{}: {text}", facts.name);
            }
            assert!(facts.what.len() <= 90, "{}: {}", facts.name, facts.what);
            let source = facts.source();
            let is_page = source.ends_with("(2)") || source.ends_with("(3)");
            assert!(is_page || source.starts_with("kernel: "), "{}: {source}", facts.name);
        }
    }

    #[test]
    fn every_class_is_used() {
        for risk in Risk::ALL {
            assert!(syscalls().any(|facts| facts.risk == risk), "{risk}");
        }
    }
}
