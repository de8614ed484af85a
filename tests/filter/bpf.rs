//! A classic BPF machine, as far as a seccomp filter uses one.

use anyhow::{Context as _, Result, bail};

/// `struct seccomp_data`.
pub struct Data {
    pub nr: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    pub args: [u64; 6],
}

/// A filter: the `sock_filter` array that the kernel would get, little-endian.
pub struct Program(Vec<(u16, u8, u8, u32)>);

impl Program {
    pub fn parse(bytes: &[u8]) -> Result<Program> {
        let (instructions, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || instructions.is_empty() {
            bail!("{} bytes are no filter", bytes.len());
        }
        let parse = |i: &[u8; 8]| {
            (
                u16::from_le_bytes([i[0], i[1]]),
                i[2],
                i[3],
                u32::from_le_bytes([i[4], i[5], i[6], i[7]]),
            )
        };
        Ok(Program(instructions.iter().map(parse).collect()))
    }

    /// The `SECCOMP_RET_*` of a call.
    pub fn run(&self, data: &Data) -> Result<u32> {
        let (mut at, mut a) = (0_usize, 0_u32);
        loop {
            let &(code, jt, jf, k) = self.0.get(at).context("the filter runs off its end")?;
            at += 1;
            let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
            match code {
                0x20 => a = load(data, k)?,
                0x54 => a &= k,
                0x05 => at += k as usize,
                0x15 => jump(a == k),
                0x25 => jump(a > k),
                0x35 => jump(a >= k),
                0x45 => jump(a & k != 0),
                0x06 => return Ok(k),
                _ => bail!("instruction {code:#x} is none of a seccomp filter"),
            }
        }
    }
}

fn load(data: &Data, offset: u32) -> Result<u32> {
    Ok(match offset {
        0 => data.nr,
        4 => data.arch,
        16..64 => {
            let arg = data.args[((offset - 16) / 8) as usize];
            if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
        }
        _ => bail!("a load from {offset}"),
    })
}
