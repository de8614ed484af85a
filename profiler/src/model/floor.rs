//! What an OCI runtime itself calls between loading the filter and the execve of what it starts, the entry point or a
//! process that joins (exec, health checks).
//!
//! Owns the lookup in the measured data under `profiles/floors/`, whose format is in
//! `profiles/README.md`. It does not decide when a floor is needed: `policy` does. Floors go stale with
//! every runtime release, so an answer always says which measurement it is.

use std::{collections::BTreeSet, sync::LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The files, embedded. A new measurement is a new file and a line here.
const FILES: [&str; 6] = [
    include_str!("../../../profiles/floors/crun-1.8.1.json"),
    include_str!("../../../profiles/floors/crun-1.21.json"),
    include_str!("../../../profiles/floors/crun-1.28.json"),
    include_str!("../../../profiles/floors/runc-1.1.5.json"),
    include_str!("../../../profiles/floors/runc-1.1.15.json"),
    include_str!("../../../profiles/floors/runc-1.3.6.json"),
];

static FLOORS: LazyLock<Vec<FloorFile>> = LazyLock::new(|| {
    FILES
        .iter()
        .map(|text| serde_json::from_str(text).expect("embedded floors parse, a test says so"))
        .collect()
});

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FloorFile {
    /// Version of the file's own format, 2.
    #[cfg_attr(not(test), expect(dead_code, reason = "the test of the embedded files reads it"))]
    format: u32,
    runtime: String,
    version: String,
    /// How it was measured, for people.
    #[cfg_attr(not(test), expect(dead_code, reason = "the test of the embedded files reads it"))]
    source: String,
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    no_new_privileges: bool,
    user: RowUser,
    when: When,
    made: Made,
    syscalls: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Made {
    /// Each time.
    Always,
    /// Some times, depending on timing: what Go's scheduler does.
    Sometimes,
    /// Each time; the runtime goes on after ENOSYS, and does not after EPERM. Not allowed: `errno` answers ENOSYS.
    Tried,
}

/// What the runtime starts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// The container's first process.
    #[default]
    Start,
    /// Another one in a container that runs.
    Join,
}

impl When {
    /// Whether it is the container's first process.
    #[must_use]
    pub fn is_start(&self) -> bool {
        *self == When::Start
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RowUser {
    /// Needed whoever the container runs as.
    Any,
    /// Needed in addition when it does not run as root.
    NonRoot,
}

/// How a runtime was used, as far as its own calls depend on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeUse {
    /// `runc` or `crun`, or what the engine calls it.
    pub runtime: String,
    /// Its version; empty when the engine did not say.
    pub version: String,
    /// `no-new-privileges` was set.
    pub no_new_privileges: bool,
    /// Who the entry point runs as.
    pub user: User,
}

/// Whether the entry point runs as root.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    /// Uid 0.
    Root,
    /// Any other.
    NonRoot,
}

impl User {
    /// Reads `Config.User`: `""`, `0`, `root`, `1000:1000`, `nginx`.
    #[must_use]
    pub fn of_setting(setting: &str) -> User {
        match setting.split(':').next() {
            Some("" | "0" | "root") | None => User::Root,
            Some(_) => User::NonRoot,
        }
    }
}

/// One measured floor that applies to a use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// The runtime that was measured.
    pub runtime: &'static str,
    /// The version that was measured.
    pub version: &'static str,
    /// Whether runtime and version are those asked for.
    pub exact: bool,
    /// The calls that it makes in every start, by name. A recording of a start has them all.
    pub always: BTreeSet<&'static str>,
    /// Those that it makes in some starts only, and fails without. No recording can be relied on for them.
    pub sometimes: BTreeSet<&'static str>,
    /// Those that it makes under the filter to start another process in the container.
    pub join: BTreeSet<&'static str>,
}

impl RuntimeUse {
    /// Whether it is of the same version of the same runtime, however that is used. A distribution's suffix makes no
    /// other version.
    #[must_use]
    pub fn is_same(&self, other: &RuntimeUse) -> bool {
        let key =
            |usage: &RuntimeUse| Some((family(&usage.runtime)?, version_key(&usage.version)?));
        (&self.runtime, &self.version) == (&other.runtime, &other.version)
            || key(self).is_some_and(|own| key(other) == Some(own))
    }

