//! What is known of a container before it is judged. All text in here is hostile.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{bpf::Program, seccomp::SeccompFile};

/// Why something could not be told, in words. Neither a pass nor a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown(pub String);

/// Something that may not be known.
pub type Known<T> = Result<T, Unknown>;

impl Unknown {
    /// Because of `why`.
    #[must_use]
    pub fn because(why: impl Into<String>) -> Unknown {
        Unknown(why.into())
    }
}

impl From<&Unknown> for Unknown {
    fn from(unknown: &Unknown) -> Unknown {
        unknown.clone()
    }
}

/// Things of which some may not be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T> {
    /// Those that are.
    pub known: Vec<T>,
    /// Why there may be others.
    pub rest: Option<Unknown>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List { known: Vec::new(), rest: None }
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(known: Vec<T>) -> Self {
        List { known, rest: None }
    }
}

impl<T> List<T> {
    /// None of it is known.
    #[must_use]
    pub fn unknown(why: &Unknown) -> Self {
        List { known: Vec::new(), rest: Some(why.clone()) }
    }

    /// What `bad` takes. When it takes none and the list is not whole, nobody can tell.
    pub(super) fn bad(&self, bad: impl Fn(&T) -> bool) -> Known<Vec<&T>> {
        let found: Vec<&T> = self.known.iter().filter(|one| bad(one)).collect();
        match &self.rest {
            Some(why) if found.is_empty() => Err(why.clone()),
            _ => Ok(found),
        }
    }
}

/// Where the facts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An engine: `docker` or `podman`.
    Engine,
    /// A service of a compose file.
    Compose,
    /// A container of a Kubernetes manifest.
    Kubernetes,
}

/// A container.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Its name: the container's, the service's, `KIND/NAME container NAME`.
    pub name: String,
    /// Where they come from.
    pub source: Source,
    /// Who its first process runs as.
    pub user: Known<User>,
    /// `--privileged`.
    pub privileged: Known<bool>,
    /// The capabilities that it is granted, without `CAP_`.
    pub capabilities: Known<BTreeSet<String>>,
    /// The filter that was asked for.
    pub seccomp: Known<Filter>,
    /// What the kernel says of its first process, while it runs.
    pub process: Option<Process>,
    /// no_new_privs is set.
    pub no_new_privileges: Known<bool>,
    /// What AppArmor or SELinux was asked to do: the options, and the profile that the engine names.
    pub mac: Known<Vec<String>>,
    /// The root file system is read-only.
    pub read_only: Known<bool>,
    /// Mounts, volumes and tmpfs among them.
    pub mounts: List<Mount>,
    /// Devices of the host, by path.
    pub devices: List<String>,
    /// The namespaces of the host that it is in.
    pub namespaces: Namespaces,
    /// What it may use at most.
    pub limits: Limits,
    /// What is kept for it.
    pub reservations: Reservations,
    /// Its ulimits, where they are not the engine's own.
    pub ulimits: List<Ulimit>,
    /// What asks whether it is well; `None` when nothing does.
    pub health: Known<Option<String>>,
    /// Ports of the host that lead to it.
    pub ports: List<Port>,
    /// It is in the engine's default network, where every container reaches every other. `None` where there is no such.
    pub default_network: Option<bool>,
    /// Names of its environment.
    pub environment: List<Variable>,
    /// Labels of the container or its image.
    pub labels: Known<BTreeMap<String, String>>,
    /// The image, as it is named.
    pub image_reference: Known<String>,
    /// The image itself.
    pub image: Known<Image>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As the setting names it; empty when nothing is set.
    pub setting: String,
    /// Uid 0.
    pub is_root: Known<bool>,
}

/// A filter that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// None.
    Unconfined,
    /// The engine's or runtime's own.
    EngineDefault,
    /// This.
    File(Box<SeccompFile>),
}

