//! The code of one file, decoded once: its functions, who refers to whom, and where the kernel is called.
//!
//! Owns the division into functions and the references between them. Which of them run, and with which numbers, is
//! the business of `reach` and `values`.

use std::collections::{BTreeSet, HashMap, HashSet};

use iced_x86::{
    Code as Op, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use crate::binaries::elf::Elf;

/// `mov rax, 15; syscall`: rt_sigreturn, where a signal handler returns to.
const RETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

/// A function: from its first instruction to the next one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// First address.
    pub start: u64,
    /// The address behind it.
    pub end: u64,
    /// The unwind table does not know it, and some of it is no instruction: data among code.
    pub doubtful: bool,
}

impl Function {
    fn sure(start: u64, end: u64) -> Self {
        Self { start, end, doubtful: false }
    }
}

/// What a function refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edge {
    /// A function of the same file, by index.
    Local(u32),
    /// A symbol, by index in [`Code::names`].
    Import(u32),
}

/// By which way the kernel is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// `syscall`, or the vDSO's entry in 32-bit code: the file's own ABI.
    Native,
    /// `int 0x80` or `sysenter`: ia32's numbers, in 64-bit code as well.
    Ia32,
}

/// An instruction that enters the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Its address.
    pub address: u64,
    /// Its function's index.
    pub function: usize,
    /// The way.
    pub entry: Entry,
}

/// A reference to a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// The instruction.
    pub address: u64,
    /// A call or jump; otherwise the symbol's address is taken.
    pub transfer: bool,
}

/// The code of one file.
#[derive(Debug, Default)]
pub struct Code {
    /// By address, without overlap.
    pub functions: Vec<Function>,
    /// What each refers to.
    pub edges: Vec<Vec<Edge>>,
    /// Functions whose start no code of this file refers to.
    pub unreferenced: Vec<usize>,
    /// The names of imported symbols.
    pub names: Vec<String>,
    /// Their places.
    index: HashMap<String, u32>,
    /// Where each imported symbol is referred to, by name.
    pub uses: HashMap<String, Vec<Use>>,
    /// Where the kernel is entered.
    pub sites: Vec<Site>,
    /// Jumps and calls that leave their function, by target: the addresses of the instructions.
    pub incoming: HashMap<u64, Vec<u64>>,
    /// Functions whose address an instruction takes.
    pub taken: HashSet<usize>,
    /// Addresses of data that an instruction takes, and its function; sorted.
    pub data: Vec<(u64, u32)>,
}

/// Decodes from `start` to `end`. After bytes that are no instruction it goes on with the next byte.
pub fn decode(elf: &Elf, start: u64, end: u64) -> Instructions<'_> {
    let bytes = elf.bytes(start, end);
    let decoder = Decoder::with_ip(elf.bits, bytes, start, DecoderOptions::NONE);
    Instructions { decoder, start }
}

/// The instructions of a range.
pub struct Instructions<'a> {
    decoder: Decoder<'a>,
    start: u64,
}

impl Iterator for Instructions<'_> {
    type Item = Instruction;

    fn next(&mut self) -> Option<Instruction> {
        while self.decoder.can_decode() {
            let instruction = self.decoder.decode();
            if !instruction.is_invalid() {
                return Some(instruction);
            }
            let next = instruction.ip() + 1;
            self.decoder.set_position((next - self.start) as usize).ok()?;
            self.decoder.set_ip(next);
        }
        None
    }
}

/// Whether an instruction enters the kernel.
pub fn enters(instruction: &Instruction) -> Option<Entry> {
    match instruction.code() {
        Op::Syscall => Some(Entry::Native),
        Op::Sysenter => Some(Entry::Ia32),
        Op::Int_imm8 if instruction.immediate8() == 0x80 => Some(Entry::Ia32),
        // glibc's and musl's way to the vDSO: the pointer in the thread's control block
        Op::Call_rm32
            if instruction.op0_kind() == OpKind::Memory
                && instruction.segment_prefix() == Register::GS
                && instruction.memory_displacement64() == 0x10 =>
        {
            Some(Entry::Ia32)
        }
        _ => None,
    }
}

/// Whether the next instruction may follow.
pub fn falls_through(instruction: &Instruction) -> bool {
    !matches!(
        instruction.flow_control(),
        FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Return
            | FlowControl::Exception
    ) && instruction.mnemonic() != Mnemonic::Hlt
}

