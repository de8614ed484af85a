//! The numbers that can be in the accumulator where the kernel is entered: followed backward through moves, simple
//! arithmetic and stack slots, over all paths of the function, and into its callers where it is an argument.
//!
//! What cannot be followed is unknown, and said to be. Two things are taken for granted (docs/bound.md): a callee does not
//! change its caller's stack slots, and where some paths give a number, one that comes from behind a call which
//! does not set it is a call that does not return.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use crate::binaries::{
    body::{Body, is_call, slot},
    code::{Use, enters, falls_through, is_near},
    reach::Files,
};

/// Instructions that are looked at for one call.
const MAX_STEPS: usize = 200_000;
/// The same for all calls of a program: a file that was made to be slow ends in numbers that are not known.
const MAX_ALL_STEPS: usize = 400_000_000;
/// Joins and moves that lead from one to another.
const MAX_DEPTH: usize = 160;
/// Functions that are kept decoded.
const MAX_DECODED: usize = 512;

/// An address in one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct At {
    /// The file's index.
    pub file: usize,
    /// The address in it.
    pub address: u64,
}

/// What may be in a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    /// Numbers, and where each was written.
    pub known: BTreeMap<u64, At>,
    /// Where the trail was lost.
    pub unknown: Option<At>,
    /// On some path, a call came after the last write.
    behind_call: Option<At>,
}

impl Values {
    fn known(value: u64, at: At) -> Self {
        Self { known: BTreeMap::from([(value, at)]), ..Self::default() }
    }

    fn unknown(at: At) -> Self {
        Self { unknown: Some(at), ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        for (value, at) in other.known {
            self.known.entry(value).or_insert(at);
        }
        self.unknown = self.unknown.or(other.unknown);
        self.behind_call = self.behind_call.or(other.behind_call);
    }

    fn map(self, change: impl Fn(u64) -> u64) -> Self {
        let known = self.known.into_iter().map(|(value, at)| (change(value), at)).collect();
        Self { known, ..self }
    }
}

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Register(Register),
    /// On the stack, by its distance from the stack pointer on entry.
    Slot(i64),
}

/// What an instruction does to a place.
enum Effect {
    Nothing,
    Is(u64),
    From(Place),
    /// The first if a condition holds, else what was there.
    Perhaps(Place),
    Change(Place, Box<dyn Fn(u64) -> u64>),
    OneOf(Vec<u64>),
    Call,
    Lost,
}

/// Follows values through the code of all files.
pub struct Tracer<'a> {
    files: &'a Files,
    bodies: HashMap<(usize, usize), Rc<Body>>,
    seen: HashMap<(usize, usize, usize, Place), Option<Values>>,
    info: InstructionInfoFactory,
    steps: usize,
    all_steps: usize,
}

#[derive(Clone, Copy)]
struct Position {
    file: usize,
    function: usize,
    index: usize,
}

impl<'a> Tracer<'a> {
    /// A tracer over files.
    pub fn new(files: &'a Files) -> Self {
        Self {
            files,
            bodies: HashMap::new(),
            seen: HashMap::new(),
            info: InstructionInfoFactory::new(),
            steps: 0,
            all_steps: 0,
        }
    }

    /// What may be in the accumulator before the instruction at an address of a function.
    pub fn accumulator(&mut self, at: At, function: usize) -> Values {
        self.all_steps += std::mem::take(&mut self.steps);
        if self.all_steps > MAX_ALL_STEPS {
            return Values::unknown(at);
        }
        self.seen.clear();
        if self.bodies.len() > MAX_DECODED {
            self.bodies.clear();
        }
        let body = self.body(at.file, function);
        let Ok(index) = body.instructions.binary_search_by_key(&at.address, Instruction::ip) else {
            return Values::unknown(at);
        };
        let position = Position { file: at.file, function, index };
        let mut values = self.before(position, Place::Register(Register::RAX), 0);
        if let Some(lost) = values.behind_call
            && values.known.is_empty()
        {
            values.unknown = Some(lost);
        }
        values
    }

    fn body(&mut self, file: usize, function: usize) -> Rc<Body> {
        let files = self.files;
        let known = self.bodies.entry((file, function));
        Rc::clone(known.or_insert_with(|| {
            Rc::new(Body::read(files, file, files.code(file).functions[function], &mut self.info))
        }))
    }

