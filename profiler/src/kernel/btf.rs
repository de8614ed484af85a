//! A small reader of the kernel's BTF: enough to find a field's offset, a function's parameters, and whether a type exists.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>. Bytes come from the caller; nothing is loaded here.

use std::collections::HashMap;

use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const MAX_DEPTH: u32 = 16;

/// Why BTF could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// Not BTF at all, or another byte order.
    #[error("not BTF of this machine's byte order")]
    Magic,
    /// Ends in the middle of something.
    #[error("BTF is cut short at byte {0}")]
    Truncated(usize),
    /// A kind this reader does not know the length of.
    #[error("BTF kind {0} is not known")]
    Kind(u32),
}

/// The types of one BTF blob, by position.
pub struct Btf<'a> {
    bytes: &'a [u8],
    strings: usize,
    /// Byte position of each type; index is the type id minus one.
    types: Vec<u32>,
    /// Where the name is and the id, of each type that has a name, by kind.
    named: HashMap<u32, Vec<(u32, u32)>>,
}

impl<'a> Btf<'a> {
    /// Indexes a blob such as `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// When the blob is not BTF, is cut short, or has a kind of unknown length.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let u16_at = |at: usize| {
            bytes
                .get(at..at + 2)
                .map(|b| u16::from_ne_bytes([b[0], b[1]]))
                .ok_or(BtfError::Truncated(at))
        };
        if u16_at(0)? != MAGIC {
            return Err(BtfError::Magic);
        }
        let header = u32_at(bytes, 4)? as usize;
        let types_at = header + u32_at(bytes, 8)? as usize;
        let types_end = types_at + u32_at(bytes, 12)? as usize;
        let strings = header + u32_at(bytes, 16)? as usize;
        let mut btf = Btf { bytes, strings, types: Vec::new(), named: HashMap::new() };
        let mut at = types_at;
        while at < types_end {
            btf.types.push(at as u32);
            let id = btf.types.len() as u32;
            let (name, info) = (u32_at(bytes, at)?, u32_at(bytes, at + 4)?);
            let (kind, vlen) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
            if name != 0 {
                btf.named.entry(kind).or_default().push((name, id));
            }
            at += 12
                + match kind {
                    1 | 14 | 17 => 4,          // INT, VAR, DECL_TAG
                    2 | 7..=12 | 16 | 18 => 0, // PTR, FWD, qualifiers, FUNC, FLOAT, TYPE_TAG
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | 15 | 19 => vlen * 12, // also DATASEC, ENUM64
                    KIND_ENUM | KIND_FUNC_PROTO => vlen * 8,
                    other => return Err(BtfError::Kind(other)),
                };
        }
        Ok(btf)
    }

    /// Whether the kernel has a tracepoint of that name that a `tp_btf` program can attach to.
    #[must_use]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.id(KIND_TYPEDEF, &tracepoint(name)).is_some()
    }

    /// A blob of the same types by id, up to the last that is wanted, in which only these tracepoints and functions are what they are, and any
    /// other type is a pointer without a name: enough to attach to them, for a reader that keeps in memory whatever it reads.
    #[must_use]
    pub fn only(&self, tracepoints: &[&str], functions: &[&str]) -> Vec<u8> {
        const HEADER: u32 = 24;
        const NAMELESS: [u32; 3] = [0, KIND_PTR << 24, 0];
        let mut strings = vec![0];
        let mut types = Vec::new();
        let tracepoints = tracepoints.iter().map(|name| (KIND_TYPEDEF, tracepoint(name)));
        let functions = functions.iter().map(|name| (KIND_FUNC, (*name).to_owned()));
        for (kind, name) in tracepoints.chain(functions) {
            if let Some(id) = self.id(kind, &name) {
                let len = types.len().max(id as usize);
                types.resize(len, NAMELESS);
                types[id as usize - 1] = [strings.len() as u32, kind << 24, 0];
                strings.extend(name.bytes().chain([0]));
            }
        }
        let types_len = (types.len() * size_of_val(&NAMELESS)) as u32;
        let header = [HEADER, 0, types_len, types_len, strings.len() as u32];
        let mut blob = [MAGIC.to_ne_bytes(), [1, 0]].concat();
        blob.extend(header.iter().flat_map(|word| word.to_ne_bytes()));
        blob.extend(types.iter().flatten().flat_map(|word| word.to_ne_bytes()));
        blob.extend(strings);
        blob
    }

    /// The names of a function's parameters, in order; empty for one without a name. `None` when the kernel has no
    /// such function, or its compiler changed it beyond description.
    #[must_use]
    pub fn parameters(&self, function: &str) -> Option<Vec<&'a str>> {
        let at = self.find(KIND_FUNC, function)?;
        let prototype = self.resolve(u32_at(self.bytes, at + 8).ok()?)?;
        let info = u32_at(self.bytes, prototype + 4).ok()?;
        if (info >> 24) & 0x1f != KIND_FUNC_PROTO {
            return None;
        }
        (0..(info & 0xffff) as usize)
            .map(|index| Some(self.string(u32_at(self.bytes, prototype + 12 + index * 8).ok()?)))
            .collect()
    }

    /// Whether an enumeration has a constant of that name.
    #[must_use]
    pub fn has_constant(&self, enumeration: &str, constant: &str) -> bool {
        let constants = |at: usize| {
            let len = u32_at(self.bytes, at + 4).unwrap_or(0) & 0xffff;
            (0..len as usize)
                .filter_map(move |index| u32_at(self.bytes, at + 12 + index * 8).ok())
                .map(|name| self.string(name))
        };
        self.find(KIND_ENUM, enumeration)
            .is_some_and(|at| constants(at).any(|name| name == constant))
    }

    /// The first type of that kind and name.
    fn id(&self, kind: u32, name: &str) -> Option<u32> {
        let strings = self.bytes.get(self.strings..)?;
        let name = [name.as_bytes(), &[0]].concat();
        // most differ in the first byte already, and there are tens of thousands
        let is_it = |(at, _): &&(u32, u32)| {
            let at = *at as usize;
            strings.get(at) == name.first() && strings[at..].starts_with(&name)
        };
        self.named.get(&kind)?.iter().find(is_it).map(|(_, id)| *id)
    }

    /// Byte position of that type.
    fn find(&self, kind: u32, name: &str) -> Option<usize> {
        self.position(self.id(kind, name)?)
    }

    fn position(&self, id: u32) -> Option<usize> {
        self.types.get(id.checked_sub(1)? as usize).map(|at| *at as usize)
    }

    /// Byte offset of a field, such as `thread_info.status` of `task_struct`. Anonymous members are
    /// searched, pointers are not followed. `None` when there is no such field, or it is a bit field.
    #[must_use]
    pub fn offset(&self, of: &str, field: &str) -> Option<u32> {
        let mut id = self.id(KIND_STRUCT, of)?;
        let mut offset = 0;
        for name in field.split('.') {
            let (at, member) = self.member(id, name, 0)?;
            offset += at;
            id = member;
        }
        Some(offset)
    }

    /// Bytes of a struct.
    #[must_use]
    pub fn size(&self, of: &str) -> Option<u32> {
        u32_at(self.bytes, self.find(KIND_STRUCT, of)? + 8).ok()
    }

    fn member(&self, id: u32, name: &str, depth: u32) -> Option<(u32, u32)> {
        let at = self.resolve(id)?;
        let info = u32_at(self.bytes, at + 4).ok()?;
        let kind = (info >> 24) & 0x1f;
        if !matches!(kind, KIND_STRUCT | KIND_UNION) || depth > MAX_DEPTH {
            return None;
        }
        let has_bitfields = info >> 31 == 1;
        for index in 0..(info & 0xffff) as usize {
            let member = at + 12 + index * 12;
            let member_name = self.string(u32_at(self.bytes, member).ok()?);
            let type_id = u32_at(self.bytes, member + 4).ok()?;
            let raw = u32_at(self.bytes, member + 8).ok()?;
            let (bits, bit_size) =
                if has_bitfields { (raw & 0x00ff_ffff, raw >> 24) } else { (raw, 0) };
            if member_name == name {
                return (bit_size == 0 && bits % 8 == 0).then_some((bits / 8, type_id));
            }
            if member_name.is_empty()
                && let Some((inner, found)) = self.member(type_id, name, depth + 1)
            {
                return Some((bits / 8 + inner, found));
            }
        }
        None
    }

    /// Position of a type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<usize> {
        for _ in 0..MAX_DEPTH {
            let at = self.position(id)?;
            let kind = (u32_at(self.bytes, at + 4).ok()? >> 24) & 0x1f;
            match kind {
                8..=11 | 18 => id = u32_at(self.bytes, at + 8).ok()?, // typedef, volatile, const, restrict, type tag
                _ => return Some(at),
            }
        }
        None
    }

    fn string(&self, offset: u32) -> &'a str {
        let tail = self.bytes.get(self.strings + offset as usize..).unwrap_or_default();
        let end = tail.iter().position(|byte| *byte == 0).unwrap_or(0);
        std::str::from_utf8(&tail[..end]).unwrap_or_default()
    }
}

