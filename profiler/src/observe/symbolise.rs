//! From addresses in a process to names of functions, while the process lives. Everything read here is hostile: every
//! table is bounded, and what cannot be named is `unknown`.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use object::{Object as _, ObjectSegment as _, ObjectSymbol as _, SymbolKind};
use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};

/// A frame that cannot be named.
pub const UNKNOWN: &str = "unknown";

/// A larger file is not read, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// Symbols that are kept of all files together.
const MAX_SYMBOLS: usize = 1 << 20;

/// Files that are looked at.
const MAX_FILES: usize = 512;

/// Bytes that are kept of a name.
const MAX_NAME: usize = 200;

/// Names functions, and remembers the symbols of each file.
#[derive(Default)]
pub struct Symboliser {
    files: HashMap<FileId, Functions>,
    symbols: usize,
}

/// Device, inode and length.
type FileId = (u64, u64, u64);

/// The functions of one file.
#[derive(Default)]
struct Functions {
    segments: Vec<Segment>,
    /// Sorted by start.
    functions: Vec<Function>,
}

struct Segment {
    offset: u64,
    len: u64,
    address: u64,
}

struct Function {
    start: u64,
    len: u64,
    name: Box<str>,
}

/// A user stack.
pub struct Frames<'a> {
    /// The process.
    pub pid: i32,
    /// `startstack` of `/proc/PID/stat` when it was taken.
    pub program: u64,
    /// The word at the stack pointer; 0 when there is none.
    pub top: u64,
    /// Innermost first: where it was, then where each caller goes on.
    pub addresses: &'a [u64],
}

impl Symboliser {
    /// A name for each frame, `function+0x12 (libc.so.6)`. `None` when the process is gone, or executes another program.
    pub fn names(&mut self, frames: &Frames<'_>) -> Option<Vec<String>> {
        let process = Process::new(frames.pid).ok()?;
        let maps = process.maps().ok()?.0;
        // after the maps: they are those of the program that was seen, if it still is that one
        if frames.program == 0 || process.stat().ok()?.startstack != frames.program {
            return None;
        }
        let mut named = Vec::new();
        for (index, address) in frames.addresses.iter().enumerate() {
            // a return address is behind its call, which may be the last of its function
            named.push(self.name(frames.pid, &maps, *address, index > 0));
            // a function without a frame has its caller's address there, and the chain of frames leaves the caller out
            let is_caller = index == 0
                && frames.addresses.get(1) != Some(&frames.top)
                && map_of(&maps, frames.top).is_some();
            if is_caller {
                named.push(self.name(frames.pid, &maps, frames.top, true));
            }
        }
        Some(named)
    }

    fn name(&mut self, pid: i32, maps: &[MemoryMap], address: u64, returns: bool) -> String {
        self.try_name(pid, maps, address, u64::from(returns)).unwrap_or_else(|| UNKNOWN.to_owned())
    }

    fn try_name(
        &mut self,
        pid: i32,
        maps: &[MemoryMap],
        address: u64,
        back: u64,
    ) -> Option<String> {
        let map = map_of(maps, address)?;
        let MMapPath::Path(path) = &map.pathname else { return None };
        let file = path.file_name().unwrap_or(OsStr::new("?")).to_string_lossy();
        let file = cut(file.strip_suffix(" (deleted)").unwrap_or(&file));
        let offset = address.checked_sub(map.address.0)?.checked_add(map.offset)?;
        let functions = self.functions(&mapped_file(pid, map))?;
        let Some(at) = functions.address(offset) else {
            return Some(format!("0x{offset:x} ({file})"));
        };
        Some(match functions.at(at.saturating_sub(back)) {
            Some(function) => {
                format!("{}+0x{:x} ({file})", function.name, at - function.start)
            }
            None => format!("0x{at:x} ({file})"),
        })
    }

    /// The functions of a mapped file, read when it is met first.
    fn functions(&mut self, path: &Path) -> Option<&Functions> {
        let metadata = path.metadata().ok()?;
        let id = (metadata.dev(), metadata.ino(), metadata.len());
        if !self.files.contains_key(&id) {
            if self.files.len() >= MAX_FILES {
                return None;
            }
            let room = MAX_SYMBOLS - self.symbols;
            // anything but a file may do something when it is opened
            let read = if metadata.is_file() { Functions::read(path, room) } else { None };
            let functions = read.unwrap_or_default();
            self.symbols += functions.functions.len();
            self.files.insert(id, functions);
        }
        self.files.get(&id)
    }
}

