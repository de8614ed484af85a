//! One function, decoded for following values through it: who jumps where, and how deep the stack is.

use std::collections::HashMap;

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use crate::binaries::{
    code::{Function, decode, enters, falls_through, fixed_address, is_near},
    reach::Files,
};

/// Entries of a jump table.
const MAX_TABLE: usize = 1024;

/// A decoded function.
pub struct Body {
    /// In order.
    pub instructions: Vec<Instruction>,
    /// Bytes on the stack before each instruction; `None` when not known.
    pub depth: Vec<Option<i64>>,
    /// The same for what the frame pointer points to.
    pub frame: Option<i64>,
    /// Jumps inside, by target.
    pub jumps: HashMap<usize, Vec<usize>>,
    /// Indirect jumps, whose targets are the blocks that nothing else leads to.
    pub indirect: Vec<usize>,
}

impl Body {
    /// Decodes a function of a file.
    pub fn read(
        files: &Files,
        file: usize,
        function: Function,
        info: &mut InstructionInfoFactory,
    ) -> Self {
        let elf = files.elf(file);
        let instructions: Vec<Instruction> = decode(elf, function.start, function.end).collect();
        let mut body = Self {
            depth: vec![None; instructions.len()],
            frame: None,
            jumps: HashMap::new(),
            indirect: Vec::new(),
            instructions,
        };
        body.find_jumps();
        body.find_tables(files, file);
        body.find_depths(info);
        body
    }

    /// The index of the instruction at an address.
    pub fn at(&self, address: u64) -> Option<usize> {
        self.instructions.binary_search_by_key(&address, Instruction::ip).ok()
    }

    /// Calls and jumps to where a register points.
    pub fn calls_by(&self, register: Register) -> Vec<usize> {
        let goes = |i: &Instruction| {
            matches!(i.flow_control(), FlowControl::IndirectCall | FlowControl::IndirectBranch)
                && i.op0_kind() == OpKind::Register
                && i.op0_register() == register
        };
        (0..self.instructions.len()).filter(|index| goes(&self.instructions[*index])).collect()
    }

