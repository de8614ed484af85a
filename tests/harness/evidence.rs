//! Reading what the recorder wrote, as plain JSON and YAML: the files are the contract, not the profiler's own types.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::harness::syscalls::{self, NATIVE};

/// The files that are committed to a repository: of a command, and what is added of a container.
const COMMITTED: [&str; 2] = ["profile.json", "seccomp.json"];
const OF_CONTAINERS: [&str; 2] = ["compose.yaml", "kubernetes.yaml"];

/// A `recording.json`.
pub struct Recording {
    /// The whole document.
    pub json: Value,
}

impl Recording {
    /// Reads the recording in `dir`.
    ///
    /// # Errors
    /// When it is not there or no JSON.
    pub fn read(dir: &Utf8Path) -> Result<Self> {
        let json = read_json(&dir.join("recording.json"))?;
        if json["schema_version"] != 1 {
            bail!("schema version {}", json["schema_version"]);
        }
        Ok(Self { json })
    }

    /// The numbers of the calls of one ABI in one phase.
    pub fn numbers(&self, abi: &str, phase: &str) -> BTreeSet<u32> {
        self.facts("syscalls")
            .filter(|fact| fact["abi"] == abi && fact["phase"] == phase)
            .filter_map(|fact| number(&fact["nr"]))
            .collect()
    }

    /// The names of the machine's own calls in one phase.
    ///
    /// # Errors
    /// When this machine has no syscall headers.
    pub fn names(&self, phase: &str) -> Result<BTreeSet<String>> {
        self.numbers(NATIVE, phase).into_iter().map(syscalls::name).collect()
    }

    /// Fails unless the workload made each of these calls of the machine's own.
    ///
    /// # Errors
    /// When one is missing; all missing ones are named.
    pub fn expect_numbers(&self, expected: &[u32]) -> Result<()> {
        let seen = self.numbers(NATIVE, "workload");
        let missing: Vec<_> = expected.iter().filter(|nr| !seen.contains(nr)).collect();
        if !missing.is_empty() {
            bail!("not in the recording: {missing:?}; there are {seen:?}");
        }
        Ok(())
    }

    /// What the runs could not see, by kind.
    pub fn missing(&self) -> BTreeSet<String> {
        self.runs()
            .flat_map(|run| run["missing"].as_array().into_iter().flatten())
            .filter_map(|missing| missing["kind"].as_str().map(str::to_owned))
            .collect()
    }

    /// The machine's own calls that a filter answered in the workload, with the error it gave.
    ///
    /// # Errors
    /// When this machine has no syscall headers.
    pub fn denied(&self) -> Result<BTreeMap<String, i64>> {
        self.facts("denials")
            .filter(|fact| fact["abi"] == NATIVE && fact["phase"] == "workload")
            .filter_map(|fact| Some((number(&fact["nr"])?, fact["errno"].as_i64()?)))
            .map(|(nr, errno)| Ok((syscalls::name(nr)?, errno)))
            .collect()
    }

    /// What the workload's checks for a capability in a call say of `field`, as of `audit`.
    pub fn checks(&self, abi: &str, capability: u8, nr: u32, field: &str) -> BTreeSet<String> {
        self.facts("capabilities")
            .filter(|fact| fact["phase"] == "workload" && fact["abi"] == abi)
            .filter(|fact| fact["capability"] == capability && fact["nr"] == nr)
            .map(|fact| fact[field].as_str().map_or_else(|| fact[field].to_string(), str::to_owned))
            .collect()
    }

    /// The runs.
    pub fn runs(&self) -> impl Iterator<Item = &Value> {
        self.json["runs"].as_object().into_iter().flat_map(|runs| runs.values())
    }

    /// The facts of one kind.
    pub fn facts(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.json[kind].as_array().into_iter().flatten()
    }
}

/// The files that `record` and `generate` write for others to use.
pub struct Emitted {
    dir: Utf8PathBuf,
}

impl Emitted {
    /// Those in `dir`.
    pub fn new(dir: &Utf8Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The path of one of them.
    pub fn path(&self, name: &str) -> Utf8PathBuf {
        self.dir.join(name)
    }

    /// The text of every committed file.
    ///
    /// # Errors
    /// When one that belongs to this kind of target is not there.
    pub fn committed(&self) -> Result<BTreeMap<&'static str, String>> {
        let mut names = COMMITTED.to_vec();
        if self.is_of_container()? {
            names.extend(OF_CONTAINERS);
        }
        names.into_iter().map(|name| Ok((name, fs_err::read_to_string(self.path(name))?))).collect()
    }

