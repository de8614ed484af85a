//! Which files a program consists of: what the dynamic linker would load, found inside the root as it finds them, and
//! what the program may load at run time, as far as names in its files tell.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::binaries::{
    reach::{Cause, Module, Part},
    rootfs::{Id, Rootfs},
};

/// Where a program without a slash in its name is looked for.
const PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Where libraries are looked for at last.
const DEFAULT: [&str; 10] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/local/lib/x86_64-linux-gnu",
    "/lib/i386-linux-gnu",
    "/usr/lib/i386-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/local/lib",
    "/usr/lib",
];
/// The dynamic linker's index of libraries.
const CACHE: &str = "/etc/ld.so.cache";
/// Programs whose extension modules are found by a search at run time; these lie below a directory whose name starts so.
const INTERPRETERS: [&str; 7] = ["python", "perl", "ruby", "php", "node", "lua", "tcl"];
/// Files of one program.
const MAX_FILES: usize = 4096;
/// Bytes of all files together that are kept.
const MAX_BYTES: u64 = 4 << 30;
/// Scripts that are interpreted by scripts.
const MAX_SCRIPTS: usize = 4;

/// A program that was looked for.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Its files, the executable first; none when it is not there or cannot be read.
    pub files: Vec<Part>,
    /// What was looked for and is not there, or cannot be analysed: the name and why.
    pub unread: BTreeMap<String, String>,
    /// For a script, the programs that run it, to be looked at as well.
    pub interpreters: Vec<String>,
}

/// Loads programs, and keeps the files that they share.
pub struct Loader<'a> {
    rootfs: &'a Rootfs,
    modules: HashMap<Id, Result<Arc<Module>, String>>,
    cache: Option<HashMap<String, Vec<String>>>,
    /// Bytes that may still be kept.
    left: u64,
}

impl<'a> Loader<'a> {
    /// A loader for a root.
    #[must_use]
    pub fn new(rootfs: &'a Rootfs) -> Self {
        Self::with_room(rootfs, MAX_BYTES)
    }

    fn with_room(rootfs: &'a Rootfs, left: u64) -> Self {
        Self { rootfs, modules: HashMap::new(), cache: None, left }
    }

    /// The path of a program, looked for as a shell does when it has no slash.
    #[must_use]
    pub fn which(&self, program: &str) -> Option<String> {
        if program.contains('/') {
            return self.rootfs.find(program).map(|_| program.to_owned());
        }
        let candidates = PATH.iter().map(|dir| format!("{dir}/{program}"));
        candidates.into_iter().find(|path| self.rootfs.find(path).is_some())
    }

    /// Loads a program with all that it may load.
    pub fn load(&mut self, program: &str) -> Loaded {
        let mut loaded = Loaded::default();
        let Some(path) = self.which(program) else {
            loaded.unread.insert(program.to_owned(), "not there".to_owned());
            return loaded;
        };
        loaded.interpreters = self.interpreters(&path);
        if !loaded.interpreters.is_empty() {
            return loaded;
        }
        let mut search = Search::default();
        self.add(&path, &[Cause::Program], &mut loaded, &mut search);
        let Some(bits) = loaded.files.first().map(|main| main.module.elf.bits) else {
            return loaded;
        };
        search.bits = bits;
        if let Some(interpreter) = loaded.files[0].module.elf.interpreter.clone() {
            self.add(&interpreter, &[Cause::Always], &mut loaded, &mut search);
        }
        for extension in self.extensions(&path) {
            self.add(&extension, &[Cause::Always], &mut loaded, &mut search);
        }
        let mut done = 0;
        while let Some(Part { module, .. }) = loaded.files.get(done).cloned() {
            for name in &module.elf.needed {
                self.need(name, &module, done, &mut loaded, &mut search);
            }
            self.named(&module, done, &mut loaded, &mut search);
            done += 1;
            if loaded.files.len() >= MAX_FILES {
                loaded.unread.insert(path.clone(), format!("more than {MAX_FILES} files"));
                break;
            }
        }
        loaded
    }

