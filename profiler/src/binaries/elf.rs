//! One ELF file as the analysis needs it: its code, where functions may start, what it imports and exports, which
//! addresses of code stand in its data, what it loads. Reads bytes, no files; they are hostile.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use object::{
    Architecture, File, Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags,
    SymbolFlags, elf,
};

use crate::binaries::unwind::{self, Bytes};

/// Bytes that are kept of a symbol's name.
const MAX_NAME: usize = 200;
/// Tables for the dynamic linker and the unwinder: no data of the program's own.
const TABLES: [&str; 6] = [".dynstr", ".dynsym", ".gnu", ".rela", ".eh_frame", ".interp"];
/// The shortest and longest text in a file that counts as a string.
const STRING: std::ops::RangeInclusive<usize> = 4..=256;

/// Why a file was not analysed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// It is no ELF file, or a damaged one.
    #[error("not a readable ELF file: {0}")]
    Unreadable(String),
    /// Its code is for another machine.
    #[error("code for {0} is not analysed")]
    Architecture(String),
    /// A packed or stripped file whose code cannot be told from its data.
    #[error("it has no section headers")]
    NoSections,
}

/// A part of the file that is loaded.
#[derive(Debug, Clone)]
pub struct Region {
    /// Section name, `.text`.
    pub name: String,
    /// First address.
    pub start: u64,
    /// The address behind the last.
    pub end: u64,
    /// Where its bytes are in the file.
    offset: usize,
    /// Holds code.
    pub code: bool,
    /// May be written.
    pub writable: bool,
}

/// One file.
#[derive(Debug, Default)]
pub struct Elf {
    bytes: Vec<u8>,
    /// 64, or 32 for ia32.
    pub bits: u32,
    /// Loaded regions with bytes in the file, by address.
    pub regions: Vec<Region>,
    /// The first instruction; 0 for none.
    pub entry: u64,
    /// An executable: it has an interpreter, or no dynamic table.
    pub interpreter: Option<String>,
    /// DT_NEEDED, in order.
    pub needed: Vec<String>,
    /// DT_SONAME.
    pub soname: Option<String>,
    /// DT_RUNPATH, or DT_RPATH where there is none.
    pub search: Vec<String>,
    /// The paths are DT_RPATH's: they hold for what the libraries need, too.
    pub inherited: bool,
    /// Ranges of functions by the unwind table; the end is the start when not known.
    pub frames: Vec<(u64, u64)>,
    /// Functions by symbol: address and length.
    pub symbols: BTreeMap<u64, u64>,
    /// A name for an address.
    pub names: BTreeMap<u64, String>,
    /// What other files can refer to.
    pub exports: HashMap<String, BTreeSet<u64>>,
    /// Words that the loader fills with the address of a symbol, and which.
    pub slots: HashMap<u64, String>,
    /// Symbols whose address stands in data.
    pub pointed: BTreeSet<String>,
    /// Addresses of code that stand in data; candidates, as any word may look like one.
    pub pointers: BTreeSet<u64>,
    /// Addresses of data that stand in data, of the same kind.
    pub references: HashSet<u64>,
}

impl Elf {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is none that can be analysed.
    pub fn read(bytes: Vec<u8>) -> Result<Self, ElfError> {
        let mut read = Self::default();
        {
            let file = File::parse(&*bytes).map_err(|e| ElfError::Unreadable(e.to_string()))?;
            read.bits = match file.architecture() {
                Architecture::X86_64 => 64,
                Architecture::I386 => 32,
                other => return Err(ElfError::Architecture(format!("{other:?}"))),
            };
            read.entry = file.entry();
            read.regions(&file, bytes.len());
            if !read.regions.iter().any(|region| region.code) {
                return Err(ElfError::NoSections);
            }
            read.symbols(&file);
            read.unwind(&file);
            read.dynamic(&file);
            read.relocations(&file);
            if let Some(path) = file.section_by_name(".interp").and_then(|s| s.data().ok()) {
                read.interpreter = Some(text(path));
            }
        }
        read.bytes = bytes;
        read.words();
        Ok(read)
    }

