//! Lists of combinations that are joined: what either allows is allowed.

use std::collections::BTreeMap;

use crate::model::profile::Combination;

/// Adds what `more` allows. `None` is any arguments, and stays so.
pub fn join(all: &mut Option<Vec<Combination>>, more: Option<&[Combination]>) {
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
