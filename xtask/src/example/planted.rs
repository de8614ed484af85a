//! What an intruder would try, done in the containers: what passes with defaults and must not when hardened.

use anyhow::{Context as _, Result, ensure};

use super::stack::Stack;

/// Prints each attempt's name and how it ended.
const PYTHON: &str = r#"
import ctypes, errno, os, socket
def unshare(flags):
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")
def write():
    open("/srv/planted", "w").close()
    os.unlink("/srv/planted")
for name, attempt in [
    ("write", write),
    ("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
    ("alg", lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)),
    ("chroot", lambda: os.chroot("/srv")),
    ("user", lambda: unshare(0x10000000)),
]:
    try:
        attempt()
        print(name, "passes")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
"#;
const NODE: &str = r#"
const fs = require("node:fs");
try { fs.writeFileSync("/srv/planted", ""); fs.unlinkSync("/srv/planted"); console.log("write passes"); }
catch (error) { console.log("write", error.code); }
"#;
const SHELL: &str = "if true 2>/dev/null > /usr/planted; then rm /usr/planted; echo write passes; else echo write refused; fi";

/// Each attempt: service, its name in the program, and in words.
const ATTEMPTS: [(&str, &str, &str); 7] = [
    ("db", "write", "write to `/usr`"),
    ("frontend", "write", "write to `/srv`, its own program"),
    ("backend", "write", "write to `/srv`, its own program"),
    ("backend", "raw", "open a raw socket"),
    ("backend", "chroot", "change the root directory"),
    ("backend", "alg", "open an AF_ALG socket"),
    ("backend", "user", "make a user namespace"),
];

/// An attempt and how it ended: `passes` or an error's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// In words.
    pub what: String,
    /// Short.
    pub ended: String,
}

impl Outcome {
    /// Whether the kernel let it.
    pub fn passes(&self) -> bool {
        self.ended == "passes"
    }
}

/// Tries all of it in containers that run.
///
/// # Errors
/// When an attempt cannot be made at all.
pub fn attempt(stack: &Stack<'_>) -> Result<Vec<Outcome>> {
    let python = stack.exec("backend", &["/srv/venv/bin/python", "-c", PYTHON]).stdout()?;
    let node = stack.exec("frontend", &["node", "-e", NODE]).stdout()?;
    let shell = stack.exec("db", &["sh", "-c", SHELL]).stdout()?;
    let of = |service: &str| match service {
        "backend" => &python,
        "frontend" => &node,
        _ => &shell,
    };
    ATTEMPTS
        .iter()
        .map(|(service, name, what)| {
            let ended =
                of(service).lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let ended =
                ended.with_context(|| format!("{service} does not say how `{what}` ended"))?;
            Ok(Outcome { what: format!("{service}: {what}"), ended: ended.to_owned() })
        })
        .collect()
}

/// Holds both against one another.
///
/// # Errors
/// When something passes in the hardened project, or so little passed before that nothing is shown.
pub fn expect_refused(before: &[Outcome], after: &[Outcome]) -> Result<()> {
    for outcome in after {
        ensure!(!outcome.passes(), "hardened, and still: {}", outcome.what);
    }
    let passed = before.iter().filter(|outcome| outcome.passes()).count();
    ensure!(passed >= 5, "only {passed} attempts pass with defaults: {before:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_still_passes_is_a_failure_and_so_is_a_test_without_teeth() {
        let of = |passing: usize| -> Vec<Outcome> {
            let ended = |n| if n < passing { "passes" } else { "EPERM" };
            (0..7).map(|n| Outcome { what: n.to_string(), ended: ended(n).to_owned() }).collect()
        };
        assert!(expect_refused(&of(6), &of(0)).is_ok());
        assert!(expect_refused(&of(6), &of(1)).is_err());
        assert!(expect_refused(&of(4), &of(0)).is_err());
    }
}