    /// The region of an address.
    #[must_use]
    pub fn region(&self, address: u64) -> Option<&Region> {
        let index = self.regions.partition_point(|region| region.start <= address);
        self.regions[..index].last().filter(|region| address < region.end)
    }

    /// Whether there is code at an address.
    #[must_use]
    pub fn is_code(&self, address: u64) -> bool {
        self.region(address).is_some_and(|region| region.code)
    }

    /// The bytes from `start` to `end`, or to the region's end.
    #[must_use]
    pub fn bytes(&self, start: u64, end: u64) -> &[u8] {
        let Some(region) = self.region(start) else { return &[] };
        let from = region.offset + (start - region.start) as usize;
        let to = region.offset + (end.clamp(start, region.end) - region.start) as usize;
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// The function at an address: its name and the distance from its start.
    #[must_use]
    pub fn name(&self, address: u64) -> Option<(&str, u64)> {
        let (start, name) = self.names.range(..=address).next_back()?;
        let len = self.symbols.get(start).copied().unwrap_or(0).max(1);
        (address < start.saturating_add(len)).then_some((name, address - start))
    }

    /// Every text in data that ends with a zero byte, and its address.
    pub fn strings(&self) -> impl Iterator<Item = (u64, &str)> {
        self.data().flat_map(|region| {
            let mut at = region.start;
            self.bytes(region.start, region.end).split(|byte| *byte == 0).filter_map(move |part| {
                let address = at;
                at = at.wrapping_add(part.len() as u64 + 1);
                let is_text = STRING.contains(&part.len()) && part.iter().all(u8::is_ascii_graphic);
                Some((address, std::str::from_utf8(part).ok().filter(|_| is_text)?))
            })
        })
    }

    /// The text at an address of data.
    #[must_use]
    pub fn string(&self, address: u64) -> Option<&str> {
        let bytes = self.bytes(address, address.saturating_add(*STRING.end() as u64));
        let text = &bytes[..bytes.iter().position(|byte| *byte == 0)?];
        std::str::from_utf8(text).ok().filter(|text| !text.is_empty())
    }

    /// Data of the program's own.
    fn data(&self) -> impl Iterator<Item = &Region> {
        let is_table = |name: &str| TABLES.iter().any(|table| name.starts_with(table));
        self.regions.iter().filter(move |region| !region.code && !is_table(&region.name))
    }

    fn regions(&mut self, file: &File<'_>, len: usize) {
        for section in file.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            let flag = |flag: u32| sh_flags & u64::from(flag) != 0;
            let Some((offset, size)) = section.file_range() else { continue };
            let end = section.address().checked_add(size);
            let (Some(end), Ok(offset)) = (end, usize::try_from(offset)) else { continue };
            let fits = offset.checked_add(size as usize).is_some_and(|end| end <= len);
            if !flag(elf::SHF_ALLOC) || flag(elf::SHF_TLS) || size == 0 || !fits {
                continue;
            }
            self.regions.push(Region {
                name: section.name().unwrap_or_default().to_owned(),
                start: section.address(),
                end,
                offset,
                code: flag(elf::SHF_EXECINSTR),
                writable: flag(elf::SHF_WRITE),
            });
        }
        self.regions.sort_by_key(|region| (region.start, region.end));
        // hostile headers may let them overlap: then the later one goes
        let mut end = 0;
        self.regions.retain(|region| {
            let fits = region.start >= end;
            end = end.max(region.end);
            fits
        });
    }

