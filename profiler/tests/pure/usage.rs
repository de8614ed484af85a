//! What containers of one run used is joined like everything else: in any order, any number of times.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use profiler::model::{
    recording::Program,
    usage::{
        Change, FileKind, How, Image, Mount, Owned, Protocol, Resources, Role, Root, Socket, Usage,
        User,
    },
};
use proptest::{collection::btree_set, option, prelude::*, sample::select};

/// One that follows from a run's number alone.
pub fn of_run(number: u8) -> Usage {
    Usage { looks: u64::from(number), longest_gap_ms: 500, ..Usage::default() }
}

fn program() -> impl Strategy<Value = Program> {
    (select(vec!["a", "b"]), select(vec!["x", ""]))
        .prop_map(|(comm, exe)| Program { comm: comm.into(), exe: exe.into() })
}

fn change() -> impl Strategy<Value = Change> {
    let path = select(vec!["/a", "/a/b", "/c\n", "/\\xff"]);
    let how = select(vec![How::Created, How::Changed, How::Removed, How::Visited]);
    let file = select(vec![FileKind::Directory, FileKind::Regular, FileKind::Other]);
    (path, how, file, 0..8u32, 0..2u32, 0..9u64, any::<bool>()).prop_map(
        |(path, how, file, mode, uid, bytes, executed)| Change {
            path: path.into(),
            how,
            file,
            mode,
            uid,
            gid: 0,
            bytes,
            executed,
        },
    )
}

fn root() -> impl Strategy<Value = Root> {
    prop_oneof![
        Just(Root::ReadOnly {}),
        select(vec!["one", "other"]).prop_map(|reason| Root::Unknown { reason: reason.into() }),
        (btree_set(change(), 0..6), 0..3u64)
            .prop_map(|(changes, more)| Root::Layer { changes, more }),
    ]
}

fn socket() -> impl Strategy<Value = Socket> {
    let role = select(vec![Role::Listening, Role::Connected]);
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp]);
    (role, protocol, 80..82u16, option::of(program())).prop_map(
        |(role, protocol, port, program)| Socket {
            role,
            protocol,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port,
            program,
        },
    )
}

fn user() -> impl Strategy<Value = User> {
    let groups = btree_set(0..2u32, 0..2);
    (0..2u32, 0..2u32, groups, any::<bool>(), btree_set(program(), 0..3))
        .prop_map(|(uid, gid, groups, first, programs)| User { uid, gid, groups, first, programs })
}

fn mount() -> impl Strategy<Value = Mount> {
    let filesystem = select(vec!["tmpfs", "ext4"]);
    let kind = (any::<bool>(), any::<bool>(), btree_set(owned(), 0..3));
    (select(vec!["/data", "/run"]), filesystem, option::of(0..9u64), kind).prop_map(
        |(path, filesystem, bytes, (read_only, volume, owners))| Mount {
            path: path.into(),
            filesystem: filesystem.into(),
            read_only,
            volume,
            owners,
            bytes,
        },
    )
}

fn owned() -> impl Strategy<Value = Owned> {
    (select(vec!["/a", "/b\n"]), 0..2u32, 0..8u32, any::<bool>()).prop_map(
        |(path, uid, mode, directory)| Owned { path: path.into(), uid, gid: 0, mode, directory },
    )
}

fn image() -> impl Strategy<Value = Image> {
    (btree_set(owned(), 0..3), btree_set(owned(), 0..3), 0..3u64)
        .prop_map(|(originals, restricted, more)| Image { originals, restricted, more })
}

fn resources() -> impl Strategy<Value = Resources> {
    let number = || option::of(0..9u64);
    (number(), number(), number(), number(), number(), number()).prop_map(
        |(memory_bytes, anonymous_bytes, pids, open_files, cpu_us, cpu_millis)| Resources {
            memory_bytes,
            anonymous_bytes,
            pids,
            open_files,
            cpu_us,
            cpu_millis,
        },
    )
}

pub fn usage() -> impl Strategy<Value = Usage> {
    let times = (0..9u64, 0..9u64, option::of(0..1025u16));
    let sets = (btree_set(mount(), 0..3), btree_set(user(), 0..3), btree_set(socket(), 0..5));
    let occupied = btree_set("/[a-c]", 0..3);
    let files = (root(), option::of(image()), occupied);
    (times, files, sets, resources()).prop_map(
        |((looks, longest_gap_ms, unprivileged_port_start), files, sets, resources)| {
            let (root, image, occupied) = files;
            let (mounts, users, sockets) = sets;
            Usage {
                looks,
                longest_gap_ms,
                root,
                image,
                occupied,
                mounts,
                users,
                sockets,
                unprivileged_port_start,
                resources,
            }
        },
    )
}

fn join(a: &Usage, b: &Usage) -> Usage {
    a.clone().joined(b.clone())
}

proptest! {
    #[test]
    fn joining_is_commutative(a in usage(), b in usage()) {
        prop_assert_eq!(join(&a, &b), join(&b, &a));
    }

    #[test]
    fn joining_is_associative(a in usage(), b in usage(), c in usage()) {
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
    }

    #[test]
    fn joining_is_idempotent(a in usage(), b in usage()) {
        let once = a.clone().canonical();
        prop_assert_eq!(&once.clone().canonical(), &once);
        let both = join(&a, &b);
        prop_assert_eq!(&join(&both, &a), &both);
    }

    #[test]
    fn nothing_is_lost(a in usage(), b in usage()) {
        let both = join(&a, &b);
        let paths = |usage: &Usage| -> BTreeSet<(String, How)> {
            match &usage.root {
                Root::Layer { changes, .. } => {
                    changes.iter().map(|one| (one.path.clone(), one.how)).collect()
                }
                _ => BTreeSet::new(),
            }
        };
        if !matches!(both.root, Root::Unknown { .. }) {
            prop_assert!(paths(&a).is_subset(&paths(&both)));
        }
        let ids = |usage: &Usage| -> BTreeSet<_> {
            usage.users.iter().map(|user| (user.uid, user.gid)).collect()
        };
        prop_assert!(ids(&a).is_subset(&ids(&both)));
        let bound = |usage: &Usage| -> BTreeSet<_> {
            usage.sockets.iter().map(|one| (one.role, one.protocol, one.port)).collect()
        };
        prop_assert!(bound(&b).is_subset(&bound(&both)));
        prop_assert!(both.resources.pids >= a.resources.pids.max(b.resources.pids));
    }

    #[test]
    fn what_is_written_is_read(a in usage()) {
        let text = serde_json::to_string(&a).expect("writes");
        prop_assert_eq!(serde_json::from_str::<Usage>(&text).expect("reads"), a);
    }
}
