//! What advice comes to, compared: whatever takes less away than it did lets more pass.

use profiler::{
    ingest,
    model::{
        diff::{Diff, Entry, FailOn, Subject, diff},
        effective::Engine,
        harden::{
            Harden, Limits, Network, ReadOnly, UserAdvice, network::Port, read_only, user::Ids,
        },
        policy::{self, Options},
        profile::Profile,
        usage::Protocol,
    },
    report::facts,
};
use proptest::prelude::*;

use crate::{
    diff::{gate, human, of_file, of_profile, report},
    evidence::{BACKEND, parse},
    harden::{any_usage, profile, rooted},
    seccomp::context,
};

const TMP: read_only::Tmpfs =
    read_only::Tmpfs { size_mib: 16, mode: 0o1777, uid: 0, gid: 0, exec: false };

fn with(harden: Harden) -> Profile {
    let harden = Some(harden);
    Profile { harden, ..policy::derive(&parse(BACKEND), &Options::default()) }
}

fn compared(old: Harden, new: Harden) -> Diff {
    diff(&of_profile("old", &with(old)), &of_profile("new", &with(new)))
}

/// `NAME: OLD -> NEW`, with a `+` where it lets more pass.
fn told(diff: &Diff) -> Vec<String> {
    let told = diff.entries.iter().map(|entry| {
        let sign = if entry.grows { "+" } else { "-" };
        format!("{sign} {}: {} -> {}", entry.subject, entry.change.old, entry.change.new)
    });
    told.collect()
}

fn places(places: &[(&str, Option<read_only::Tmpfs>)]) -> Harden {
    let place = |(path, tmpfs): &(&str, _)| read_only::Place {
        path: (*path).to_owned(),
        tmpfs: *tmpfs,
        why: ["created by app".to_owned()].into(),
    };
    let places = places.iter().map(place).collect();
    Harden { read_only: Some(ReadOnly { places, ..ReadOnly::default() }), ..Harden::default() }
}

fn user(uid: u32, groups: &[u32]) -> Harden {
    let users = [Ids { uid, gid: uid }].into();
    let groups = groups.iter().copied().collect();
    let user = UserAdvice { users, groups, ..UserAdvice::default() };
    Harden { user: Some(user), ..Harden::default() }
}

fn network(listens: &[u16]) -> Harden {
    let port = |port: &u16| Port { port: *port, protocol: Protocol::Tcp };
    let listens = listens.iter().map(port).collect();
    Harden { network: Some(Network { listens, ..Network::default() }), ..Harden::default() }
}

fn limits(memory_mib: Option<u64>, cpu_millis: Option<u64>) -> Harden {
    let limits = Limits { memory_mib, cpu_millis, ..Limits::default() };
    Harden { resources: Some(limits), ..Harden::default() }
}

