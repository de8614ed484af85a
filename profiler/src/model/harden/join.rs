//! Joining advice: what a target may do under either, it may do under both.
//!
//! Commutative, associative and idempotent. What one side does not harden is not hardened.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Harden, Limits, Network, NoNewPrivileges, ReadOnly, UserAdvice,
    read_only::{Place, STICKY, Tmpfs, leave_out_covered, quoted},
};

pub(super) fn join(one: Option<&Harden>, other: Option<&Harden>) -> Option<Harden> {
    let (one, other) = (one?, other?);
    let mut joined = Harden {
        read_only: both(&one.read_only, &other.read_only, read_only),
        user: both(&one.user, &other.user, user),
        no_new_privileges: both(&one.no_new_privileges, &other.no_new_privileges, |one, other| {
            let already = one.already && other.already;
            NoNewPrivileges { already, not_because: &one.not_because | &other.not_because }
        }),
        network: both(&one.network, &other.network, network),
        resources: both(&one.resources, &other.resources, resources),
    };
    if let Some(user) = &mut joined.user {
        let read_only = joined.read_only.as_ref();
        let is_made = |path: &&String| read_only.is_some_and(|advice| advice.is_in_memory(path));
        let reason = |path: &String| format!("{} is not made in memory for it", quoted(path));
        let left: Vec<String> =
            user.in_memory.iter().filter(|path| !is_made(path)).map(reason).collect();
        user.not_because.extend(left);
    }
    (!joined.kinds().is_empty()).then_some(joined)
}

fn both<T>(one: &Option<T>, other: &Option<T>, join: impl Fn(&T, &T) -> T) -> Option<T> {
    Some(join(one.as_ref()?, other.as_ref()?))
}

fn read_only(one: &ReadOnly, other: &ReadOnly) -> ReadOnly {
    let mut places: BTreeMap<&str, Place> = BTreeMap::new();
    for place in one.places.iter().chain(&other.places) {
        let known = places.entry(&place.path).or_insert_with(|| place.clone());
        known.tmpfs = both(&known.tmpfs, &place.tmpfs, tmpfs);
        known.why.extend(place.why.iter().cloned());
    }
    let mut places: Vec<Place> = places.into_values().collect();
    leave_out_covered(&mut places);
    ReadOnly { places, not_because: &one.not_because | &other.not_because }
}

/// Where the owners differ, it is anybody's.
fn tmpfs(one: &Tmpfs, other: &Tmpfs) -> Tmpfs {
    let same = (one.uid, one.gid) == (other.uid, other.gid);
    let (uid, gid, mode) = if same { (one.uid, one.gid, 0) } else { (0, 0, 0o1777) };
    let either = one.mode | other.mode | mode;
    // the one bit that takes something away
    let keeps = one.keeps_files() && other.keeps_files();
    Tmpfs {
        size_mib: one.size_mib.max(other.size_mib),
        mode: if keeps { either } else { either & !STICKY },
        uid,
        gid,
        exec: one.exec || other.exec,
    }
}

fn user(one: &UserAdvice, other: &UserAdvice) -> UserAdvice {
    UserAdvice {
        users: &one.users | &other.users,
        groups: &one.groups | &other.groups,
        in_memory: &one.in_memory | &other.in_memory,
        low_port: one.low_port || other.low_port,
        already: one.already && other.already,
        falls_away: &one.falls_away | &other.falls_away,
        must_write: &one.must_write | &other.must_write,
        why: &one.why | &other.why,
        not_because: &one.not_because | &other.not_because,
    }
}

fn network(one: &Network, other: &Network) -> Network {
    fn union<T: Ord + Clone>(one: &BTreeSet<T>, other: &BTreeSet<T>) -> BTreeSet<T> {
        one | other
    }
    Network {
        listens: union(&one.listens, &other.listens),
        loopback: union(&one.loopback, &other.loopback),
        connects: union(&one.connects, &other.connects),
        families: union(&one.families, &other.families),
        bind_service: union(&one.bind_service, &other.bind_service),
        not_because: union(&one.not_because, &other.not_because),
    }
}

fn resources(one: &Limits, other: &Limits) -> Limits {
    let most = |one: Option<u64>, other: Option<u64>| Some(one?.max(other?));
    Limits {
        memory_mib: most(one.memory_mib, other.memory_mib),
        reserved_mib: most(one.reserved_mib, other.reserved_mib),
        pids: most(one.pids, other.pids),
        open_files: most(one.open_files, other.open_files),
        cpu_millis: most(one.cpu_millis, other.cpu_millis),
        // it takes nothing away, and a profile of an older version has none
        reserved_cpu_millis: one.reserved_cpu_millis.max(other.reserved_cpu_millis),
        compose_1: one.compose_1 || other.compose_1,
        not_because: &one.not_because | &other.not_because,
    }
}