impl Functions {
    /// Reads at most `room` functions of an ELF file.
    fn read(path: &Path, room: usize) -> Option<Self> {
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
        if bytes.len() as u64 > MAX_FILE {
            return None;
        }
        let elf = object::File::parse(bytes.as_slice()).ok()?;
        let segments = elf.segments().map(|segment| {
            let (offset, len) = segment.file_range();
            Segment { offset, len, address: segment.address() }
        });
        let mut functions: Vec<Function> = elf
            .symbols()
            .chain(elf.dynamic_symbols())
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
            .filter_map(|symbol| {
                let name = String::from_utf8_lossy(symbol.name_bytes().ok()?);
                let (start, len) = (symbol.address(), symbol.size());
                (!name.is_empty()).then(|| Function { start, len, name: cut(&name).into() })
            })
            .take(room)
            .collect();
        functions.sort_by(|a, b| (a.start, a.len, &a.name).cmp(&(b.start, b.len, &b.name)));
        functions.dedup_by(|a, b| (a.start, &a.name) == (b.start, &b.name));
        Some(Functions { segments: segments.take(64).collect(), functions })
    }

    /// The address that the file gives to what is at an offset in it.
    fn address(&self, offset: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| {
            offset.checked_sub(segment.offset).is_some_and(|inner| inner < segment.len)
        })?;
        (offset - segment.offset).checked_add(segment.address)
    }

    /// The function around an address; of several names that it has, the first.
    fn at(&self, address: u64) -> Option<&Function> {
        let end = self.functions.partition_point(|function| function.start <= address);
        let start = self.functions[..end].last()?.start;
        let first = self.functions[..end].partition_point(|function| function.start < start);
        // hand-written assembly may not say how long it is
        self.functions[first..end]
            .iter()
            .find(|function| function.len == 0 || address - start < function.len)
    }
}

/// The executable mapping around an address.
fn map_of(maps: &[MemoryMap], address: u64) -> Option<&MemoryMap> {
    maps.iter().find(|map| {
        (map.address.0..map.address.1).contains(&address)
            && map.perms.contains(MMPermissions::EXECUTE)
    })
}

/// The mapped file itself, whatever its path leads to by now, in whatever mount namespace.
fn mapped_file(pid: i32, map: &MemoryMap) -> PathBuf {
    let (start, end) = map.address;
    PathBuf::from(format!("/proc/{pid}/map_files/{start:x}-{end:x}"))
}

/// What is kept of a name: no control characters, nothing that reorders a line, and not all if it is long.
fn cut(name: &str) -> String {
    let mut kept = String::new();
    for c in name.chars() {
        let shown = if c.is_ascii_graphic() || c.is_alphanumeric() { c } else { '?' };
        if kept.len() + shown.len_utf8() > MAX_NAME {
            break;
        }
        kept.push(shown);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn here(addresses: &[u64]) -> Option<Vec<String>> {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let program = Process::new(pid).and_then(|one| one.stat()).expect("stat").startstack;
        Symboliser::default().names(&Frames { pid, program, top: 0, addresses })
    }

    #[test]
    fn functions_of_this_program_have_their_names() {
        let address = here as *const () as usize as u64;
        let libc = libc::getpid as *const () as usize as u64;
        let names = here(&[address + 1, libc + 1, 8]).expect("this process lives");
        assert!(names[0].contains("symbolise") && names[0].contains("+0x1 ("), "{names:?}");
        assert!(names[1].contains("getpid+0x"), "{names:?}");
        assert_eq!(names[2], UNKNOWN);
    }

    #[test]
    fn another_program_is_not_named() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let frames = Frames { pid, program: 1, top: 0, addresses: &[8] };
        assert_eq!(Symboliser::default().names(&frames), None);
    }

    #[test]
    fn a_bad_file_has_no_functions() {
        let me = std::fs::read("/proc/self/exe").expect("reads");
        let file = tempfile::NamedTempFile::new().expect("a file");
        // section headers and tables gone, then what they say overwritten
        for len in [0, 1, 64, 4096, me.len() / 2] {
            std::fs::write(file.path(), &me[..len]).expect("writes");
            let read = Functions::read(file.path(), 10).unwrap_or_default();
            assert!(read.functions.len() <= 10);
        }
        let mut bad = me[..1 << 16].to_vec();
        bad[32..64].fill(0xff);
        std::fs::write(file.path(), &bad).expect("writes");
        assert!(Functions::read(file.path(), 10).is_none_or(|read| read.functions.is_empty()));
    }

    #[test]
    fn names_are_bounded_and_plain() {
        assert_eq!(cut("a\x1b[31m\u{202e}b c"), "a?[31m?b?c");
        assert_eq!(cut(&"\u{e9}".repeat(4096)).len(), MAX_NAME);
    }
}
