//! Conditions on arguments: what was seen passes, known attack surface does not, and evidence only adds.

use std::collections::{BTreeMap, BTreeSet};

use profiler::{
    ingest,
    model::{
        arch::Abi,
        arguments::{Masked, watched},
        effective::{self, Context, Effective, Engine},
        lint,
        merge::merge,
        minimise::{Entry, Wanted, candidates, made, without},
        policy::{self, Options},
        profile::{Arguments, Combination, NoteKind, Profile},
        recording::{ArgumentFact, Phase, Recording, Sighting, SyscallFact},
        seccomp::KernelVersion,
        syscall,
        union::union,
    },
    render,
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::evidence::{COMMAND, parse, recording};

pub const INT: u64 = 0xffff_ffff;
const NAMESPACES: u64 = 0x7e02_0000;
pub const TYPE: u64 = INT & !0o2_004_000;
pub const NEWUSER: u64 = 0x1000_0000;
const CHOICES: [Arguments; 3] = [Arguments::Strict, Arguments::AttackSurface, Arguments::Off];

/// The watched arguments of a call, each with values to draw from.
fn drawn(call: &str) -> Vec<(u8, u64, Vec<u64>)> {
    match call {
        "socket" => {
            vec![
                (0, INT, vec![1, 2, 10, 16, 17, 38]),
                (1, TYPE, vec![1, 2, 3]),
                (2, INT, vec![0, 6, 17, 132]),
            ]
        }
        // the second one is kept where the first is 35 or 53
        "prctl" => vec![(0, INT, vec![15, 35, 38, 53]), (1, INT, vec![8, 9])],
        "ioctl" => vec![(1, INT, vec![0x5401, 0x5412, 0x541c, 0x5413])],
        "clone" => vec![(0, NAMESPACES, vec![0, NEWUSER, 0x2_0000])],
        // 1: what clone cannot do
        "clone3" => vec![(0, NAMESPACES | 0x81, vec![0, NEWUSER, 0x2_0000, 1])],
        "kill" | "tkill" => vec![(1, INT, vec![9, 15])],
        "tgkill" => vec![(2, INT, vec![9, 15])],
        "setsockopt" => vec![(1, INT, vec![1, 6]), (2, INT, vec![1, 2])],
        _ => vec![(0, INT, vec![0, 8, INT])],
    }
}

const CALLS: [&str; 11] = [
    "clone",
    "clone3",
    "ioctl",
    "kill",
    "personality",
    "prctl",
    "setsockopt",
    "socket",
    "tgkill",
    "tkill",
    "unshare",
];

pub fn fact(abi: Abi, call: &str, phase: Phase, values: Vec<Masked>, run: &str) -> ArgumentFact {
    let nr = syscall::number(abi, call).expect("a call");
    let seen = BTreeMap::from([(run.to_owned(), Sighting::default())]);
    ArgumentFact { abi, nr, phase, values, seen }
}

pub fn sighted(abi: Abi, call: &str, phase: Phase, run: &str) -> SyscallFact {
    let ArgumentFact { nr, seen, .. } = fact(abi, call, phase, vec![], run);
    SyscallFact { abi, nr, phase, seen }
}

/// What one run saw of one call: not watched, any, or combinations.
#[derive(Debug, Clone)]
struct Sight {
    abi: Abi,
    call: &'static str,
    phase: Phase,
    run: u8,
    combinations: Option<Vec<Vec<usize>>>,
}

fn sight(runs: Vec<u8>) -> impl Strategy<Value = Sight> {
    let abi = select(vec![Abi::X86_64, Abi::X86_64, Abi::Ia32, Abi::Aarch64]);
    let phase = select(vec![Phase::Workload, Phase::Workload, Phase::Workload, Phase::Handover]);
    let combinations = vec(vec(0..6_usize, 3), 0..4);
    let combinations = prop_oneof![6 => combinations.prop_map(Some), 1 => Just(None)];
    (abi, select(CALLS.to_vec()), phase, select(runs), combinations).prop_map(
        |(abi, call, phase, run, combinations)| Sight { abi, call, phase, run, combinations },
    )
}

/// Of values for all arguments of a call those that the recorder keeps.
fn kept(call: &str, mut values: Vec<Masked>) -> Vec<Masked> {
    let row = watched(call).expect("it is watched");
    let first = values.first().map_or(0, |it| it.value);
    let is_kept =
        |it: &Masked| row.arguments.iter().all(|of| of.index != it.index || of.is_kept(first));
    values.retain(is_kept);
    values
}

/// A recording of runs that watch arguments.
fn watching(runs: Vec<u8>) -> impl Strategy<Value = Recording> {
    (recording(runs.clone()), vec(sight(runs), 0..10)).prop_map(|(mut recording, sights)| {
        for Sight { abi, call, phase, run, combinations } in sights {
            let run = format!("{run:016x}");
            recording.syscalls.push(sighted(abi, call, phase, &run));
            for combination in combinations.into_iter().flatten() {
                let values = drawn(call).into_iter().zip(&combination);
                let values = values.map(|((index, mask, values), &at)| Masked {
                    index,
                    mask,
                    value: values[at % values.len()] & mask,
                });
                // one in many is more than was kept
                let values =
                    if combination == [5, 5, 5] { vec![] } else { kept(call, values.collect()) };
                recording.arguments.push(fact(abi, call, phase, values, &run));
            }
        }
        recording
    })
}

pub fn derive(recording: &Recording, arguments: Arguments) -> Profile {
    policy::derive(recording, &Options { arguments, ..Options::default() })
}

pub fn decides(profile: &Profile) -> Effective {
    let file = ingest::seccomp::parse(&render::seccomp::render(profile)).expect("own output");
    let kernel = KernelVersion { major: 6, minor: 1 };
    let native = profile.architectures.iter().copied().find(|abi| *abi != Abi::Ia32);
    let native = native.unwrap_or(Abi::X86_64);
    effective::decide(
        &file,
        &Context { native, capabilities: BTreeSet::new(), kernel, engine: Engine::Oci },
    )
}

/// Registers of every call, at and around what is drawn.
fn asked() -> Vec<(&'static str, [u64; 6])> {
    let mut all = Vec::new();
    for call in CALLS {
        let mut registers = vec![[0_u64; 6]];
        for (index, _, values) in drawn(call) {
            let values = values.iter().flat_map(|&value| [value, value ^ 1 | 1 << 40]);
            let with = |known: [u64; 6], value: u64| {
                let mut registers = known;
                registers[usize::from(index)] = value;
                registers
            };
            registers =
                values.flat_map(|value| registers.iter().map(move |&it| with(it, value))).collect();
        }
        all.extend(registers.into_iter().map(|registers| (call, registers)));
    }
    all
}

/// What passes by one and not by the other.
fn lost(small: &Effective, large: &Effective) -> Option<(Abi, &'static str, [u64; 6])> {
    let abis: Vec<Abi> = small.abis.iter().copied().collect();
    let asked = asked();
    let all = abis.iter().flat_map(|&abi| asked.iter().map(move |&(call, it)| (abi, call, it)));
    all.into_iter().find(|&(abi, call, registers)| {
        let Some(nr) = syscall::number(abi, call) else { return false };
        let passes = |effective: &Effective| effective.verdict(abi, nr, &registers).may_pass();
        // the machine's own ABI is in every filter
        passes(small) && large.abis.contains(&abi) && !passes(large)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn more_evidence_refuses_nothing_that_passed(a in watching(vec![0, 1, 2]), b in watching(vec![3, 4, 5])) {
        let both = merge([a.clone(), b.clone()]).expect("same target");
        for choice in CHOICES {
            for portable in [false, true] {
                let derive = |it| policy::derive(it, &Options { arguments: choice, portable, ..Options::default() });
                let whole = derive(&both);
                for one in [&a, &b] {
                    prop_assert_eq!(lost(&decides(&derive(one)), &decides(&whole)), None, "{:?}", choice);
                }
            }
        }
    }

    #[test]
    fn joining_profiles_is_joining_evidence(a in watching(vec![0, 1, 2]), b in watching(vec![3, 4, 5])) {
        let both = merge([a.clone(), b.clone()]).expect("same target");
        for choice in CHOICES {
            let (a, b) = (derive(&a, choice), derive(&b, choice));
            let joined = union(&a, &b).expect("same target");
            prop_assert_eq!(&joined, &union(&b, &a).expect("same target"));
            prop_assert_eq!(&union(&joined, &a).expect("same target"), &joined);
            let (joined, whole) = (decides(&joined), decides(&derive(&both, choice)));
            prop_assert_eq!(lost(&joined, &whole), None);
            prop_assert_eq!(lost(&whole, &joined), None);
        }
    }

    #[test]
    fn what_was_seen_passes_and_a_stricter_choice_allows_no_more(a in watching(vec![0, 1, 2])) {
        let profiles = CHOICES.map(|choice| derive(&a, choice));
        for profile in &profiles {
            prop_assert_eq!(&ingest::profile::parse(&render::json::profile(profile)).expect("own output"), profile);
            let effective = decides(profile);
            let workload = a.arguments.iter().filter(|fact| fact.phase == Phase::Workload);
            for fact in workload.filter(|fact| effective.abis.contains(&fact.abi)) {
                let Some(name) = syscall::name(fact.abi, fact.nr).filter(|name| CALLS.contains(name)) else { continue };
                let was_made = a.syscalls.iter().any(|made| (made.abi, made.nr, made.phase) == (fact.abi, fact.nr, fact.phase));
                let mut registers = [0; 6];
                fact.values.iter().for_each(|value| registers[usize::from(value.index)] = value.value);
                let passes = |name| {
                    let nr = syscall::number(fact.abi, name).expect("on every ABI");
                    effective.verdict(fact.abi, nr, &registers).may_pass()
                };
                let other_way = name == "clone3" && registers[0] == 0 && passes("clone");
                prop_assert!(!was_made || passes(name) || other_way, "{} {:x?}", name, registers);
            }
        }
        for pair in profiles.windows(2) {
            let missing = lost(&decides(&pair[0]), &decides(&pair[1]));
            prop_assert!(missing.is_none_or(|(_, call, _)| call == "clone"), "{:x?}", missing);
        }
    }

    #[test]
    fn nothing_is_to_be_said_against_the_conditions(a in watching(vec![0, 1, 2])) {
        for choice in CHOICES {
            let file = ingest::seccomp::parse(&render::seccomp::render(&derive(&a, choice))).expect("own output");
            let findings = lint::lint(&lint::Subject::new(&file, None, None, vec![]));
            let bad = findings.iter().find(|it| it.pointer.starts_with("/syscalls/") && it.severity > lint::Severity::Note);
            prop_assert!(bad.is_none(), "{:?}", bad);
        }
    }
}

/// The fixture with calls of one run, in the workload, and what it watched of them.
pub fn command(calls: &[(&str, &[&[u64]])]) -> Recording {
    let mut recording = parse(COMMAND);
    let run = recording.runs.keys().next().expect("a run").clone();
    let of_fixture = |nr| CALLS.iter().any(|call| syscall::number(Abi::X86_64, call) == Some(nr));
    recording.syscalls.retain(|fact| !of_fixture(fact.nr));
    for (call, combinations) in calls {
        recording.syscalls.push(sighted(Abi::X86_64, call, Phase::Workload, &run));
        for values in *combinations {
            let values = drawn(call).into_iter().zip(*values);
            let values = values.map(|((index, mask, _), &value)| Masked { index, mask, value });
            recording.arguments.push(fact(
                Abi::X86_64,
                call,
                Phase::Workload,
                kept(call, values.collect()),
                &run,
            ));
        }
    }
    recording
}

pub fn passes(profile: &Profile, call: &str, arguments: &[u64]) -> bool {
    let mut registers = [0; 6];
    registers[..arguments.len()].copy_from_slice(arguments);
    let nr = syscall::number(Abi::X86_64, call).expect("a call");
    decides(profile).verdict(Abi::X86_64, nr, &registers).may_pass()
}

#[test]
fn families_that_libc_chooses_come_together_and_others_do_not() {
    let profile = derive(&command(&[("socket", &[&[2, 1, 0]])]), Arguments::AttackSurface);
    let high = 0xdead_0000_0000_0000;
    for allowed in
        [[2, 1, 0], [2, 0o2_004_002, 17], [high | 10, high | 1, 6], [1, 5, 0], [16, 0o2_000_003, 0]]
    {
        assert!(passes(&profile, "socket", &allowed), "{allowed:x?}");
    }
    for refused in
        [[2, 3, 1], [2, 1, 132], [2, 1, 262], [16, 3, 12], [17, 3, 0], [38, 5, 0], [40, 1, 0]]
    {
        assert!(!passes(&profile, "socket", &refused), "{refused:x?}");
    }
    let strict = derive(&command(&[("socket", &[&[2, 1, 0]])]), Arguments::Strict);
    assert!(passes(&strict, "socket", &[2, 0o2_004_001, 0]));
    assert!(!passes(&strict, "socket", &[10, 1, 0]) && !passes(&strict, "socket", &[1, 1, 0]));
}

#[test]
fn clone3_is_refused_so_that_clone_can_be_looked_into() {
    let plain = derive(&command(&[("clone3", &[&[0]])]), Arguments::AttackSurface);
    assert!(!passes(&plain, "clone3", &[]));
    assert!(passes(&plain, "clone", &[0x3d_0f00]) && passes(&plain, "clone", &[17]));
    assert!(!passes(&plain, "clone", &[NEWUSER | 17]));
    let text = render::seccomp::render(&plain);
    let file = ingest::seccomp::parse(&text).expect("own output");
    let refused = file.syscalls.iter().find(|rule| rule.names.iter().any(|name| name == "clone3"));
    assert_eq!(refused.and_then(|rule| rule.errno_ret), Some(38));
    let kinds =
        |profile: &Profile| profile.notes.iter().map(|note| note.kind).collect::<BTreeSet<_>>();
    assert!(kinds(&plain).contains(&NoteKind::Arguments));

    // made with namespaces, or by a run that did not look
    for calls in [
        &[("clone3", &[&[NEWUSER][..]][..]), ("clone", &[&[0]])],
        &[("clone3", &[][..]), ("clone", &[&[0]])],
    ] {
        let open = derive(&command(calls), Arguments::AttackSurface);
        assert!(passes(&open, "clone3", &[]) && !passes(&open, "clone", &[NEWUSER]));
        assert!(open.notes.iter().any(|note| note.text.contains("goes round")), "{:?}", open.notes);
    }
    let off = derive(&command(&[("clone3", &[&[0]])]), Arguments::Off);
    assert!(passes(&off, "clone3", &[]) && !passes(&off, "clone", &[]));
}

#[test]
fn dangerous_options_and_terminal_input_are_cut_off_unless_seen() {
    let calls: &[(&str, &[&[u64]])] =
        &[("ioctl", &[&[0x5401]]), ("prctl", &[&[15]]), ("personality", &[&[INT]])];
    let profile = derive(&command(calls), Arguments::AttackSurface);
    for request in [0x5401, 0x5413, 0x8004_5430, 0, INT, 0xffff_ffff_0000_5413] {
        assert!(passes(&profile, "ioctl", &[0, request]), "{request:#x}");
    }
    assert!(
        !passes(&profile, "ioctl", &[0, 0x5412]) && !passes(&profile, "ioctl", &[1, 0x1_0000_541c])
    );
    assert!(passes(&profile, "prctl", &[38, 1]) && !passes(&profile, "prctl", &[35]));
    let mapped = derive(&command(&[("prctl", &[&[35, 8]])]), Arguments::AttackSurface);
    assert!(passes(&mapped, "prctl", &[35, 8]) && passes(&mapped, "prctl", &[15, 8]));
    assert!(!passes(&mapped, "prctl", &[35, 9]) && !passes(&mapped, "prctl", &[53, 8]));
    assert!(
        passes(&profile, "personality", &[INT]) && !passes(&profile, "personality", &[0x40_0000])
    );
    let pushed = derive(&command(&[("ioctl", &[&[0x5412]])]), Arguments::AttackSurface);
    assert!(passes(&pushed, "ioctl", &[0, 0x5412]) && !passes(&pushed, "ioctl", &[0, 0x541c]));
    let rule = pushed.syscalls.iter().find(|rule| rule.name == "ioctl").expect("a rule");
    assert_eq!(rule.arguments.as_ref().map(Vec::len), Some(2), "one line each: {rule:?}");
}

#[test]
fn what_nobody_watched_or_could_keep_stays_open_and_is_said() {
    let unwatched = derive(&command(&[("socket", &[])]), Arguments::Strict);
    assert!(passes(&unwatched, "socket", &[38, 5, 0]));
    let any = derive(&command(&[("socket", &[&[2, 1, 0], &[]])]), Arguments::AttackSurface);
    assert!(passes(&any, "socket", &[38, 5, 0]));
    assert!(
        any.notes
            .iter()
            .any(|note| note.kind == NoteKind::AnyArguments && note.text.contains("socket"))
    );
}

#[test]
fn on_another_machine_conditions_mean_the_same_or_are_none() {
    let recording = command(&[("socket", &[&[2, 1, 0]]), ("clone", &[&[0]])]);
    let options = Options { arch: Some(Abi::Aarch64), portable: true, ..Options::default() };
    let profile = policy::derive(&recording, &options);
    let rule = |name: &str| profile.syscalls.iter().find(|rule| rule.name == name);
    assert!(rule("socket").is_some_and(|rule| rule.arguments.is_some()));
    assert!(rule("clone").is_some_and(|rule| rule.arguments.is_some()) && rule("clone3").is_none());
}

#[test]
fn a_combination_that_no_filter_can_have_is_refused() {
    let profile = derive(&command(&[("personality", &[&[0]])]), Arguments::Strict);
    let good = Masked { index: 0, mask: 1, value: 1 };
    let read = |values: &[Masked]| {
        let mut profile = profile.clone();
        let rule =
            profile.syscalls.iter_mut().find(|rule| rule.name == "personality").expect("a rule");
        let combination = Combination {
            values: values.to_vec(),
            but: vec![],
            seen: true,
            tests: vec![],
            needed: None,
        };
        rule.arguments = Some(vec![combination]);
        ingest::profile::parse(&render::json::profile(&profile))
    };
    assert!(read(&[good]).is_ok());
    for bad in [&[Masked { index: 6, ..good }][..], &[Masked { value: 2, ..good }], &[good, good]] {
        let error = read(bad).expect_err("no register has it").to_string();
        assert!(error.contains("personality"), "{error}");
    }
}

#[test]
fn a_combination_is_left_out_by_itself() {
    let recording = command(&[("socket", &[&[2, 1, 0], &[38, 5, 0]])]);
    let profile = derive(&recording, Arguments::Strict);
    let wanted = Wanted { syscalls: false, arguments: true };
    let entries = candidates(&profile, wanted).into_iter().map(|it| it.entry);
    let entries: Vec<Entry> = entries
        .filter(|it| matches!(it, Entry::Arguments { call, .. } if call == "socket"))
        .collect();
    let [internet, crypto] = entries.as_slice() else { panic!("{entries:?}") };
    for entry in &entries {
        assert_eq!(Entry::try_from(entry.to_string()).as_ref(), Ok(entry));
    }
    assert!(
        made(&profile, &recording).is_some_and(|made| entries.iter().all(|it| made.contains(it)))
    );
    let once = command(&[("socket", &[&[2, 1, 0]])]);
    let made = made(&profile, &once).expect("nothing was lost");
    assert!(made.contains(internet) && !made.contains(crypto));

    let fewer = without(&profile, &[crypto.clone()].into());
    assert!(passes(&fewer, "socket", &[2, 1, 0]) && !passes(&fewer, "socket", &[38, 5, 0]));
    let none = without(&profile, &entries.iter().cloned().collect());
    assert!(!none.syscalls.iter().any(|rule| rule.name == "socket"));
    for text in ["socket[]", "socket[0&0xff=0x2 ]", "sockets[0&0xff=0x2]", "socket[0&255=2]"] {
        assert!(Entry::try_from(text.to_owned()).is_err(), "{text}");
    }
}
