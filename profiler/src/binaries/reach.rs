//! Which functions of a program's files can run: from its entry, from what stands in data, and along every reference.
//!
//! Over-approximates: a function whose address is taken by code that can run, or that no code refers to, can run.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::binaries::{
    callees::ends,
    code::{Code, Edge, Use},
    elf::{Elf, ElfError},
    errors::{Errors, Finder},
};

/// A file, read and decoded.
#[derive(Debug)]
pub struct Module {
    /// Its path inside the root.
    pub path: String,
    /// What the file says.
    pub elf: Elf,
    /// What its code says.
    pub code: Code,
    /// Exported names by address.
    exported: BTreeMap<u64, Vec<String>>,
}

/// Why a file is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The executable.
    Program,
    /// The dynamic linker, or an interpreter's extension: all that it exports may be called.
    Always,
    /// Needed by another file: it runs where others refer to it.
    Needed(usize),
    /// Its name, or its directory's, stands in a file, in reach of a function: loaded at run time, all that it exports
    /// may be called.
    Named(usize, usize),
}

/// A file of a program.
#[derive(Debug, Clone)]
pub struct Part {
    /// The file.
    pub module: Arc<Module>,
    /// Why it is there; never empty.
    pub causes: BTreeSet<Cause>,
}

/// How far the analysis goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every function of every file.
    Files,
    /// The functions that can be reached.
    Functions,
}

/// The files of one program, and what can run in them.
#[derive(Debug)]
pub struct Files {
    parts: Vec<Part>,
    depth: Depth,
    /// What is left out.
    errors: Errors,
    /// By file and function.
    reached: Vec<Vec<bool>>,
    /// Files that are loaded; and of which all exports may be called.
    loaded: Vec<bool>,
    whole: Vec<bool>,
    /// By file, functions that are called from outside of the code that is read.
    open: Vec<HashSet<usize>>,
    /// By file, exported functions that data or dlsym refers to by name.
    asked: Vec<HashSet<usize>>,
}

impl Module {
    /// Reads and decodes a file.
    ///
    /// # Errors
    /// When it is none that can be analysed.
    pub fn read(path: &str, bytes: Vec<u8>) -> Result<Self, ElfError> {
        Ok(Self::of(path, Elf::read(bytes)?))
    }

    /// Decodes a file that was read.
    #[must_use]
    pub fn of(path: &str, elf: Elf) -> Self {
        let code = Code::read(&elf);
        let mut exported: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (name, addresses) in &elf.exports {
            for address in addresses {
                exported.entry(*address).or_default().push(name.clone());
            }
        }
        Self { path: path.to_owned(), elf, code, exported }
    }

    fn exports_at(&self, address: u64) -> bool {
        self.exported.contains_key(&address)
    }
}

impl Files {
    /// Finds what can run.
    #[must_use]
    pub fn new(parts: Vec<Part>, depth: Depth) -> Self {
        Self::leaving_out(parts, depth, Errors::default(), None)
    }

    /// The same, without what runs only when something has failed.
    #[must_use]
    pub fn without_errors(&self) -> Self {
        let errors = match self.depth {
            Depth::Files => Errors::default(),
            Depth::Functions => Finder::find(self),
        };
        Self::leaving_out(self.parts.clone(), self.depth, errors, Some(self.asked.clone()))
    }

    fn leaving_out(
        parts: Vec<Part>,
        depth: Depth,
        errors: Errors,
        asked: Option<Vec<HashSet<usize>>>,
    ) -> Self {
        let mut files = Self {
            depth,
            errors,
            reached: parts.iter().map(|p| vec![false; p.module.code.functions.len()]).collect(),
            loaded: vec![false; parts.len()],
            whole: vec![false; parts.len()],
            open: Vec::new(),
            asked: Vec::new(),
            parts,
        };
        files.asked = asked.unwrap_or_else(|| files.asked_by_name());
        Reach::new(&files.parts).follow(&mut files, depth);
        let open = |file| {
            let taken = files.code(file).taken.iter().copied();
            files.roots(file).chain(taken).collect()
        };
        files.open = (0..files.parts.len()).map(open).collect();
        files
    }

