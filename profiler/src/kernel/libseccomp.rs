//! The machine's libseccomp: what it compiles a seccomp file to, and that loaded.
//!
//! It is opened when it is wanted, so that building and recording need none. Which rules it gets is
//! `model::effective`'s knowledge; nothing here decides. With `observe/ebpf` the only part of the library with
//! `unsafe`: the calls into a C library, whose types are written down here once, after
//! <https://github.com/seccomp/libseccomp/blob/v2.5.4/include/seccomp.h.in>.

#![expect(unsafe_code, reason = "calls into a C library")]

use std::{
    collections::BTreeSet,
    ffi::{CString, c_char, c_int, c_uint, c_void},
    fs::File,
    io::{self, Read as _, Seek as _},
    os::fd::AsRawFd as _,
    ptr::NonNull,
};

use libloading::Library;
use rustix::fs::{MemfdFlags, memfd_create};
use thiserror::Error;

use crate::model::{
    bpf::{self, Program, ProgramError},
    effective::{self, Context},
    lint::libseccomp::Version,
    seccomp::{Arg, Op, SeccompFile},
};

/// What the dynamic linker is asked for.
const NAME: &str = "libseccomp.so.2";

/// `__NR_SCMP_ERROR`: nobody knows the name.
const UNKNOWN: c_int = -1;

/// `enum scmp_filter_attr`.
const NO_NEW_PRIVILEGES: c_int = 3;
const TSYNC: c_int = 4;
const LOG: c_int = 6;
const SPEC_ALLOW: c_int = 7;
const WAIT_KILLABLE: c_int = 10;

