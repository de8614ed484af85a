//! Combinations in words.

use crate::model::{
    arguments::{Masked, call},
    effective::Condition,
    narrow::shape,
    profile::{Arguments, Combination},
    seccomp::Op,
};

/// All bits of a 32-bit argument.
const INT: u64 = 0xffff_ffff;

/// Each combination of a call in words, with why a profile of this choice has it. Hostile text: names of tests.
#[must_use]
pub fn words(call: &str, combinations: &[Combination], choice: Arguments) -> Vec<String> {
    if combinations.is_empty() {
        return vec!["none: refused, so that callers take another call".to_owned()];
    }
    combinations.iter().map(|combination| one(call, combination, choice)).collect()
}

fn one(call: &str, combination: &Combination, choice: Arguments) -> String {
    let Combination { values, but, seen, tests, needed } = combination;
    let mut text = conditions(call, values);
    if !but.is_empty() {
        let but: Vec<String> = but.iter().map(|value| conditions(call, &[*value])).collect();
        let all = if text.is_empty() { "any" } else { " and any" };
        text.push_str(&format!("{all} but {}", but.join(", ")));
    }
    let why = match (needed, seen, tests.as_slice()) {
        (Some(output), ..) => format!("tests fail without it: {output}"),
        (None, true, []) => "seen".to_owned(),
        (None, true, tests) => format!("seen in {}", tests.join(", ")),
        (None, false, _) if shape::is_of_runtimes(call, choice, values) => {
            "not seen; the OCI runtime's own, under the filter".to_owned()
        }
        (None, false, _) => "not seen; comes with the call".to_owned(),
    };
    format!("{text} ({why})")
}

/// The conditions of a rule, joined.
#[must_use]
pub fn conditions(call: &str, values: &[Masked]) -> String {
    let values: Vec<Condition> = values.iter().map(condition).collect();
    call::conditions(None, call, &values).join(" and ")
}

fn condition(value: &Masked) -> Condition {
    let Masked { index, mask, value } = *value;
    // of a socket's type, two flags do not count
    if mask | 0o2_004_000 == INT {
        Condition { index, op: Op::Eq, value, value_two: 0 }
    } else {
        Condition { index, op: Op::MaskedEq, value: mask, value_two: value }
    }
}
