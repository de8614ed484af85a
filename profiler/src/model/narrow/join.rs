//! Lists of combinations that are joined: what either allows is allowed.

use std::collections::BTreeMap;

use crate::model::profile::Combination;

/// As many combinations a rule can have. Ten labels with all that the kernel side keeps of a call are fewer.
pub const MOST_COMBINATIONS: usize = 512;

/// As many of them can take values away: each may be some hundred rules of a file.
pub const MOST_WITH_BUT: usize = 3;

/// Whether a rule can have as many. One that would need more allows any arguments.
#[must_use]
pub fn is_bounded(combinations: &[Combination]) -> bool {
    combinations.len() <= MOST_COMBINATIONS
        && combinations.iter().filter(|it| !it.but.is_empty()).count() <= MOST_WITH_BUT
}

/// Adds what `more` allows, to the rule of one call. `None` is any arguments, and stays so; it also is what is more than a rule
/// can have.
pub fn join(all: &mut Option<Vec<Combination>>, more: Option<&[Combination]>) {
    extend(all, more);
    if all.as_deref().is_some_and(|all| !is_bounded(all)) {
        *all = None;
    }
}

/// The same for several rules at once, without a bound.
pub(super) fn extend(all: &mut Option<Vec<Combination>>, more: Option<&[Combination]>) {
    let (Some(known), Some(more)) = (all.as_mut(), more) else {
        *all = None;
        return;
    };
    known.extend_from_slice(more);
    *known = sorted(std::mem::take(known));
}

/// Sorted, each once.
pub(super) fn sorted(combinations: Vec<Combination>) -> Vec<Combination> {
    let mut each: BTreeMap<_, Combination> = BTreeMap::new();
    for combination in combinations {
        let key = (combination.values.clone(), combination.but.clone());
        match each.get_mut(&key) {
            None => {
                each.insert(key, combination);
            }
            Some(known) => {
                known.seen |= combination.seen;
                known.tests.extend(combination.tests);
                let proofs = [known.needed.take(), combination.needed];
                known.needed = proofs.into_iter().flatten().min();
            }
        }
    }
    let settled = each.into_values().map(|mut combination| {
        combination.tests.sort();
        combination.tests.dedup();
        combination
    });
    settled.collect()
}
