//! Who came into a target, and under which filters: the kernel side's counts, and the filters that it kept.

use std::collections::BTreeMap;

use aya::Ebpf;
use profiler_common::{
    entries::{Entries as Raw, Filter, FilterKey},
    scope::Slot,
};

use super::{
    error::ObserveError,
    slots::{array, hash, map_error, text},
};
use crate::observe::evidence::Entries;

/// Filters that were taken out of the kernel side's table, by target: each with how many entered under it.
#[derive(Default)]
pub struct Filters(BTreeMap<Slot, BTreeMap<Vec<u8>, u64>>);

impl Filters {
    /// Takes them out, so that there is room for others.
    pub fn take(&mut self, ebpf: &mut Ebpf) -> Result<(), ObserveError> {
        let mut map = hash::<FilterKey, Filter>(ebpf, "FILTERS")?;
        let keys: Vec<FilterKey> = map.keys().filter_map(Result::ok).collect();
        for key in keys {
            let Ok(filter) = map.get(&key, 0) else { continue }; // the iteration began anew, and it was taken before
            let code = usize::try_from(filter.bytes).ok().and_then(|len| filter.code.get(..len));
            let Some(code) = code.filter(|code| !code.is_empty()) else { continue }; // not written yet
            let of_slot = self.0.entry(key.slot).or_default();
            *of_slot.entry(code.to_vec()).or_default() += 1;
            map.remove(&key).map_err(map_error("FILTERS"))?;
        }
        Ok(())
    }

    /// Who came into a target.
    pub fn of(&self, ebpf: &mut Ebpf, slot: Slot) -> Result<Entries, ObserveError> {
        let raw = array::<Raw>(ebpf, "ENTRIES")?.get(&slot, 0).map_err(map_error("ENTRIES"))?;
        Ok(Entries {
            entered: raw.entered,
            unfiltered: raw.unfiltered,
            first_unfiltered: (raw.unfiltered > 0).then(|| text(&raw.comm)),
            filters: self.0.get(&slot).cloned().unwrap_or_default(),
        })
    }

    /// A slot serves another target next.
    pub fn forget(&mut self, ebpf: &mut Ebpf, slot: Slot) -> Result<(), ObserveError> {
        self.0.remove(&slot);
        let none = Raw { entered: 0, unfiltered: 0, comm: [0; 16] };
        array::<Raw>(ebpf, "ENTRIES")?.set(slot, none, 0).map_err(map_error("ENTRIES"))
    }
}
