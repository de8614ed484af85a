//! Leaving out one call after the other.
//!
//! Owns what counts as needed; `docs/floors.md` says why. It starts nothing itself: the arena does.

use std::{collections::BTreeSet, thread};

use anyhow::{Result, anyhow, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::{
    arena::Arena,
    data::{Made, Rows, User, When},
};
use crate::sh::say;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// What the measured container's own programs call, and what a profile always allows.
const OWN: [&str; 9] = [
    "clock_gettime",
    "exit",
    "exit_group",
    "getcpu",
    "gettimeofday",
    "pause",
    "restart_syscall",
    "rt_sigreturn",
    "time",
];
/// A call is needed each time when this many attempts without it fail one after the other.
const ATTEMPTS: usize = 3;
/// The user that stands for all that are not root.
const SOMEBODY: u32 = 1000;
/// `noNewPrivileges` and the user.
const USES: [(bool, u32); 4] = [(false, 0), (false, SOMEBODY), (true, 0), (true, SOMEBODY)];

/// Names of calls.
pub type Names = BTreeSet<String>;

/// One way to use one runtime.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// `runc` or `crun`.
    pub name: &'a str,
    /// Its path inside the arena.
    pub program: Utf8PathBuf,
    /// `noNewPrivileges` of the process.
    pub no_new_privileges: bool,
    /// Who the process runs as.
    pub uid: u32,
    /// Whether it starts the container or joins it.
    pub when: When,
}

impl Case<'_> {
    /// `start as 1000 with no-new-privileges`.
    pub fn label(&self) -> String {
        let when = match self.when {
            When::Start => "start",
            When::Join => "join",
        };
        let with = if self.no_new_privileges { " with no-new-privileges" } else { "" };
        format!("{when} as {}{with}", self.uid)
    }
}

/// All ways to use a runtime.
pub fn cases<'a>(name: &'a str, program: &Utf8Path) -> Vec<Case<'a>> {
    let mut cases = Vec::new();
    for (no_new_privileges, uid) in USES {
        for when in [When::Start, When::Join] {
            let program = program.to_owned();
            cases.push(Case { name, program, no_new_privileges, uid, when });
        }
    }
    cases
}

/// What `crun run`, which is measured, does not show: engines create a container and start it later, and in between
/// crun waits under the filter. Without either one docker 20.10, docker 26 and podman 4.3 start none.
const CRUN_CREATED: [&str; 2] = ["pselect6", "read"];

/// How thorough to be.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// How often to look at a start with strace.
    pub traces: usize,
    /// How often the found set alone must do.
    pub together: usize,
}

/// What one case needs.
#[derive(Debug, Clone, Default)]
struct Found {
    always: Names,
    sometimes: Names,
    tried: Names,
    /// All that it was seen to make.
    seen: Names,
}

impl Found {
    /// What a filter must allow for it.
    fn needed(&self) -> Names {
        &self.always | &self.sometimes
    }
}

