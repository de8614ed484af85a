//! The checks of `doctor` that need no eBPF and no engine: kernel, BTF, JIT, cgroups, privileges.
//!
//! Works unprivileged; what may not be read is `unknown`, not `missing`.

use std::path::Path;

use crate::{
    kernel::{
        cgroup::{self, CgroupLayout},
        libseccomp::Libseccomp,
        privileges::{self, Privileges},
        tracing::{self, Answer, Jit, Lockdown},
        version::{self, KernelVersion, Uname},
    },
    model::check::{Check, CheckState},
};

/// Every check of this module, in the order in which a person wants to read them.
#[must_use]
pub fn checks(root: &Path) -> Vec<Check> {
    let mut checks = vec![kernel(&version::uname()), btf(root), jit(root)];
    checks.extend(lockdown(root));
    checks.push(cgroups(root));
    checks.push(privileges(root));
    checks.push(libseccomp());
    checks
}

fn kernel(names: &Uname) -> Check {
    let detail = format!("{} {}", names.release, names.machine);
    match names.release.parse::<KernelVersion>() {
        Ok(version) if version >= version::OLDEST => Check::new("kernel", CheckState::Ok, detail),
        Ok(_) => Check::new("kernel", CheckState::Missing, detail)
            .hint(format!("run a kernel of {} or later", version::OLDEST)),
        Err(error) => Check::new("kernel", CheckState::Unknown, error.to_string()),
    }
}

fn btf(root: &Path) -> Check {
    if tracing::has_btf(root) {
        Check::new("BTF", CheckState::Ok, "/sys/kernel/btf/vmlinux")
    } else {
        Check::new("BTF", CheckState::Missing, "/sys/kernel/btf/vmlinux is not there")
            .hint("run a kernel that was built with CONFIG_DEBUG_INFO_BTF=y; the ones of Debian 11 and later are")
    }
}

fn jit(root: &Path) -> Check {
    let (state, detail) = match tracing::jit(root) {
        Answer::Known(Jit::On) => (CheckState::Ok, "on"),
        Answer::Known(Jit::Off) => (CheckState::Warning, "off: every traced call is interpreted"),
        Answer::Absent => (CheckState::Warning, "the kernel has none"),
        Answer::Unreadable => (CheckState::Unknown, "only root may ask"),
    };
    let check = Check::new("BPF JIT", state, detail);
    if state == CheckState::Warning && detail.starts_with("off") {
        return check.hint("sysctl net.core.bpf_jit_enable=1");
    }
    check
}

/// No line at all where the kernel cannot be locked down.
fn lockdown(root: &Path) -> Option<Check> {
    let check = |state, detail: &str| Check::new("lockdown", state, detail);
    match tracing::lockdown(root) {
        Answer::Absent => None,
        Answer::Known(Lockdown::None) => Some(check(CheckState::Ok, "none")),
        Answer::Known(Lockdown::Integrity) => Some(check(CheckState::Ok, "integrity")),
        Answer::Known(Lockdown::Confidentiality) => Some(
            check(CheckState::Missing, "confidentiality: tracing is refused")
                .hint("boot with `lockdown=integrity`"),
        ),
        Answer::Unreadable => Some(check(CheckState::Unknown, "only root may ask")),
    }
}

fn cgroups(root: &Path) -> Check {
    match cgroup::detect(root) {
        Ok(setup) => match (setup.layout, setup.v2_mount) {
            (CgroupLayout::Legacy, _) | (_, None) => {
                Check::new("cgroups", CheckState::Missing, "legacy: no cgroup2 tree is mounted")
                    .hint("mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified, then restart the engine")
            }
            (layout, Some(mount)) => Check::new(
                "cgroups",
                CheckState::Ok,
                format!("{layout}, cgroup2 at {}", mount.display()),
            ),
        },
        Err(error @ cgroup::CgroupError::Read { .. }) => {
            Check::new("cgroups", CheckState::Unknown, error.to_string())
        }
        Err(cgroup::CgroupError::NotMounted) => {
            Check::new("cgroups", CheckState::Missing, "no cgroup file system is mounted")
                .hint("mount -t cgroup2 none /sys/fs/cgroup")
        }
    }
}

fn privileges(root: &Path) -> Check {
    match Privileges::read(root) {
        Ok(privileges) => {
            let who = if privileges.is_root() {
                "root".to_owned()
            } else {
                format!("user {}", privileges.euid)
            };
            let lacking = privileges.lacking();
            let wanting: Vec<String> = privileges
                .wanting()
                .map(|wanted| format!("without {}: {}", wanted.name, wanted.without))
                .collect();
            if !lacking.is_empty() {
                let detail = format!("{who} without {}", privileges::names(&lacking));
                Check::new("privileges", CheckState::Missing, detail).hint("run it with sudo")
            } else if wanting.is_empty() {
                Check::new("privileges", CheckState::Ok, who)
            } else {
                let detail = format!("{who}; {}", wanting.join("; "));
                Check::new("privileges", CheckState::Warning, detail)
            }
        }
        Err(error) => Check::new("privileges", CheckState::Unknown, error.to_string()),
    }
}

/// Recording needs none.
fn libseccomp() -> Check {
    match Libseccomp::open() {
        Ok(library) => Check::new("libseccomp", CheckState::Ok, library.version().to_string()),
        Err(_) => Check::new(
            "libseccomp",
            CheckState::Warning,
            "not there: `record` puts itself under no filter, and `verify` cannot run",
        )
        .hint("apt-get install libseccomp2"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn state_of(checks: &[Check], name: &str) -> Option<CheckState> {
        checks.iter().find(|check| check.name == name).map(|check| check.state)
    }

    #[test]
    fn a_host_that_hides_everything_gives_answers_and_no_panic() {
        let empty = tempfile::tempdir().expect("temp dir");
        let checks = checks(empty.path());
        assert_eq!(state_of(&checks, "BTF"), Some(CheckState::Missing));
        assert_eq!(state_of(&checks, "cgroups"), Some(CheckState::Unknown));
        assert_eq!(state_of(&checks, "privileges"), Some(CheckState::Unknown));
        assert_eq!(state_of(&checks, "lockdown"), None);
    }

    #[test]
    fn an_old_kernel_is_refused_and_a_new_one_is_not() {
        let of = |release: &str| {
            kernel(&Uname { release: release.to_owned(), machine: "x86_64".to_owned() }).state
        };
        assert_eq!(of("4.19.0-26-amd64"), CheckState::Missing);
        assert_eq!(of("6.1.0"), CheckState::Ok);
        assert_eq!(of("odd"), CheckState::Unknown);
    }

    #[test]
    fn a_legacy_host_is_told_what_to_mount() {
        let root = tempfile::tempdir().expect("temp dir");
        fs::create_dir_all(root.path().join("proc/self")).expect("proc");
        fs::write(
            root.path().join("proc/self/mountinfo"),
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
        )
        .expect("mountinfo");
        let check = cgroups(root.path());
        assert_eq!(check.state, CheckState::Missing);
        assert!(check.hint.expect("hint").contains("mount -t cgroup2"));
    }
}