    fn find_jumps(&mut self) {
        for (index, instruction) in self.instructions.iter().enumerate() {
            match instruction.flow_control() {
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                    if let Some(target) = self.at(instruction.near_branch_target()) {
                        self.jumps.entry(target).or_default().push(index);
                    }
                }
                FlowControl::IndirectBranch => self.indirect.push(index),
                _ => {}
            }
        }
    }

    /// Jump tables: 32-bit distances from the table, as compilers write them, or addresses.
    fn find_tables(&mut self, files: &Files, file: usize) {
        if self.indirect.is_empty() {
            return;
        }
        let elf = files.elf(file);
        let mut targets = Vec::new();
        for instruction in &self.instructions {
            let lea = instruction.mnemonic() == Mnemonic::Lea;
            if let Some(table) = fixed_address(instruction).filter(|_| lea)
                && !elf.is_code(table)
            {
                let entries = elf.bytes(table, u64::MAX).chunks_exact(4).take(MAX_TABLE);
                let distance = |e: &[u8]| i32::from_le_bytes([e[0], e[1], e[2], e[3]]);
                let target = |e: &[u8]| self.at(table.wrapping_add_signed(distance(e).into()));
                targets.extend(entries.map_while(target));
            } else if instruction.flow_control() == FlowControl::IndirectBranch
                && instruction.op0_kind() == OpKind::Memory
                && instruction.memory_index() != Register::None
                && instruction.memory_base() == Register::None
            {
                let table = instruction.memory_displacement64();
                let entries = elf.bytes(table, u64::MAX).chunks_exact(8).take(MAX_TABLE);
                let address = |e: &[u8]| e.first_chunk().map(|e| u64::from_le_bytes(*e));
                targets.extend(entries.map_while(|e| self.at(address(e)?)));
            }
        }
        targets.sort_unstable();
        targets.dedup();
        for target in targets {
            self.jumps.entry(target).or_default().extend(&self.indirect);
        }
    }

    /// Follows the stack pointer forward from the entry; twice, for blocks that only later ones jump to.
    fn find_depths(&mut self, info: &mut InstructionInfoFactory) {
        let Some(first) = self.depth.first_mut() else { return };
        *first = Some(0);
        for _ in 0..2 {
            for index in 0..self.instructions.len() {
                let Some(depth) = self.depth[index] else { continue };
                let instruction = &self.instructions[index];
                let after = self.after(index, depth, info);
                if falls_through(instruction)
                    && let Some(next) = self.depth.get_mut(index + 1)
                    && next.is_none()
                {
                    *next = after;
                }
                let frame = instruction.mnemonic() == Mnemonic::Mov
                    && matches!(instruction.op0_register(), Register::RBP | Register::EBP)
                    && matches!(instruction.op1_register(), Register::RSP | Register::ESP);
                if frame && instruction.op1_kind() == OpKind::Register && self.frame.is_none() {
                    self.frame = Some(depth);
                }
                if (0..instruction.op_count()).any(|n| is_near(instruction.op_kind(n)))
                    && !is_call(instruction)
                    && let Some(target) = self.at(instruction.near_branch_target())
                {
                    self.depth[target] = self.depth[target].or(Some(depth));
                }
            }
            let from_table: Vec<(usize, i64)> = self
                .jumps
                .iter()
                .filter_map(|(target, from)| Some((*target, self.depth[*from.first()?]?)))
                .collect();
            for (target, depth) in from_table {
                self.depth[target] = self.depth[target].or(Some(depth));
            }
        }
    }

    fn after(&self, index: usize, depth: i64, info: &mut InstructionInfoFactory) -> Option<i64> {
        let instruction = &self.instructions[index];
        if is_call(instruction) || enters(instruction).is_some() {
            return Some(depth);
        }
        let is_stack = |register| matches!(register, Register::RSP | Register::ESP);
        let to_stack =
            instruction.op0_kind() == OpKind::Register && is_stack(instruction.op0_register());
        match instruction.mnemonic() {
            Mnemonic::Add | Mnemonic::Sub if to_stack => {
                if matches!(instruction.op1_kind(), OpKind::Register | OpKind::Memory) {
                    return None;
                }
                let by = instruction.immediate(1).cast_signed();
                let sign = if instruction.mnemonic() == Mnemonic::Add { -1 } else { 1 };
                Some(depth + sign * by)
            }
            Mnemonic::Lea if to_stack => slot(self, index, instruction).map(|slot| -slot),
            Mnemonic::Leave => self.frame.map(|frame| frame - 8),
            Mnemonic::Push | Mnemonic::Pop
                if !to_stack || instruction.mnemonic() == Mnemonic::Push =>
            {
                Some(depth - i64::from(instruction.stack_pointer_increment()))
            }
            _ => {
                let used = info.info(instruction).used_registers();
                let writes = used.iter().any(|used| {
                    is_stack(used.register())
                        && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
                });
                (!writes).then_some(depth)
            }
        }
    }
}

/// The stack slot that a memory operand names.
pub fn slot(body: &Body, index: usize, instruction: &Instruction) -> Option<i64> {
    if instruction.memory_index() != Register::None {
        return None;
    }
    let offset = instruction.memory_displacement64().cast_signed();
    match instruction.memory_base() {
        Register::RSP => Some(offset - body.depth[index]?),
        Register::ESP => Some(i64::from(offset as i32) - body.depth[index]?),
        Register::RBP => Some(offset - body.frame?),
        Register::EBP => Some(i64::from(offset as i32) - body.frame?),
        _ => None,
    }
}

/// Whether it is a call, of a function.
pub fn is_call(instruction: &Instruction) -> bool {
    matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
        && enters(instruction).is_none()
}