    /// What is in a place before an instruction is executed.
    fn before(&mut self, position: Position, place: Place, depth: usize) -> Values {
        let Position { file, function, mut index } = position;
        let body = self.body(file, function);
        let mut place = place;
        loop {
            let Some(here) = body.instructions.get(index).map(|i| At { file, address: i.ip() })
            else {
                return Values::default();
            };
            self.steps += 1;
            if self.steps > MAX_STEPS || depth > MAX_DEPTH {
                return Values::unknown(here);
            }
            let position = Position { file, function, index };
            let jumps = body.jumps.get(&index).map_or(&[][..], Vec::as_slice);
            let previous = index.checked_sub(1).filter(|p| falls_through(&body.instructions[*p]));
            let far = self.files.is_entered(file, here.address);
            if let (Some(previous), true, false) = (previous, jumps.is_empty(), far) {
                match self.effect(&body, previous, place) {
                    Effect::Nothing => index = previous,
                    Effect::From(from) => {
                        place = from;
                        index = previous;
                    }
                    effect => {
                        let from = Position { index: previous, ..position };
                        return self.apply(effect, from, &body, place, depth);
                    }
                }
                continue;
            }
            return self.join(position, &body, place, depth);
        }
    }

    /// What is in a place where paths meet, or the function begins.
    fn join(&mut self, position: Position, body: &Rc<Body>, place: Place, depth: usize) -> Values {
        let Position { file, function, index } = position;
        let key = (file, function, index, place);
        if let Some(seen) = self.seen.get(&key) {
            // a path that comes back here adds nothing
            return seen.clone().unwrap_or_default();
        }
        self.seen.insert(key, None);
        let here = At { file, address: body.instructions[index].ip() };
        let mut values = Values::default();
        let mut met = false;
        if let Some(previous) = index.checked_sub(1)
            && falls_through(&body.instructions[previous])
        {
            met = true;
            let effect = self.effect(body, previous, place);
            let from = Position { index: previous, ..position };
            values.add(self.apply(effect, from, body, place, depth + 1));
        }
        let jumps = body.jumps.get(&index).cloned().unwrap_or_default();
        for jump in jumps {
            met = true;
            values.add(self.before(Position { index: jump, ..position }, place, depth + 1));
        }
        for source in self.files.sources(file, here.address) {
            met = true;
            values.add(self.entering(source, position, body, place, depth + 1));
        }
        if index == 0 {
            if self.files.is_open(file, function) {
                values.add(Values::unknown(here));
            }
        } else if !met && body.instructions[index].mnemonic() != Mnemonic::Nop {
            // not the padding before a block: a jump table's or an exception's
            for jump in body.indirect.clone() {
                met = true;
                values.add(self.before(Position { index: jump, ..position }, place, depth + 1));
            }
            if !met {
                values.add(Values::unknown(here));
            }
        }
        self.seen.insert(key, Some(values.clone()));
        values
    }

    /// The same place in the function that a call or jump comes from.
    fn entering(
        &mut self,
        source: (usize, Use),
        position: Position,
        body: &Body,
        place: Place,
        depth: usize,
    ) -> Values {
        let (file, Use { address, transfer }) = source;
        let at = At { file, address };
        let Some(function) = self.files.code(file).function(address) else {
            return Values::unknown(at);
        };
        if !self.files.is_reached(file, function) || self.files.is_left_out(file, function, address)
        {
            return Values::default();
        }
        let caller = self.body(file, function);
        let Some(index) = caller.at(address) else { return Values::unknown(at) };
        if !transfer {
            // the address in a register, for more than one call in the same function
            let calls = caller.calls_by(caller.instructions[index].op0_register());
            let mut values = Values::default();
            for call in &calls {
                let address = caller.instructions[*call].ip();
                let source = (file, Use { address, transfer: true });
                values.add(self.entering(source, position, body, place, depth + 1));
            }
            return if calls.is_empty() { Values::unknown(at) } else { values };
        }
        let from = Position { file, function, index };
        let instruction = &caller.instructions[index];
        let place = match place {
            Place::Register(_) => place,
            Place::Slot(slot) => {
                let (Some(there), Some(here)) = (caller.depth[index], body.depth[position.index])
                else {
                    return Values::unknown(at);
                };
                let pushed = if is_call(instruction) { self.files.word(file) } else { 0 };
                Place::Slot(slot + here - there - pushed)
            }
        };
        if !is_call(instruction) && !is_jump(instruction) {
            // it runs on into this function
            let effect = self.effect(&caller, index, place);
            return self.apply(effect, from, &caller, place, depth);
        }
        self.before(from, place, depth)
    }

