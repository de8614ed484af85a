//! Which parts of functions run only when something has failed: behind the branch that is taken when a system call's wrapper
//! returned an error, and on the way to a function that reports and ends.
//!
//! Owns that judgement; what can be reached without these parts is `reach`'s, what a called function is known for `callees`'.
//! Where it cannot be told, a part counts as an ordinary one: a function with a jump that is computed is left as it is.

use std::collections::{BTreeSet, HashMap, HashSet};

use iced_x86::{ConditionCode, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::binaries::{
    body::is_call,
    callees::{Kind, kind, kinds},
    code::{Edge, decode, enters, falls_through, fixed_address},
    reach::Files,
};

/// Instructions between a call and the test of what it returned.
const NEAR: usize = 12;
/// Instructions of a function that is looked at.
const MAX_BODY: usize = 50_000;
/// How often functions that always end are looked for: each time those that call one are looked at again.
const ROUNDS: usize = 4;

/// What is on error paths only.
#[derive(Debug, Default)]
pub struct Errors {
    /// By file and function: its parts that are, and what the rest of it refers to.
    functions: HashMap<(usize, usize), Function>,
    /// Functions that always end the program because something is wrong.
    ending: HashSet<(usize, usize)>,
}

#[derive(Debug, Default)]
struct Function {
    /// Ranges of addresses, sorted.
    parts: Vec<(u64, u64)>,
    /// Jumps out of the function that are taken on an error.
    jumps: HashSet<u64>,
    /// References of the rest.
    edges: Vec<Edge>,
}

impl Function {
    fn is_error(&self, address: u64) -> bool {
        let next = self.parts.partition_point(|(start, _)| *start <= address);
        let inside = next.checked_sub(1).is_some_and(|index| address < self.parts[index].1);
        inside || self.jumps.contains(&address)
    }
}

/// A run of instructions that is entered at its first one.
struct Block {
    first: usize,
    end: usize,
    /// Blocks that may follow, and whether only when something failed.
    next: Vec<(usize, bool)>,
    /// It comes to an end of the program, or leaves the function, or calls what is not known: see [`Way`].
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It does nothing but report and tidy up, and goes on.
    Through,
    /// It does nothing else, and ends the program.
    Ends,
    /// It does something else.
    Works,
}

/// Looks through the functions that can run.
pub struct Finder<'a> {
    files: &'a Files,
    /// Kinds of functions by file: by what they are called, or because they only pass on.
    kinds: Vec<HashMap<usize, Kind>>,
    errors: Errors,
}

impl<'a> Finder<'a> {
    /// Finds what is on error paths only.
    #[must_use]
    pub fn find(files: &'a Files) -> Errors {
        let kinds: Vec<_> = (0..files.parts().len()).map(|file| kinds(files, file)).collect();
        let mut finder = Finder { files, kinds, errors: Errors::default() };
        for (file, kinds) in finder.kinds.iter().enumerate() {
            let ends = kinds.iter().filter(|(_, kind)| **kind == Kind::Ends);
            finder.errors.ending.extend(ends.map(|(function, _)| (file, *function)));
        }
        let mut wanted = finder.candidates(None);
        for _ in 0..ROUNDS {
            let before = finder.errors.ending.clone();
            for (file, function) in std::mem::take(&mut wanted) {
                finder.look(file, function);
            }
            let new: HashSet<_> = finder.errors.ending.difference(&before).copied().collect();
            if new.is_empty() {
                break;
            }
            wanted = finder.candidates(Some(&new));
        }
        finder.errors
    }

