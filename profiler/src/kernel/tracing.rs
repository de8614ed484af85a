//! What tracing programs need of the kernel that a file can tell: BTF, the JIT, lockdown.
//!
//! Whether an attach point exists is asked by loading a program, in observe/ebpf.

use std::{io, path::Path};

/// An answer that may be out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<T> {
    /// The kernel says so.
    Known(T),
    /// The file is not there: the kernel was built without the feature.
    Absent,
    /// The file is there and may not be read.
    Unreadable,
}

/// The state of the BPF JIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jit {
    /// Programs are interpreted: slow.
    Off,
    /// Programs are compiled.
    On,
}

/// The lockdown mode of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lockdown {
    /// Not locked down.
    None,
    /// The running kernel cannot be changed; tracing works.
    Integrity,
    /// Kernel memory cannot be read: tracing helpers are refused.
    Confidentiality,
}

/// The kernel's own type information is there, in `ROOT/sys/kernel/btf/vmlinux`.
#[must_use]
pub fn has_btf(root: &Path) -> bool {
    root.join("sys/kernel/btf/vmlinux").exists()
}

/// `ROOT/proc/sys/net/core/bpf_jit_enable`, which only root may read.
#[must_use]
pub fn jit(root: &Path) -> Answer<Jit> {
    match read(&root.join("proc/sys/net/core/bpf_jit_enable")) {
        Answer::Known(text) => match text.trim() {
            "0" => Answer::Known(Jit::Off),
            "1" | "2" => Answer::Known(Jit::On),
            _ => Answer::Unreadable,
        },
        Answer::Absent => Answer::Absent,
        Answer::Unreadable => Answer::Unreadable,
    }
}

/// `ROOT/sys/kernel/security/lockdown`: `none [integrity] confidentiality`.
#[must_use]
pub fn lockdown(root: &Path) -> Answer<Lockdown> {
    match read(&root.join("sys/kernel/security/lockdown")) {
        Answer::Known(text) if text.contains("[none]") => Answer::Known(Lockdown::None),
        Answer::Known(text) if text.contains("[integrity]") => Answer::Known(Lockdown::Integrity),
        Answer::Known(text) if text.contains("[confidentiality]") => {
            Answer::Known(Lockdown::Confidentiality)
        }
        Answer::Known(_) | Answer::Unreadable => Answer::Unreadable,
        Answer::Absent => Answer::Absent,
    }
}

fn read(path: &Path) -> Answer<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Answer::Known(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Answer::Absent,
        Err(_) => Answer::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(path: &str, text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("temp dir");
        let file = root.path().join(path);
        fs::create_dir_all(file.parent().expect("parent")).expect("directories");
        fs::write(file, text).expect("file");
        root
    }

    #[test]
    fn btf_is_a_file() {
        assert!(has_btf(tree("sys/kernel/btf/vmlinux", "x").path()));
        assert!(!has_btf(tree("sys/kernel/btf/other", "x").path()));
    }

    #[test]
    fn the_jit_is_on_off_or_not_known() {
        let file = "proc/sys/net/core/bpf_jit_enable";
        for (text, expected) in [
            ("0\n", Answer::Known(Jit::Off)),
            ("1\n", Answer::Known(Jit::On)),
            ("2\n", Answer::Known(Jit::On)),
            ("yes\n", Answer::Unreadable),
        ] {
            assert_eq!(jit(tree(file, text).path()), expected, "{text:?}");
        }
        assert_eq!(jit(tree("x", "").path()), Answer::Absent);
        // A directory stands for a file that is there and cannot be read, whoever asks.
        assert_eq!(jit(tree(&format!("{file}/x"), "").path()), Answer::Unreadable);
    }

    #[test]
    fn the_bracketed_lockdown_mode_is_the_one() {
        let file = "sys/kernel/security/lockdown";
        for (text, expected) in [
            ("[none] integrity confidentiality\n", Lockdown::None),
            ("none [integrity] confidentiality\n", Lockdown::Integrity),
            ("none integrity [confidentiality]\n", Lockdown::Confidentiality),
        ] {
            assert_eq!(lockdown(tree(file, text).path()), Answer::Known(expected));
        }
        assert_eq!(lockdown(tree(file, "nonsense").path()), Answer::Unreadable);
        assert_eq!(lockdown(tree("x", "").path()), Answer::Absent);
    }
}