    /// `runc 1.1.5`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.runtime, self.version).trim().to_owned()
    }
}

/// What was measured: runtimes with their versions, in the order of the files.
pub fn measured() -> impl Iterator<Item = (&'static str, &'static str)> {
    FLOORS.iter().map(|file| (file.runtime.as_str(), file.version.as_str()))
}

/// Whether this very version was measured.
#[must_use]
pub fn is_exact(usage: &RuntimeUse) -> bool {
    lookup(usage).iter().any(|floor| floor.exact)
}

/// The floors for a use: the exact version's; else the nearest version's of the same runtime; for an unknown
/// runtime or an unknown version all that could apply.
///
/// Nearest is the newest that is not newer than asked for, else the oldest. A distribution's suffix
/// (`1.1.5+ds1`) makes no other version.
#[must_use]
pub fn lookup(usage: &RuntimeUse) -> Vec<Floor> {
    let asked = family(&usage.runtime);
    let same: Vec<&'static FloorFile> =
        FLOORS.iter().filter(|file| Some(file.runtime.as_str()) == asked).collect();
    if same.is_empty() {
        return FLOORS.iter().map(|file| file.floor(usage, false)).collect();
    }
    let Some(wanted) = version_key(&usage.version) else {
        return same.iter().map(|file| file.floor(usage, false)).collect();
    };
    let key = |file: &&&'static FloorFile| version_key(&file.version);
    if let Some(file) = same.iter().find(|file| key(file) == Some(wanted)) {
        return vec![file.floor(usage, true)];
    }
    let older = same.iter().filter(|file| key(file) <= Some(wanted)).max_by_key(key);
    let nearest = older.or_else(|| same.iter().min_by_key(key));
    nearest.map(|file| file.floor(usage, false)).into_iter().collect()
}

/// Whether this very version was measured, used in this way, and starts and joins without the call.
#[must_use]
pub fn is_known_to_do_without(usage: &RuntimeUse, name: &str) -> bool {
    lookup(usage).iter().any(|floor| floor.exact && !floor.has(name))
}

/// The same of the nearest version that was measured, where this one was not.
#[must_use]
pub fn does_without(usage: &RuntimeUse, name: &str) -> bool {
    let floors = lookup(usage);
    !floors.is_empty() && !floors.iter().any(|floor| floor.has(name))
}

impl Floor {
    /// Whether it has the call, for starts or joins, each time or sometimes.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        [&self.always, &self.sometimes, &self.join].iter().any(|calls| calls.contains(name))
    }
}

impl FloorFile {
    fn floor(&'static self, usage: &RuntimeUse, exact: bool) -> Floor {
        let calls = |when, made: &[Made]| {
            let rows = self.rows.iter().filter(|row| {
                row.when == when
                    && made.contains(&row.made)
                    && row.no_new_privileges == usage.no_new_privileges
                    && (row.user == RowUser::Any || usage.user == User::NonRoot)
            });
            rows.flat_map(|row| row.syscalls.iter().map(String::as_str)).collect()
        };
        Floor {
            runtime: &self.runtime,
            version: &self.version,
            exact,
            always: calls(When::Start, &[Made::Always]),
            sometimes: calls(When::Start, &[Made::Sometimes]),
            join: calls(When::Join, &[Made::Always, Made::Sometimes]),
        }
    }
}

/// The measured runtime behind an engine's name for it: `io.containerd.runc.v2` is runc.
#[must_use]
pub fn family(name: &str) -> Option<&'static str> {
    let words: Vec<&str> = name.split(['.', '/', '-', '_']).collect();
    FLOORS.iter().map(|file| file.runtime.as_str()).find(|known| words.contains(known))
}

