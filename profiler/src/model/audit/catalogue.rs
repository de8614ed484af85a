//! The catalogue: identifiers never change their meaning, and none is used again.

use super::{
    access, capabilities,
    facts::Known,
    files, image, pod, resources,
    run::{Answer, Subject},
    scan, seccomp,
};
pub use crate::model::lint::Severity;

/// Something that is looked at.
pub struct Check {
    /// `PA001`.
    pub id: &'static str,
    /// `root`.
    pub name: &'static str,
    /// What is wrong when it is found, for people: one line.
    pub about: &'static str,
    /// How bad it is at worst.
    pub severity: Severity,
    /// The controls that ask for it: of the CIS Docker Benchmark 1.7.0 by number, of the Pod Security Standards by policy and name.
    pub controls: &'static [&'static str],
    pub(super) examine: Examine,
}

/// Looks at one concern.
pub(super) type Examine = fn(&Subject<'_>) -> Known<Answer>;

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.id, self.name)
    }
}

impl PartialEq for Check {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Check {
    /// Every check, by identifier.
    pub const ALL: &'static [Check] = &[
        row(
            "PA001",
            "root",
            "runs as root",
            WARNING,
            &["CIS 4.1", "PSS restricted: Running as Non-root"],
            access::root,
        ),
        row(
            "PA002",
            "privileged",
            "nothing keeps it from the host",
            ERROR,
            &["CIS 5.5", "PSS baseline: Privileged Containers"],
            access::privileged,
        ),
        row(
            "PA003",
            "capabilities-added",
            "has capabilities beyond the engine's default",
            ERROR,
            &["CIS 5.4", "PSS baseline: Capabilities"],
            capabilities::added,
        ),
        row(
            "PA004",
            "capabilities-kept",
            "keeps capabilities that nobody asked for",
            WARNING,
            &["CIS 5.4", "PSS restricted: Capabilities"],
            capabilities::kept,
        ),
        row(
            "PA005",
            "no-seccomp",
            "runs under no filter, or one that denies nothing",
            ERROR,
            &["CIS 5.22", "PSS baseline: Seccomp", "PSS restricted: Seccomp"],
            seccomp::missing,
        ),
        row(
            "PA006",
            "seccomp-wider",
            "its filter lets pass what Docker's default refuses",
            ERROR,
            &["CIS 5.22"],
            seccomp::wider,
        ),
        row(
            "PA007",
            "seccomp-default",
            "its filter is the engine's default, made for everyone",
            NOTE,
            &["CIS 5.22"],
            seccomp::not_its_own,
        ),
        row(
            "PA008",
            "new-privileges",
            "set-user-id files can give it privileges",
            WARNING,
            &["CIS 5.26", "PSS restricted: Privilege Escalation"],
            access::new_privileges,
        ),
        row(
            "PA009",
            "no-mac",
            "AppArmor or SELinux was switched off for it",
            WARNING,
            &["CIS 5.2", "CIS 5.3", "PSS baseline: AppArmor"],
            access::mac,
        ),
        row(
            "PA010",
            "writable-root",
            "can change its own programs",
            WARNING,
            &["CIS 5.13"],
            files::root,
        ),
        row(
            "PA011",
            "writable-host-path",
            "can write to a path of the host",
            NOTE,
            &["CIS 5.6", "PSS baseline: HostPath Volumes"],
            files::host_paths,
        ),
        row(
            "PA012",
            "engine-socket",
            "can command the engine, which is root of the host",
            ERROR,
            &["CIS 5.32", "PSS baseline: HostPath Volumes"],
            files::engine_socket,
        ),
        row(
            "PA013",
            "sensitive-mount",
            "sees a path by which the host is governed",
            ERROR,
            &["CIS 5.6", "PSS baseline: HostPath Volumes"],
            files::sensitive,
        ),
        row(
            "PA014",
            "shared-mount",
            "what it mounts appears in the host",
            WARNING,
            &["CIS 5.20"],
            files::shared,
        ),
        row(
            "PA015",
            "devices",
            "reaches devices of the host",
            WARNING,
            &["CIS 5.18"],
            files::devices,
        ),
        row(
            "PA016",
            "host-pid",
            "sees the processes of the host",
            ERROR,
            &["CIS 5.16", "PSS baseline: Host Namespaces"],
            access::host_pid,
        ),
        row(
            "PA017",
            "host-network",
            "is in the network of the host",
            ERROR,
            &["CIS 5.10", "PSS baseline: Host Namespaces"],
            access::host_network,
        ),
        row(
            "PA018",
            "host-ipc",
            "shares memory with processes of the host",
            ERROR,
            &["CIS 5.17", "PSS baseline: Host Namespaces"],
            access::host_ipc,
        ),
        row(
            "PA019",
            "host-uts",
            "shares the host's name, and can change it with a capability",
            WARNING,
            &["CIS 5.21"],
            access::host_uts,
        ),
        row(
            "PA020",
            "host-users",
            "its root is the root of the host",
            NOTE,
            &["CIS 5.31"],
            access::host_users,
        ),
        row(
            "PA021",
            "no-memory-limit",
            "can use up the host's memory",
            WARNING,
            &["CIS 5.11"],
            resources::memory,
        ),
        row(
            "PA022",
            "no-pids-limit",
            "can use up the host's processes",
            WARNING,
            &["CIS 5.29"],
            resources::pids,
        ),
        row(
            "PA023",
            "no-cpu-limit",
            "can use up the host's processors",
            NOTE,
            &["CIS 5.12"],
            resources::cpu,
        ),
        row(
            "PA024",
            "no-reservation",
            "nothing is kept for it when memory is short",
            NOTE,
            &["CIS 5.11", "CIS 5.12"],
            resources::reservations,
        ),
        row(
            "PA025",
            "unlimited-ulimit",
            "a ulimit was lifted altogether",
            NOTE,
            &["CIS 5.19"],
            resources::ulimits,
        ),
        row(
            "PA026",
            "no-health-check",
            "nobody asks whether it is well",
            NOTE,
            &["CIS 4.6", "CIS 5.27"],
            resources::health,
        ),
        row(
            "PA027",
            "port-on-all-addresses",
            "a port is open at every address of the host",
            WARNING,
            &["CIS 5.14", "PSS baseline: Host Ports"],
            resources::addresses,
        ),
        row(
            "PA028",
            "privileged-port",
            "a port of the host below 1024 leads to it",
            NOTE,
            &["CIS 5.8", "PSS baseline: Host Ports"],
            resources::privileged_ports,
        ),
        row(
            "PA029",
            "default-network",
            "every container of the default network reaches it",
            NOTE,
            &["CIS 5.30"],
            resources::default_network,
        ),
        row(
            "PA030",
            "image-labels",
            "nothing says where the image comes from",
            NOTE,
            &[],
            image::labels,
        ),
        row("PA031", "image-size", "the image is large", NOTE, &[], image::size),
        row(
            "PA032",
            "packages",
            "what is in the image can install more",
            NOTE,
            &["CIS 4.3"],
            image::packages,
        ),
        row(
            "PA033",
            "privileged-files",
            "files give privileges to who executes them",
            WARNING,
            &["CIS 4.8"],
            image::privileged_files,
        ),
        row(
            "PA034",
            "secrets",
            "the environment holds what looks like a secret",
            WARNING,
            &["CIS 4.10"],
            image::secrets,
        ),
        row(
            "PA035",
            "image-not-pinned",
            "another image may have this name tomorrow",
            NOTE,
            &["CIS 4.2"],
            image::pinned,
        ),
        row(
            "PA036",
            "vulnerabilities",
            "the scanner knows vulnerabilities of the image",
            ERROR,
            &["CIS 4.4"],
            scan::vulnerabilities,
        ),
        row(
            "PA037",
            "pod-security-baseline",
            "the pod does not follow the policy `baseline`",
            ERROR,
            &["PSS baseline"],
            pod::moot,
        ),
        row(
            "PA038",
            "pod-security-restricted",
            "the pod does not follow the policy `restricted`",
            WARNING,
            &["PSS restricted"],
            pod::moot,
        ),
        row("PA039", "not-read", "what may run containers was not looked at", NOTE, &[], pod::moot),
    ];