    /// The programs that run a script; none for anything else.
    fn interpreters(&self, path: &str) -> Vec<String> {
        let mut programs = Vec::new();
        let mut path = path.to_owned();
        for _ in 0..MAX_SCRIPTS {
            let head = self.rootfs.head(&path, 256).unwrap_or_default();
            let Some(line) = head.strip_prefix(b"#!") else { break };
            let line =
                String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or(line));
            let mut words = line.split_whitespace();
            let Some(program) = words.next() else { break };
            programs.push(program.to_owned());
            path = program.to_owned();
            if program.ends_with("/env")
                && let Some(real) = words.find(|w| !w.starts_with('-') && !w.contains('='))
            {
                programs.push(real.to_owned());
                path = self.which(real).unwrap_or_default();
            }
        }
        programs
    }

    /// Extension modules of an interpreter, wherever they lie in the root.
    fn extensions(&self, program: &str) -> Vec<String> {
        let real = self.rootfs.find(program).map_or_else(|| program.to_owned(), |(_, real)| real);
        let is =
            |kind: &&&str| [program, &real].iter().any(|path| file_name(path).starts_with(**kind));
        let Some(kind) = INTERPRETERS.iter().find(is) else { return Vec::new() };
        self.rootfs.walk("/", &|path| {
            let (dir, name) = path.rsplit_once('/').unwrap_or_default();
            (name.ends_with(".so") || name.ends_with(".node"))
                && dir.split('/').any(|part| part.starts_with(kind))
        })
    }

    fn add(
        &mut self,
        path: &str,
        causes: &[Cause],
        loaded: &mut Loaded,
        search: &mut Search,
    ) -> Option<usize> {
        let (id, real) = self.rootfs.find(path)?;
        if let Some(index) = search.have.get(&id) {
            loaded.files[*index].causes.extend(causes);
            return Some(*index);
        }
        let rootfs = self.rootfs;
        if !self.modules.contains_key(&id) && rootfs.size(path).is_some_and(|it| it > self.left) {
            loaded.unread.insert(real, "the files are too large together".to_owned());
            return None;
        }
        let left = &mut self.left;
        let read = self.modules.entry(id).or_insert_with(|| {
            let bytes = rootfs.read(path).ok_or_else(|| "cannot be read".to_owned())?;
            let size = bytes.len() as u64;
            let module = Module::read(&real, bytes).map_err(|error| error.to_string())?;
            *left = left.saturating_sub(size);
            Ok(Arc::new(module))
        });
        match read {
            Ok(module) if search.bits == 0 || module.elf.bits == search.bits => {
                let index = loaded.files.len();
                search.have.insert(id, index);
                let names = [Some(file_name(path).to_owned()), module.elf.soname.clone()];
                search.names.extend(names.into_iter().flatten().map(|name| (name, vec![index])));
                let causes = causes.iter().copied().collect();
                loaded.files.push(Part { module: Arc::clone(module), causes });
                Some(index)
            }
            Err(error) if causes == [Cause::Program] => {
                loaded.unread.insert(real, error.clone());
                None
            }
            // a linker script, or a library for another machine: the search goes on
            _ => None,
        }
    }

    /// Finds what a file needs, as the dynamic linker does.
    fn need(
        &mut self,
        name: &str,
        by: &Module,
        file: usize,
        loaded: &mut Loaded,
        search: &mut Search,
    ) {
        let cause = [Cause::Needed(file)];
        if let Some(known) = search.names.get(name) {
            for index in known {
                loaded.files[*index].causes.extend(cause);
            }
            return;
        }
        let mut found = Vec::new();
        if name.contains('/') {
            found.extend(self.add(name, &cause, loaded, search));
        } else {
            // DT_RPATH holds for what is needed further on, and that of the program for all
            let mut dirs: Vec<String> = directories(by).collect();
            let mut above = Some(file);
            while let Some(needing) = above.and_then(|file| search.needed_by.get(&file).copied()) {
                dirs.extend(inherited(&loaded.files[needing].module));
                above = Some(needing);
            }
            dirs.extend(inherited(&loaded.files[0].module));
            let mut dirs = dirs.into_iter();
            let mut in_dir =
                |dir: String| self.add(&format!("{dir}/{name}"), &cause, loaded, search);
            found.extend(dirs.find_map(&mut in_dir));
            if found.is_empty() {
                // more than one for one name: for processors with more instructions
                for path in self.cached(name) {
                    found.extend(self.add(&path, &cause, loaded, search));
                }
            }
            if found.is_empty() {
                let mut in_dir = |dir| self.add(&format!("{dir}/{name}"), &cause, loaded, search);
                found.extend(DEFAULT.iter().find_map(&mut in_dir));
            }
        }
        if found.is_empty() {
            let why = format!("needed by {}: not there, or cannot be analysed", by.path);
            loaded.unread.insert(name.to_owned(), why);
        }
        for index in &found {
            // a file needs others only after it was added itself: no circles
            if *index > file {
                search.needed_by.entry(*index).or_insert(file);
            }
        }
        search.names.insert(name.to_owned(), found);
    }

    /// Adds what a file may load at run time: libraries whose names stand in it, and those in the directories whose
    /// names stand in it. The C library's name services are found by names that it puts together.
    fn named(&mut self, module: &Module, file: usize, loaded: &mut Loaded, search: &mut Search) {
        let soname = module.elf.soname.as_deref().unwrap_or_default();
        for (address, text) in module.elf.strings() {
            let name = file_name(text);
            let mut paths = Vec::new();
            if text.starts_with('/') {
                if !DEFAULT.contains(&text.trim_end_matches('/')) {
                    paths.extend(self.libraries(text, search));
                }
                paths.push(text.to_owned());
            } else if name.ends_with(".so") || name.contains(".so.") {
                paths.extend(DEFAULT.iter().map(|dir| format!("{dir}/{text}")));
            }
            if text.starts_with("libnss_") && text.contains('%') {
                for dir in DEFAULT {
                    let service = |path: &String| file_name(path).starts_with("libnss_");
                    paths.extend(self.libraries(dir, search).into_iter().filter(service));
                }
            }
            if paths.is_empty() || text == soname {
                continue;
            }
            let mut causes: Vec<Cause> =
                module.code.takers(address).map(|function| Cause::Named(file, function)).collect();
            if causes.is_empty() {
                // by a table in data
                causes.push(Cause::Always);
            }
            for path in paths {
                if file_name(&path).contains(".so") {
                    self.add(&path, &causes, loaded, search);
                }
            }
        }
    }

    /// The libraries in a directory.
    fn libraries(&self, dir: &str, search: &mut Search) -> Vec<String> {
        let list = || {
            let names = self.rootfs.list(dir).into_iter().map(|(name, _)| name);
            let libraries = names.filter(|name| name.ends_with(".so") || name.contains(".so."));
            libraries.map(|name| format!("{}/{name}", dir.trim_end_matches('/'))).collect()
        };
        search.dirs.entry(dir.to_owned()).or_insert_with(list).clone()
    }

    fn cached(&mut self, name: &str) -> Vec<String> {
        let rootfs = self.rootfs;
        let cache =
            self.cache.get_or_insert_with(|| read_cache(&rootfs.read(CACHE).unwrap_or_default()));
        cache.get(name).cloned().unwrap_or_default()
    }
}