/// `1.1.5+ds1` as (1, 1, 5).
fn version_key(version: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let major = numbers.next()?.ok()?;
    let mut rest = || numbers.next().and_then(Result::ok).unwrap_or(0);
    Some((major, rest(), rest()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{arch::Abi, errno, syscall};

    fn usage(runtime: &str, version: &str, no_new_privileges: bool, user: User) -> RuntimeUse {
        RuntimeUse { runtime: runtime.into(), version: version.into(), no_new_privileges, user }
    }

    #[test]
    fn embedded_files_are_sound() {
        for file in FLOORS.iter() {
            assert_eq!(file.format, 2);
            assert!(!file.source.is_empty());
            assert!(version_key(&file.version).is_some(), "{}", file.version);
            for row in &file.rows {
                assert!(row.syscalls.is_sorted(), "{} {}", file.runtime, file.version);
                for name in &row.syscalls {
                    assert!(syscall::number(Abi::X86_64, name).is_some(), "{name}");
                }
            }
            for no_new_privileges in [false, true] {
                for user in [User::Root, User::NonRoot] {
                    let floor = file.floor(&usage("", "", no_new_privileges, user), true);
                    assert!(
                        floor.always.contains("execve") && floor.join.contains("execve"),
                        "{file:?}"
                    );
                    assert!(floor.always.is_disjoint(&floor.sometimes), "{file:?}");
                }
            }
        }
    }

    #[test]
    fn what_a_runtime_goes_on_without_is_answered_with_enosys() {
        let rows = FLOORS.iter().flat_map(|file| &file.rows);
        let tried: BTreeSet<&String> =
            rows.filter(|row| row.made == Made::Tried).flat_map(|row| &row.syscalls).collect();
        assert!(!tried.is_empty());
        for name in tried {
            let nr = syscall::number(Abi::X86_64, name).expect(name);
            assert_eq!(errno::of_denied(Abi::X86_64, nr), errno::FALLBACK, "{name}");
        }
    }

    #[test]
    fn a_later_load_needs_no_more_to_start() {
        for file in FLOORS.iter() {
            for user in [User::Root, User::NonRoot] {
                let of =
                    |no_new_privileges| file.floor(&usage("", "", no_new_privileges, user), true);
                assert!(of(true).always.is_subset(&of(false).always), "{file:?}");
            }
        }
    }

    #[test]
    fn sizes_are_the_measured_ones() {
        let sizes = |runtime, version, nnp, user| {
            let floors = lookup(&usage(runtime, version, nnp, user));
            assert!(floors.len() == 1 && floors[0].exact);
            (floors[0].always.len(), floors[0].sometimes.len(), floors[0].join.len())
        };
        assert_eq!(sizes("runc", "1.1.5", false, User::Root), (19, 3, 17));
        assert_eq!(sizes("runc", "1.1.5", false, User::NonRoot), (20, 3, 18));
        assert_eq!(sizes("runc", "1.1.5", true, User::NonRoot), (6, 3, 5));
        assert_eq!(sizes("runc", "1.1.5+ds1", true, User::Root), (6, 3, 5));
        assert_eq!(sizes("crun", "1.8.1", false, User::Root), (10, 0, 11));
        // crun loads the filter of a process that joins early, whatever its no_new_privs.
        assert_eq!(sizes("crun", "1.8.1", true, User::Root), (1, 0, 11));
    }

    #[test]
    fn other_versions_get_the_nearest_and_are_told() {
        for (version, nearest) in
            [("1.2.0", "1.1.15"), ("1.1.7", "1.1.5"), ("1.0.0", "1.1.5"), ("9", "1.3.6")]
        {
            let floors = lookup(&usage("io.containerd.runc.v2", version, false, User::Root));
            assert_eq!(floors.len(), 1, "{version}");
            assert_eq!(
                (floors[0].runtime, floors[0].version, floors[0].exact),
                ("runc", nearest, false)
            );
        }
    }

    #[test]
    fn an_unknown_runtime_or_version_gets_all() {
        for (runtime, version) in [("kata", "3.0"), ("", "3.0"), ("mycrunch", "3.0")] {
            let floors = lookup(&usage(runtime, version, false, User::Root));
            assert_eq!(floors.len(), FILES.len(), "{runtime}");
            assert!(floors.iter().all(|floor| !floor.exact));
        }
        let floors = lookup(&usage("runc", "unknown", false, User::Root));
        assert!(floors.iter().all(|floor| floor.runtime == "runc" && !floor.exact));
        assert_eq!(floors.len(), measured().filter(|(runtime, _)| *runtime == "runc").count());
    }

    #[test]
    fn users_are_read_from_the_setting() {
        for root in ["", "0", "root", "0:0", "root:adm"] {
            assert_eq!(User::of_setting(root), User::Root, "{root}");
        }
        for other in ["1000", "nginx", "1000:0"] {
            assert_eq!(User::of_setting(other), User::NonRoot, "{other}");
        }
    }
}