/// Measures a runtime in all its uses. Calls in `sometimes` are known to be needed at times: that is taken as it is.
///
/// # Errors
/// When a use does not even start with all allowed that it was seen to make, or the arena fails.
pub fn measure(
    arena: &Arena,
    name: &str,
    program: &Utf8Path,
    sometimes: &Names,
    effort: Effort,
) -> Result<Rows> {
    let found = thread::scope(|scope| {
        let workers = USES.map(|(no_new_privileges, uid)| {
            scope.spawn(move || {
                let of =
                    |when| Case { name, program: program.to_owned(), no_new_privileges, uid, when };
                let (start, join) = (of(When::Start), of(When::Join));
                let mut start = Probe { arena, case: &start, base: Names::new(), effort }
                    .found(sometimes.clone())?;
                if name == "crun" && !no_new_privileges {
                    start.always.extend(CRUN_CREATED.map(str::to_owned));
                }
                let base = start.needed();
                let mut join =
                    Probe { arena, case: &join, base: base.clone(), effort }.found(Names::new())?;
                // The container was started under the same filter, so that these could not be left out.
                join.always.extend(start.always.intersection(&join.seen).cloned());
                Ok((start, join))
            })
        });
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|_| Err(anyhow!("a measurement panicked")))
        };
        workers.map(join).into_iter().collect::<Result<Vec<(Found, Found)>>>()
    })?;
    let mut rows = Rows::new();
    for (pair, no_new_privileges) in found.chunks(2).zip([false, true]) {
        let [root, somebody] = pair else { continue };
        for (when, root, somebody) in
            [(When::Start, &root.0, &somebody.0), (When::Join, &root.1, &somebody.1)]
        {
            let mut add = |made, root: &Names, somebody: &Names| {
                let more = somebody - root;
                rows.insert((no_new_privileges, User::Any, when, made), root.clone());
                if !more.is_empty() {
                    rows.insert((no_new_privileges, User::NonRoot, when, made), more);
                }
            };
            add(Made::Always, &root.always, &somebody.always);
            add(Made::Tried, &root.tried, &somebody.tried);
            // What one user's process makes at times, another's may.
            let sometimes = &root.sometimes | &somebody.sometimes;
            add(Made::Sometimes, &sometimes, &sometimes);
        }
    }
    Ok(rows)
}

/// One case under examination.
struct Probe<'a> {
    arena: &'a Arena,
    case: &'a Case<'a>,
    /// Allowed in any case: what the start of the container needs, when a join is examined.
    base: Names,
    effort: Effort,
}

impl Probe<'_> {
    fn found(&self, known: Names) -> Result<Found> {
        let seen = self.seen()?;
        let mut found = Found { sometimes: known, seen, ..Found::default() };
        let whole = &found.seen | &found.sometimes;
        for _ in 0..self.effort.together {
            if let Some(said) = self.fails(&whole, None)? {
                bail!("{}: not even with all that it was seen to make: {said}", self.label());
            }
        }
        let mut spare = Names::new();
        for name in &(&(&found.seen - &self.base) - &found.sometimes) {
            if OWN.contains(&name.as_str()) {
                continue;
            }
            let mut rest = whole.clone();
            rest.remove(name);
            match (self.needs(&rest, name, EPERM)?, self.needs(&rest, name, ENOSYS)?) {
                // Also one that it shrugs off as EPERM: what the call was to do is then not done.
                (_, true) => found.always.insert(name.clone()),
                (true, false) => found.tried.insert(name.clone()),
                (false, false) => spare.insert(name.clone()),
            };
        }
        self.complete(&mut found, spare)?;
        Ok(found)
    }

    /// Makes sure that what was found does alone, and adds what it lacks: one of two calls that can stand for each
    /// other, and those that are made at times.
    fn complete(&self, found: &mut Found, mut spare: Names) -> Result<()> {
        loop {
            let mut failures = Vec::new();
            for _ in 0..self.effort.together {
                failures.extend(self.fails(&found.needed(), Some((&found.tried, ENOSYS)))?);
            }
            let Some(said) = failures.first() else { return Ok(()) };
            let before = found.needed().len();
            if failures.len() == self.effort.together {
                for name in spare.clone() {
                    let mut rest = &found.needed() | &spare;
                    rest.remove(&name);
                    if !self.needs(&rest, &name, EPERM)? {
                        spare.remove(&name);
                    }
                }
                found.always.append(&mut spare);
            } else {
                for name in &spare {
                    let mut rest = &found.seen | &found.sometimes;
                    rest.remove(name);
                    for _ in 0..self.effort.together {
                        if self.fails(&rest, None)?.is_some() {
                            found.sometimes.insert(name.clone());
                            break;
                        }
                    }
                }
            }
            ensure!(
                found.needed().len() > before,
                "{}: {} of {} attempts failed with only {} allowed, and no other call explains it: {said}",
                self.label(),
                failures.len(),
                self.effort.together,
                found.needed().into_iter().collect::<Vec<_>>().join(" "),
            );
        }
    }

    /// Whether it fails each time without `name`, when only `rest` is allowed.
    fn needs(&self, rest: &Names, name: &str, errno: u32) -> Result<bool> {
        let left_out = Names::from([name.to_owned()]);
        for attempt in 0..ATTEMPTS {
            if self.fails(rest, Some((&left_out, errno)))?.is_none() {
                if attempt > 0 {
                    say(format!("floors: {}: without {name} some attempts fail", self.label()));
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the runtime says when it fails with only `allowed` and the base, and `denied` answered in a way of their own.
    fn fails(&self, allowed: &Names, denied: Option<(&Names, u32)>) -> Result<Option<String>> {
        let allowed = allowed | &self.base;
        Ok(self.arena.run(self.case, &filter(&allowed, denied))?.err())
    }

    /// All that the filtered thread was seen to call between the load and the execve.
    fn seen(&self) -> Result<Names> {
        let mut seen = Names::new();
        for _ in 0..self.effort.traces {
            let threads = self.arena.trace(self.case, &permissive())?;
            let after: Vec<Names> = threads.iter().filter_map(|text| after_load(text)).collect();
            ensure!(!after.is_empty(), "{}: strace saw no filter being loaded", self.label());
            seen.extend(after.into_iter().flatten());
        }
        Ok(seen)
    }

    fn label(&self) -> String {
        format!("{} {}", self.case.name, self.case.label())
    }
}

/// Loads, and denies nothing that is made.
fn permissive() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}],
    })
}

