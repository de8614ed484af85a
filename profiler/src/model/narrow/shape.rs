//! What becomes of the values that were seen, for each call and choice.
//!
//! Owns reviewed lists, with their reasons. `strict` takes what was seen, exactly. `attack-surface` says less of a call: what C
//! libraries choose by circumstances (the protocol family of a name's address, TCP or UDP, how a thread is called) is
//! one, so that only what another piece of the kernel answers is another.

use crate::model::{
    arch::Abi,
    arguments::{Masked, Rule, watched},
    effective::Effective,
    narrow::cube::Cube,
    profile::{Arguments, Combination},
    syscall,
};

/// All bits of a 32-bit argument.
const INT: u64 = 0xffff_ffff;

/// The flags of clone(2) that make namespaces, as Docker's default profile compares them. `CLONE_NEWTIME` shares a bit with the
/// signal at exit, so clone(2) has it not.
const NAMESPACES: u64 = 0x7e02_0000;

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;
const NETLINK_ROUTE: u64 = 0;

/// `SOCK_STREAM` with no protocol and `IPPROTO_TCP`, `SOCK_DGRAM` with none and `IPPROTO_UDP`.
const TCP_AND_UDP: [(u64, u64); 4] = [(1, 0), (1, 6), (2, 0), (2, 17)];

/// `TIOCSTI`, `TIOCLINUX`: they put words into the input of a terminal that may be somebody else's. The same on all ABIs here.
const TERMINAL_INPUT: [u64; 2] = [0x5412, 0x541c];

/// Options of prctl(2) that ask, or that change the caller's own process within what it has already. They are allowed with any other:
/// which of them a program uses depends on its libraries.
const HARMLESS: [u64; 20] = [
    1,           // PR_SET_PDEATHSIG
    2,           // PR_GET_PDEATHSIG
    3,           // PR_GET_DUMPABLE
    4,           // PR_SET_DUMPABLE
    7,           // PR_GET_KEEPCAPS
    8,           // PR_SET_KEEPCAPS
    15,          // PR_SET_NAME
    16,          // PR_GET_NAME
    21,          // PR_GET_SECCOMP
    22,          // PR_SET_SECCOMP
    23,          // PR_CAPBSET_READ
    24,          // PR_CAPBSET_DROP
    27,          // PR_GET_SECUREBITS
    29,          // PR_SET_TIMERSLACK
    30,          // PR_GET_TIMERSLACK
    36,          // PR_SET_CHILD_SUBREAPER
    38,          // PR_SET_NO_NEW_PRIVS
    39,          // PR_GET_NO_NEW_PRIVS
    47,          // PR_CAP_AMBIENT
    0x5356_4d41, // PR_SET_VMA: names for memory
];

/// Options of prctl(2) by which runc and crun give up privileges under the filter: measured of runc 1.1, crun 1.8.
const OF_RUNTIMES: [u64; 8] = [2, 4, 8, 22, 23, 24, 38, 47];

/// Whether a choice looks into the arguments of a call.
pub(super) fn looks_into(call: &str, choice: Arguments) -> bool {
    let Some(row) = watched(call) else { return false };
    match (choice, row.rule) {
        (Arguments::Off, _) | (_, Rule::Never) => false,
        (Arguments::Strict, _) | (_, Rule::AttackSurface) => true,
        (Arguments::AttackSurface, Rule::Strict) => false,
    }
}

/// The combinations that stand for one that was seen, and what is taken away from each.
pub(super) fn of_seen(call: &str, choice: Arguments, values: &[Masked]) -> Vec<Cube> {
    if choice == Arguments::Strict {
        return vec![values.to_vec()];
    }
    match call {
        "socket" | "socketpair" => socket(values),
        // with any second argument
        "prctl" => {
            let is_harmless = |value: &Masked| value.index == 0 && HARMLESS.contains(&value.value);
            let harmless = values.iter().find(|value| is_harmless(value));
            vec![harmless.map_or_else(|| values.to_vec(), |&option| vec![option])]
        }
        "ioctl" => values
            .iter()
            .any(|value| TERMINAL_INPUT.contains(&value.value))
            .then(|| values.to_vec())
            .into_iter()
            .collect(),
        _ => vec![values.to_vec()],
    }
}

/// What is allowed with whatever was seen.
pub(super) fn base(call: &str, choice: Arguments) -> Vec<Cube> {
    match call {
        _ if choice == Arguments::Strict => Vec::new(),
        // logging and name services
        "socket" => vec![vec![int(0, AF_UNIX)]],
        "prctl" => HARMLESS.iter().map(|&option| vec![int(0, option)]).collect(),
        "clone" => vec![namespaces(0)],
        _ => Vec::new(),
    }
}

/// What a choice refuses of a call, and allows all else.
pub(super) fn refused(call: &str, choice: Arguments) -> Option<Vec<Masked>> {
    let is_meant = call == "ioctl" && choice == Arguments::AttackSurface;
    is_meant.then(|| TERMINAL_INPUT.iter().map(|&request| int(1, request)).collect())
}