/// A process, by `/proc/PID/status` and ptrace.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Its effective uid, as the host sees it.
    pub uid: u32,
    /// That is uid 0 of the host, or of its user namespace.
    pub is_root: bool,
    /// Bounding set, by bits.
    pub bounding: u64,
    /// no_new_privs.
    pub no_new_privileges: bool,
    /// `Seccomp:` of its status: 0 none, 2 a filter.
    pub seccomp_mode: u32,
    /// The filters that the kernel has loaded.
    pub filters: Known<Vec<Program>>,
    /// Uid 0 in it is uid 0 of the host.
    pub is_hosts_root: Known<bool>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// The path of the host; `None` for volumes of the engine and tmpfs. One that does not begin with `/` is below a directory
    /// that is not known.
    pub host: Option<String>,
    /// Why it may be a path of the host though none is named.
    pub unsure: Option<Unknown>,
    /// Where it is in the container.
    pub target: String,
    /// It can be written to.
    pub writable: bool,
    /// What is mounted in it later appears in the host, too.
    pub shared: bool,
    /// `bind`, `volume`, `tmpfs`, or what Kubernetes calls it.
    pub kind: String,
}

/// Whether the host's namespaces are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces {
    /// Processes.
    pub pid: Known<bool>,
    /// Network.
    pub network: Known<bool>,
    /// System V IPC and shared memory.
    pub ipc: Known<bool>,
    /// Host name.
    pub uts: Known<bool>,
    /// Users; asked for by name.
    pub user: Known<bool>,
}

/// Limits; `None` where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory, as it is written or in bytes.
    pub memory: Known<Option<String>>,
    /// Processes and threads.
    pub pids: Known<Option<String>>,
    /// Processors.
    pub cpu: Known<Option<String>>,
}

/// What is kept; `None` where nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservations {
    /// Memory.
    pub memory: Known<Option<String>>,
    /// Processors, or their shares.
    pub cpu: Known<Option<String>>,
}

/// A ulimit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// `nofile`.
    pub name: String,
    /// The hard one; -1 is none at all.
    pub hard: i64,
}

/// A port of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The address that it listens at; empty for all.
    pub address: String,
    /// The first number; `None` where the engine chooses one.
    pub host: Option<u16>,
    /// The port of the container, with the protocol: `80/tcp`.
    pub container: String,
}

/// The program that a command begins with: what can be told of it without a value. `None` when it begins with anything else.
pub(super) fn program(command: &str) -> Option<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    command.split_whitespace().next().filter(|word| word.chars().all(is_plain))
}

/// What asks whether a container is well, by the engine's words for it: its kind and its program. The rest may hold a secret.
/// `None` when nothing does; unknown when the words leave it to the image.
///
/// # Errors
/// When there are no words, or none that an engine knows.
pub fn health_check<'w>(words: impl IntoIterator<Item = &'w str>) -> Known<Option<String>> {
    let mut words = words.into_iter();
    let kind = match words.next() {
        Some("NONE") => return Ok(None),
        Some(kind @ ("CMD" | "CMD-SHELL")) => kind,
        Some(_) => {
            return Err(Unknown::because("its health check is of no kind that engines have"));
        }
        None => {
            return Err(Unknown::because("an empty health check is the image's: it may have one"));
        }
    };
    let name = words.next().and_then(program);
    Ok(Some(name.map_or_else(|| kind.to_owned(), |name| format!("{kind} {name}"))))
}

/// `true` and `false` in the spellings that Docker takes in its options.
#[must_use]
pub fn docker_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The path of the host that stands behind a volume of an engine; `None` where the engine or another machine keeps it.
///
/// # Errors
/// When its driver or its options do not say.
pub fn behind_volume(driver: &str, options: &BTreeMap<String, String>) -> Known<Option<String>> {
    if !matches!(driver, "" | "local") {
        return Err(Unknown::because(format!(
            "what volumes of the driver `{driver}` are is not known"
        )));
    }
    let option = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
    let is_bind = option("o").split(',').any(|option| matches!(option, "bind" | "rbind"));
    match (option("type"), option("device")) {
        (_, "") | ("tmpfs" | "nfs" | "nfs4" | "cifs", _) if !is_bind => Ok(None),
        (_, device) if is_bind && !device.is_empty() => Ok(Some(device.to_owned())),
        _ => Err(Unknown::because("the options of its volume name a device of the host")),
    }
}