/// The address that a memory operand names by itself, relative to the instruction or absolutely.
pub fn fixed_address(instruction: &Instruction) -> Option<u64> {
    if instruction.is_ip_rel_memory_operand() {
        return Some(instruction.ip_rel_memory_address());
    }
    let has_memory = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
    let plain = instruction.memory_base() == Register::None
        && matches!(instruction.segment_prefix(), Register::None | Register::DS);
    (has_memory && plain).then(|| instruction.memory_displacement64())
}

impl Code {
    /// Decodes a file.
    #[must_use]
    pub fn read(elf: &Elf) -> Self {
        let mut code = Self { functions: divide(elf), ..Self::default() };
        let mut referenced = HashSet::new();
        // the last instruction that is no padding, and where what comes after it ends
        let mut before: Option<(Instruction, u64)> = None;
        for number in 0..code.functions.len() {
            let Function { start, end, .. } = code.functions[number];
            let mut edges = BTreeSet::new();
            // a function that runs on into the next one
            if let Some((last, _)) = before.take().filter(|(_, end)| *end == start)
                && falls_through(&last)
                && last.flow_control() != FlowControl::Call
            {
                code.incoming.entry(start).or_default().push(last.ip());
                code.edges[number - 1].push(Edge::Local(number as u32));
                referenced.insert(number);
            }
            for instruction in decode(elf, start, end) {
                if let Some(entry) = enters(&instruction) {
                    code.sites.push(Site { address: instruction.ip(), function: number, entry });
                }
                code.note(elf, number, &instruction, &mut edges, &mut referenced);
                let last = match before {
                    Some((last, _)) if instruction.mnemonic() == Mnemonic::Nop => last,
                    _ => instruction,
                };
                before = Some((last, instruction.next_ip()));
            }
            code.edges.push(edges.into_iter().collect());
        }
        code.data.sort_unstable();
        code.data.dedup();
        code.unreferenced = (0..code.functions.len()).filter(|n| !referenced.contains(n)).collect();
        code
    }

    /// The functions that take an address of data.
    pub fn takers(&self, address: u64) -> impl Iterator<Item = usize> {
        let first = self.data.partition_point(|(at, _)| *at < address);
        let same = self.data[first..].iter().take_while(move |(at, _)| *at == address);
        same.map(|(_, function)| *function as usize)
    }

    /// The index of the function that holds an address.
    #[must_use]
    pub fn function(&self, address: u64) -> Option<usize> {
        let index = self.functions.partition_point(|f| f.start <= address).checked_sub(1)?;
        (address < self.functions[index].end).then_some(index)
    }

    /// The index of the function that starts at an address.
    #[must_use]
    pub fn starts(&self, address: u64) -> Option<usize> {
        self.functions.binary_search_by_key(&address, |function| function.start).ok()
    }
}

/// What an instruction refers to outside of its function.
enum Target<'a> {
    /// A jump or call of an address.
    Near(u64),
    /// A word that the loader fills with the address of a symbol; jumped to or called, or not.
    Slot(&'a str, bool),
    /// An address that is taken.
    Address(u64),
}

/// Tells what an instruction of a function refers to.
fn targets<'a>(
    elf: &'a Elf,
    own: Function,
    instruction: &Instruction,
    mut tell: impl FnMut(Target<'a>),
) {
    let flow = instruction.flow_control();
    if (0..instruction.op_count()).any(|n| is_near(instruction.op_kind(n))) {
        let target = instruction.near_branch_target();
        let inside = (own.start..own.end).contains(&target) && flow != FlowControl::Call;
        if !inside {
            tell(Target::Near(target));
        }
        return;
    }
    if let Some(address) = fixed_address(instruction) {
        let transfer = matches!(flow, FlowControl::IndirectBranch | FlowControl::IndirectCall);
        match elf.slots.get(&address) {
            Some(name) => tell(Target::Slot(name, transfer)),
            None => tell(Target::Address(address)),
        }
    }
    for operand in 0..instruction.op_count() {
        let kind = instruction.op_kind(operand);
        if matches!(kind, OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64) {
            tell(Target::Address(instruction.immediate(operand)));
        }
    }
}

impl Code {
    /// What an instruction of a function refers to.
    pub(super) fn refers(&self, elf: &Elf, number: usize, instruction: &Instruction) -> Vec<Edge> {
        let mut edges = Vec::new();
        targets(elf, self.functions[number], instruction, |target| {
            edges.extend(match target {
                Target::Near(address) | Target::Address(address) => self
                    .function(address)
                    .filter(|callee| *callee != number)
                    .map(|callee| Edge::Local(callee as u32)),
                Target::Slot(name, _) => self.index.get(name).copied().map(Edge::Import),
            });
        });
        edges
    }