/// Why a filter could not be compiled or loaded.
#[derive(Debug, Error)]
pub enum LibseccompError {
    /// The library is not there, or cannot be used.
    #[error("cannot open `{NAME}`\nhint: apt-get install libseccomp2")]
    Open(#[source] libloading::Error),
    /// It lacks a function.
    #[error("`{NAME}` has no function `{name}`\nhint: apt-get install libseccomp2")]
    Function {
        /// Its name.
        name: &'static str,
        /// The cause.
        #[source]
        source: libloading::Error,
    },
    /// It does not take the default action.
    #[error("libseccomp takes no default action `{0}`")]
    Default(effective::Outcome),
    /// It does not know an architecture, or not beside the others.
    #[error("libseccomp takes no architecture `{name}`")]
    Architecture {
        /// As the file spells it.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It refuses a rule.
    #[error("libseccomp takes no rule `{outcome}` for `{name}`")]
    Rule {
        /// The call.
        name: String,
        /// What should happen to it.
        outcome: effective::Outcome,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It or its kernel does not know a flag.
    #[error("libseccomp takes no flag `{name}`")]
    Flag {
        /// As the file spells it.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The compiled filter could not be read.
    #[error("cannot read the filter that libseccomp compiled")]
    Export(#[source] io::Error),
    /// The compiled filter is none.
    #[error("libseccomp compiled a filter that cannot be followed")]
    Program(#[from] ProgramError),
    /// The kernel did not take the filter.
    #[error("cannot load the seccomp filter")]
    Load(#[source] io::Error),
}

/// A filter, and what its file has and it has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// What the kernel gets. What runc puts before it is no part of it.
    pub program: Program,
    /// The names that this libseccomp does not know; runtimes leave their rules out.
    pub unknown: BTreeSet<String>,
}

/// `struct scmp_version`.
#[repr(C)]
struct RawVersion {
    major: c_uint,
    minor: c_uint,
    micro: c_uint,
}

/// `struct scmp_arg_cmp`.
#[repr(C)]
struct Comparison {
    arg: c_uint,
    op: c_int,
    value: u64,
    value_two: u64,
}

/// The library, with those of its functions that are used.
#[derive(Debug)]
pub struct Libseccomp {
    version: unsafe extern "C" fn() -> *const RawVersion,
    init: unsafe extern "C" fn(u32) -> *mut c_void,
    release: unsafe extern "C" fn(*mut c_void),
    arch_resolve_name: unsafe extern "C" fn(*const c_char) -> u32,
    arch_native: unsafe extern "C" fn() -> u32,
    arch_add: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    arch_remove: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    attr_set: unsafe extern "C" fn(*mut c_void, c_int, u32) -> c_int,
    syscall_resolve_name: unsafe extern "C" fn(*const c_char) -> c_int,
    rule_add: unsafe extern "C" fn(*mut c_void, u32, c_int, c_uint, *const Comparison) -> c_int,
    export_bpf: unsafe extern "C" fn(*mut c_void, c_int) -> c_int,
    load: unsafe extern "C" fn(*mut c_void) -> c_int,
    // The functions are valid while it is open.
    _library: Library,
}

impl Libseccomp {
    /// Opens the machine's.
    ///
    /// # Errors
    /// When there is none, or one that lacks a function.
    pub fn open() -> Result<Libseccomp, LibseccompError> {
        // SAFETY: libseccomp's initialisers do nothing that other threads could see.
        let library = unsafe { Library::new(NAME) }.map_err(LibseccompError::Open)?;
        /// A function by its name; its type is the field's.
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the field has the type that libseccomp's header gives the function, in all versions 2.x.
                *unsafe { library.get($name) }
                    .map_err(|source| LibseccompError::Function { name: $name, source })?
            };
        }
        Ok(Libseccomp {
            version: function!("seccomp_version"),
            init: function!("seccomp_init"),
            release: function!("seccomp_release"),
            arch_resolve_name: function!("seccomp_arch_resolve_name"),
            arch_native: function!("seccomp_arch_native"),
            arch_add: function!("seccomp_arch_add"),
            arch_remove: function!("seccomp_arch_remove"),
            attr_set: function!("seccomp_attr_set"),
            syscall_resolve_name: function!("seccomp_syscall_resolve_name"),
            rule_add: function!("seccomp_rule_add_array"),
            export_bpf: function!("seccomp_export_bpf"),
            load: function!("seccomp_load"),
            _library: library,
        })
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        // SAFETY: no arguments; the result is a static of the library, or null.
        let version = unsafe { (self.version)().as_ref() };
        version.map_or(Version(0, 0, 0), |raw| Version(raw.major, raw.minor, raw.micro))
    }

    /// The filter that a runtime would load of `file` in `context`.
    ///
    /// # Errors
    /// When libseccomp refuses a part of the file.
    pub fn compile(
        &self,
        file: &SeccompFile,
        context: &Context,
    ) -> Result<Compiled, LibseccompError> {
        let (filter, unknown) = self.filter(file, context)?;
        Ok(Compiled { program: filter.export()?, unknown })
    }

    /// Puts the calling thread, and what it becomes, under the filter of `file` in `context`. There is no way back.
    ///
    /// With `no_new_privs` false the thread needs CAP_SYS_ADMIN, and may go on to gain privileges by execve. A listener
    /// (`SCMP_ACT_NOTIFY`) is not served.
    ///
    /// # Errors
    /// When libseccomp refuses a part of the file, or the kernel the filter.
    pub fn load(
        &self,
        file: &SeccompFile,
        context: &Context,
        no_new_privs: bool,
    ) -> Result<(), LibseccompError> {
        let (filter, _) = self.filter(file, context)?;
        filter.set(NO_NEW_PRIVILEGES, no_new_privs.into()).map_err(LibseccompError::Load)?;
        for name in &file.flags {
            let refused = |source| LibseccompError::Flag { name: name.clone(), source };
            let attribute = match name.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => TSYNC,
                "SECCOMP_FILTER_FLAG_LOG" => LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => SPEC_ALLOW,
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => WAIT_KILLABLE,
                _ => return Err(refused(io::ErrorKind::InvalidInput.into())),
            };
            filter.set(attribute, 1).map_err(refused)?;
        }
        // SAFETY: the filter is this library's and alive.
        done(unsafe { (self.load)(filter.raw.as_ptr()) }).map_err(LibseccompError::Load)
    }

    /// A filter with all that the engine keeps of a file, and the names that are not known.
    fn filter(
        &self,
        file: &SeccompFile,
        context: &Context,
    ) -> Result<(Filter<'_>, BTreeSet<String>), LibseccompError> {
        let loaded = effective::loaded(file, context);
        // SAFETY: takes a number.
        let raw = NonNull::new(unsafe { (self.init)(bpf::word_of(loaded.default)) });
        let raw = raw.ok_or(LibseccompError::Default(loaded.default))?;
        let filter = Filter { library: self, raw };
        let named = loaded.abis.iter().map(|abi| abi.scmp_arch());
        filter.admit(named.chain(loaded.other_architectures.iter().map(String::as_str)))?;
        let mut unknown = BTreeSet::new();
        for rule in &loaded.rules {
            // A name with a NUL in it is none.
            let number = CString::new(rule.name).map_or(UNKNOWN, |name| {
                // SAFETY: a string with its NUL, which outlives the call.
                unsafe { (self.syscall_resolve_name)(name.as_ptr()) }
            });
            if number == UNKNOWN {
                unknown.insert(rule.name.to_owned());
                continue;
            }
            for conditions in &rule.conditions {
                filter.add(bpf::word_of(rule.outcome), number, conditions).map_err(|source| {
                    let name = rule.name.to_owned();
                    LibseccompError::Rule { name, outcome: rule.outcome, source }
                })?;
            }
        }
        Ok((filter, unknown))
    }
}

/// `scmp_filter_ctx`; one thread at a time uses it.
struct Filter<'a> {
    library: &'a Libseccomp,
    raw: NonNull<c_void>,
}

impl Drop for Filter<'_> {
    fn drop(&mut self) {
        // SAFETY: it is this library's and is released once.
        unsafe { (self.library.release)(self.raw.as_ptr()) }
    }
}

impl Filter<'_> {
    /// Makes it a filter for these architectures and no other.
    fn admit<'n>(&self, names: impl Iterator<Item = &'n str>) -> Result<(), LibseccompError> {
        let Libseccomp { arch_resolve_name, arch_native, arch_add, arch_remove, .. } = self.library;
        let error = |name: &str, source| {
            let name = name.to_owned();
            LibseccompError::Architecture { name, source }
        };
        // SAFETY: no arguments.
        let own = unsafe { arch_native() };
        let mut has_own = false;
        for name in names {
            // It knows them in lower case, without the prefix.
            let known = name.trim_start_matches("SCMP_ARCH_").to_lowercase();
            let token = CString::new(known).map_or(0, |known| {
                // SAFETY: a string with its NUL, which outlives the call.
                unsafe { arch_resolve_name(known.as_ptr()) }
            });
            if token == 0 {
                return Err(error(name, io::ErrorKind::NotFound.into()));
            }
            if token == own {
                has_own = true; // a new filter has it
                continue;
            }
            // SAFETY: the filter is this library's and alive.
            ignoring_twice(unsafe { arch_add(self.raw.as_ptr(), token) })
                .map_err(|source| error(name, source))?;
        }
        if !has_own {
            // SAFETY: the filter is this library's and alive.
            done(unsafe { arch_remove(self.raw.as_ptr(), own) })
                .map_err(|source| error("SCMP_ARCH_NATIVE", source))?;
        }
        Ok(())
    }

    fn add(&self, action: u32, number: c_int, args: &[Arg]) -> io::Result<()> {
        let comparisons: Vec<Comparison> = args.iter().map(comparison).collect();
        let Libseccomp { rule_add, .. } = self.library;
        // SAFETY: the filter is this library's and alive; as many comparisons as are said outlive the call.
        ignoring_twice(unsafe {
            rule_add(
                self.raw.as_ptr(),
                action,
                number,
                comparisons.len() as c_uint,
                comparisons.as_ptr(),
            )
        })
    }

    fn set(&self, attribute: c_int, value: u32) -> io::Result<()> {
        // SAFETY: the filter is this library's and alive.
        done(unsafe { (self.library.attr_set)(self.raw.as_ptr(), attribute, value) })
    }

    fn export(&self) -> Result<Program, LibseccompError> {
        let bytes = self.bytes().map_err(LibseccompError::Export)?;
        Ok(Program::parse(&bytes)?)
    }

    /// The `sock_filter` array.
    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut file = File::from(memfd_create("filter", MemfdFlags::CLOEXEC)?);
        // SAFETY: the filter is this library's and alive; the descriptor is open.
        done(unsafe { (self.library.export_bpf)(self.raw.as_ptr(), file.as_raw_fd()) })?;
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// `enum scmp_compare`.
fn comparison(arg: &Arg) -> Comparison {
    let op = match arg.op {
        Op::Ne => 1,
        Op::Lt => 2,
        Op::Le => 3,
        Op::Eq => 4,
        Op::Ge => 5,
        Op::Gt => 6,
        Op::MaskedEq => 7,
    };
    Comparison { arg: arg.index, op, value: arg.value, value_two: arg.value_two }
}

/// libseccomp's result: 0, or an error number below it.
fn done(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}

/// The same, where what is there already may be added again.
fn ignoring_twice(result: c_int) -> io::Result<()> {
    if result == -libc::EEXIST { Ok(()) } else { done(result) }
}