    fn apply(
        &mut self,
        effect: Effect,
        position: Position,
        body: &Rc<Body>,
        place: Place,
        depth: usize,
    ) -> Values {
        let at = At { file: position.file, address: body.instructions[position.index].ip() };
        match effect {
            Effect::Nothing => self.before(position, place, depth + 1),
            Effect::Is(value) => Values::known(value, at),
            Effect::From(from) => self.before(position, from, depth + 1),
            Effect::Perhaps(from) => {
                let mut values = self.before(position, from, depth + 1);
                values.add(self.before(position, place, depth + 1));
                values
            }
            Effect::Change(from, change) => self.before(position, from, depth + 1).map(change),
            Effect::OneOf(values) => Values {
                known: values.into_iter().map(|value| (value, at)).collect(),
                ..Values::default()
            },
            Effect::Call => Values { behind_call: Some(at), ..Values::default() },
            Effect::Lost if self.is_setxid(position, body) => Values::default(),
            Effect::Lost => Values::unknown(at),
        }
    }

    /// Whether a number is loaded from glibc's `struct xid_command`, by which setuid and its kin reach all threads: the
    /// number and three arguments in a row, by the same pointer. Its writers make the same call themselves, with a
    /// constant.
    fn is_setxid(&self, position: Position, body: &Body) -> bool {
        let load = |i: &Instruction| {
            let loads = matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Movsxd);
            let plain = i.op1_kind() == OpKind::Memory && i.memory_index() == Register::None;
            (loads && plain).then(|| (i.memory_base(), i.memory_displacement64(), i.op0_register()))
        };
        let Some((base, 0, _)) = load(&body.instructions[position.index]) else { return false };
        let near =
            position.index.saturating_sub(8)..body.instructions.len().min(position.index + 9);
        [(8, Register::RDI), (16, Register::RSI), (24, Register::RDX)].iter().all(
            |(offset, into)| {
                body.instructions[near.clone()].iter().filter_map(load).any(
                    |(from, at, register)| {
                        from == base && at == *offset && register.full_register() == *into
                    },
                )
            },
        )
    }

    fn effect(&mut self, body: &Body, index: usize, place: Place) -> Effect {
        let instruction = &body.instructions[index];
        match place {
            Place::Register(register) => self.on_register(body, index, instruction, register),
            Place::Slot(slot) => on_slot(body, index, instruction, slot),
        }
    }

    fn on_register(
        &mut self,
        body: &Body,
        index: usize,
        instruction: &Instruction,
        register: Register,
    ) -> Effect {
        if is_call(instruction) {
            return if is_preserved(register) { Effect::Nothing } else { Effect::Call };
        }
        if enters(instruction).is_some() {
            return if register == Register::RAX { Effect::Call } else { Effect::Nothing };
        }
        let writes = self.info.info(instruction).used_registers().iter().any(|used| {
            used.register().full_register() == register
                && matches!(
                    used.access(),
                    OpAccess::Write
                        | OpAccess::CondWrite
                        | OpAccess::ReadWrite
                        | OpAccess::ReadCondWrite
                )
        });
        if !writes {
            return Effect::Nothing;
        }
        let to = instruction.op0_kind() == OpKind::Register
            && instruction.op0_register().full_register() == register;
        if !to {
            return Effect::Lost;
        }
        let width = instruction.op0_register().size();
        let source = source(body, index, instruction, 1);
        let same = instruction.op_count() == 2
            && instruction.op1_kind() == OpKind::Register
            && instruction.op0_register() == instruction.op1_register();
        let own = Place::Register(register);
        match (instruction.mnemonic(), source) {
            (Mnemonic::Mov, Some(Source::Number(value))) if width >= 4 => Effect::Is(value),
            (Mnemonic::Mov, Some(Source::Number(value))) if width == 1 => {
                Effect::Change(own, Box::new(move |old| old & !0xff | value & 0xff))
            }
            (Mnemonic::Mov | Mnemonic::Movsxd | Mnemonic::Movzx, Some(Source::Place(from)))
                if width >= 4 =>
            {
                Effect::From(from)
            }
            (Mnemonic::Xor | Mnemonic::Sub, _) if same && width >= 4 => Effect::Is(0),
            (Mnemonic::Sbb, _) if same && width >= 4 => Effect::OneOf(vec![0, u64::MAX]),
            (Mnemonic::Pop, _) => {
                body.depth[index].map_or(Effect::Lost, |depth| Effect::From(Place::Slot(-depth)))
            }
            (Mnemonic::Cdqe | Mnemonic::Cwde, _) => Effect::Nothing,
            (Mnemonic::Lea, _)
                if instruction.memory_index() == Register::None
                    && instruction.memory_base().is_gpr() =>
            {
                let add = instruction.memory_displacement64();
                let base = Place::Register(instruction.memory_base().full_register());
                Effect::Change(base, Box::new(move |value| value.wrapping_add(add)))
            }
            (Mnemonic::Inc, _) => Effect::Change(own, Box::new(|value| value.wrapping_add(1))),
            (Mnemonic::Dec, _) => Effect::Change(own, Box::new(|value| value.wrapping_sub(1))),
            (Mnemonic::Add, Some(Source::Number(by))) => {
                Effect::Change(own, Box::new(move |value| value.wrapping_add(by)))
            }
            (Mnemonic::Sub, Some(Source::Number(by))) => {
                Effect::Change(own, Box::new(move |value| value.wrapping_sub(by)))
            }
            (Mnemonic::And, Some(Source::Number(by))) if width >= 4 => {
                Effect::Change(own, Box::new(move |value| value & by))
            }
            (Mnemonic::Or, Some(Source::Number(by))) if width >= 4 => {
                if instruction.immediate(1) as i64 == -1 {
                    return Effect::Is(u64::MAX);
                }
                Effect::Change(own, Box::new(move |value| value | by))
            }
            (_, _) if is_set(instruction) => Effect::OneOf(vec![0, 1]),
            (_, Some(Source::Place(from))) if is_cmov(instruction) => Effect::Perhaps(from),
            _ => Effect::Lost,
        }
    }
}

