//! Programs with known values, in every ABI.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::{Fact, expect, facts};
use crate::harness::{
    machine::{Machine, Need},
    record::Record,
    test::Test,
};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let engine = [NEEDS.as_slice(), &[Need::Engine]].concat();
    vec![
        Test::new("arguments::values_of_every_watched_call", &NEEDS, every).on_every_kernel(),
        Test::new("arguments::a_real_32_bit_program", &NEEDS, real32).on_every_kernel(),
        Test::new("arguments::three_programs_in_a_container", &engine, container),
    ]
}

/// What is to be recorded: indexes and values.
type Kept = &'static [(u64, u64)];

/// A call, what to give to it, and what is to be recorded by index. No file, process or address is what it says, so nothing
/// happens; upper halves are set where only lower ones count.
struct Given {
    name: &'static str,
    native: Option<u32>,
    ia32: Option<u32>,
    words: &'static [(&'static str, Kept)],
}

macro_rules! given {
    ($($name:literal $native:tt $ia32:tt: $($words:literal => $values:expr),*;)*) => {
        &[$(Given { name: $name, native: given!(@ $native), ia32: given!(@ $ia32), words: &[$(($words, &$values)),*] }),*]
    };
    (@ -) => { None };
    (@ $nr:literal) => { Some($nr) };
}

/// Every call of `WATCHED`.
const GIVEN: &[Given] = given! {
    "bpf" 321 357: "dead00000063" => [(0, 0x63)], "fffffff0" => [(0, 0xffff_fff0)];
    // CLONE_NEWNS and CLONE_NEWUSER exclude CLONE_FS, and CLONE_THREAD takes CLONE_SIGHAND; the signal is not kept
    "clone" 56 120: "20211" => [(0, 0x2_0000)], "10000211" => [(0, 0x1000_0000)], "10011" => [(0, 0)];
    "fcntl" 72 55: "ffffffff,dead00000001,0" => [(1, 1)], "ffffffff,407,0" => [(1, 0x407)];
    "fcntl64" - 221: "ffffffff,5" => [(1, 5)];
    "ioctl" 16 54: "ffffffff,1234567880045430" => [(1, 0x8004_5430)], "ffffffff,5401" => [(1, 0x5401)];
    "ipc" - 117: "63" => [(0, 0x63)];
    "keyctl" 250 288: "dead0000ffff" => [(0, 0xffff)];
    "kill" 62 37: "7ffffffe,40" => [(1, 64)], "7ffffffe,dead00000000" => [(1, 0)];
    "madvise" 28 219: "0,0,dead00000004" => [(2, 4)], "0,0,ffffffff" => [(2, 0xffff_ffff)];
    "memfd_create" 319 356: "0,dead0000ffff" => [(1, 0xffff)];
    "mmap" 9 -: "0,0,7,2,ffffffff" => [(2, 4)], "0,0,dead00000003,2,ffffffff" => [(2, 0)];
    "mmap2" - 192: "0,0,7,2,ffffffff" => [(2, 4)];
    "mount" 165 21: "0,0,0,dead00001000,0" => [(3, 0x1000)];
    "mprotect" 10 125: "1,0,5" => [(2, 4)], "1,0,3" => [(2, 0)];
    "personality" 135 136: "ffffffffffffffff" => [(0, 0xffff_ffff)];
    // PR_SET_MM has no such option, and PR_CAP_AMBIENT no such command; what comes after PR_GET_DUMPABLE is not kept
    // 0x63 is 64 more than PR_SET_MM
    "prctl" 157 172: "dead00000063,9" => [(0, 0x63)], "3,9" => [(0, 3)], "23,dead00000063" => [(0, 0x23), (1, 0x63)], "2f,9" => [(0, 0x2f), (1, 9)];
    "ptrace" 101 26: "dead00000063,7ffffffe" => [(0, 0x63)];
    "seccomp" 317 354: "dead00000063" => [(0, 0x63)];
    "setns" 308 346: "ffffffff,dead40000000" => [(1, 0x4000_0000)];
    "setsockopt" 54 366: "ffffffff,dead00000001,ee00000002" => [(1, 1), (2, 2)], "ffffffff,2,1" => [(1, 2), (2, 1)];
    // SOCK_CLOEXEC and SOCK_NONBLOCK are not kept
    "socket" 41 359: "dead00000063,80801,ee00000006" => [(0, 0x63), (1, 1), (2, 6)], "63,2,6" => [(0, 0x63), (1, 2), (2, 6)];
    "socketcall" - 102: "63" => [(0, 0x63)];
    "socketpair" 53 360: "63,80005,11" => [(0, 0x63), (1, 5), (2, 0x11)];
    "tgkill" 234 270: "7ffffffe,7ffffffe,dead00000040" => [(2, 64)];
    "tkill" 200 238: "7ffffffe,40" => [(1, 64)];
    "unshare" 272 310: "dead10000001" => [(0, 0x1000_0001)];
    "userfaultfd" 323 374: "dead00000010" => [(0, 0x10)];
};

/// x32 has other numbers for some.
const X32: [(u32, &str, Kept); 3] = [
    (41, "dead00000063,80801,6", &[(0, 0x63), (1, 1), (2, 6)]),
    (514, "ffffffff,1234567880045430", &[(1, 0x8004_5430)]),
    (541, "ffffffff,1,2", &[(1, 1), (2, 2)]),
];