    fn symbols(&mut self, file: &File<'_>) {
        for symbol in file.symbols().chain(file.dynamic_symbols()) {
            let SymbolFlags::Elf { st_info, .. } = symbol.flags() else { continue };
            let Ok(name) = symbol.name() else { continue };
            let kind = st_info & 0xf;
            let is_function = matches!(kind, elf::STT_FUNC | elf::STT_GNU_IFUNC);
            let may_be = is_function || kind == elf::STT_NOTYPE;
            if !symbol.is_definition() || !may_be || !self.is_code(symbol.address()) {
                continue;
            }
            let len = self.symbols.entry(symbol.address()).or_default();
            *len = (*len).max(symbol.size());
            self.names.entry(symbol.address()).or_insert_with(|| cut(name));
        }
        for symbol in file.dynamic_symbols().filter(object::ObjectSymbol::is_definition) {
            if let Ok(name) = symbol.name()
                && self.is_code(symbol.address())
            {
                self.exports.entry(cut(name)).or_default().insert(symbol.address());
            }
        }
    }

    fn unwind(&mut self, file: &File<'_>) {
        let section = |name| {
            let section = file.section_by_name(name)?;
            Some(Bytes { address: section.address(), bytes: section.data().ok()? })
        };
        if let (Some(header), Some(frames)) = (section(".eh_frame_hdr"), section(".eh_frame")) {
            self.frames = unwind::functions(&header, &frames);
        }
    }

    fn dynamic(&mut self, file: &File<'_>) {
        let data = |name| file.section_by_name(name).and_then(|section| section.data().ok());
        let (Some(table), Some(strings)) = (data(".dynamic"), data(".dynstr")) else { return };
        let string =
            |offset: u64| usize::try_from(offset).ok().and_then(|at| strings.get(at..)).map(text);
        let (mut rpath, mut runpath) = (Vec::new(), Vec::new());
        for entry in table.chunks_exact(self.bits as usize / 4) {
            let (tag, value) = entry.split_at(entry.len() / 2);
            let (tag, value) = (word(tag), word(value));
            let paths =
                || string(value).unwrap_or_default().split(':').map(str::to_owned).collect();
            match i64::try_from(tag) {
                Ok(elf::DT_NULL) => break,
                Ok(elf::DT_NEEDED) => self.needed.extend(string(value)),
                Ok(elf::DT_SONAME) => self.soname = string(value),
                Ok(elf::DT_RPATH) => rpath = paths(),
                Ok(elf::DT_RUNPATH) => runpath = paths(),
                Ok(elf::DT_INIT | elf::DT_FINI) => {
                    self.pointers.insert(value);
                }
                _ => {}
            }
        }
        self.inherited = runpath.is_empty();
        self.search = if self.inherited { rpath } else { runpath };
    }