    /// Takes note of what an instruction refers to.
    fn note(
        &mut self,
        elf: &Elf,
        number: usize,
        instruction: &Instruction,
        edges: &mut BTreeSet<Edge>,
        referenced: &mut HashSet<usize>,
    ) {
        let mut to = |callee: usize, edges: &mut BTreeSet<Edge>| {
            if callee != number {
                referenced.insert(callee);
                edges.insert(Edge::Local(callee as u32));
            }
        };
        targets(elf, self.functions[number], instruction, |target| match target {
            Target::Near(target) => {
                if let Some(callee) = self.function(target) {
                    self.incoming.entry(target).or_default().push(instruction.ip());
                    to(callee, edges);
                }
            }
            Target::Slot(name, transfer) => {
                let known = self.index.get(name).copied();
                let index = known.unwrap_or_else(|| {
                    let index = self.names.len() as u32;
                    self.names.push(name.to_owned());
                    self.index.insert(name.to_owned(), index);
                    index
                });
                edges.insert(Edge::Import(index));
                let used = Use { address: instruction.ip(), transfer };
                self.uses.entry(name.to_owned()).or_default().push(used);
            }
            Target::Address(address) => {
                if let Some(callee) = self.starts(address) {
                    self.taken.insert(callee);
                    to(callee, edges);
                } else if let Some(callee) = self.function(address).filter(|it| *it != number) {
                    // a label in another part of the function, or an entry without a name
                    edges.insert(Edge::Local(callee as u32));
                } else if elf.region(address).is_some() {
                    self.data.push((address, number as u32));
                }
            }
        });
    }
}

/// Whether an operand is a branch's target.
pub fn is_near(kind: OpKind) -> bool {
    matches!(kind, OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64)
}

/// Divides all code into functions: by the unwind table; what it leaves out by symbols, by the targets of calls and by
/// addresses in data; stubs of the procedure linkage table by their size.
fn divide(elf: &Elf) -> Vec<Function> {
    let mut functions = Vec::new();
    let mut frames: Vec<(u64, u64)> = elf.frames.clone();
    frames.sort_unstable();
    for region in elf.regions.iter().filter(|region| region.code) {
        if region.name.starts_with(".plt") {
            let begins_long = elf.bytes(region.start, region.end).starts_with(&[0xf3, 0x0f, 0x1e]);
            let size = if region.name == ".plt.got" && !begins_long { 8 } else { 16 };
            let stubs = (region.start..region.end).step_by(size);
            functions
                .extend(stubs.map(|at| Function::sure(at, (at + size as u64).min(region.end))));
            continue;
        }
        let first = frames.partition_point(|frame| frame.0 < region.start);
        let mut at = region.start;
        for (index, (start, end)) in frames.iter().enumerate().skip(first) {
            if *start >= region.end {
                break;
            }
            // a signal's return path: its unwind entry begins a byte early, for who looks one back from the return address
            let early = elf.bytes(*start, *end).get(1..).is_some_and(|b| b.starts_with(&RETURN));
            let start = &(*start + u64::from(early));
            let next = frames.get(index + 1).map_or(region.end, |next| next.0.min(region.end));
            let end = if end > start { (*end).min(next) } else { next };
            if *start < at || end <= *start {
                continue;
            }
            outside(elf, at, *start, &mut functions);
            functions.push(Function::sure(*start, end));
            at = end;
        }
        outside(elf, at, region.end, &mut functions);
    }
    functions
}

/// Divides code that the unwind table leaves out.
fn outside(elf: &Elf, start: u64, end: u64, functions: &mut Vec<Function>) {
    let blank = |i: &Instruction| matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Int3);
    let Some(first) = decode(elf, start, end).find(|i| !blank(i)).map(|i| i.ip()) else { return };
    if elf.bytes(first, end).iter().all(|byte| *byte == 0) {
        return;
    }
    let mut starts = BTreeSet::from([first]);
    starts.extend(elf.symbols.range(first..end).map(|(start, _)| *start));
    starts.extend(elf.pointers.range(first..end));
    for instruction in decode(elf, first, end) {
        if instruction.flow_control() == FlowControl::Call
            && is_near(instruction.op0_kind())
            && (first..end).contains(&instruction.near_branch_target())
        {
            starts.insert(instruction.near_branch_target());
        }
    }
    let starts: Vec<u64> = starts.into_iter().collect();
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(end);
        let len: usize = decode(elf, *start, end).map(|instruction| instruction.len()).sum();
        functions.push(Function { start: *start, end, doubtful: len as u64 != end - *start });
    }
}
