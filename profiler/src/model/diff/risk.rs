//! How risky it is to let something through, and why: the facts of [`crate::model::facts`], in a sentence.

use crate::model::arch::Abi;
use crate::model::{
    facts::{self, Risk},
    syscall,
};

/// The risk of a call, and why.
pub(super) fn of_call(abi: Abi, nr: u32) -> (Risk, String) {
    match syscall::name(abi, nr).and_then(facts::syscall) {
        Some(facts) => (facts.risk, facts.why.into()),
        None => (Risk::High, "no table names it: it may do anything".into()),
    }
}

/// The risk of a capability, by name without `CAP_`, and why.
pub(super) fn of_capability(name: &str) -> (Risk, String) {
    match facts::capability(name) {
        Some(facts) => (facts.risk, facts.why.into()),
        None => (Risk::High, "no table names it: it may permit anything".into()),
    }
}