    /// The files.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(super) fn elf(&self, file: usize) -> &Elf {
        &self.parts[file].module.elf
    }

    pub(super) fn code(&self, file: usize) -> &Code {
        &self.parts[file].module.code
    }

    /// Bytes of an address.
    pub(super) fn word(&self, file: usize) -> i64 {
        i64::from(self.elf(file).bits / 8)
    }

    /// Whether a function can run.
    #[must_use]
    pub fn is_reached(&self, file: usize, function: usize) -> bool {
        self.reached[file][function]
    }

    /// Whether what stands at an address of a function is left out.
    pub(super) fn is_left_out(&self, file: usize, function: usize, address: u64) -> bool {
        self.errors.is_error(file, function, address)
    }

    /// Whether a function can be called from where the analysis does not see it: by the kernel, by a pointer, by the
    /// dynamic linker, by name at run time.
    pub(super) fn is_open(&self, file: usize, function: usize) -> bool {
        self.open[file].contains(&function)
    }

    /// Whether an address is entered from another function.
    pub(super) fn is_entered(&self, file: usize, address: u64) -> bool {
        let module = &self.parts[file].module;
        module.code.incoming.contains_key(&address) || module.exported.contains_key(&address)
    }

    /// From where an address is entered: each file and reference.
    pub(super) fn sources(&self, file: usize, address: u64) -> Vec<(usize, Use)> {
        let module = &self.parts[file].module;
        let local = module.code.incoming.get(&address).into_iter().flatten();
        let mut sources: Vec<(usize, Use)> =
            local.map(|address| (file, Use { address: *address, transfer: true })).collect();
        for name in module.exported.get(&address).into_iter().flatten() {
            for (index, other) in self.parts.iter().enumerate() {
                let uses = other.module.code.uses.get(name).into_iter().flatten();
                sources.extend(uses.map(|used| (index, *used)));
            }
        }
        sources
    }

    /// The functions of a loaded file that are called from outside of the code that is read; but for those whose address
    /// code takes, which can run where that code can.
    fn roots(&self, file: usize) -> impl Iterator<Item = usize> {
        let Part { module, causes } = &self.parts[file];
        let (elf, code) = (&module.elf, &module.code);
        let pointers = elf.pointers.iter().filter_map(|address| code.starts(*address));
        let runs_first = causes.contains(&Cause::Program) || causes.contains(&Cause::Always);
        let entry = code.function(elf.entry).filter(|_| runs_first);
        let exports = module.exported.keys().filter_map(|address| code.function(*address));
        let unreferenced = code.unreferenced.iter().copied();
        let unreferenced = unreferenced.filter(|f| !module.exports_at(code.functions[*f].start));
        let asked = self.asked[file].iter().copied();
        let whole = self.whole[file];
        pointers.chain(entry).chain(exports.filter(move |_| whole)).chain(unreferenced).chain(asked)
    }

    /// Exported functions whose address the dynamic linker writes into data, or whose name stands as text in a program
    /// that asks for symbols by name (dlsym).
    fn asked_by_name(&self) -> Vec<HashSet<usize>> {
        let modules = || self.parts.iter().map(|part| &part.module);
        let mut names: HashSet<&str> =
            modules().flat_map(|m| &m.elf.pointed).map(String::as_str).collect();
        let exported: HashSet<&str> =
            modules().flat_map(|m| m.elf.exports.keys()).map(String::as_str).collect();
        let asks =
            |m: &&Arc<Module>| ["dlsym", "dlvsym"].iter().any(|n| m.code.uses.contains_key(*n));
        for module in modules().filter(asks) {
            let taken = module.code.data.iter().map(|(address, _)| *address);
            let texts = taken.chain(module.elf.references.iter().copied());
            let texts = texts.filter_map(|address| module.elf.string(address));
            names.extend(texts.filter(|text| exported.contains(text)));
        }
        let of = |module: &Arc<Module>| {
            let asked =
                |(_, own): &(&u64, &Vec<String>)| own.iter().any(|n| names.contains(n.as_str()));
            let addresses = module.exported.iter().filter(asked).map(|(address, _)| *address);
            addresses.filter_map(|address| module.code.function(address)).collect()
        };
        modules().map(of).collect()
    }
}

