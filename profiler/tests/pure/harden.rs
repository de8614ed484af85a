//! Advice beyond calls: from usages to settings, and back through the readers of every format.

use std::collections::{BTreeMap, BTreeSet};

use profiler::{
    ingest,
    model::{
        harden::{Harden, Kind, network::Family, read_only::is_plain},
        policy::{self, Options},
        profile::Profile,
        purpose::Purpose,
        recording::{
            AuditClass, CapabilityFact, CheckSighting, Missing, Phase, Program, Recording,
            Sighting, UserNamespace, Verdict,
        },
        text,
        union::union,
        usage::{
            Change, FileKind, How, Image, Mount, Owned, Protocol, Resources, Role, Root, Socket,
            Usage, User,
        },
    },
    render,
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::{
    evidence::{BACKEND, COMMAND, parse},
    schemas::follows,
};

const MIB: u64 = 1 << 20;

fn change(path: &str, how: How, file: FileKind) -> Change {
    Change {
        path: path.to_owned(),
        how,
        file,
        mode: if file == FileKind::Directory { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        bytes: 0,
        executed: false,
    }
}

pub fn file(path: &str) -> Change {
    change(path, How::Created, FileKind::Regular)
}

fn directory(path: &str) -> Change {
    change(path, How::Created, FileKind::Directory)
}

pub fn layer(changes: impl IntoIterator<Item = Change>) -> Root {
    Root::Layer { changes: changes.into_iter().collect(), more: 0 }
}

fn program(name: &str) -> Program {
    Program { comm: name.to_owned(), exe: name.to_owned() }
}

pub fn user(uid: u32, first: bool, programs: &[&str]) -> User {
    User {
        uid,
        gid: uid,
        groups: BTreeSet::new(),
        first,
        programs: programs.iter().map(|name| program(name)).collect(),
    }
}

pub fn socket(role: Role, address: &str, port: u16, protocol: Protocol) -> Socket {
    let address = address.parse().expect("an address");
    Socket { role, protocol, address, port, program: None }
}

/// One that nothing stands in the way of.
pub fn usage() -> Usage {
    Usage {
        occupied: BTreeSet::new(),
        looks: 20,
        longest_gap_ms: 250,
        root: layer([]),
        image: Some(Image::default()),
        mounts: BTreeSet::new(),
        users: [user(1000, true, &["app"])].into(),
        sockets: BTreeSet::new(),
        unprivileged_port_start: Some(1024),
        resources: Resources {
            memory_bytes: Some(37 * MIB),
            anonymous_bytes: Some(20 * MIB),
            pids: Some(301),
            open_files: Some(40),
            cpu_us: Some(1_000_000),
            cpu_millis: Some(620),
        },
    }
}

/// A container of user 1000 that needs no capability.
pub fn recording(usage: Usage) -> Recording {
    let mut recording = parse(BACKEND);
    recording.capabilities.clear();
    for run in recording.runs.values_mut() {
        run.usage = Some(usage.clone());
        run.missing.clear();
        let container = run.container.as_mut().expect("a container");
        container.user = "1000".into();
        container.compose_service = None;
    }
    recording
}

pub fn rooted(usage: Usage) -> Recording {
    let mut recording = recording(usage);
    for run in recording.runs.values_mut() {
        run.container.as_mut().expect("a container").user = String::new();
    }
    recording
}

pub fn profile_of(recording: &Recording, kinds: &[Kind]) -> Profile {
    let options = Options { harden: kinds.iter().copied().collect(), ..Options::default() };
    policy::derive(recording, &options)
}

pub fn profile(recording: &Recording) -> Profile {
    profile_of(recording, &Kind::ALL)
}

fn harden(recording: &Recording) -> Harden {
    profile(recording).harden.expect("asked for")
}

fn places(root: Root) -> (Vec<String>, Vec<String>) {
    let profile = profile_of(&recording(Usage { root, ..usage() }), &[Kind::ReadOnly]);
    let advice = profile.harden.and_then(|advice| advice.read_only).expect("asked for");
    let place = |place: &profiler::model::harden::read_only::Place| match &place.tmpfs {
        None => format!("{} volume", place.path),
        Some(tmpfs) => {
            let exec = if tmpfs.exec { " exec" } else { "" };
            format!("{} {}m {:o} {}{exec}", place.path, tmpfs.size_mib, tmpfs.mode, tmpfs.uid)
        }
    };
    (advice.places.iter().map(place).collect(), advice.not_because.into_iter().collect())
}

fn files(recording: &Recording, profile: &Profile) -> BTreeMap<&'static str, String> {
    render::bundle(recording, profile, "profiles/backend").into_iter().collect()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn service(recording: &Recording, profile: &Profile) -> Value {
    let compose = yaml(&files(recording, profile)["compose.yaml"]);
    compose["services"][&recording.target.name].clone()
}

#[test]
fn nothing_is_said_unless_it_is_asked_for() {
    let with = recording(usage());
    let mut without = with.clone();
    without.runs.values_mut().for_each(|run| run.usage = None);
    let plain = |recording: &Recording| {
        let mut files = files(recording, &policy::derive(recording, &Options::default()));
        files.remove("recording.json");
        files
    };
    assert_eq!(plain(&with), plain(&without));
    assert!(!plain(&with)["profile.json"].contains("harden"));
}

#[test]
fn writes_are_covered_by_what_hides_nothing() {
    for (what, changes, expected) in [
        ("nothing", vec![], vec![]),
        ("scratch", vec![file("/tmp/x")], vec!["/tmp 16m 1777 0"]),
        (
            "scratch of another user",
            vec![Change { uid: 33, gid: 33, ..file("/run/app.pid") }],
            vec!["/run 16m 755 33"],
        ),
        (
            "four times the size, in a power of two; executed",
            vec![Change { bytes: 3 * MIB, executed: true, ..file("/tmp/tool") }],
            vec!["/tmp 16m 1777 0 exec"],
        ),
        (
            "a directory counts once",
            vec![
                Change { bytes: 3 * MIB, ..directory("/tmp/d") },
                Change { bytes: 3 * MIB, ..file("/tmp/d/x") },
            ],
            vec!["/tmp 16m 1777 0"],
        ),
        ("of the image, which may have files", vec![file("/opt/odd/x")], vec!["/opt/odd volume"]),
        (
            "a file of the image",
            vec![change("/tmp/seed", How::Changed, FileKind::Regular)],
            vec!["/tmp volume"],
        ),
        (
            "removed",
            vec![change("/srv/a/b", How::Removed, FileKind::Regular)],
            vec!["/srv/a volume"],
        ),
        (
            "chown -R",
            vec![change("/data", How::Changed, FileKind::Directory)],
            vec!["/data volume"],
        ),
        (
            "created and gone",
            vec![change("/run", How::Visited, FileKind::Directory)],
            vec!["/run 16m 755 0"],
        ),
        (
            "created and gone",
            vec![change("/var/spool", How::Visited, FileKind::Directory)],
            vec!["/var/spool volume"],
        ),
        (
            "in a directory of its own, at the top",
            vec![
                Change { mode: 0o700, uid: 7, ..directory("/cache") },
                directory("/cache/a"),
                Change { bytes: MIB, ..file("/cache/a/b") },
            ],
            vec!["/cache 16m 700 7"],
        ),
        ("one volume in another", vec![file("/data/x"), file("/data/sub/x")], vec!["/data volume"]),
        (
            "the engine's own",
            vec![
                file("/etc/hosts"),
                file("/etc/resolv.conf"),
                file("/etc/hostname"),
                file("/.dockerenv"),
                change("/etc/mtab", How::Created, FileKind::Other),
            ],
            vec![],
        ),
    ] {
        let (places, not_because) = places(layer(changes));
        assert_eq!(places, expected, "{what}");
        assert_eq!(not_because, Vec::<String>::new(), "{what}");
    }
}

#[test]
fn what_no_mount_covers_keeps_the_root_writable() {
    for changes in [
        vec![file("/x")],
        vec![change("/etc/passwd", How::Changed, FileKind::Regular)],
        vec![change("/usr/bin/tool", How::Removed, FileKind::Regular)],
        vec![file("/etc/app/generated.conf")],
        vec![change("/etc", How::Visited, FileKind::Directory)],
        vec![file("/opt/a b/x")],
        vec![file("/opt/a:b/x")],
        vec![file("/opt/../etc/x")],
        vec![file(&format!("/opt{}/x", "/y".repeat(2048)))],
    ] {
        let (_, not_because) = places(layer(changes.clone()));
        assert_eq!(not_because.len(), 1, "{changes:?}");
        assert!(not_because[0].chars().count() < 300, "{not_because:?}");
        let recording = recording(Usage {
            root: layer(changes.iter().cloned().chain([file("/tmp/x")])),
            ..usage()
        });
        let service = service(&recording, &profile(&recording));
        assert!(service.get("read_only").is_none() && service.get("tmpfs").is_none(), "{service}");
    }
    for root in [
        Root::Layer { changes: BTreeSet::new(), more: 3 },
        Root::Unknown { reason: "it is on zfs".into() },
        layer((0..40).map(|n| file(&format!("/opt/d{n}/x")))),
    ] {
        let (_, not_because) = places(root.clone());
        assert_eq!(not_because.len(), 1, "{root:?}: {not_because:?}");
    }
    assert_eq!(places(Root::ReadOnly {}), (vec![], vec![]));
}

#[test]
fn what_is_mounted_is_no_write_to_the_root() {
    let mount = Mount { path: "/data/db".into(), filesystem: "ext4".into(), ..Mount::default() };
    let mounts = [mount].into();
    // the runtime makes the directories that it mounts on
    let root = layer([directory("/data"), directory("/data/db"), file("/data/x")]);
    let advice = harden(&recording(Usage { root, mounts, ..usage() })).read_only.expect("asked");
    let paths: Vec<_> = advice.places.iter().map(|place| place.path.as_str()).collect();
    assert_eq!((paths, advice.not_because.len()), (vec!["/data"], 0));
}

#[test]
fn without_evidence_nothing_is_advised_and_it_is_said_why() {
    let mut none = recording(usage());
    none.runs.values_mut().for_each(|run| run.usage = None);
    let once = recording(Usage { looks: 1, ..usage() });
    let never = recording(Usage { looks: 0, ..usage() });
    let away = recording(Usage { longest_gap_ms: 60_000, ..usage() });
    let mut late = recording(usage());
    late.runs.values_mut().for_each(|run| run.missing.push(Missing::Startup));
    for (recording, kinds) in [
        (&none, vec![Kind::ReadOnly, Kind::User, Kind::Network, Kind::Resources]),
        (&once, vec![Kind::User, Kind::Network]),
        (&never, vec![Kind::ReadOnly, Kind::User, Kind::Network, Kind::Resources]),
        (&away, vec![Kind::ReadOnly, Kind::User, Kind::Network, Kind::Resources]),
        (&late, vec![Kind::User, Kind::NoNewPrivileges]),
    ] {
        let advice = harden(recording);
        let said = |kind: &Kind| match kind {
            Kind::ReadOnly => advice.read_only.as_ref().expect("asked").not_because.len(),
            Kind::User => advice.user.as_ref().expect("asked").not_because.len(),
            Kind::NoNewPrivileges => {
                advice.no_new_privileges.as_ref().expect("asked").not_because.len()
            }
            Kind::Network => advice.network.as_ref().expect("asked").not_because.len(),
            Kind::Resources => advice.resources.as_ref().expect("asked").not_because.len(),
        };
        let withheld: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| said(kind) > 0).collect();
        assert_eq!(withheld, kinds, "{advice:?}");
    }
    assert_eq!(harden(&once).user.expect("asked").applied(), None);
}

#[test]
fn processors_are_reserved_by_quarters_of_the_run_that_took_most() {
    let mut recording = recording(usage());
    let second = recording.runs.values().next().expect("a run").clone();
    recording.runs.insert("other".to_owned(), second);
    for (seconds, expected) in [(1, 250), (24, 250), (26, 500), (51, 1000), (3_000, 1000)] {
        for (run, seconds) in recording.runs.values_mut().zip([1, seconds]) {
            run.duration_ms = 100_000;
            run.usage.as_mut().expect("a usage").resources.cpu_us = Some(seconds * 1_000_000);
        }
        let found = harden(&recording).resources.expect("asked");
        assert_eq!(found.reserved_cpu_millis, Some(expected), "{seconds} s of 100 s");
    }
}

/// A connection of the container to itself lasts for a moment: whether a look falls into it is chance.
#[test]
fn the_families_are_those_of_what_is_advised() {
    let families = |sockets: &[Socket]| {
        let usage = Usage { sockets: sockets.iter().cloned().collect(), ..usage() };
        harden(&recording(usage)).network.expect("asked").families
    };
    let listens = socket(Role::Listening, "::", 80, Protocol::Tcp);
    let to_itself = socket(Role::Connected, "127.0.0.1", 80, Protocol::Tcp);
    let to_other = socket(Role::Connected, "10.0.0.2", 5432, Protocol::Tcp);
    let six = [Family::Ipv6].into();
    assert_eq!(families(std::slice::from_ref(&listens)), six);
    assert_eq!(families(&[listens.clone(), to_itself]), six);
    assert_eq!(families(&[listens, to_other]), [Family::Ipv4, Family::Ipv6].into());
}

/// compose 2 refuses what differs in the two places where limits can be, 1.29 takes one of them only.
#[test]
fn limits_are_in_both_places_for_compose_2_and_in_the_old_one_for_1_29() {
    let mut recording = recording(usage());
    let service = |recording: &Recording| {
        let text = files(recording, &profile(recording))["compose.yaml"].clone();
        let services = yaml(&text)["services"].as_object().expect("a map").clone();
        services.into_iter().next().expect("a service").1
    };
    let new = service(&recording);
    let limits = serde_json::json!({
        "limits": {"cpus": new["cpus"], "memory": new["mem_limit"], "pids": new["pids_limit"]},
        "reservations": {"cpus": "0.25", "memory": new["mem_reservation"]},
    });
    assert_eq!(new["deploy"], serde_json::json!({ "resources": limits }));
    assert!(limits["limits"].as_object().expect("a map").values().all(|value| !value.is_null()));
    for run in recording.runs.values_mut() {
        run.container.as_mut().expect("a container").compose_1 = true;
    }
    let old = service(&recording);
    assert_eq!((&old["mem_limit"], old.get("deploy")), (&new["mem_limit"], None));
    // what is absent there is another value than the user's in the old place
    for run in recording.runs.values_mut() {
        run.container.as_mut().expect("a container").compose_1 = false;
        run.usage.as_mut().expect("a usage").resources.cpu_millis = None;
    }
    let resources = &service(&recording)["deploy"]["resources"];
    assert!(resources.get("limits").is_none() && resources.get("reservations").is_some());
}

#[test]
fn limits_are_far_above_what_was_seen_and_round() {
    let limits =
        |resources| harden(&recording(Usage { resources, ..usage() })).resources.expect("asked");
    let found = limits(usage().resources);
    let numbers =
        [found.memory_mib, found.reserved_mib, found.pids, found.open_files, found.cpu_millis];
    assert_eq!(numbers, [Some(128), Some(64), Some(2048), Some(16384), Some(1000)]);
    // what differs a little from run to run gives the same
    let again = Resources {
        memory_bytes: Some(35 * MIB),
        pids: Some(298),
        open_files: Some(44),
        cpu_millis: Some(660),
        ..usage().resources
    };
    assert_eq!(limits(again), found);
    // as little as it may be, and as much as a machine has
    let small = limits(Resources {
        memory_bytes: Some(1),
        pids: Some(1),
        open_files: Some(3),
        cpu_millis: Some(0),
        ..Resources::default()
    });
    assert_eq!((small.memory_mib, small.pids, small.cpu_millis), (Some(32), Some(64), Some(1000)));
    for (busiest, limit) in [(240, 1000), (1000, 1000), (1095, 2000), (1990, 2000), (2040, 2000)] {
        let found = limits(Resources { cpu_millis: Some(busiest), ..Resources::default() });
        assert_eq!(found.cpu_millis, Some(limit), "{busiest}");
        assert_eq!((found.memory_mib, found.pids, found.reserved_cpu_millis), (None, None, None));
        assert!(!found.not_because.is_empty());
    }
    let huge = limits(Resources {
        memory_bytes: Some(u64::MAX),
        pids: Some(u64::MAX),
        ..Resources::default()
    });
    assert_eq!(huge.memory_mib, Some(1 << 40), "{huge:?}");
    // no peak is kept before Linux 5.19
    let looked = limits(Resources { anonymous_bytes: Some(20 * MIB), ..Resources::default() });
    assert_eq!((looked.memory_mib, looked.reserved_mib), (Some(128), Some(32)));
}

#[test]
fn what_goes_to_memory_counts_as_memory() {
    let root = layer([Change { bytes: 100 * MIB, ..file("/tmp/big") }]);
    let recording = recording(Usage { root, ..usage() });
    let limit = |kinds: &[Kind]| {
        profile_of(&recording, kinds).harden.expect("asked").resources.expect("asked").memory_mib
    };
    assert_eq!(limit(&[Kind::Resources]), Some(128));
    assert_eq!(limit(&[Kind::Resources, Kind::ReadOnly]), Some(256));
}

/// Granted at an execve, as the kernel side tells of a file's capabilities.
fn gain(program: &str) -> CapabilityFact {
    let sighting = Sighting { programs: [self::program(program)].into(), ..Sighting::default() };
    let seen = CheckSighting { checks: 1, succeeded: 1, failed: 0, unsettled: 0, sighting };
    CapabilityFact {
        capability: 13,
        phase: Phase::Workload,
        verdict: Verdict::Granted,
        audit: AuditClass::Implied,
        user_namespace: UserNamespace::Host,
        overridden: false,
        abi: profiler::model::arch::Abi::X86_64,
        nr: 59,
        asked_by: String::new(),
        seen: [("00000000000000aa".to_owned(), seen)].into(),
    }
}

#[test]
fn no_new_privileges_is_set_unless_a_program_gave_more() {
    let advised = |recording: &Recording| {
        let profile = profile_of(recording, &[Kind::NoNewPrivileges]);
        let not = profile.harden.expect("asked").no_new_privileges.expect("asked").not_because;
        let not: Vec<String> = not.into_iter().collect();
        assert_eq!(profile.made_for.no_new_privileges(), not.is_empty());
        not.join("; ")
    };
    let mut recording = recording(usage());
    assert_eq!(advised(&recording), "");
    assert!(
        service(&recording, &profile(&recording))["security_opt"]
            .to_string()
            .contains("no-new-privileges:true")
    );
    recording.capabilities = vec![gain("ping")];
    assert_eq!(advised(&recording), "`ping` has NET_RAW from its file");
    // what a file gives root had
    let mut as_root = rooted(Usage { users: [user(0, true, &["ping"])].into(), ..usage() });
    as_root.capabilities = vec![gain("ping")];
    assert_eq!(advised(&as_root), "");
    let users = [user(1000, true, &["app"]), user(12, false, &["man"])].into();
    let setuid = self::recording(Usage { users, ..usage() });
    assert_eq!(advised(&setuid), "`man` ran as 12 and was started by 1000");

    // what is asked for in words goes first
    let purpose = Purpose { no_new_privileges: Some(false), ..Purpose::default() };
    let options = Options { purpose, harden: [Kind::NoNewPrivileges].into(), ..Options::default() };
    let profile = policy::derive(&self::recording(usage()), &options);
    assert!(!profile.made_for.no_new_privileges());
}

#[test]
fn users_are_advised_where_nothing_needs_root() {
    let applied = |recording: &Recording| {
        let advice = harden(recording).user.expect("asked for");
        (advice.applied().map(|ids| ids.uid), advice)
    };
    assert_eq!(applied(&recording(usage())).0, Some(1000));

    let root = || [user(0, true, &["app"])].into();
    let all_root = Usage { users: root(), root: layer([file("/tmp/x")]), ..usage() };
    let (who, advice) = applied(&rooted(all_root.clone()));
    assert_eq!(who, Some(65532), "{advice:?}");
    // the kernel would have checked NET_BIND_SERVICE, had it been needed
    let low = socket(Role::Listening, "0.0.0.0", 80, Protocol::Tcp);
    let (who, _) = applied(&rooted(Usage { sockets: [low].into(), ..all_root.clone() }));
    assert_eq!(who, Some(65532));
    for (why, hindered) in [
        ("`/opt/x` is written", Usage { root: layer([file("/opt/x/y")]), ..all_root.clone() }),
        ("`/etc` is written", Usage { root: layer([file("/etc/x")]), ..all_root.clone() }),
        ("image are is not known", Usage { image: None, ..all_root.clone() }),
        (
            "not read to its end",
            Usage { image: Some(Image { more: 1, ..Image::default() }), ..all_root.clone() },
        ),
    ] {
        let (who, advice) = applied(&rooted(hindered));
        assert!(
            who.is_none() && advice.not_because.iter().any(|reason| reason.contains(why)),
            "{why}: {advice:?}"
        );
    }
    let mut needs = rooted(all_root);
    needs.capabilities = parse(BACKEND).capabilities;
    let (who, advice) = applied(&needs);
    assert_eq!(who, None);
    assert!(advice.not_because.iter().any(|reason| reason.contains("root needs")), "{advice:?}");

    // root hands over; the recording of nginx requires CHOWN, SETGID, SETUID or the like
    let users = [user(0, true, &["sh"]), user(999, true, &["redis"])].into();
    let pid = Change { uid: 0, ..file("/run/redis.pid") };
    let handed = Usage { users, root: layer([pid]), ..usage() };
    let (who, advice) = applied(&rooted(handed.clone()));
    assert_eq!(
        (who, advice.must_write.iter().map(String::as_str).collect::<Vec<_>>()),
        (Some(999), vec![])
    );
    let data = layer([Change { uid: 999, ..file("/var/lib/app/x") }]);
    let has = |owned: Owned| Some(Image { originals: [owned].into(), ..Image::default() });
    for (owner, expected) in [(0, None), (999, Some(999))] {
        let image = has(owned("/var/lib/app", owner, 0o750));
        let (who, advice) = applied(&rooted(Usage { root: data.clone(), image, ..handed.clone() }));
        assert_eq!(who, expected, "{advice:?}");
    }
    // the hand-over came before the first look
    let late = Usage { users: [user(999, true, &["redis"])].into(), ..handed.clone() };
    assert!(applied(&rooted(late)).1.why.iter().any(|why| why.contains("first process is root")));
    let two = [user(0, true, &["sh"]), user(1, false, &["a"]), user(2, false, &["b"])].into();
    assert_eq!(applied(&rooted(Usage { users: two, ..handed })).0, None);
}

fn owned(path: &str, uid: u32, mode: u32) -> Owned {
    Owned { path: path.into(), uid, gid: uid, mode, directory: false }
}

#[test]
fn a_user_has_to_get_at_what_root_had() {
    let reasons = |usage: Usage| {
        let users = [user(0, true, &["sh"]), user(999, true, &["db"])].into();
        let advice = harden(&rooted(Usage { users, ..usage })).user.expect("asked for");
        advice.not_because.into_iter().collect::<Vec<_>>().join("; ")
    };
    let restricted = |owned: Owned| Usage {
        image: Some(Image { restricted: [owned].into(), ..Image::default() }),
        ..usage()
    };
    for (owned, free) in [
        (owned("/app/key", 0, 0o600), false),
        (Owned { gid: 999, ..owned("/app/key", 0, 0o640) }, true),
        (owned("/app/key", 999, 0o400), true),
        (owned("/etc/shadow", 0, 0o640), true),
        (owned("/etc/passwd-", 0, 0o600), true),
        (owned("/etc/shadows", 0, 0o640), false),
        (owned("/var/log/btmp", 0, 0o660), true),
        (owned("/var/log/app/x", 0, 0o660), false),
        (owned("/srv/start.sh", 0, 0o744), false),
        (owned("/srv/start.sh", 999, 0o744), true),
    ] {
        let reasons = reasons(restricted(owned.clone()));
        assert_eq!(reasons.is_empty(), free, "{owned:?}: {reasons}");
    }

    let mounted = |mount: Mount, original: Option<Owned>| Usage {
        mounts: [Mount { path: "/data".into(), filesystem: "ext4".into(), ..mount }].into(),
        image: Some(Image { originals: original.into_iter().collect(), ..Image::default() }),
        ..usage()
    };
    let bind = |uid, mode| Mount { owners: [owned("/data", uid, mode)].into(), ..Mount::default() };
    let volume = |uid| Mount { volume: true, ..bind(uid, 0o700) };
    let read = |mode| Mount { read_only: true, ..bind(0, mode) };
    let original = |uid| Some(owned("/data", uid, 0o700));
    for (mount, original, expected) in [
        (Mount::default(), None, "could not be asked"),
        (bind(0, 0o755), None, "was 0:0's with mode 755: give it to 999:999"),
        (bind(999, 0o755), None, ""),
        (bind(0, 0o1777), None, ""),
        (volume(999), None, "a new volume at `/data`"),
        (volume(999), original(0), "a new volume at `/data`"),
        (volume(999), original(999), ""),
        (volume(0), original(0), "a new volume at `/data`"),
        (volume(0), original(999), "is mounted"),
        (read(0o600), None, "is mounted"),
        (read(0o644), None, ""),
    ] {
        let reasons = reasons(mounted(mount.clone(), original));
        assert_eq!(reasons.is_empty(), expected.is_empty(), "{mount:?}: {reasons}");
        assert!(reasons.contains(expected), "{mount:?}: {reasons}");
    }

    let written = |change: Change, originals: &[Owned]| Usage {
        root: layer([change]),
        image: Some(Image { originals: originals.iter().cloned().collect(), ..Image::default() }),
        ..usage()
    };
    let changed = |path: &str| Change { how: How::Changed, ..file(path) };
    let directory = |path: &str| Change { file: FileKind::Directory, ..changed(path) };
    let dir = |uid| Owned { directory: true, ..owned("/srv/d", uid, 0o755) };
    let inner = |uid| owned("/srv/d/f", uid, 0o644);
    for (change, originals, free) in [
        (file("/srv/d/new/x"), vec![dir(999)], true),
        (file("/srv/d/new/x"), vec![dir(0)], false),
        (changed("/srv/d/f"), vec![dir(0), inner(999)], true),
        (changed("/srv/d/f"), vec![dir(999), inner(0)], false),
        (directory("/srv/d"), vec![dir(0)], false),
        (directory("/srv/d"), vec![Owned { mode: 0o777, ..dir(0) }], false),
        (Change { how: How::Removed, ..file("/srv/d/f") }, vec![dir(999), inner(0)], true),
        (Change { how: How::Visited, ..directory("/srv/d") }, vec![dir(999)], true),
        (file("/new"), vec![], false),
        (file("/tmp/x"), vec![], true),
        (
            file("/srv/d/x"),
            vec![dir(999), Owned { path: "/srv".into(), mode: 0o700, ..dir(0) }],
            false,
        ),
    ] {
        let reasons = reasons(written(change.clone(), &originals));
        assert_eq!(reasons.is_empty(), free, "{change:?}: {reasons}");
    }
}

/// A user who can write to `/run` because it is in memory cannot where it is not.
#[test]
fn a_user_who_needs_a_tmpfs_is_not_advised_without_it() {
    let users = || [user(0, true, &["sh"]), user(999, true, &["db"])].into();
    let of = |root: Root, image: Vec<Owned>| {
        let image = Some(Image { originals: image.into_iter().collect(), ..Image::default() });
        harden(&rooted(Usage { users: users(), root, image, ..usage() }))
    };
    let one = of(layer([file("/run/app.pid")]), vec![]);
    let own = Owned { directory: true, ..owned("/etc/app", 999, 0o755) };
    let other = of(layer([file("/etc/app/state")]), vec![own]);
    let applied = |advice: &Harden| advice.user.as_ref().and_then(|user| user.applied()).is_some();
    assert!(applied(&one) && applied(&other), "{one:?} {other:?}");
    let both = Harden::union(Some(&one), Some(&other)).expect("both were asked for");
    assert!(!applied(&both), "{both:?}");
    assert!(applied(&Harden::union(Some(&one), Some(&one)).expect("asked for")));
}

/// A new volume there takes no owner from the image, and ports below 1024 are not anybody's.
#[test]
fn kubernetes_gets_no_user_who_would_lack_something() {
    let patch = |usage: Usage, kinds: &[Kind]| {
        let users = [user(0, true, &["sh"]), user(999, true, &["db"])].into();
        let recording = rooted(Usage { users, ..usage });
        let profile = profile_of(&recording, kinds);
        let ids = profile.harden.as_ref().and_then(|harden| harden.user.as_ref()?.applied());
        assert!(ids.is_some(), "{profile:?}");
        files(&recording, &profile)["kubernetes.yaml"].clone()
    };
    let own = Owned { directory: true, ..owned("/data", 999, 0o700) };
    let image = Some(Image { originals: [own.clone()].into(), ..Image::default() });
    let mount = Mount {
        path: "/data".into(),
        filesystem: "ext4".into(),
        volume: true,
        owners: [own].into(),
        ..Mount::default()
    };
    let low = socket(Role::Listening, "0.0.0.0", 80, Protocol::Tcp);
    let volume = layer([Change { uid: 999, ..file("/data/x") }]);
    for (usage, is_set) in [
        (usage(), true),
        (Usage { mounts: [mount].into(), image: image.clone(), ..usage() }, false),
        (Usage { sockets: [low].into(), ..usage() }, false),
        (Usage { root: volume, image, ..usage() }, false),
    ] {
        let text = patch(usage, &[Kind::User, Kind::ReadOnly]);
        assert_eq!(text.contains("runAsUser: 999"), is_set, "{text}");
        assert_eq!(text.contains("# User 999:999 is not set"), !is_set, "{text}");
    }
}

/// What takes root to become the user is not added for the user, whom it would give nothing.
#[test]
fn capabilities_of_the_hand_over_are_not_added() {
    let users = [user(0, true, &["sh"]), user(999, true, &["db"])].into();
    let mut recording = rooted(Usage { users, ..usage() });
    recording.capabilities = parse(BACKEND).capabilities;
    recording.capabilities.retain(|fact| matches!(fact.capability, 6 | 7));
    let added = |profile: &Profile| service(&recording, profile)["cap_add"].clone();
    let all = profile(&recording);
    let user = all.harden.as_ref().and_then(|harden| harden.user.as_ref()).expect("asked for");
    assert!(user.applied().is_some() && !user.falls_away.is_empty(), "{user:?}");
    assert_eq!(all.required_capabilities(), user.falls_away.iter().map(String::as_str).collect());
    assert_eq!(added(&all), serde_json::Value::Null);
    let patch = yaml(&files(&recording, &all)["kubernetes.yaml"]);
    let container = &patch["spec"]["template"]["spec"]["containers"][0];
    assert!(container["securityContext"]["capabilities"].get("add").is_none(), "{patch}");

    // without no-new-privileges a program may give them, and without the user root has them
    for kinds in [&[Kind::User, Kind::ReadOnly][..], &[Kind::NoNewPrivileges]] {
        let profile = profile_of(&recording, kinds);
        assert!(added(&profile).is_array(), "{kinds:?}");
    }
    assert_eq!(Harden::union(all.harden.as_ref(), all.harden.as_ref()), all.harden);
}

#[test]
fn a_profile_for_a_user_has_the_runtimes_calls_for_it() {
    let recording = rooted(Usage { users: [user(0, true, &["app"])].into(), ..usage() });
    let profile = profile(&recording);
    assert!(profile.harden.as_ref().and_then(|advice| advice.user.as_ref()?.applied()).is_some());
    let users: Vec<_> = profile.made_for.runtimes.iter().map(|usage| usage.user).collect();
    assert!(users.iter().all(|user| *user == profiler::model::floor::User::NonRoot), "{users:?}");
}

#[test]
fn ports_that_last_are_told() {
    let sockets = [
        socket(Role::Listening, "0.0.0.0", 80, Protocol::Tcp),
        socket(Role::Listening, "::", 8080, Protocol::Tcp),
        socket(Role::Listening, "127.0.0.1", 6000, Protocol::Tcp),
        socket(Role::Listening, "::ffff:127.0.0.1", 6001, Protocol::Tcp),
        socket(Role::Listening, "127.0.0.11", 33445, Protocol::Tcp),
        socket(Role::Listening, "0.0.0.0", 45678, Protocol::Udp),
        socket(Role::Listening, "0.0.0.0", 50051, Protocol::Tcp),
        socket(Role::Connected, "10.1.2.3", 5432, Protocol::Tcp),
        socket(Role::Connected, "127.0.0.1", 6000, Protocol::Tcp),
    ];
    let with = |start| {
        let recording = recording(Usage {
            sockets: sockets.clone().into(),
            unprivileged_port_start: start,
            ..usage()
        });
        (harden(&recording).network.expect("asked for"), recording)
    };
    let (advice, recording) = with(Some(0));
    let ports = |ports: &BTreeSet<profiler::model::harden::network::Port>| {
        ports.iter().map(|port| port.port).collect::<Vec<_>>()
    };
    assert_eq!(ports(&advice.listens), [80, 8080, 50051]);
    assert_eq!(ports(&advice.loopback), [6000, 6001]);
    assert_eq!(ports(&advice.connects), [5432]);
    let why = |advice: &profiler::model::harden::Network| {
        advice.bind_service.iter().cloned().collect::<String>()
    };
    assert!(why(&advice).contains("not needed for port 80 here"), "{advice:?}");
    assert!(why(&with(Some(1024)).0).contains("bound without it"));

    let profile = profile(&recording);
    let files = files(&recording, &profile);
    let policy = yaml(&files["networkpolicy.yaml"]);
    let ports = |way: &str| {
        let rules = policy["spec"][way][0]["ports"].as_array().expect("ports").clone();
        rules.iter().map(|port| port["port"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!((ports("ingress"), ports("egress")), (vec![80, 8080, 50051], vec![53, 53, 5432]));
    assert_eq!(service(&recording, &profile)["expose"], json!(["80", "8080", "50051"]));
}

#[test]
fn whole_hardened_container() {
    let root = layer([
        Change { bytes: MIB, executed: true, ..file("/tmp/tool") },
        Change { uid: 1000, gid: 1000, ..file("/run/app.pid") },
        file("/opt/odd/x"),
    ]);
    let sockets = [socket(Role::Listening, "0.0.0.0", 80, Protocol::Tcp)].into();
    let with_volume = recording(Usage { root, sockets, ..usage() });
    let scratch = recording(Usage { root: layer([file("/tmp/x")]), ..usage() });
    let mut all = String::new();
    for recording in [&with_volume, &scratch] {
        let profile = profile(recording);
        let mut files = files(recording, &profile);
        let lines = files["profile.json"].split_once("\"harden\"").map(|(_, rest)| rest.to_owned());
        files.insert("profile.json", lines.expect("advice"));
        for name in ["profile.json", "compose.yaml", "kubernetes.yaml", "networkpolicy.yaml"] {
            all.push_str(&format!("==> {name} <==\n{}\n", files[name]));
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn advice_of_a_project_stands_in_one_override() {
    let root = layer([file("/opt/odd/x")]);
    let mut one = profile(&recording(Usage { root, ..usage() }));
    let mut other = one.clone();
    one.target.name = "web".into();
    other.target.name = "db".into();
    let all = yaml(&render::compose::render_project([(&one, "p/web"), (&other, "p/db")]));
    let volumes: Vec<_> = all["volumes"].as_object().expect("a map").keys().collect();
    assert_eq!(volumes.len(), 2, "each service has its own: {volumes:?}");
    for service in ["web", "db"] {
        let mount = all["services"][service]["volumes"][0].as_str().expect("a volume");
        let (name, path) = mount.split_once(':').expect("a path");
        assert!(volumes.iter().any(|volume| *volume == name) && path == "/opt/odd");
    }
}

#[test]
fn an_edited_profile_with_another_mount_is_refused() {
    let root = layer([file("/tmp/x")]);
    let profile = profile(&recording(Usage { root, ..usage() }));
    let text = render::json::profile(&profile);
    follows("profile.schema.json", &text);
    assert_eq!(ingest::profile::parse(&text).expect("own output"), profile);
    for path in ["/tmp:exec", "tmp", "/tmp/../etc", "/", "/a,b", "/a\\nb", "/$HOME"] {
        let edited = text.replace("\"path\": \"/tmp\"", &format!("\"path\": \"{path}\""));
        assert_ne!(edited, text);
        assert!(ingest::profile::parse(&edited).is_err(), "{path}");
    }
}

#[test]
fn advice_is_kept_to_what_both_have() {
    let one = profile(&recording(Usage { root: layer([file("/tmp/x")]), ..usage() }));
    let mut bare = one.clone();
    bare.harden = None;
    assert_eq!(union(&one, &bare).expect("one target").harden, None);
    assert_eq!(union(&one, &one).expect("one target").harden, one.harden);
}

#[test]
fn a_tmpfs_hides_nothing_of_the_image() {
    let root = layer([file("/tmp/x")]);
    let occupied = BTreeSet::from(["/tmp".to_owned()]);
    let advice = |occupied| {
        let usage = Usage { root: root.clone(), occupied, ..usage() };
        harden(&recording(usage)).read_only.expect("asked").places
    };
    assert!(advice(occupied)[0].tmpfs.is_none());
    assert!(advice(BTreeSet::new())[0].tmpfs.is_some());
}

/// A second recording is made under the override of the first, which has the option by then.
#[test]
fn a_profile_that_grows_keeps_the_option_that_it_is_made_for() {
    let options = |value: &Value, service: &str| {
        value["services"][service]["security_opt"].as_array().map_or(0, Vec::len)
    };
    let mut first = recording(usage());
    let mut second = recording(usage());
    for (recording, is_set) in [(&mut first, false), (&mut second, true)] {
        for run in recording.runs.values_mut() {
            let container = run.container.as_mut().expect("a container");
            container.no_new_privileges = is_set;
            container.compose_service = Some("web".to_owned());
        }
    }
    let [one, other] = [&first, &second].map(|recording| profile_of(recording, &Kind::ALL));
    let grown = union(&one, &other).expect("one target");
    let of = |profile: &Profile| {
        options(&yaml(&render::compose::render(&first, profile, "p/web")), "web")
    };
    assert_eq!((of(&one), of(&grown)), (2, 2), "the filter, and no-new-privileges");
    assert_eq!(of(&other), 1, "it is in the file that it was recorded with");
}

#[test]
fn a_command_has_none_of_it_to_render() {
    let recording = parse(COMMAND);
    let files = files(&recording, &profile(&recording));
    assert_eq!(files.len(), 3);
}

pub fn hostile() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "/",
        "..",
        ".",
        "'",
        "\"",
        "\n",
        ": ",
        " #",
        "{}",
        "[",
        "$(id)",
        "${X}",
        "`",
        "\\",
        "\u{1b}[2J",
        "\u{202e}",
        "\0",
        "tmp",
        "é",
        ":",
        ",",
        "exec",
        "- x",
        "&a",
        "*",
        "|",
        "\u{85}",
        "\\x1b",
    ]);
    let pieces = vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    let long = pieces.clone().prop_map(|text| format!("/{text}/{}", "x/".repeat(2048)));
    prop_oneof![pieces.clone().prop_map(|text| format!("/opt/{text}/f")), pieces, long]
}

fn any_change() -> impl Strategy<Value = Change> {
    let how = select(vec![How::Created, How::Changed, How::Removed, How::Visited]);
    let kind = select(vec![FileKind::Directory, FileKind::Regular, FileKind::Other]);
    let known =
        select(vec!["/tmp/a", "/tmp/a/b", "/run/x", "/opt/odd/x", "/data", "/cache", "/etc/x"]);
    let path = prop_oneof![hostile(), known.prop_map(str::to_owned)];
    (path, how, kind, any::<u32>(), 0_u32..3, any::<u64>(), any::<bool>()).prop_map(
        |(path, how, file, mode, uid, bytes, executed)| Change {
            path,
            how,
            file,
            mode: mode & 0o7777,
            uid,
            gid: uid,
            bytes,
            executed,
        },
    )
}

pub fn any_usage() -> impl Strategy<Value = Usage> {
    (
        vec(any_change(), 0..6),
        vec((0_u32..3, any::<bool>(), hostile()), 0..4),
        vec((any::<u16>(), any::<bool>()), 0..4),
        proptest::option::of(any::<u64>()),
        vec(hostile(), 0..2),
    )
        .prop_map(|(changes, users, ports, number, mounts)| Usage {
            root: layer(changes),
            users: users
                .into_iter()
                .map(|(uid, first, name)| self::user(uid, first, &[&name]))
                .collect(),
            sockets: ports
                .into_iter()
                .map(|(port, listens)| {
                    let role = if listens { Role::Listening } else { Role::Connected };
                    socket(role, "10.0.0.1", port, Protocol::Tcp)
                })
                .collect(),
            mounts: mounts
                .into_iter()
                .map(|path| Mount { path, filesystem: "ext4".into(), ..Mount::default() })
                .collect(),
            resources: Resources {
                memory_bytes: number,
                anonymous_bytes: number,
                pids: number,
                open_files: number,
                cpu_us: number,
                cpu_millis: number.map(|number| number >> 20),
            },
            ..usage()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_output_is_read_back_and_says_nothing_else(usage in any_usage(), name in hostile(), root: bool) {
        let mut recording = if root { rooted(usage) } else { recording(usage) };
        recording.target.name = name.clone();
        let profile = profile(&recording);
        let files = files(&recording, &profile);
        for text in files.values() {
            prop_assert!(!text.contains(|c| text::acts(c) && c != '\n'), "{:?}", text);
        }
        let read = ingest::recording::parse(&files["recording.json"]).expect("own output");
        prop_assert_eq!(read.target.name, name.as_str());
        prop_assert_eq!(&ingest::profile::parse(&files["profile.json"]).expect("own output"), &profile);

        let compose = yaml(&files["compose.yaml"]);
        let known = ["security_opt", "cap_drop", "cap_add", "user", "group_add", "read_only", "tmpfs", "volumes",
                     "expose", "pids_limit", "ulimits", "cpus", "mem_limit", "mem_reservation", "deploy"];
        prop_assert!(compose.as_object().expect("a map").keys().all(|key| key == "services" || key == "volumes"));
        let services = compose["services"].as_object().expect("a map");
        prop_assert_eq!(services.keys().collect::<Vec<_>>(), vec![&name]);
        let service = &services[&name];
        prop_assert!(service.as_object().expect("a map").keys().all(|key| known.contains(&key.as_str())));
        let list = |key: &str| service[key].as_array().cloned().unwrap_or_default();
        for mount in list("tmpfs") {
            let (path, options) = mount.as_str().expect("text").split_once(':').expect("options");
            let plain = |c: char| c.is_ascii_alphanumeric() || "=,".contains(c);
            prop_assert!(is_plain(path) && options.chars().all(plain), "{}", mount);
        }
        for mount in list("volumes") {
            let (name, path) = mount.as_str().expect("text").split_once(':').expect("a path");
            prop_assert!(is_plain(path) && compose["volumes"].get(name).is_some(), "{}", mount);
        }
        let patch = yaml(&files["kubernetes.yaml"]);
        let pod = &patch["spec"]["template"]["spec"];
        prop_assert_eq!(&pod["containers"][0]["name"], name.as_str());
        let mounts = pod["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
        for mount in mounts {
            prop_assert!(is_plain(mount["mountPath"].as_str().expect("text")));
            let name = mount["name"].as_str().expect("text");
            prop_assert!(name.len() <= 63 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        }
        if let Some(policy) = files.get("networkpolicy.yaml") {
            let name = yaml(policy)["metadata"]["name"].as_str().expect("text").to_owned();
            prop_assert!(name.len() <= 63 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        }
    }

    #[test]
    fn advice_joins_like_sets(a in any_usage(), b in any_usage(), c in any_usage()) {
        let of = |usage| Some(harden(&rooted(usage)));
        let (a, b, c) = (of(a), of(b), of(c));
        let join = |one: &Option<Harden>, other: &Option<Harden>| Harden::union(one.as_ref(), other.as_ref());
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&a, &join(&b, &c)), join(&join(&a, &b), &c));
        prop_assert_eq!(join(&a, &a), a);
    }
}