/// What an operand is.
enum Source {
    Number(u64),
    Place(Place),
}

fn source(body: &Body, index: usize, instruction: &Instruction, operand: u32) -> Option<Source> {
    if operand >= instruction.op_count() {
        return None;
    }
    match instruction.op_kind(operand) {
        OpKind::Register => {
            let register = instruction.op_register(operand);
            let whole = register.is_gpr32() || register.is_gpr64() || register.is_gpr8();
            whole.then(|| Source::Place(Place::Register(register.full_register())))
        }
        OpKind::Memory => slot(body, index, instruction).map(|s| Source::Place(Place::Slot(s))),
        kind if is_near(kind) => None,
        _ => Some(Source::Number(instruction.immediate(operand))),
    }
}

fn on_slot(body: &Body, index: usize, instruction: &Instruction, wanted: i64) -> Effect {
    if is_call(instruction) {
        return Effect::Nothing;
    }
    let take = |operand| match source(body, index, instruction, operand) {
        Some(Source::Number(value)) => Effect::Is(value),
        Some(Source::Place(place)) => Effect::From(place),
        None => Effect::Lost,
    };
    if instruction.mnemonic() == Mnemonic::Push {
        let size = i64::from(-instruction.stack_pointer_increment());
        return match body.depth[index] {
            Some(depth) if -depth - size == wanted => take(0),
            Some(_) => Effect::Nothing,
            None => Effect::Lost,
        };
    }
    let stores = instruction.op0_kind() == OpKind::Memory
        && !matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Bt);
    if !stores || slot(body, index, instruction) != Some(wanted) {
        return Effect::Nothing;
    }
    if instruction.mnemonic() == Mnemonic::Mov { take(1) } else { Effect::Lost }
}

fn is_jump(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::UnconditionalBranch
            | FlowControl::ConditionalBranch
            | FlowControl::IndirectBranch
    )
}

fn is_set(instruction: &Instruction) -> bool {
    instruction.condition_code() != iced_x86::ConditionCode::None
        && instruction.op_count() == 1
        && instruction.op0_kind() == OpKind::Register
}

fn is_cmov(instruction: &Instruction) -> bool {
    instruction.condition_code() != iced_x86::ConditionCode::None && instruction.op_count() == 2
}

/// Whether a callee hands a register back as it was.
fn is_preserved(register: Register) -> bool {
    matches!(
        register,
        Register::RBX
            | Register::RBP
            | Register::RSP
            | Register::R12
            | Register::R13
            | Register::R14
            | Register::R15
    )
}
