//! Sets of arguments, compared exactly.
//!
//! Owns one structure: a decision diagram over the bits of a call's arguments, whose leaves are what the filter
//! answers. Each function of the arguments has one node, so two decisions are alike when their nodes are the
//! same, whatever conditions they are written with: intervals, masks, lists, in any order and overlap. The number of
//! nodes is bounded: a file that is made to blow it up is undecided.

use std::collections::HashMap;

use crate::model::effective::{Condition, Decision, Outcome};
use crate::model::seccomp::Op;

/// More nodes than this, and the comparison is given up. Docker's own rules need some hundreds.
const MAX_NODES: usize = 50_000;

/// How the arguments with which a call can pass differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// They are the same.
    Same,
    /// The new ones are all of the old ones, and more.
    Wider,
    /// The new ones are some of the old ones.
    Narrower,
    /// None of the old ones is a new one.
    Disjoint,
    /// Some are both, some are only old, some only new.
    Overlapping,
    /// Too many conditions to say.
    Undecided,
}

/// For how many arguments a call can pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// For none.
    Never,
    /// For some.
    Sometimes,
    /// For all.
    Always,
}

/// What two decisions on one call have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// Every argument has the same outcome.
    pub alike: bool,
    /// When it could pass.
    pub old: Extent,
    /// When it can pass.
    pub new: Extent,
    /// How these differ.
    pub passing: Relation,
}

/// Compares two decisions of a call whose registers have `bits` bits.
#[must_use]
pub fn compare(old: &Decision, new: &Decision, bits: u16) -> Comparison {
    Regions::new(bits).compare(old, new).unwrap_or_else(|TooMany| Comparison {
        alike: old == new,
        old: syntactic_extent(old),
        new: syntactic_extent(new),
        passing: if old == new { Relation::Same } else { Relation::Undecided },
    })
}

/// The extent of a decision that is too large to look into.
fn syntactic_extent(decision: &Decision) -> Extent {
    match (decision.outcomes().any(Outcome::may_pass), decision.outcomes().all(Outcome::may_pass)) {
        (false, _) => Extent::Never,
        (true, true) => Extent::Always,
        (true, false) => Extent::Sometimes,
    }
}

/// The bound was reached.
struct TooMany;

/// An index into the nodes.
type Ref = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Node {
    /// A condition that holds or does not.
    Truth(bool),
    /// What the filter answers.
    Leaf(Outcome),
    /// The first variable on which it depends.
    Branch { variable: u16, zero: Ref, one: Ref },
}

/// All nodes of one comparison. Variable `64 * index + n` is an argument's bit, the most significant first.
struct Regions {
    bits: u16,
    nodes: Vec<Node>,
    known: HashMap<Node, Ref>,
    selected: HashMap<(Ref, Ref, Ref), Ref>,
}

const FALSE: Ref = 0;
const TRUE: Ref = 1;

impl Regions {
    fn new(bits: u16) -> Regions {
        let nodes = vec![Node::Truth(false), Node::Truth(true)];
        let known = HashMap::from([(Node::Truth(false), FALSE), (Node::Truth(true), TRUE)]);
        Regions { bits, nodes, known, selected: HashMap::new() }
    }

    fn compare(&mut self, old: &Decision, new: &Decision) -> Result<Comparison, TooMany> {
        let (old, new) = (self.decision(old)?, self.decision(new)?);
        let mut passing = HashMap::new();
        let (old_passes, new_passes) =
            (self.passing(old, &mut passing)?, self.passing(new, &mut passing)?);
        let both = self.select(old_passes, new_passes, FALSE)?;
        let relation = if old_passes == new_passes {
            Relation::Same
        } else if both == old_passes {
            Relation::Wider
        } else if both == new_passes {
            Relation::Narrower
        } else if both == FALSE {
            Relation::Disjoint
        } else {
            Relation::Overlapping
        };
        let extent = |passes| match passes {
            FALSE => Extent::Never,
            TRUE => Extent::Always,
            _ => Extent::Sometimes,
        };
        Ok(Comparison {
            alike: old == new,
            old: extent(old_passes),
            new: extent(new_passes),
            passing: relation,
        })
    }

    fn node(&mut self, node: Node) -> Result<Ref, TooMany> {
        if let Node::Branch { zero, one, .. } = node
            && zero == one
        {
            return Ok(zero);
        }
        if let Some(&known) = self.known.get(&node) {
            return Ok(known);
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(TooMany);
        }
        let index = Ref::try_from(self.nodes.len()).map_err(|_| TooMany)?;
        self.nodes.push(node);
        self.known.insert(node, index);
        Ok(index)
    }

    fn get(&self, at: Ref) -> Node {
        // every Ref was made by `node`
        self.nodes.get(at as usize).copied().unwrap_or(Node::Truth(false))
    }

