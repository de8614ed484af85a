//! What differs between the machines that are emulated: names, packages, and how the emulator is told.

/// A machine that is emulated.
#[derive(Debug, PartialEq, Eq)]
pub struct Arch {
    /// As the kernel and Rust call it.
    pub name: &'static str,
    /// As Debian does.
    pub debian: &'static str,
    /// The emulator.
    pub emulator: &'static str,
    /// Its package.
    pub package: &'static str,
    /// What the emulator is told of the machine.
    pub options: &'static [&'static str],
    /// The console, and what else the kernel is told.
    pub command_line: &'static str,
}

/// Five-level page tables, several processors, and cmpxchg16b under load are where this emulator goes wrong. A busy
/// host is late with timer interrupts, which must not count as a broken timer.
pub static X86_64: Arch = Arch {
    name: "x86_64",
    debian: "amd64",
    emulator: "qemu-system-x86_64",
    package: "qemu-system-x86",
    options: &["-cpu", "max,la57=off,cx16=off"],
    command_line: "console=ttyS0 mitigations=off no_timer_check",
};

/// A processor that executes 32-bit programs, too; newer ones do not.
pub static AARCH64: Arch = Arch {
    name: "aarch64",
    debian: "arm64",
    emulator: "qemu-system-aarch64",
    package: "qemu-system-arm",
    options: &["-machine", "virt", "-cpu", "cortex-a72"],
    command_line: "console=ttyAMA0 mitigations=off",
};
