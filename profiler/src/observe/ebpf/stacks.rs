//! The stacks of first occurrences. A thread names them every few milliseconds, while their processes may still live.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use profiler_common::{
    evidence::{CallKey, FRAMES, Stack},
    scope::Slot,
};

use super::{error::ObserveError, slots::map_error};
use crate::observe::symbolise::{Frames, Symboliser, UNKNOWN};

/// How often stacks are looked for.
const POLL: Duration = Duration::from_millis(20);

/// What is known of stacks; of none, when they are not wanted.
#[derive(Default)]
pub struct Stacks(Option<Arc<Mutex<State>>>);

struct State {
    map: HashMap<MapData, CallKey, Stack>,
    named: BTreeMap<CallKey, Vec<String>>,
    symboliser: Symboliser,
    lost: u64,
}

impl Stacks {
    /// Takes the map, and starts to look.
    pub fn start(ebpf: &mut Ebpf) -> Result<Self, ObserveError> {
        let missing = || map_error("STACKS")(aya::maps::MapError::KeyNotFound);
        let map = HashMap::try_from(ebpf.take_map("STACKS").ok_or_else(missing)?)
            .map_err(map_error("STACKS"))?;
        let (named, symboliser) = (BTreeMap::new(), Symboliser::default());
        let state = Arc::new(Mutex::new(State { map, named, symboliser, lost: 0 }));
        let theirs = Arc::downgrade(&state);
        thread::spawn(move || {
            // until the observer is gone
            while let Some(state) = theirs.upgrade() {
                lock(&state).learn();
                drop(state);
                thread::sleep(POLL);
            }
        });
        Ok(Stacks(Some(state)))
    }

    /// Names what is new, now.
    pub fn learn(&self) {
        if let Some(state) = &self.0 {
            lock(state).learn();
        }
    }

    /// Where a call was made first; empty when it is not known.
    pub fn of(&self, call: &CallKey) -> Vec<String> {
        let state = self.0.as_ref().map(|state| lock(state));
        state.and_then(|state| state.named.get(call).cloned()).unwrap_or_default()
    }

    /// How many were not named, because the process was gone before.
    pub fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |state| lock(state).lost)
    }

    /// Forgets what is in slots that nothing is written to.
    pub fn clear(&self, slots: &BTreeSet<Slot>) {
        let Some(state) = &self.0 else { return };
        let mut state = lock(state);
        state.named.retain(|call, _| !slots.contains(&call.slot));
        let gone: Vec<CallKey> =
            state.map.keys().flatten().filter(|call| slots.contains(&call.slot)).collect();
        for call in gone {
            let _ = state.map.remove(&call); // gone already is as good
        }
    }
}

impl State {
    fn learn(&mut self) {
        let new: Vec<CallKey> =
            self.map.keys().flatten().filter(|call| !self.named.contains_key(call)).collect();
        for call in new {
            let Ok(stack) = self.map.get(&call, 0) else { continue };
            let len = FRAMES.min(stack.len as usize);
            if len == 0 {
                continue;
            }
            let frames = Frames {
                pid: i32::try_from(stack.tgid).unwrap_or(0),
                program: stack.program,
                top: stack.top,
                addresses: &stack.addresses[..len],
            };
            let names = self.symboliser.names(&frames).unwrap_or_else(|| {
                self.lost += 1;
                vec![UNKNOWN.to_owned(); len]
            });
            self.named.insert(call, names);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
