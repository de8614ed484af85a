//! The seccomp file: pure OCI, as Docker, podman, containerd and CRI-O load it unedited.
//!
//! Owns its shape. There are no Docker-only keys (`archMap`, `includes`, ...): containerd and CRI-O
//! drop them silently. No name has two actions, and a number that no table names is left out; the profile's notes
//! say so. A rule holds for every listed architecture: the format has no rules for one. Conditions are one comparison of masked bits
//! for each argument, and a combination is a rule, on a line of its own.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    model::{
        arch::Abi,
        arguments::Masked,
        errno,
        narrow::{self, Cube, Named},
        profile::Profile,
    },
    render::json::{self, Lines},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    default_action: &'static str,
    default_errno_ret: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    architectures: Vec<&'static str>,
    syscalls: Vec<Rule<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule<'a> {
    names: BTreeSet<&'a str>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Arg>,
}

/// The bits of an argument under the mask `value` are `value_two`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u8,
    value: u64,
    value_two: u64,
    op: &'static str,
}

/// `seccomp.json`.
#[must_use]
pub fn render(profile: &Profile) -> String {
    let names = narrow::by_name(profile);
    let (mut allowed, mut conditional) = (BTreeSet::new(), Vec::new());
    for (&name, named) in &names {
        match named {
            Named::Any => {
                allowed.insert(name);
            }
            Named::Only(cubes) => conditional.push((name, cubes.as_slice())),
        }
    }
    file(&profile.architectures, allowed, &conditional)
}

/// The file that allows these calls, by name, on these ABIs.
#[must_use]
pub fn of_names(architectures: &[Abi], allowed: BTreeSet<&str>) -> String {
    file(architectures, allowed, &[])
}

fn file(architectures: &[Abi], allowed: BTreeSet<&str>, conditional: &[(&str, &[Cube])]) -> String {
    // a name has one action, so where its conditions do not hold it gets the default one
    let named = allowed.iter().copied().chain(conditional.iter().map(|it| it.0)).collect();
    let fallback = errno::fallback_names(architectures, &named);
    let rule = |names, action, errno_ret| Rule { names, action, errno_ret, args: Vec::new() };
    let mut rules = vec![
        rule(allowed, "SCMP_ACT_ALLOW", None),
        rule(fallback, "SCMP_ACT_ERRNO", Some(errno::FALLBACK)),
    ];
    rules.retain(|rule| !rule.names.is_empty());
    let plain = rules.len();
    for (name, cubes) in conditional {
        rules.extend(cubes.iter().map(|cube| Rule {
            args: cube.iter().map(arg).collect(),
            ..rule(BTreeSet::from([*name]), "SCMP_ACT_ALLOW", None)
        }));
    }
    let file = File {
        default_action: "SCMP_ACT_ERRNO",
        default_errno_ret: errno::DEFAULT,
        architectures: architectures.iter().map(|abi| abi.scmp_arch()).collect(),
        syscalls: rules,
    };
    json::layout(&file, Lines::Rules { plain })
}

fn arg(condition: &Masked) -> Arg {
    let Masked { index, mask, value } = *condition;
    Arg { index, value: mask, value_two: value, op: "SCMP_CMP_MASKED_EQ" }
}
