//! What the machine finds: busybox, the recorder, the suite with its fixtures, the tools that they call, at the paths that
//! they have here, with the libraries that they load.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::{
    cross::{self, Cross},
    kernels::{Kernel, WAYS},
};
use crate::sh::{cmd, root};

/// Tools of this machine; the rest is busybox's.
const TOOLS: [&str; 3] = ["/usr/bin/setpriv", "/usr/bin/strace", "/usr/bin/unshare"];

/// The suite's oracle for names of calls.
const HEADER: &str = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
const HEADER_AARCH64: &str = "/usr/include/aarch64-linux-gnu/asm/unistd_64.h";

/// The first process. It speaks to the host in lines that begin with `vm: `.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/bin:/bin:/usr/sbin:/sbin NO_COLOR=1 HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
echo "vm: up $(uname -r)"
read -r line < /proc/cmdline
for word in $line; do
    case $word in ways=*) PROFILER_WAYS=$(echo "${word#ways=}" | tr , ' '); export PROFILER_WAYS;; esac
done
cd "$ROOT"
"$PROFILER_BIN" doctor
echo "vm: suite"
"$SUITE" --test-threads 1 --color never
echo "vm: end $?"
poweroff -f
"#;

/// Packs everything for x86_64 into `home`; the path of the archive.
///
/// # Errors
/// When something is not there or cannot be copied.
pub fn pack(suite: &Utf8Path, home: &Utf8Path) -> Result<Utf8PathBuf> {
    let tree = Tree::begin(home.join("root"))?;
    tree.add("/bin/busybox")?;
    for tool in TOOLS {
        tree.add(tool)?;
    }
    let profiler = root().join("target/release/profiler");
    for program in [profiler.as_path(), suite] {
        tree.add(program)?;
        cmd("strip").arg(tree.at(program)).run()?;
    }
    tree.copy(Utf8Path::new(HEADER))?;
    tree.finish(&profiler, suite, &root().join("target/fixtures"), home)
}

/// The same for aarch64, with programs that were built for it.
///
/// # Errors
/// As [`pack`].
pub fn pack_aarch64(cross: &Cross, suite: &Utf8Path, home: &Utf8Path) -> Result<Utf8PathBuf> {
    let tree = Tree::begin(home.join("root"))?;
    // documentation and character sets are most of it
    let script =
        "tar c --exclude ./usr/share --exclude gconv . | tar x --keep-directory-symlink -C \"$1\"";
    cmd("sh").args(["-c", script, "sh", tree.dir.as_str()]).dir(&cross.system).run()?;
    let profiler = cross::profiler();
    for program in [profiler.as_path(), suite] {
        tree.copy(program)?;
        cmd("aarch64-linux-gnu-strip").arg(tree.at(program)).run()?;
    }
    tree.write(HEADER_AARCH64, &cross::header()?)?;
    tree.finish(&profiler, suite, &root().join("target/fixtures/aarch64"), home)
}

/// The machine's file system while it is put together.
struct Tree {
    dir: Utf8PathBuf,
}

impl Tree {
    fn begin(dir: Utf8PathBuf) -> Result<Self> {
        if dir.exists() {
            fs_err::remove_dir_all(&dir)?;
        }
        for part in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
            fs_err::create_dir_all(dir.join(part))?;
        }
        symlink("bin", dir.join("sbin"))?;
        Ok(Self { dir })
    }

    /// Where `path` of the machine is here.
    fn at(&self, path: &Utf8Path) -> Utf8PathBuf {
        self.dir.join(path.as_str().trim_start_matches('/'))
    }

    /// Copies a file to the path that it has here.
    fn copy(&self, path: &Utf8Path) -> Result<()> {
        self.copy_to(path, path)
    }

    /// Copies a file to the path that another one has here.
    fn copy_to(&self, path: &Utf8Path, to: &Utf8Path) -> Result<()> {
        let to = self.at(to);
        fs_err::create_dir_all(to.parent().context("a file has a directory")?)?;
        fs_err::copy(path, to)?;
        Ok(())
    }

    /// Copies a program, and the libraries that it loads.
    fn add(&self, path: impl AsRef<Utf8Path>) -> Result<()> {
        let path = path.as_ref();
        self.copy(path)?;
        let libraries = cmd("ldd").arg(path).capture()?;
        for library in libraries_of(&String::from_utf8_lossy(&libraries.stdout)) {
            self.copy(Utf8Path::new(library))?;
        }
        Ok(())
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.at(Utf8Path::new(path));
        fs_err::create_dir_all(path.parent().context("a file has a directory")?)?;
        fs_err::write(&path, text)?;
        Ok(())
    }

    fn script(&self, path: &str, text: &str) -> Result<()> {
        self.write(path, text)?;
        let path = self.at(Utf8Path::new(path));
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Adds fixtures and what the machine does first; the path of the archive, in `home`.
    fn finish(
        &self,
        profiler: &Utf8Path,
        suite: &Utf8Path,
        fixtures: &Utf8Path,
        home: &Utf8Path,
    ) -> Result<Utf8PathBuf> {
        let here = root().join("tests/fixtures");
        for (from, to) in [(here.as_path(), &here), (fixtures, &root().join("target/fixtures"))] {
            for entry in from.read_dir_utf8()? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    self.copy_to(entry.path(), &to.join(entry.file_name()))?;
                }
            }
        }
        // the fixtures are built; a test that wants another one is to fail
        self.script("/bin/gcc", "#!/bin/busybox sh\necho there is no compiler here\nexit 1\n")?;
        let environment = format!(
            "export ROOT={} PROFILER_BIN={profiler} SUITE={suite} PROFILER_KERNEL_HALF=1\n",
            root()
        );
        self.script(
            "/init",
            &INIT.replacen("mount -t proc", &format!("{environment}mount -t proc"), 1),
        )?;
        for file in ["etc/passwd", "etc/group"] {
            fs_err::write(self.dir.join(file), "root:x:0:\n")?;
        }
        let archive = home.join("initramfs");
        cmd("sh")
            .args(["-c", "find . | cpio --quiet -o -H newc > \"$1\"", "sh", archive.as_str()])
            .dir(&self.dir)
            .run()?;
        Ok(archive)
    }
}

/// The paths in the output of ldd; a static program has none.
fn libraries_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

/// The kernel's command line.
pub fn command_line(kernel: &Kernel) -> String {
    debug_assert!(kernel.ways.split(' ').all(|way| WAYS.contains(&way)));
    let ways = kernel.ways.replace(' ', ",");
    format!("{} quiet panic=-1 ways={ways}", kernel.arch.command_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_paths() {
        let text = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        let found: Vec<&str> = libraries_of(text).collect();
        assert_eq!(found, ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert_eq!(libraries_of("\tnot a dynamic executable\n").count(), 0);
    }
}
