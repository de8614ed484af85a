//! Arguments of calls: telling the kernel side which to keep, and making facts of what it kept.
//!
//! Which calls are watched is the model's table alone; here it becomes numbers of this machine's ABIs.

use std::collections::BTreeMap;

use aya::Ebpf;
use profiler_common::{
    evidence::{ArgumentsKey, COMBINATIONS, CallKey, FIRST_MARK, Makers, Watch, abi, watch},
    scope::Slot,
};

use super::{
    drain::abi_of,
    error::ObserveError,
    slots::{array, hash, map_error},
};
use crate::model::{
    arguments::{Argument, BOUND, Masked, Watched, watched_number},
    syscall,
};

const _: () = assert!(BOUND as u64 == COMBINATIONS);

/// Tells the kernel side which arguments to keep. Before anything is in scope.
pub fn choose(ebpf: &mut Ebpf) -> Result<(), ObserveError> {
    let mut places = array::<Watch>(ebpf, "WATCHED")?;
    for abi in [abi::NATIVE, abi::COMPAT, abi::X32] {
        for &(nr, _) in syscall::table(abi_of(abi)) {
            let key = CallKey { slot: 0, nr, abi, phase: 0, reserved: 0 };
            if let Some(row) = watched_number(abi_of(abi), nr)
                && let Some(place) = watch::place(&key)
            {
                places.set(place, kept(row), 0).map_err(map_error("WATCHED"))?;
            }
        }
    }
    Ok(())
}

fn kept(row: &Watched) -> Watch {
    let mut kept = Watch { kind: watch::REGISTERS, ..Watch::default() };
    for argument in row.arguments {
        // within bounds, and within 32 bits: a test of the table holds both
        if let Some(mask) = kept.masks.get_mut(usize::from(argument.index)) {
            *mask = argument.mask as u32;
        }
        if argument.pointed {
            kept.kind = watch::POINTED;
        }
        kept.of |= argument.of;
    }
    kept
}

/// What was seen of the arguments of each call.
pub struct Combinations(BTreeMap<CallKey, Vec<ArgumentsKey>>);

impl Combinations {
    /// In the given slots. To be read after the calls: none is there without its arguments.
    pub fn read(ebpf: &mut Ebpf, slots: &[Slot]) -> Result<Self, ObserveError> {
        let map = hash::<ArgumentsKey, Makers>(ebpf, "ARGUMENTS")?;
        let mut found: BTreeMap<CallKey, Vec<ArgumentsKey>> = BTreeMap::new();
        for key in map.keys().filter_map(Result::ok).filter(|key| slots.contains(&key.call.slot)) {
            found.entry(key.call).or_default().push(key);
        }
        for keys in found.values_mut() {
            // while entries are removed, the map's iteration may begin anew
            keys.sort();
            keys.dedup();
        }
        Ok(Combinations(found))
    }

    /// What tells the makers of a call from those of anything else, by each of its combinations.
    pub fn abouts(&self, call: &CallKey) -> impl Iterator<Item = u32> {
        self.0.get(call).into_iter().flatten().map(ArgumentsKey::about)
    }

    /// The values of a call that was seen, each with what tells its makers from others. No values: any. `None` when
    /// it is not watched. `makers` is the call's word.
    pub fn values(&self, call: &CallKey, makers: Makers) -> Option<Vec<(Vec<Masked>, u32)>> {
        let row = watched_number(abi_of(call.abi), call.nr)?;
        let keys = self.0.get(call).map(Vec::as_slice).unwrap_or_default();
        // who inserts counts afterwards: fewer than were counted could not be read, more were counted too late
        let is_cut = (keys.len() as Makers) < makers;
        if makers >= FIRST_MARK || keys.is_empty() || keys.len() > BOUND || is_cut {
            return Some(vec![(Vec::new(), 0)]);
        }
        let masked = |key: &ArgumentsKey| {
            let value = |index: usize| key.values.get(index).map_or(0, |value| u64::from(*value));
            let kept = row.arguments.iter().filter(|argument| argument.is_kept(value(0)));
            kept.map(|&Argument { index, mask, .. }| Masked {
                index,
                mask,
                value: value(index.into()),
            })
            .collect()
        };
        Some(keys.iter().map(|key| (masked(key), key.about())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_in_full_is_any() {
        let nr = syscall::table(abi_of(abi::NATIVE))
            .iter()
            .map(|(nr, _)| *nr)
            .find(|nr| watched_number(abi_of(abi::NATIVE), *nr).is_some())
            .expect("a watched call");
        let call = CallKey { slot: 1, nr, abi: abi::NATIVE, phase: 0, reserved: 0 };
        let key = |value| ArgumentsKey { call, values: [value; _] };
        let combinations = Combinations(BTreeMap::from([(call, vec![key(1), key(2)])]));
        let any = Some(vec![(Vec::new(), 0)]);
        // one may be stored, and not counted yet
        for whole in [1, 2] {
            let values = combinations.values(&call, whole).expect("it is watched");
            assert!(values.len() == 2 && values.iter().all(|(values, _)| !values.is_empty()));
        }
        for cut in [3, COMBINATIONS, FIRST_MARK] {
            assert_eq!(combinations.values(&call, cut), any);
        }
    }
}