/// A limit of nothing, in whichever unit, is none.
#[must_use]
pub fn is_limit(text: &str) -> bool {
    let number = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic());
    !number.is_empty() && number.parse::<f64>().map_or(true, |number| number > 0.0)
}

/// A variable of the environment. The value is never kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// It has a value here.
    pub is_set: bool,
    /// The value is a URL with a password.
    pub has_password: bool,
}

impl Variable {
    /// `NAME=VALUE`, or a name alone, which the value is given to elsewhere.
    #[must_use]
    pub fn new(name: &str, value: Option<&str>) -> Variable {
        let value = value.unwrap_or_default();
        let authority = value
            .split_once("://")
            .map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default().to_owned());
        let user = authority.as_deref().and_then(|authority| authority.rsplit_once('@'));
        let password = user.and_then(|(user, _)| user.split_once(':')).map(|(_, word)| word);
        Variable {
            name: name.to_owned(),
            is_set: !value.is_empty(),
            has_password: password.is_some_and(|word| !word.is_empty()),
        }
    }
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:...`.
    pub id: String,
    /// In bytes.
    pub size: u64,
    /// From the base up; those without content are left out.
    pub layers: Vec<Layer>,
    /// What is in it.
    pub contents: Known<Contents>,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The instruction that made it.
    pub created_by: String,
    /// In bytes.
    pub size: u64,
}

/// What is in the root of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// By path.
    pub privileged: Vec<PrivilegedFile>,
    /// The packages, by the database of each manager that has one.
    pub packages: Vec<Packages>,
    /// Programs that install packages, by path.
    pub managers: Vec<String>,
}

/// A file that gives its privileges to who executes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrivilegedFile {
    /// Where it is.
    pub path: String,
    /// Permissions, with set-user-id and set-group-id bits.
    pub mode: u32,
    /// It has capabilities (`security.capability`).
    pub has_capabilities: bool,
}

/// The packages of one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packages {
    /// `dpkg`, `apk`, `rpm`.
    pub manager: &'static str,
    /// How many are installed; `None` where the database cannot be read.
    pub count: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_engines_are_read_as_they_do() {
        let told = |words: &[&str]| health_check(words.iter().copied());
        assert_eq!(told(&["NONE"]), Ok(None));
        assert_eq!(
            told(&["CMD-SHELL", "curl http://a:s3cret@b"]),
            Ok(Some("CMD-SHELL curl".into()))
        );
        assert_eq!(told(&["CMD", "/bin/true", "s3cret"]), Ok(Some("CMD /bin/true".into())));
        assert_eq!(told(&["CMD-SHELL", "A='x s3cret' b"]), Ok(Some("CMD-SHELL".into())));
        assert!(told(&[]).is_err() && told(&["s3cret"]).is_err());
        assert_eq!(
            ["1", "True", "f", "FALSE", "no", ""].map(docker_bool),
            [Some(true), Some(true), Some(false), Some(false), None, None,]
        );
        for text in ["0", "-1", "0m", "0.0", "0Gi", "", "b"] {
            assert!(!is_limit(text), "{text}");
        }
        for text in ["1", "64m", "0.5", "500m", "64Mi"] {
            assert!(is_limit(text), "{text}");
        }
    }

    #[test]
    fn volumes_that_stand_for_paths_of_the_host_are_told() {
        let of = |driver: &str, options: &[(&str, &str)]| {
            let own = options.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            behind_volume(driver, &own.collect())
        };
        let bind = [("type", "none"), ("o", "rw,bind"), ("device", "/etc")];
        assert_eq!(of("local", &bind), Ok(Some("/etc".into())));
        assert_eq!(of("", &[]), Ok(None));
        assert_eq!(of("local", &[("type", "tmpfs"), ("device", "tmpfs")]), Ok(None));
        assert_eq!(of("local", &[("type", "nfs"), ("device", ":/x"), ("o", "addr=x")]), Ok(None));
        assert!(of("local", &[("type", "ext4"), ("device", "/dev/sda1")]).is_err());
        assert!(of("rclone", &[]).is_err());
    }
}
