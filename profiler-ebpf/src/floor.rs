//! An empty program on `sys_enter`: what any recorder that attaches there costs at least.
//! Only `cargo xtask bench` loads it.

#![no_std]
#![no_main]

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

/// Does nothing.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn floor_enter(_ctx: RawTracePointContext) -> i32 {
    0
}

/// Does nothing, at the end of calls.
#[raw_tracepoint(tracepoint = "sys_exit")]
fn floor_exit(_ctx: RawTracePointContext) -> i32 {
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