/// Allows `allowed` and the container's own calls, answers `denied` as it says, and all else with EPERM.
fn filter(allowed: &Names, denied: Option<(&Names, u32)>) -> Value {
    let names: BTreeSet<&str> = allowed
        .iter()
        .map(String::as_str)
        .chain(OWN)
        .filter(|name| !denied.is_some_and(|(them, _)| them.contains(*name)))
        .collect();
    let mut rules = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    if let Some((names, errno)) = denied.filter(|(names, _)| !names.is_empty()) {
        rules.push(json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    })
}

/// What a thread called after it had loaded a filter, up to its execve; `None` when it loaded none.
fn after_load(text: &str) -> Option<Names> {
    let loads = |line: &str| {
        let filter =
            ["prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER,", "seccomp(SECCOMP_SET_MODE_FILTER,"];
        filter.iter().any(|call| line.starts_with(call)) && line.ends_with(" = 0")
    };
    let mut lines = text.lines().skip_while(|line| !loads(line)).peekable();
    lines.peek()?;
    let mut names = Names::new();
    for line in lines.skip(1) {
        let Some((name, _)) = line.split_once('(') else { continue };
        if name.starts_with(|c: char| c.is_ascii_lowercase()) {
            names.insert(name.to_owned());
        }
        if name == "execve" && line.ends_with(" = 0") {
            break;
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_count_from_the_load_to_the_execve() {
        let text = "read(3, \"\", 0) = 0\n\
                    seccomp(SECCOMP_SET_MODE_FILTER, 0, NULL) = -1 EFAULT (Bad address)\n\
                    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, {len=9, filter=0xc000aeb80}) = 0\n\
                    close(3) = 0\n\
                    --- SIGURG {si_signo=SIGURG} ---\n\
                    execve(\"/no\", [], []) = -1 ENOENT (No such file or directory)\n\
                    write(4, \"\", 1) = 1\n\
                    execve(\"/exit\", [\"/exit\"], []) = 0\n\
                    exit(0) = ?\n\
                    +++ exited with 0 +++\n";
        let names = after_load(text).expect("a load");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["close", "execve", "write"]);
        assert_eq!(after_load("read(3, \"\", 0) = 0\n"), None);
    }

    #[test]
    fn no_name_has_two_actions() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Names>();
        let filter = filter(&names(&["read", "statx"]), Some((&names(&["statx"]), ENOSYS)));
        let allowed = filter["syscalls"][0]["names"].as_array().expect("names");
        assert!(allowed.contains(&json!("read")) && !allowed.contains(&json!("statx")));
        assert_eq!(filter["syscalls"][1]["errnoRet"], ENOSYS);
    }
}