/// The work list, and what waits for something to be reached.
struct Reach {
    exports: HashMap<String, Vec<(usize, usize)>>,
    /// Files that are loaded with another.
    needed: HashMap<usize, Vec<usize>>,
    /// Files that a function may load.
    named: HashMap<(usize, usize), Vec<usize>>,
    functions: Vec<(usize, usize)>,
}

impl Reach {
    fn new(parts: &[Part]) -> Self {
        let mut reach = Self {
            exports: HashMap::new(),
            needed: HashMap::new(),
            named: HashMap::new(),
            functions: Vec::new(),
        };
        for (file, Part { module, causes }) in parts.iter().enumerate() {
            for (address, names) in &module.exported {
                let Some(function) = module.code.function(*address) else { continue };
                for name in names {
                    reach.exports.entry(name.clone()).or_default().push((file, function));
                }
            }
            for cause in causes {
                match cause {
                    Cause::Program | Cause::Always => {}
                    Cause::Needed(by) => reach.needed.entry(*by).or_default().push(file),
                    Cause::Named(by, function) => {
                        reach.named.entry((*by, *function)).or_default().push(file);
                    }
                }
            }
        }
        reach
    }

    fn follow(&mut self, files: &mut Files, depth: Depth) {
        for file in 0..files.parts.len() {
            let causes = &files.parts[file].causes;
            let always = causes.contains(&Cause::Always);
            if always || causes.contains(&Cause::Program) || depth == Depth::Files {
                self.load(files, file, always, depth);
            }
        }
        let is_end = |part: &Part| part.module.code.names.iter().map(|name| ends(name)).collect();
        let ends: Vec<Vec<bool>> = match files.errors.is_empty() {
            true => Vec::new(),
            false => files.parts.iter().map(is_end).collect(),
        };
        while let Some((file, function)) = self.functions.pop() {
            if std::mem::replace(&mut files.reached[file][function], true) {
                continue;
            }
            for named in self.named.remove(&(file, function)).unwrap_or_default() {
                self.load(files, named, true, depth);
            }
            let code = &files.parts[file].module.code;
            let edges = files.errors.edges(file, function);
            for edge in edges.unwrap_or(&code.edges[function]) {
                match edge {
                    Edge::Local(callee) if files.errors.always_ends(file, *callee as usize) => {}
                    Edge::Local(callee) => self.functions.push((file, *callee as usize)),
                    Edge::Import(name) if ends.get(file).is_some_and(|e| e[*name as usize]) => {}
                    Edge::Import(name) => {
                        let name = code.names[*name as usize].as_str();
                        self.functions.extend(self.exports.get(name).into_iter().flatten());
                    }
                }
            }
        }
    }

    fn load(&mut self, files: &mut Files, file: usize, whole: bool, depth: Depth) {
        // what is needed as well is known by the names that others refer to, or ask for by dlsym
        let whole =
            whole && !files.parts[file].causes.iter().any(|c| matches!(c, Cause::Needed(_)));
        let was = std::mem::replace(&mut files.loaded[file], true);
        if was && (!whole || files.whole[file]) {
            return;
        }
        files.whole[file] |= whole;
        let module = &files.parts[file].module;
        // imports of ia32 code are not followed
        if depth == Depth::Files || module.elf.bits == 32 {
            self.functions.extend((0..module.code.functions.len()).map(|f| (file, f)));
        } else {
            self.functions.extend(files.roots(file).map(|function| (file, function)));
        }
        for needed in self.needed.get(&file).cloned().unwrap_or_default() {
            self.load(files, needed, false, depth);
        }
    }
}