#[test]
fn each_setting_says_whether_more_passes() {
    let none = Harden::default;
    let blocked = || {
        let mut harden = user(5, &[]);
        let user = harden.user.as_mut().expect("there");
        user.not_because.insert("something".into());
        harden
    };
    let edited = |edit: fn(&mut UserAdvice)| {
        let mut harden = user(7, &[]);
        edit(harden.user.as_mut().expect("there"));
        harden
    };
    let already = || edited(|user| user.already = true);
    let needs_volume = || edited(|user| user.must_write = ["/data".to_owned()].into());
    let low_port = || edited(|user| user.low_port = true);
    let tmp = |tmpfs| places(&[("/tmp", Some(tmpfs))]);
    for (old, new, expected) in [
        (places(&[]), none(), &["+ harden/read-only: read-only -> writable"][..]),
        // the exceptions of a root that was writable are none
        (none(), tmp(TMP), &["- harden/read-only: writable -> read-only"]),
        (
            places(&[]),
            tmp(TMP),
            &["+ harden/writable/tmp: read-only -> tmpfs size=16m,mode=1777,noexec,nosuid,nodev"],
        ),
        (
            tmp(read_only::Tmpfs { exec: true, ..TMP }),
            tmp(TMP),
            &[
                "- harden/writable/tmp: tmpfs size=16m,mode=1777,exec,nosuid,nodev -> tmpfs size=16m,mode=1777,noexec,nosuid,nodev",
            ],
        ),
        (
            tmp(TMP),
            tmp(read_only::Tmpfs { size_mib: 32, ..TMP }),
            &[
                "+ harden/writable/tmp: tmpfs size=16m,mode=1777,noexec,nosuid,nodev -> tmpfs size=32m,mode=1777,noexec,nosuid,nodev",
            ],
        ),
        (
            tmp(TMP),
            places(&[("/tmp", None)]),
            &["+ harden/writable/tmp: tmpfs size=16m,mode=1777,noexec,nosuid,nodev -> volume"],
        ),
        (
            tmp(TMP),
            tmp(read_only::Tmpfs { mode: 0o777, ..TMP }),
            &[
                "+ harden/writable/tmp: tmpfs size=16m,mode=1777,noexec,nosuid,nodev -> tmpfs size=16m,mode=777,noexec,nosuid,nodev",
            ],
        ),
        (
            tmp(TMP),
            tmp(read_only::Tmpfs { mode: 0o755, ..TMP }),
            &[
                "- harden/writable/tmp: tmpfs size=16m,mode=1777,noexec,nosuid,nodev -> tmpfs size=16m,mode=755,noexec,nosuid,nodev",
            ],
        ),
        (
            tmp(TMP),
            tmp(read_only::Tmpfs { uid: 5, ..TMP }),
            &[
                "+ harden/writable/tmp: tmpfs size=16m,mode=1777,noexec,nosuid,nodev -> tmpfs size=16m,mode=1777,uid=5,gid=0,noexec,nosuid,nodev",
            ],
        ),
        // what is around it is writable, too
        (places(&[("/srv", None)]), places(&[("/srv", None), ("/srv/x", None)]), &[]),
        (
            places(&[("/srv/x", None)]),
            places(&[("/srv", None)]),
            &["+ harden/writable/srv: read-only -> volume"],
        ),
        (
            places(&[("/srv", None)]),
            places(&[("/srv-x", None)]),
            &[
                "- harden/writable/srv: volume -> read-only",
                "+ harden/writable/srv-x: read-only -> volume",
            ],
        ),
        (none(), user(7, &[]), &["- harden/user: as the image says -> 7:7"]),
        (none(), user(0, &[]), &["+ harden/user: as the image says -> 0:0"]),
        (none(), user(7, &[6]), &["+ harden/user: as the image says -> 7:7, groups 6"]),
        (user(7, &[]), none(), &["+ harden/user: 7:7 -> as the image says"]),
        // compose is told nothing then
        (user(7, &[]), already(), &["+ harden/user: 7:7 -> 7:7, as it was recorded"]),
        (already(), user(7, &[]), &["- harden/user: 7:7, as it was recorded -> 7:7"]),
        (
            user(7, &[]),
            needs_volume(),
            &["+ harden/kubernetes-user: the user that is set -> as the image says"],
        ),
        (none(), needs_volume(), &["- harden/user: as the image says -> 7:7"]),
        (
            user(7, &[]),
            low_port(),
            &[
                "+ harden/kubernetes-port: no capability for it -> NET_BIND_SERVICE is added",
                "+ harden/kubernetes-user: the user that is set -> as the image says",
            ],
        ),
        (user(7, &[]), blocked(), &["+ harden/user: 7:7 -> as the image says"]),
        (none(), blocked(), &[]),
        (user(7, &[1, 2]), user(7, &[1]), &["- harden/user: 7:7, groups 1, 2 -> 7:7, groups 1"]),
        (user(7, &[]), user(8, &[]), &["+ harden/user: 7:7 -> 8:8"]),
        (
            network(&[80]),
            network(&[80, 81]),
            &[
                "+ harden/network: reached at 80/tcp, reaches nothing -> reached at 80/tcp, 81/tcp, reaches nothing",
            ],
        ),
        (
            none(),
            network(&[]),
            &["- harden/network: anything -> reached at nothing, reaches nothing"],
        ),
        (
            limits(Some(64), Some(1500)),
            limits(Some(128), None),
            &["+ harden/cpus: 1.5 -> no limit", "+ harden/memory: 64 MiB -> 128 MiB"],
        ),
        (limits(Some(128), None), limits(Some(64), None), &["- harden/memory: 128 MiB -> 64 MiB"]),
    ] {
        assert_eq!(told(&compared(old, new)), expected);
    }
}

