//! Where functions begin and end, by the unwind table's index (`.eh_frame_hdr`).
//!
//! Owns that format. An entry whose length cannot be checked against the table it points to is a start without an end.

/// `DW_EH_PE_datarel | DW_EH_PE_sdata4`, `DW_EH_PE_pcrel | DW_EH_PE_sdata4` and `DW_EH_PE_udata4`: what linkers write.
const TABLE: u8 = 0x3b;
const FRAME: u8 = 0x1b;
const COUNT: u8 = 0x03;

/// Entries that are read; more are in no file of this world.
const MAX_ENTRIES: usize = 1 << 22;

/// A section: its address and its bytes.
pub struct Bytes<'a> {
    pub address: u64,
    pub bytes: &'a [u8],
}

impl Bytes<'_> {
    fn at(&self, address: u64) -> Option<&[u8]> {
        self.bytes.get(usize::try_from(address.checked_sub(self.address)?).ok()?..)
    }

    fn i32(&self, address: u64) -> Option<i64> {
        let bytes = self.at(address)?.first_chunk()?;
        Some(i64::from(i32::from_le_bytes(*bytes)))
    }
}

/// `(start, end)` of each function, in the table's order; `end` is `start` when it is not known.
pub fn functions(header: &Bytes<'_>, frames: &Bytes<'_>) -> Vec<(u64, u64)> {
    let base = header.address;
    let Some([1, FRAME, COUNT, TABLE, ..]) = header.at(base) else { return Vec::new() };
    let count =
        header.i32(base.wrapping_add(8)).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let entry = |index: usize| {
        let at = base.wrapping_add(12 + 8 * index as u64);
        let start = base.wrapping_add_signed(header.i32(at)?);
        let frame = base.wrapping_add_signed(header.i32(at.wrapping_add(4))?);
        let begins = frame.wrapping_add(8);
        let begins = begins.wrapping_add_signed(frames.i32(begins).unwrap_or(0));
        let length =
            frames.i32(frame.wrapping_add(12)).and_then(|length| u64::try_from(length).ok());
        let known = begins == start;
        Some((start, start.saturating_add(length.filter(|_| known).unwrap_or(0))))
    };
    (0..count.min(MAX_ENTRIES)).map_while(entry).collect()
}