    /// x86_64 only: ia32 code refers to its imports by a register that this analysis does not follow.
    fn relocations(&mut self, file: &File<'_>) {
        let names: HashMap<usize, (String, u64)> = file
            .dynamic_symbols()
            .filter_map(|symbol| {
                Some((symbol.index().0, (cut(symbol.name().ok()?), symbol.address())))
            })
            .collect();
        for section in file.sections().filter(|_| self.bits == 64) {
            let is_rela = section.name().is_ok_and(|name| name.starts_with(".rela."));
            let Some(data) = section.data().ok().filter(|_| is_rela) else { continue };
            for entry in data.chunks_exact(24) {
                let (at, info, addend) =
                    (word(&entry[..8]), word(&entry[8..16]), word(&entry[16..]));
                let named = names.get(&((info >> 32) as usize));
                match (info as u32, named) {
                    (elf::R_X86_64_64, Some((name, address))) => {
                        self.pointers.insert(address.wrapping_add(addend));
                        self.pointed.insert(name.clone());
                        self.slots.insert(at, name.clone());
                    }
                    (elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT, Some((name, _))) => {
                        self.slots.insert(at, name.clone());
                    }
                    (elf::R_X86_64_RELATIVE | elf::R_X86_64_IRELATIVE, _) => {
                        self.pointers.insert(addend);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Adds the addresses of code that stand in data as they are: an executable at a fixed address has no relocations
    /// for them, and RELR relocations have theirs in place.
    fn words(&mut self) {
        let size = self.bits as usize / 8;
        let (mut found, mut data) = (BTreeSet::new(), HashSet::new());
        let ends = self.regions.iter().filter(|region| region.code);
        let (low, high) = (
            ends.clone().map(|region| region.start).min().unwrap_or(0),
            ends.map(|region| region.end).max().unwrap_or(0),
        );
        for region in self.data() {
            let skip = (region.start.wrapping_neg() % size as u64) as usize;
            let bytes = self.bytes(region.start, region.end);
            for value in bytes.get(skip..).unwrap_or_default().chunks_exact(size).map(word) {
                if (low..high).contains(&value) && self.is_code(value) {
                    found.insert(value);
                } else if self.region(value).is_some() {
                    data.insert(value);
                }
            }
        }
        self.pointers.extend(found);
        data.extend(self.pointers.iter().filter(|value| !self.is_code(**value)));
        self.references = data;
        let regions = std::mem::take(&mut self.regions);
        let code = |address: &u64| {
            let index = regions.partition_point(|region| region.start <= *address);
            regions[..index].last().is_some_and(|region| region.code && *address < region.end)
        };
        self.pointers.retain(code);
        self.regions = regions;
    }
}

/// A little-endian number of 4 or 8 bytes.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The text before the first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end.min(4096)]).into_owned()
}

fn cut(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

#[cfg(test)]
impl Elf {
    /// A file of code at 0x1000 and data at 0x2000, the functions starting where `starts` says.
    pub fn made(bits: u32, code: &[u8], data: &[u8], starts: &[u64]) -> Self {
        let region = |name: &str, start: u64, offset: usize, len: usize, code| Region {
            name: name.to_owned(),
            start,
            end: start + len as u64,
            offset,
            code,
            writable: false,
        };
        let mut made = Self {
            bits,
            bytes: [code, data].concat(),
            regions: vec![region(".text", 0x1000, 0, code.len(), true)],
            ..Self::default()
        };
        if !data.is_empty() {
            made.regions.push(region(".rodata", 0x2000, code.len(), data.len(), false));
        }
        let ends = starts.iter().skip(1).copied().chain([0x1000 + code.len() as u64]);
        made.frames = starts.iter().copied().zip(ends).collect();
        made.words();
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_elf_file_is_refused() {
        for bytes in [&b""[..], b"#!/bin/sh", b"\x7fELF", &[0x7f; 4096]] {
            assert!(matches!(Elf::read(bytes.to_vec()), Err(ElfError::Unreadable(_))));
        }
        let own = std::fs::read("/proc/self/exe").expect("reads itself");
        let read = Elf::read(own.clone()).expect("a test is an ELF file");
        assert!(read.entry != 0 && read.is_code(read.entry) && !read.frames.is_empty());
        let mut other = own.clone();
        other[18] = 183; // EM_AARCH64
        assert_eq!(
            Elf::read(other).expect_err("refused").to_string(),
            "code for Aarch64 is not analysed"
        );
        // cut and spoilt files end in an answer
        for at in (0..own.len().min(1 << 16)).step_by(997) {
            let mut bad = own[..own.len() / 2].to_vec();
            bad[at] ^= 0xff;
            let _ = Elf::read(bad);
        }
    }

    #[test]
    fn texts_and_addresses_in_data_are_found() {
        let mut data = b"libx.so.1\0\0\0\0\0\0\0".to_vec();
        data.extend(0x1000_u64.to_le_bytes());
        data.extend(0x2000_u64.to_le_bytes());
        let made = Elf::made(64, &[0xc3; 16], &data, &[0x1000]);
        assert_eq!(made.strings().next(), Some((0x2000, "libx.so.1")));
        assert_eq!(made.string(0x2005), Some("so.1"));
        assert_eq!(made.pointers, BTreeSet::from([0x1000]));
        assert!(made.references.contains(&0x2000));
        assert_eq!(made.bytes(0x100f, u64::MAX).len(), 1);
        assert!(made.bytes(0x3000, u64::MAX).is_empty());
    }
}