/// The name of a tracepoint's type.
fn tracepoint(name: &str) -> String {
    format!("btf_trace_{name}")
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    bytes
        .get(at..at + 4)
        .map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
        .ok_or(BtfError::Truncated(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { u32 a; struct { u32 b; }; struct inner { u32 c; } inner; }` by hand.
    fn blob() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0inner\0c\0int\0btf_trace_x\0f\0ids\0ID_A\0";
        let at = |name: &str| {
            let needle = format!("\0{name}\0");
            strings.windows(needle.len()).position(|w| w == needle.as_bytes()).expect("present")
                as u32
                + 1
        };
        let mut types: Vec<u32> = Vec::new();
        types.extend([at("int"), 1 << 24, 4, 32]); // 1
        types.extend([0, (4 << 24) | 1, 4, at("b"), 1, 0]); // 2: anonymous
        types.extend([at("inner"), (4 << 24) | 1, 4, at("c"), 1, 0]); // 3
        types.extend([at("outer"), (4 << 24) | 3, 12]); // 4
        types.extend([at("a"), 1, 0, 0, 2, 32, at("inner"), 3, 64]);
        types.extend([at("btf_trace_x"), 8 << 24, 1]); // 5
        types.extend([0, (13 << 24) | 2, 1, at("a"), 1, at("b"), 1]); // 6: int (int a, int b)
        types.extend([at("f"), 12 << 24, 6]); // 7
        types.extend([at("ids"), (6 << 24) | 1, 4, at("ID_A"), 0]); // 8
        let types: Vec<u8> = types.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let mut blob = Vec::new();
        blob.extend(MAGIC.to_ne_bytes());
        blob.extend([1, 0]);
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            blob.extend(word.to_ne_bytes());
        }
        blob.extend(types);
        blob.extend(strings);
        blob
    }

    #[test]
    fn fields_are_found_through_anonymous_and_inner_structs() {
        let blob = blob();
        let btf = Btf::parse(&blob).expect("parses");
        assert_eq!(btf.offset("outer", "a"), Some(0));
        assert_eq!(btf.offset("outer", "b"), Some(4));
        assert_eq!(btf.offset("outer", "inner.c"), Some(8));
        assert_eq!(btf.offset("outer", "c"), None);
        assert_eq!(btf.offset("missing", "a"), None);
        assert_eq!((btf.size("outer"), btf.size("missing")), (Some(12), None));
        assert_eq!((btf.size("oute"), btf.size("")), (None, None), "the beginning of a name");
        assert!(btf.has_tracepoint("x") && !btf.has_tracepoint("y"));
    }

    #[test]
    fn functions_have_parameters_and_enumerations_constants() {
        let blob = blob();
        let btf = Btf::parse(&blob).expect("parses");
        assert_eq!(btf.parameters("f"), Some(vec!["a", "b"]));
        assert_eq!(btf.parameters("ids"), None, "not a function");
        assert_eq!(btf.parameters("g"), None);
        assert!(btf.has_constant("ids", "ID_A"));
        assert!(!btf.has_constant("ids", "ID_B") && !btf.has_constant("f", "ID_A"));
    }

    #[test]
    fn what_is_kept_keeps_its_id() {
        let blob = blob();
        let whole = Btf::parse(&blob).expect("parses");
        let blob = whole.only(&["x", "none"], &["f", "none"]);
        let only = Btf::parse(&blob).expect("parses");
        assert_eq!(only.types.len(), 7, "what comes after `f` is left out");
        for (kind, name) in [(KIND_TYPEDEF, "btf_trace_x"), (KIND_FUNC, "f")] {
            assert!(only.id(kind, name).is_some(), "{name}");
            assert_eq!(only.id(kind, name), whole.id(kind, name), "{name}");
        }
        assert!(!only.has_constant("ids", "ID_A") && only.size("outer").is_none());
    }

    #[test]
    fn every_truncation_is_an_error_or_a_smaller_blob_but_never_a_panic() {
        let blob = blob();
        for end in 0..blob.len() {
            if let Ok(btf) = Btf::parse(&blob[..end]) {
                let _ = btf.offset("outer", "inner.c");
                let _ = (btf.parameters("f"), btf.has_constant("ids", "ID_B"));
            }
        }
        assert_eq!(Btf::parse(b"ELF").err(), Some(BtfError::Magic));
    }
}