/// What runtimes make of a call under the filter; `None` when that is not known.
pub(super) fn of_runtimes(call: &str) -> Option<Vec<Cube>> {
    let cube = |&option: &u64| vec![int(0, option)];
    (call == "prctl").then(|| OF_RUNTIMES.iter().map(cube).collect())
}

/// Whether a combination that no run shows is there for what runtimes make of a call. Other choices than `strict` have it for
/// other reasons, too: it is harmless.
pub(super) fn is_of_runtimes(call: &str, choice: Arguments, values: &[Masked]) -> bool {
    choice == Arguments::Strict
        && of_runtimes(call).is_some_and(|all| all.iter().any(|cube| cube == values))
}

/// Whether what runtimes make of a call passes: all of it, where that is not known.
#[must_use]
pub fn passes_of_runtimes(effective: &Effective, abi: Abi, nr: u32) -> bool {
    let measured = syscall::name(abi, nr).and_then(of_runtimes).unwrap_or_default();
    let passes = |cube: &Cube| {
        let mut registers = [0; 6];
        for condition in cube {
            registers[usize::from(condition.index) % 6] = condition.value;
        }
        effective.verdict(abi, nr, &registers).may_pass()
    };
    effective.always_passes(abi, nr) || !measured.is_empty() && measured.iter().all(passes)
}

/// The flags by which clone3(2) could be refused: a filter cannot see them.
pub(super) fn namespaces(flags: u64) -> Cube {
    vec![Masked { index: 0, mask: NAMESPACES, value: flags & NAMESPACES }]
}

/// With which arguments a call is enough that stands in for others: `None`, with any.
#[must_use]
pub fn substitute(call: &str, choice: Arguments) -> Option<Vec<Combination>> {
    if !looks_into(call, choice) {
        return None;
    }
    match (call, refused(call, choice)) {
        (_, Some(but)) => Some(vec![Combination { but, ..unseen(Vec::new()) }]),
        // a fork, or a thread
        ("clone", None) => Some(vec![unseen(namespaces(0))]),
        // whether a file is a terminal, and how large: TCGETS, TIOCGWINSZ, TCGETS2
        ("ioctl", None) => {
            Some([0x5401, 0x5413, 0x802c_542a].map(|request| unseen(vec![int(1, request)])).into())
        }
        _ => None,
    }
}

/// Calls that do the same, with the index of the one argument that is compared of each.
const ALIKE: [(&str, u8, &str, u8); 2] = [("tgkill", 2, "tkill", 1), ("tkill", 1, "tgkill", 2)];

/// With which arguments a call is enough that stands in for one that is allowed with these: `None`, with any.
#[must_use]
pub fn stands_in(
    call: &str,
    of: &str,
    arguments: Option<&[Combination]>,
    choice: Arguments,
) -> Option<Vec<Combination>> {
    let alike = ALIKE.iter().find(|(from, _, to, _)| (*from, *to) == (of, call));
    let Some((_, from, _, to)) = alike.filter(|_| looks_into(call, choice)) else {
        return substitute(call, choice);
    };
    let moved = |value: &Masked| (value.index == *from).then_some(Masked { index: *to, ..*value });
    let all = arguments?.iter().map(|combination| {
        let values = combination.values.iter().filter_map(moved).collect();
        Combination { but: combination.but.iter().filter_map(moved).collect(), ..unseen(values) }
    });
    Some(all.collect())
}

/// A combination that no run shows.
pub(super) fn unseen(values: Cube) -> Combination {
    Combination { values, but: Vec::new(), seen: false, tests: Vec::new(), needed: None }
}

/// Whether a call's conditions mean the same on another ABI.
#[must_use]
pub fn carried(call: &str, from: Abi, to: Abi) -> bool {
    // requests on registers differ
    from == to || call != "ptrace"
}

fn socket(values: &[Masked]) -> Vec<Cube> {
    let of = |index: u8| values.iter().find(|value| value.index == index);
    let Some(&family) = of(0) else { return vec![values.to_vec()] };
    let (kind, protocol) = (of(1).map(|value| value.value), of(2).map(|value| value.value));
    let is_internet = matches!(family.value, AF_INET | AF_INET6);
    match (of(1), of(2)) {
        (Some(like), Some(_))
            if is_internet
                && TCP_AND_UDP.iter().any(|&it| (kind, protocol) == (Some(it.0), Some(it.1))) =>
        {
            let kinds = TCP_AND_UDP.iter().flat_map(|&(kind, protocol)| {
                [AF_INET, AF_INET6].map(|family| {
                    vec![int(0, family), Masked { value: kind, ..*like }, int(2, protocol)]
                })
            });
            // name lookups ask for the machine's own addresses
            kinds.chain([vec![int(0, AF_NETLINK), int(2, NETLINK_ROUTE)]]).collect()
        }
        _ if is_internet => vec![values.to_vec()],
        (_, Some(&protocol)) if family.value == AF_NETLINK => vec![vec![family, protocol]],
        _ if family.value == AF_NETLINK => vec![values.to_vec()],
        _ => vec![vec![family]],
    }
}

const fn int(index: u8, value: u64) -> Masked {
    Masked { index, mask: INT, value }
}