    /// The one with this identifier.
    #[must_use]
    pub fn by_id(id: &str) -> Option<&'static Check> {
        Check::ALL.iter().find(|check| check.id == id)
    }
}

const ERROR: Severity = Severity::Error;
const WARNING: Severity = Severity::Warning;
const NOTE: Severity = Severity::Note;

const fn row(
    id: &'static str,
    name: &'static str,
    about: &'static str,
    severity: Severity,
    controls: &'static [&'static str],
    examine: Examine,
) -> Check {
    Check { id, name, about, severity, controls, examine }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of docs/audit.md.
    fn table() -> String {
        let row = |check: &Check| {
            let controls =
                if check.controls.is_empty() { "-".into() } else { check.controls.join("; ") };
            format!(
                "| {} | {} | {} | {} | {controls} |\n",
                check.id, check.name, check.severity, check.about
            )
        };
        let head = "| id | name | at worst | what is wrong when it is found | controls |\n|---|---|---|---|---|\n";
        head.to_owned() + &Check::ALL.iter().map(row).collect::<String>()
    }

    #[test]
    fn identifiers_are_in_order_and_the_documents_table_is_this_one() {
        for (index, check) in Check::ALL.iter().enumerate() {
            assert_eq!(check.id, format!("PA{:03}", index + 1));
            assert_eq!(Check::by_id(check.id), Some(check));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/audit.md");
        let text = fs_err::read_to_string(path).expect("reads");
        let (begin, end) = ("<!-- checks -->\n", "<!-- end -->");
        let (before, rest) = text.split_once(begin).expect("the table's begin");
        let (committed, after) = rest.split_once(end).expect("the table's end");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let text = format!("{before}{begin}{}{end}{after}", table());
            fs_err::write(path, text).expect("writes");
        } else {
            assert_eq!(committed, table(), "UPDATE_DOCS=1 cargo test -p profiler --lib audit");
        }
    }
}
