//! Syscall numbers and names as the kernel's own headers give them: an oracle that shares nothing with the profiler.

use std::{collections::BTreeMap, sync::OnceLock};

use anyhow::{Context as _, Result};

/// What recordings call this machine's own number space.
pub const NATIVE: &str = std::env::consts::ARCH;

/// `cargo xtask vm` writes such a file for aarch64, too.
const HEADER: &str = if cfg!(target_arch = "aarch64") {
    "/usr/include/aarch64-linux-gnu/asm/unistd_64.h"
} else {
    "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"
};

/// x86_64 calls that a container may make with every argument -1 and nothing happens: no table knows the file, the
/// timer, the queue or the address, or the kernel has no such call (any more). No program makes them by chance.
pub const RARE: [u32; 100] = [
    16, 17, 18, 40, 43, 46, 47, 48, 49, 50, 52, 54, 55, 65, 66, 67, 69, 70, 71, 75, 77, 78, 91, 93,
    134, 174, 177, 178, 181, 182, 183, 184, 185, 187, 190, 193, 196, 199, 207, 209, 210, 221, 223,
    224, 225, 226, 236, 242, 243, 244, 245, 254, 255, 275, 276, 277, 278, 282, 283, 285, 286, 287,
    288, 289, 294, 295, 296, 297, 299, 300, 301, 307, 308, 310, 311, 312, 326, 327, 328, 329, 330,
    331, 333, 424, 426, 429, 431, 432, 433, 434, 438, 440, 441, 442, 443, 444, 445, 446, 447, 448,
];

/// The number of a call of this machine.
///
/// # Errors
/// When the headers do not know it.
pub fn number(name: &str) -> Result<u32> {
    table()?.get(name).copied().with_context(|| format!("no syscall `{name}` in {HEADER}"))
}

/// The numbers of calls of this machine.
///
/// # Errors
/// When the headers do not know one.
pub fn numbers(names: &[&str]) -> Result<Vec<u32>> {
    names.iter().map(|name| number(name)).collect()
}

/// The name of a call of this machine, as strace writes it when there is none.
///
/// # Errors
/// When there are no headers.
pub fn name(number: u32) -> Result<String> {
    let known = table()?.iter().find(|(_, nr)| **nr == number).map(|(name, _)| name.clone());
    Ok(known.unwrap_or_else(|| format!("syscall_{number:#x}")))
}

fn table() -> Result<&'static BTreeMap<String, u32>> {
    static TABLE: OnceLock<Result<BTreeMap<String, u32>, String>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let text =
            std::fs::read_to_string(HEADER).map_err(|error| format!("`{HEADER}`: {error}"))?;
        let defines = text.lines().filter_map(|line| line.strip_prefix("#define __NR_"));
        Ok(defines
            .filter_map(|define| define.split_once(' '))
            .filter_map(|(name, nr)| Some((name.to_owned(), nr.trim().parse().ok()?)))
            .collect())
    });
    table.as_ref().map_err(|reason| anyhow::anyhow!("{reason}"))
}