    /// Functions that run and refer to one whose kind is known, or to one of these.
    fn candidates(&self, to: Option<&HashSet<(usize, usize)>>) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for file in 0..self.files.parts().len() {
            if self.files.elf(file).bits != 64 {
                continue;
            }
            let code = self.files.code(file);
            let kinds: Vec<Option<Kind>> = code.names.iter().map(|name| kind(name)).collect();
            let with_sites: HashSet<usize> = code.sites.iter().map(|site| site.function).collect();
            for (function, edges) in code.edges.iter().enumerate() {
                let refers = |edge: &Edge| match (edge, to) {
                    (Edge::Local(callee), Some(to)) => to.contains(&(file, *callee as usize)),
                    (Edge::Local(callee), None) => {
                        self.kinds[file].contains_key(&(*callee as usize))
                    }
                    (Edge::Import(name), None) => kinds[*name as usize].is_some(),
                    (Edge::Import(_), Some(_)) => false,
                };
                let is_one = self.files.is_reached(file, function)
                    && (edges.iter().any(refers) || to.is_none() && with_sites.contains(&function));
                if is_one {
                    found.push((file, function));
                }
            }
        }
        found
    }

    fn look(&mut self, file: usize, function: usize) {
        let (elf, code) = (self.files.elf(file), self.files.code(file));
        let own = code.functions[function];
        let body: Vec<Instruction> = decode(elf, own.start, own.end).take(MAX_BODY + 1).collect();
        let computed = |i: &Instruction| {
            i.flow_control() == FlowControl::IndirectBranch
                && fixed_address(i).is_none_or(|slot| !elf.slots.contains_key(&slot))
        };
        if body.is_empty() || body.len() > MAX_BODY || body.iter().any(computed) {
            return;
        }
        let labels = self.labels(file, &body);
        let blocks = self.blocks(file, &body, &labels);
        let doomed = doomed(&blocks);
        if doomed[0] && !self.kinds[file].contains_key(&function) {
            self.errors.ending.insert((file, function));
        }
        let entered =
            |block: &Block| block.first == 0 || self.files.is_entered(file, body[block.first].ip());
        let roots: Vec<usize> = (0..blocks.len()).filter(|n| entered(&blocks[*n])).collect();
        let follow = |skip: &dyn Fn(usize, bool) -> bool| {
            let mut reached = vec![false; blocks.len()];
            let mut todo = roots.clone();
            while let Some(block) = todo.pop() {
                if !std::mem::replace(&mut reached[block], true) {
                    let next = blocks[block].next.iter();
                    todo.extend(next.filter(|(to, error)| !skip(*to, *error)).map(|(to, _)| *to));
                }
            }
            reached
        };
        let all = follow(&|_, _| false);
        let usual = follow(&|to, error| error || doomed[to]);
        let mut parts = Vec::new();
        for (number, block) in blocks.iter().enumerate() {
            if all[number] && !usual[number] {
                parts.push((body[block.first].ip(), body[block.end - 1].next_ip()));
            }
        }
        let jumps: HashSet<u64> = (0..body.len())
            .filter(|index| !(own.start..own.end).contains(&body[*index].near_branch_target()))
            .filter(|index| self.error_branch(file, &body, &labels, *index) == Some(true))
            .map(|index| body[index].ip())
            .collect();
        if parts.is_empty() && jumps.is_empty() {
            return;
        }
        let mut found = Function { parts, jumps, edges: Vec::new() };
        let rest = body.iter().filter(|instruction| !found.is_error(instruction.ip()));
        let mut edges: BTreeSet<Edge> =
            rest.flat_map(|instruction| code.refers(elf, function, instruction)).collect();
        // it may run on into the next one
        let last = Edge::Local(function as u32 + 1);
        edges.extend(code.edges[function].iter().find(|edge| **edge == last).copied());
        found.edges = edges.into_iter().collect();
        self.errors.functions.insert((file, function), found);
    }

    /// Where something else than the instruction before leads to.
    fn labels(&self, file: usize, body: &[Instruction]) -> Vec<bool> {
        // another function may run on into it, or jump there
        let mut labels: Vec<bool> =
            body.iter().map(|i| self.files.is_entered(file, i.ip())).collect();
        labels[0] = true;
        for instruction in body.iter().filter(|instruction| jumps(instruction)) {
            let target = instruction.near_branch_target();
            if let Ok(target) = body.binary_search_by_key(&target, Instruction::ip) {
                labels[target] = true;
            }
        }
        labels
    }

    fn blocks(&self, file: usize, body: &[Instruction], labels: &[bool]) -> Vec<Block> {
        let at = |address: u64| body.binary_search_by_key(&address, Instruction::ip).ok();
        let ends: Vec<bool> = (0..body.len()).map(|index| self.ends(file, body, index)).collect();
        let mut firsts: BTreeSet<usize> = (0..body.len()).filter(|index| labels[*index]).collect();
        let cut =
            |index: &usize| jumps(&body[*index]) || ends[*index] || !falls_through(&body[*index]);
        firsts.extend((0..body.len()).filter(cut).map(|index| index + 1));
        firsts.remove(&body.len());
        let firsts: Vec<usize> = firsts.into_iter().collect();
        let block_at = |index: usize| firsts.binary_search(&index).ok();
        let mut blocks = Vec::with_capacity(firsts.len());
        for (number, first) in firsts.iter().enumerate() {
            let end = firsts.get(number + 1).copied().unwrap_or(body.len());
            let last = &body[end - 1];
            let mut next = Vec::new();
            if !ends[end - 1] {
                let on_error = self.error_branch(file, body, labels, end - 1);
                let target = at(last.near_branch_target()).and_then(block_at);
                next.extend(target.filter(|_| jumps(last)).map(|to| (to, on_error == Some(true))));
                let follows = falls_through(last) && number + 1 < firsts.len();
                next.extend(follows.then_some((number + 1, on_error == Some(false))));
            }
            let way = self.way(file, &body[*first..end], ends[end - 1]);
            blocks.push(Block { first: *first, end, next, way });
        }
        blocks
    }

    /// What a block does on its way. A jump out of the function that does not end the program is work.
    fn way(&self, file: usize, block: &[Instruction], ends: bool) -> Way {
        let inner = if ends { &block[..block.len() - 1] } else { block };
        let harmless = |instruction: &Instruction| {
            if enters(instruction).is_some() {
                return false;
            }
            if is_call(instruction) {
                return matches!(
                    self.callee(file, instruction),
                    Some(Kind::Reports | Kind::Wrapper)
                );
            }
            !matches!(
                instruction.flow_control(),
                FlowControl::Return | FlowControl::IndirectBranch | FlowControl::IndirectCall
            )
        };
        match (inner.iter().all(harmless), ends) {
            (true, true) => Way::Ends,
            (true, false) => Way::Through,
            (false, _) => Way::Works,
        }
    }

    /// Whether an instruction ends the program because something is wrong.
    fn ends(&self, file: usize, body: &[Instruction], index: usize) -> bool {
        let instruction = &body[index];
        let goes = is_call(instruction)
            || matches!(
                instruction.flow_control(),
                FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
            );
        match goes.then(|| self.callee(file, instruction)).flatten() {
            Some(Kind::Ends) => true,
            Some(Kind::Exits) => {
                // with a status that says so
                let near = body[index.saturating_sub(NEAR)..index].iter().rev();
                let mut near = near.take_while(|i| !is_call(i) && falls_through(i));
                let is_status = |i: &&Instruction| {
                    i.op0_kind() == OpKind::Register && i.op0_register() == Register::EDI
                };
                near.find(is_status).is_some_and(|i| {
                    i.mnemonic() == Mnemonic::Mov
                        && i.op1_kind() == OpKind::Immediate32
                        && i.immediate32() != 0
                })
            }
            _ => false,
        }
    }

    /// What is known of the function that a call or jump goes to.
    fn callee(&self, file: usize, instruction: &Instruction) -> Option<Kind> {
        if let Some(address) = fixed_address(instruction) {
            return kind(self.files.elf(file).slots.get(&address)?);
        }
        let callee = self.files.code(file).starts(instruction.near_branch_target())?;
        match self.errors.ending.contains(&(file, callee)) {
            true => Some(Kind::Ends),
            false => self.kinds[file].get(&callee).copied(),
        }
    }

    /// Whether a conditional branch asks for an error: taken then, or not taken.
    fn error_branch(
        &self,
        file: usize,
        body: &[Instruction],
        labels: &[bool],
        index: usize,
    ) -> Option<bool> {
        let branch = &body[index];
        if branch.flow_control() != FlowControl::ConditionalBranch {
            return None;
        }
        let first = index.saturating_sub(NEAR);
        let test = (first..index).rev().find(|n| {
            !matches!(body[*n].mnemonic(), Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Nop)
        })?;
        let on_error = asks(&body[test], branch.condition_code())?;
        if labels[test + 1..=index].contains(&true) {
            return None;
        }
        let mut place = Place::of(&body[test], 0)?;
        let mut at = test;
        // back to the call that it comes from, with no other way in between
        loop {
            at = at.checked_sub(1).filter(|before| *before >= first && !labels[at])?;
            let instruction = &body[at];
            if is_call(instruction) {
                let kind = self.callee(file, instruction);
                let returned = place == Place::Register(Register::RAX);
                let says = matches!(kind, Some(Kind::Wrapper | Kind::Waits));
                return (returned && says).then_some(on_error);
            }
            if enters(instruction).is_some() {
                return (place == Place::Register(Register::RAX)).then_some(on_error);
            }
            if instruction.flow_control() != FlowControl::Next {
                return None;
            }
            if instruction.op_count() > 0 && Place::of(instruction, 0) == Some(place) {
                match instruction.mnemonic() {
                    Mnemonic::Mov | Mnemonic::Movsxd => place = Place::of(instruction, 1)?,
                    Mnemonic::Cdqe | Mnemonic::Cmp | Mnemonic::Test => {}
                    _ => return None,
                }
            }
        }
    }
}

