//! Recording a command: complete from its first call, transparent to its caller, and gone without a trace.

pub mod complete;
pub mod counts;
pub mod hostile;
pub mod killed;
pub mod lost;
pub mod moved;
pub mod stable;
pub mod stacks;
pub mod transparent;
pub mod truth;