    /// Fails unless every committed file has the same bytes as in `other`.
    ///
    /// # Errors
    /// When one differs or is not there.
    pub fn expect_same(&self, other: &Self) -> Result<()> {
        let (own, others) = (self.committed()?, other.committed()?);
        for (name, text) in &own {
            let theirs = others.get(name).with_context(|| format!("no {name}"))?;
            if text != theirs {
                bail!(
                    "{name} differs:\n{}{}",
                    lines_without(text, theirs, '-'),
                    lines_without(theirs, text, '+')
                );
            }
        }
        Ok(())
    }

    fn is_of_container(&self) -> Result<bool> {
        Ok(read_json(&self.path("profile.json"))?["target"]["kind"] == "container")
    }

    /// The OCI filter.
    ///
    /// # Errors
    /// When it is not there or holds what is not OCI.
    pub fn seccomp(&self) -> Result<Seccomp> {
        let json = read_json(&self.path("seccomp.json"))?;
        const KEYS: [&str; 7] = [
            "defaultAction",
            "defaultErrnoRet",
            "architectures",
            "flags",
            "listenerPath",
            "listenerMetadata",
            "syscalls",
        ];
        for key in json.as_object().context("an object")?.keys() {
            if !KEYS.contains(&key.as_str()) {
                bail!("`{key}` is no key of the OCI runtime specification");
            }
        }
        Ok(Seccomp { json })
    }

    /// The capabilities that the profile asks for, without `CAP_`. For a container the compose override and the
    /// Kubernetes patch must drop all others and add the same.
    ///
    /// # Errors
    /// When the files are not there, differ, or do not drop the rest.
    pub fn capabilities(&self) -> Result<BTreeSet<String>> {
        let profile = read_json(&self.path("profile.json"))?;
        if profile["capabilities"]["known"] != true {
            bail!("capability checks were not seen: {}", profile["capabilities"]);
        }
        let required = profile["capabilities"]["required"].as_array().context("a list")?;
        let required: BTreeSet<String> =
            required.iter().filter_map(|rule| rule["name"].as_str().map(str::to_owned)).collect();
        if !self.is_of_container()? {
            return Ok(required);
        }
        let compose = read_yaml(&self.path("compose.yaml"))?;
        let services = compose["services"].as_object().context("compose.yaml has services")?;
        let service = services.values().next().context("compose.yaml has a service")?;
        let kubernetes = read_yaml(&self.path("kubernetes.yaml"))?;
        let patch =
            find(&kubernetes, "capabilities").context("kubernetes.yaml has capabilities")?;
        for (what, dropped, added) in [
            ("compose.yaml", &service["cap_drop"], &service["cap_add"]),
            ("kubernetes.yaml", &patch["drop"], &patch["add"]),
        ] {
            if strings(dropped) != BTreeSet::from(["ALL".to_owned()]) {
                bail!("{what} does not drop ALL but {dropped}");
            }
            if strings(added) != required {
                bail!("{what} adds {added}, profile.json requires {required:?}");
            }
        }
        Ok(required)
    }
}

/// An OCI seccomp filter.
pub struct Seccomp {
    /// The whole document.
    pub json: Value,
}

impl Seccomp {
    /// The ABIs that it lists, in libseccomp's words.
    pub fn architectures(&self) -> Vec<&str> {
        let listed = self.json["architectures"].as_array().into_iter().flatten();
        listed.filter_map(Value::as_str).collect()
    }

    /// The names that are allowed without a condition.
    pub fn allowed(&self) -> BTreeSet<String> {
        let rules = self.json["syscalls"].as_array().into_iter().flatten();
        rules
            .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
            .flat_map(|rule| strings(&rule["names"]))
            .collect()
    }
}

fn read_json(path: &Utf8Path) -> Result<Value> {
    let text = fs_err::read_to_string(path)?;
    serde_json::from_str(&text).with_context(|| format!("`{path}` is no JSON"))
}

fn read_yaml(path: &Utf8Path) -> Result<Value> {
    let text = fs_err::read_to_string(path)?;
    serde_saphyr::from_str(&text).with_context(|| format!("`{path}` is no YAML"))
}

/// The lines of `text` that `other` has not, each behind `mark`.
fn lines_without(text: &str, other: &str, mark: char) -> String {
    let known: BTreeSet<&str> = other.lines().collect();
    text.lines()
        .filter(|line| !known.contains(line))
        .map(|line| format!("{mark}{line}\n"))
        .collect()
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|nr| u32::try_from(nr).ok())
}

fn strings(value: &Value) -> BTreeSet<String> {
    let words = value.as_array().into_iter().flatten();
    words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The first value of `key`, wherever it is.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => {
            map.get(key).or_else(|| map.values().find_map(|value| find(value, key)))
        }
        Value::Array(list) => list.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}