    /// The rules from the last to the first: each goes before what follows it.
    fn decision(&mut self, decision: &Decision) -> Result<Ref, TooMany> {
        let mut all = self.node(Node::Leaf(decision.otherwise))?;
        for (conditions, outcome) in decision.rules.iter().rev() {
            let mut hold = TRUE;
            for condition in conditions {
                let condition = self.condition(condition)?;
                hold = self.select(hold, condition, FALSE)?;
            }
            let outcome = self.node(Node::Leaf(*outcome))?;
            all = self.select(hold, outcome, all)?;
        }
        Ok(all)
    }

    fn condition(&mut self, condition: &Condition) -> Result<Ref, TooMany> {
        let value = condition.value;
        match condition.op {
            Op::Eq => self.masked(condition.index, u64::MAX, value, TRUE, FALSE),
            Op::Ne => self.masked(condition.index, u64::MAX, value, FALSE, TRUE),
            // Bits outside of the mask never match.
            Op::MaskedEq if condition.value_two & !value != 0 => Ok(FALSE),
            Op::MaskedEq => self.masked(condition.index, value, condition.value_two, TRUE, FALSE),
            Op::Ge => self.ordered(condition.index, value, TRUE, FALSE, TRUE),
            Op::Gt => self.ordered(condition.index, value, FALSE, FALSE, TRUE),
            Op::Le => self.ordered(condition.index, value, TRUE, TRUE, FALSE),
            Op::Lt => self.ordered(condition.index, value, FALSE, TRUE, FALSE),
        }
    }

    /// `hit` when the bits under the mask are those of `value`, else `miss`.
    fn masked(
        &mut self,
        index: u8,
        mask: u64,
        value: u64,
        hit: Ref,
        miss: Ref,
    ) -> Result<Ref, TooMany> {
        let mut node = hit;
        for bit in (0..self.bits).filter(|bit| mask >> bit & 1 == 1) {
            let (zero, one) = if value >> bit & 1 == 1 { (miss, node) } else { (node, miss) };
            node = self.node(Node::Branch { variable: variable(index, bit), zero, one })?;
        }
        Ok(node)
    }

    /// One answer each for arguments that are `value`, below and above.
    fn ordered(
        &mut self,
        index: u8,
        value: u64,
        equal: Ref,
        below: Ref,
        above: Ref,
    ) -> Result<Ref, TooMany> {
        let mut node = equal;
        for bit in 0..self.bits {
            let (zero, one) = if value >> bit & 1 == 1 { (below, node) } else { (node, above) };
            node = self.node(Node::Branch { variable: variable(index, bit), zero, one })?;
        }
        Ok(node)
    }

    /// `yes` where the condition holds, `no` where it does not.
    fn select(&mut self, condition: Ref, yes: Ref, no: Ref) -> Result<Ref, TooMany> {
        match condition {
            TRUE => return Ok(yes),
            FALSE => return Ok(no),
            _ if yes == no => return Ok(yes),
            _ => {}
        }
        let key = (condition, yes, no);
        if let Some(&known) = self.selected.get(&key) {
            return Ok(known);
        }
        let parts = [condition, yes, no].map(|at| self.get(at));
        let variable = parts.iter().filter_map(|node| match node {
            Node::Branch { variable, .. } => Some(*variable),
            _ => None,
        });
        let Some(first) = variable.min() else { return Ok(no) };
        let half = |at: Ref, node: Node, is_one: bool| match node {
            Node::Branch { variable, zero, one } if variable == first => {
                if is_one {
                    one
                } else {
                    zero
                }
            }
            _ => at,
        };
        let [c, y, n] = parts;
        let zero =
            self.select(half(condition, c, false), half(yes, y, false), half(no, n, false))?;
        let one = self.select(half(condition, c, true), half(yes, y, true), half(no, n, true))?;
        let node = self.node(Node::Branch { variable: first, zero, one })?;
        self.selected.insert(key, node);
        Ok(node)
    }

    /// The condition that the outcome lets the call pass.
    fn passing(&mut self, at: Ref, done: &mut HashMap<Ref, Ref>) -> Result<Ref, TooMany> {
        if let Some(&known) = done.get(&at) {
            return Ok(known);
        }
        let node = match self.get(at) {
            Node::Truth(_) => at,
            Node::Leaf(outcome) if outcome.may_pass() => TRUE,
            Node::Leaf(_) => FALSE,
            Node::Branch { variable, zero, one } => {
                let zero = self.passing(zero, done)?;
                let one = self.passing(one, done)?;
                self.node(Node::Branch { variable, zero, one })?
            }
        };
        done.insert(at, node);
        Ok(node)
    }
}

const fn variable(index: u8, bit: u16) -> u16 {
    index as u16 * 64 + 63 - bit
}