#[test]
fn no_new_privileges_that_is_left_to_others_is_less() {
    let mut profile = profile(&rooted(crate::harden::usage()));
    let asked = of_profile("asked", &profile);
    let advice = profile.harden.as_mut().and_then(|advice| advice.no_new_privileges.as_mut());
    advice.expect("asked for").already = true;
    profile.notes.clear(); // one says that it was asked for
    let recorded = of_profile("recorded", &profile);
    for runtime in &mut profile.made_for.runtimes {
        runtime.no_new_privileges = false;
    }
    let without = of_profile("without", &profile);
    for (old, new, expected) in [
        (&asked, &recorded, Some(("set", "set as it was recorded", true))),
        (&recorded, &without, Some(("set as it was recorded", "not set", true))),
        (&without, &asked, Some(("not set", "set", false))),
        (&recorded, &asked, Some(("set as it was recorded", "set", false))),
        (&recorded, &recorded, None),
    ] {
        let diff = diff(old, new);
        let found = diff.entries.iter().find(|it| it.subject == Subject::NoNewPrivileges);
        let told = found.map(|it| (it.change.old.as_str(), it.change.new.as_str(), it.grows));
        assert_eq!(told, expected);
    }
}

#[test]
fn a_report_shows_settings_with_their_reasons_and_a_gate_fails_them() {
    let old = Harden { resources: limits(Some(64), None).resources, ..places(&[]) };
    let new = Harden { user: user(7, &[]).user, ..places(&[("/var/cache", None)]) };
    let diffs = [compared(old, new)];
    let gate = gate(
        FailOn::Growth,
        "allow: [{entry: harden/writable/var/cache, reason: thumbnails, expires: 2999-01-01}]",
    );
    let report = report(&diffs, &gate, None);
    assert_eq!(report.failing(), 1, "memory, but neither the user nor what is accepted");
    insta::assert_snapshot!(human(&report));
    let facts = facts::profile(&with(places(&[("/tmp", Some(TMP))])));
    let line = "harden writable/tmp tmpfs size=16m,mode=1777,noexec,nosuid,nodev: created by app";
    assert!(facts.contains(line) && facts.contains("harden read-only read-only\n"), "{facts}");
}

#[test]
fn what_a_seccomp_file_does_not_say_is_not_compared() {
    let file = of_file("{\"defaultAction\": \"SCMP_ACT_ERRNO\"}", &context(Engine::Oci));
    let diff = diff(&of_profile("old", &with(user(7, &[]))), &file);
    let is_beyond = |subject: &Subject| matches!(subject, Subject::Harden(_));
    assert!(!diff.entries.iter().any(|entry| is_beyond(&entry.subject)));
    assert!(diff.notes.iter().any(|note| note.contains("beyond")), "{:?}", diff.notes);
}

#[test]
fn an_allow_file_names_settings_that_exist() {
    for (entry, is_known) in [
        ("harden/read-only", true),
        ("harden/open-files", true),
        ("harden/writable/var/lib/x", true),
        ("harden/writable", false),
        ("harden/writable/../x", false),
        ("harden/readonly", false),
        ("harden", false),
    ] {
        let text = format!("allow: [{{entry: {entry}, reason: x, expires: 2999-01-01}}]");
        assert_eq!(ingest::allowlist::parse(&text).is_ok(), is_known, "{entry}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_two_may_do_together_each_may_do_less_of(a in any_usage(), b in any_usage()) {
        let (a, b) = (profile(&rooted(a)).harden, profile(&rooted(b)).harden);
        let both = Harden::union(a.as_ref(), b.as_ref()).expect("asked for");
        for one in [a, b].into_iter().flatten() {
            let back = compared(both.clone(), one.clone());
            // one of several owners is root's in common
            let has_owner = |entry: &Entry| entry.change.new.contains("uid=");
            let grows = back.entries.iter().any(|entry| entry.grows && !has_owner(entry));
            prop_assert!(!grows, "{:?}", told(&back));
            prop_assert!(compared(one.clone(), one).entries.is_empty());
        }
    }
}
