//! The stacks of first occurrences. A thread names them every few milliseconds, while their processes may still live.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
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

use super::{
    error::ObserveError,
    slots::map_error,
    worker::{Job, PATIENCE, Worker, keep, lock},
};
use crate::{
    kernel::shed::STACKS,
    observe::symbolise::{Frames, Symboliser, UNKNOWN},
};

/// How often stacks are looked for.
const POLL: Duration = Duration::from_millis(20);

/// What is known of stacks; of none, when they are not wanted.
#[derive(Default)]
pub struct Stacks(Option<Named>);

struct Named {
    state: Arc<Mutex<State>>,
    worker: Worker,
}

struct State {
    map: HashMap<MapData, CallKey, Stack>,
    named: BTreeMap<CallKey, Vec<String>>,
    lost: u64,
}

/// The thread's own: it holds the state only while it reads no file.
struct Namer {
    state: Arc<Mutex<State>>,
    symboliser: Symboliser,
}

impl Stacks {
    /// Takes the map, and starts to look.
    pub fn start(ebpf: &mut Ebpf) -> Result<Self, ObserveError> {
        let missing = || map_error("STACKS")(aya::maps::MapError::KeyNotFound);
        let map = HashMap::try_from(ebpf.take_map("STACKS").ok_or_else(missing)?)
            .map_err(map_error("STACKS"))?;
        let state = Arc::new(Mutex::new(State { map, named: BTreeMap::new(), lost: 0 }));
        let namer = Namer { state: Arc::clone(&state), symboliser: Symboliser::default() };
        Ok(Stacks(Some(Named { state, worker: Worker::start(PATIENCE, namer) })))
    }

    /// Names what is new, now; but does not wait for ever for a file.
    pub fn learn(&self) {
        if let Some(named) = &self.0 {
            named.worker.turn();
        }
    }

    /// Where a call was made first; empty when it is not known.
    pub fn of(&self, call: &CallKey) -> Vec<String> {
        let state = self.0.as_ref().map(|named| lock(&named.state));
        state.and_then(|state| state.named.get(call).cloned()).unwrap_or_default()
    }

    /// How many were not named, because the process was gone before, or a file took too long.
    pub fn lost(&self) -> u64 {
        let Some(named) = &self.0 else { return 0 };
        let state = lock(&named.state);
        state.lost + state.unnamed().len() as u64
    }

    /// Forgets what is in slots that nothing is written to.
    pub fn clear(&self, slots: &BTreeSet<Slot>) {
        let Some(named) = &self.0 else { return };
        let mut state = lock(&named.state);
        let is_gone = |call: &CallKey| slots.contains(&call.slot);
        state.lost += state.unnamed().iter().filter(|(call, _)| is_gone(call)).count() as u64;
        state.named.retain(|call, _| !is_gone(call));
        let gone: Vec<CallKey> = state.map.keys().flatten().filter(is_gone).collect();
        for call in gone {
            let _ = state.map.remove(&call); // gone already is as good
        }
    }
}

impl State {
    /// Stacks that are complete and have no names yet.
    fn unnamed(&self) -> Vec<(CallKey, Stack)> {
        let new = self.map.keys().flatten().filter(|call| !self.named.contains_key(call));
        let stacks = new.filter_map(|call| Some((call, self.map.get(&call, 0).ok()?)));
        stacks.filter(|(_, stack)| stack.len > 0).collect()
    }

    /// Takes over the names of a stack, unless its slot was emptied meanwhile.
    fn take(&mut self, call: CallKey, of: &Stack, names: Option<Vec<String>>) {
        let is_same = |now: &Stack| {
            (now.tgid, now.program, now.addresses) == (of.tgid, of.program, of.addresses)
        };
        if self.map.get(&call, 0).is_ok_and(|now| is_same(&now)) {
            self.lost += u64::from(names.is_none());
            let names = names.unwrap_or_else(|| vec![UNKNOWN.to_owned(); len(of)]);
            self.named.insert(call, names);
        }
    }
}

impl Job for Namer {
    fn begin(&mut self) {
        keep(STACKS);
    }

    fn work(&mut self) {
        let new = lock(&self.state).unnamed();
        for (call, stack) in new {
            let frames = Frames {
                pid: i32::try_from(stack.tgid).unwrap_or(0),
                program: stack.program,
                top: stack.top,
                addresses: &stack.addresses[..len(&stack)],
            };
            let names = self.symboliser.names(&frames);
            lock(&self.state).take(call, &stack, names);
        }
    }

    fn rest(&mut self) {
        thread::sleep(POLL);
    }
}

/// How many addresses a stack has.
fn len(stack: &Stack) -> usize {
    FRAMES.min(stack.len as usize)
}