fn jumps(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
    )
}

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Register(Register),
    /// By base and distance.
    Memory(Register, u64),
}

impl Place {
    fn of(instruction: &Instruction, operand: u32) -> Option<Place> {
        match instruction.op_kind(operand) {
            OpKind::Register => {
                Some(Place::Register(instruction.op_register(operand).full_register()))
            }
            OpKind::Memory if instruction.memory_index() == Register::None => {
                Some(Place::Memory(instruction.memory_base(), instruction.memory_displacement64()))
            }
            _ => None,
        }
    }
}

/// Whether a test and the condition of a branch ask for less than 0, for -1, or for the kernel's range of errors: whether the
/// branch is taken then.
fn asks(test: &Instruction, condition: ConditionCode) -> Option<bool> {
    let is_immediate = (0..test.op_count())
        .last()
        .is_some_and(|last| !matches!(test.op_kind(last), OpKind::Register | OpKind::Memory));
    let number = |test: &Instruction| match is_immediate {
        true => Some(test.immediate(1).cast_signed()),
        false => None,
    };
    let negative = match condition {
        ConditionCode::s | ConditionCode::l => Some(true),
        ConditionCode::ns | ConditionCode::ge => Some(false),
        _ => None,
    };
    match test.mnemonic() {
        Mnemonic::Test if test.op0_kind() == test.op1_kind() && !is_immediate => {
            negative.filter(|_| test.op0_register() == test.op1_register())
        }
        Mnemonic::Cmp => match number(test)? as i32 {
            0 => negative,
            -1 => match condition {
                ConditionCode::e => Some(true),
                ConditionCode::ne => Some(false),
                _ => None,
            },
            -4095 | -4096 => match condition {
                ConditionCode::a | ConditionCode::ae => Some(true),
                ConditionCode::b | ConditionCode::be => Some(false),
                _ => None,
            },
            _ => None,
        },
        // what compilers make of a comparison with -1
        Mnemonic::Add if number(test) == Some(1) => match condition {
            ConditionCode::e => Some(true),
            ConditionCode::ne => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Blocks from which every way ends the program, with nothing done on it but to report and tidy up.
fn doomed(blocks: &[Block]) -> Vec<bool> {
    let mut doomed: Vec<bool> = blocks.iter().map(|block| block.way == Way::Ends).collect();
    loop {
        let mut changed = false;
        for (number, block) in blocks.iter().enumerate().rev() {
            let all = !block.next.is_empty() && block.next.iter().all(|(to, _)| doomed[*to]);
            if !doomed[number] && block.way == Way::Through && all {
                doomed[number] = true;
                changed = true;
            }
        }
        if !changed {
            return doomed;
        }
    }
}

impl Errors {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty() && self.ending.is_empty()
    }

    /// Whether what stands at an address of a function runs on error paths only.
    #[must_use]
    pub fn is_error(&self, file: usize, function: usize, address: u64) -> bool {
        self.functions.get(&(file, function)).is_some_and(|found| found.is_error(address))
    }

    /// What the rest of a function refers to; `None` when that is all.
    #[must_use]
    pub fn edges(&self, file: usize, function: usize) -> Option<&[Edge]> {
        self.functions.get(&(file, function)).map(|found| found.edges.as_slice())
    }

    /// Whether a function always ends the program because something is wrong.
    #[must_use]
    pub fn always_ends(&self, file: usize, function: usize) -> bool {
        self.ending.contains(&(file, function))
    }
}
