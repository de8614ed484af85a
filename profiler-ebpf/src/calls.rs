//! Numbers of the few calls that the kernel side knows by name, on both machines.

use profiler_common::evidence::abi;

use crate::kernel::is_aarch64;

/// The number of a call in each number space. x32 has x86_64's.
#[derive(Clone, Copy)]
pub struct Call {
    x86_64: u32,
    ia32: u32,
    aarch64: u32,
    arm: u32,
}

/// Where there is no such call.
const NONE: u32 = u32::MAX;

const fn call(x86_64: u32, ia32: u32, aarch64: u32, arm: u32) -> Call {
    Call { x86_64, ia32, aarch64, arm }
}

pub const CHMOD: Call = call(90, 15, NONE, 15);
pub const FCHMOD: Call = call(91, 94, 52, 94);
pub const FCHMODAT: Call = call(268, 306, 53, 333);
pub const FCHMODAT2: Call = call(452, 452, 452, 452);
pub const MQ_OPEN: Call = call(240, 277, 180, 274);
pub const CAPSET: Call = call(126, 185, 91, 185);
pub const EXECVE: Call = call(59, 11, 221, 11);
const EXECVEAT: Call = call(322, 358, 281, 387);
const PRCTL: Call = call(157, 172, 167, 172);
pub const SETNS: Call = call(308, 346, 268, 375);
pub const SETUID: Call = call(105, 213, 146, 213);
pub const SETGID: Call = call(106, 214, 144, 214);
pub const SETRESUID: Call = call(117, 208, 147, 208);
pub const SETRESGID: Call = call(119, 210, 149, 210);
/// With ids of 16 bits, as are the next three.
pub const SETUID16: Call = call(NONE, 23, NONE, 23);
pub const SETGID16: Call = call(NONE, 46, NONE, 46);
pub const SETRESUID16: Call = call(NONE, 164, NONE, 164);
pub const SETRESGID16: Call = call(NONE, 170, NONE, 170);

impl Call {
    /// Whether a call is this one.
    #[inline(always)]
    pub fn is(self, abi: u8, nr: u32) -> bool {
        nr == match abi {
            abi::COMPAT if self.ia32 == self.arm || !is_aarch64() => self.ia32,
            abi::COMPAT => self.arm,
            _ => self.native(),
        }
    }

    /// The machine's own number.
    #[inline(always)]
    pub fn native(self) -> u32 {
        if is_aarch64() { self.aarch64 } else { self.x86_64 }
    }
}

/// Whether a call is execve or execveat.
#[inline(always)]
pub fn is_exec(abi: u8, nr: u32) -> bool {
    match abi {
        abi::X32 => matches!(nr, 520 | 545),
        _ => EXECVE.is(abi, nr) || EXECVEAT.is(abi, nr),
    }
}

/// Whether a call is prctl or capset. Every call in scope pays for it: one load, of a constant.
#[inline(always)]
pub fn may_need_capabilities(abi: u8, nr: u32) -> bool {
    const { assert!(PRCTL.ia32 == PRCTL.arm && CAPSET.ia32 == CAPSET.arm) };
    if abi == abi::COMPAT {
        nr == PRCTL.ia32 || nr == CAPSET.ia32
    } else if is_aarch64() {
        nr == PRCTL.aarch64 || nr == CAPSET.aarch64
    } else {
        nr == PRCTL.x86_64 || nr == CAPSET.x86_64
    }
}
