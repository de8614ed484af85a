//! A file that nobody finds before it is whole: without a name, where the file system knows such, so that whoever is killed
//! amid leaves nothing.

use std::{
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io::{self, Write as _},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Arc, Once, atomic::AtomicBool},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat, unlinkat},
    io::Errno,
};
use signal_hook::{consts::SIGXFSZ, flag};

/// Permission bits of result files before the umask: they are committed, so everyone may read them.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// How many names a file may find taken.
const TRIES: usize = 64;

/// A file of a directory. Dropping it removes it.
pub struct Unseen<'a> {
    dir: &'a OwnedFd,
    /// Its name meanwhile, if it has one.
    name: Option<String>,
    file: File,
}

impl<'a> Unseen<'a> {
    /// A file with `content`, on disk.
    ///
    /// # Errors
    /// When there is no room, or no right to it.
    pub fn with(dir: &'a OwnedFd, content: &[u8]) -> io::Result<Self> {
        // beyond the limit of a file's size the kernel sends a signal, which would end this process, and not only an error
        static LIMIT: Once = Once::new();
        LIMIT.call_once(|| {
            let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))); // then it ends it
        });
        let mut unseen = Self::new_in(dir)?;
        unseen.file.write_all(content)?;
        unseen.file.sync_all()?;
        Ok(unseen)
    }

    fn new_in(dir: &'a OwnedFd) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        match openat(dir, ".", flags | OFlags::TMPFILE, MODE) {
            Ok(file) => Ok(Self { dir, name: None, file: file.into() }),
            Err(_) => {
                let make =
                    |name: &str| openat(dir, name, flags | OFlags::CREATE | OFlags::EXCL, MODE);
                let (name, file) = under_some_name(make)?;
                Ok(Self { dir, name: Some(name), file: file.into() })
            }
        }
    }

    /// Gives it a name for the moment: a name takes room, too.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(mut self) -> io::Result<Self> {
        if self.name.is_none() {
            let file = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let link = |name: &str| linkat(CWD, &file, self.dir, name, AtFlags::SYMLINK_FOLLOW);
            self.name = Some(under_some_name(link)?.0);
        }
        Ok(self)
    }

    /// Gives it its own name; what had that is gone.
    ///
    /// # Errors
    /// When something is in the way, such as a directory.
    pub fn take(self, name: &str) -> io::Result<()> {
        let mut named = self.named()?;
        if let Some(own) = &named.name {
            renameat(named.dir, own, named.dir, name)?;
        }
        named.name = None;
        Ok(())
    }
}

impl Drop for Unseen<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = unlinkat(self.dir, name, AtFlags::empty()); // nobody is left to tell
        }
    }
}

/// What `make` makes of a name that nobody else has.
fn under_some_name<T>(make: impl Fn(&str) -> rustix::io::Result<T>) -> io::Result<(String, T)> {
    for _ in 0..TRIES {
        // each state of the hasher has keys of its own; who guesses a name gains nothing but another try
        let name = format!(".profiler-{:016x}", RandomState::new().hash_one(std::process::id()));
        match make(&name) {
            Ok(made) => return Ok((name, made)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