#[derive(Default)]
struct Search {
    bits: u32,
    have: HashMap<Id, usize>,
    /// Files by the names that they are needed by.
    names: HashMap<String, Vec<usize>>,
    /// Which file needed a file first.
    needed_by: HashMap<usize, usize>,
    /// Libraries by directory.
    dirs: HashMap<String, Vec<String>>,
}

fn inherited(module: &Module) -> impl Iterator<Item = String> {
    directories(module).filter(|_| module.elf.inherited)
}

/// The directories that a file names for what it needs.
fn directories(module: &Module) -> impl Iterator<Item = String> {
    let origin = module.path.rsplit_once('/').map_or("/", |(dir, _)| dir).to_owned();
    module.elf.search.iter().filter(|dir| !dir.is_empty()).map(move |dir| {
        let dir = dir.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
        dir.replace("$LIB", "lib/x86_64-linux-gnu").replace("${LIB}", "lib/x86_64-linux-gnu")
    })
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// glibc's `ld.so.cache`, in the format since 2.2: paths by name.
fn read_cache(bytes: &[u8]) -> HashMap<String, Vec<String>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    let mut paths: HashMap<String, Vec<String>> = HashMap::new();
    let Some(start) = bytes.windows(MAGIC.len()).position(|part| part == MAGIC) else {
        return paths;
    };
    let table = &bytes[start..];
    let number = |at: usize| {
        let bytes = table.get(at..at.checked_add(4)?)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let string = |at: usize| {
        let rest = table.get(at..)?;
        let end = rest.iter().take(4096).position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok().map(str::to_owned)
    };
    for index in 0..number(MAGIC.len()).unwrap_or(0).min(1 << 16) {
        let entry = 48 + 24 * index;
        if let (Some(name), Some(path)) =
            (number(entry + 4).and_then(string), number(entry + 8).and_then(string))
        {
            paths.entry(name).or_default().push(path);
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_file_that_there_is_no_room_for_is_a_named_gap() {
        let rootfs = Rootfs::open(Path::new("/")).expect("opens");
        let own = std::fs::read_link("/proc/self/exe").expect("a path");
        let own = own.to_str().expect("UTF-8");
        let loaded = Loader::with_room(&rootfs, 1000).load(own);
        assert!(loaded.files.is_empty());
        let gaps: Vec<_> = loaded.unread.into_iter().collect();
        assert_eq!(gaps, [(own.to_owned(), "the files are too large together".to_owned())]);
    }
}