/// clone3 with its flags in memory; the size is none that the kernel takes.
const CLONE3: [(&str, Kept); 5] = [
    ("p435:3d0f00,8", &[(0, 0)]),
    ("p435:1000000010000000,8", &[(0, 0x1000_0001)]),
    ("p435:7e02ffff,8", &[(0, 0x7e02_0080)]),
    ("p435:100000000,8", &[(0, 0)]),
    // CLONE_INTO_CGROUP, which clone has no way to say
    ("p435:200000000,8", &[(0, 1)]),
];

fn fact(abi: &str, nr: u32, values: &[(u64, u64)]) -> Fact {
    (abi.to_owned(), nr.into(), values.to_vec())
}

/// What to give to the calls of an ABI, with a prefix before each number, and what is to be recorded.
fn given(abi: &str, number: fn(&Given) -> Option<u32>) -> (Vec<String>, BTreeSet<Fact>) {
    let mut words = Vec::new();
    let mut expected = BTreeSet::new();
    for given in GIVEN {
        let Some(nr) = number(given) else { continue };
        for (arguments, values) in given.words {
            words.push(format!("{nr}:{arguments}"));
            expected.insert(fact(abi, nr, values));
        }
    }
    (words, expected)
}

fn every(machine: &Machine) -> Result<()> {
    let names: BTreeSet<&str> = GIVEN.iter().map(|given| given.name).chain(["clone3"]).collect();
    let watched: BTreeSet<&str> =
        profiler::model::arguments::WATCHED.iter().map(|row| row.call).collect();
    ensure!(names == watched, "the test gives {names:?}, watched are {watched:?}");

    let calls = machine.fixture("calls")?;
    let (mut words, mut expected) = given("x86_64", |given| given.native);
    let (ia32, expected_ia32) = given("ia32", |given| given.ia32);
    words.extend(ia32.iter().map(|word| format!("i{word}")));
    words.push("i90:1,2,7".to_owned()); // old_mmap: its arguments lie in memory
    expected.extend(expected_ia32);
    for (nr, arguments, values) in X32 {
        words.push(format!("x{nr}:{arguments}"));
        expected.insert(fact("x32", nr, values));
    }
    for (word, values) in CLONE3 {
        words.push(word.to_owned());
        expected.insert(fact("x86_64", 435, values));
    }
    let scratch = machine.scratch()?;
    let workload = [&[calls.to_string(), "-q".to_owned()], words.as_slice()].concat();
    let recorded = Record::new(machine, scratch.join("out")).workload(workload).run()?.expect(0)?;
    let recording = recorded.recording()?;
    expect(&recording, expected)?;
    ensure!(recording.numbers("ia32", "workload").contains(&90), "ia32's mmap was not made");
    Ok(())
}

fn real32(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let real32 = machine.fixture("real32")?;
    // values that do not fit are for registers of 64 bits
    let (words, expected) = given("ia32", |given| given.ia32);
    let fits = |word: &String| word.split([':', ',']).skip(1).all(|value| value.len() <= 8);
    let words: Vec<String> = words.into_iter().filter(fits).collect();
    let workload = [&[real32.to_string()], words.as_slice()].concat();
    let recorded = Record::new(machine, scratch.join("out")).workload(workload).run()?.expect(0)?;
    let seen = facts(&recorded.recording()?)?;
    for word in &words {
        let nr: u64 = word.split(':').next().unwrap_or_default().parse()?;
        let wanted: Vec<_> = expected.iter().filter(|fact| fact.1 == nr).collect();
        ensure!(
            wanted.iter().any(|fact| seen.contains(fact)),
            "of {word}, {wanted:x?}, there is none in {seen:x?}"
        );
    }
    let strange: Vec<_> = seen.iter().filter(|fact| fact.0 != "ia32").collect();
    ensure!(strange.is_empty(), "a 32-bit program made {strange:x?}");
    Ok(())
}

/// A 64-bit program, a 32-bit one, and a shell that starts both.
fn container(machine: &Machine) -> Result<()> {
    let engine = machine.engine()?;
    let image = engine.fixture_image(machine)?;
    let scratch = machine.scratch()?;
    let container = engine.name("abis");
    let script =
        "/bin/calls -q 41:63,1,0 135:ffffffff; /bin/real32 359:64,2,0 53; /bin/calls -q 41:65,1,0";
    let run = format!(
        "docker run --rm --name {} --network none --security-opt seccomp={} {image} /bin/sh -c '{script}'",
        container.name,
        machine.permissive(),
    );
    let recorded = Record::containers(machine, scratch.join("out"), &[&container.name])?
        .workload(["/bin/sh", "-ec", &run])
        .run()?
        .expect(0)?;
    let recording = recorded.recording()?;
    for (abi, nr, families) in [("x86_64", 41, [0x63, 0x65].as_slice()), ("ia32", 359, &[0x64])] {
        let seen: Vec<u64> = super::of(&recording, abi, nr)?
            .iter()
            .filter_map(|values| values.first())
            .map(|(_, family)| *family)
            .collect();
        ensure!(seen == families, "{abi}: families {seen:x?}, not {families:x?}");
    }
    ensure!(
        super::of(&recording, "ia32", 136)?.is_empty(),
        "personality was called by 64 bits only"
    );
    let ia32 = recording.numbers("ia32", "workload");
    ensure!(ia32.contains(&53) && !ia32.contains(&41), "ia32 calls are {ia32:?}");
    Ok(())
}
