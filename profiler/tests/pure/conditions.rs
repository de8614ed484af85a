//! Conditions on arguments: how many a rule can have, what stands in for a narrow call, and what goes round.

use profiler::{
    ingest,
    model::{
        arch::Abi,
        arguments::Masked,
        narrow,
        policy::{self, Options},
        profile::{Arguments, Combination, NoteKind, Profile, SyscallRule},
        recording::{Phase, Recording},
        syscall,
        union::union,
    },
    render,
};

use crate::narrow::{INT, NEWUSER, TYPE, command, decides, derive, fact, passes, sighted};

fn combination(values: &[Masked], but: &[Masked]) -> Combination {
    Combination {
        values: values.to_vec(),
        but: but.to_vec(),
        seen: true,
        tests: vec![],
        needed: None,
    }
}

const fn int(index: u8, value: u64) -> Masked {
    Masked { index, mask: INT, value }
}

fn rule<'a>(profile: &'a Profile, abi: Abi, name: &str) -> Option<&'a SyscallRule> {
    profile.syscalls.iter().find(|rule| rule.abi == abi && rule.name == name)
}

fn says(profile: &Profile, kind: NoteKind, text: &str) -> bool {
    profile.notes.iter().any(|note| note.kind == kind && note.text.contains(text))
}

/// The profile, with these combinations of a call.
fn with(profile: &Profile, call: &str, combinations: Vec<Combination>) -> Profile {
    let mut profile = profile.clone();
    let rule = profile.syscalls.iter_mut().find(|rule| rule.name == call);
    rule.expect("a rule").arguments = Some(combinations);
    profile
}

/// As many values of personality, from one on.
fn personalities(from: u64, count: u64) -> Recording {
    let values: Vec<[u64; 1]> = (from..from + count).map(|value| [value]).collect();
    let values: Vec<&[u64]> = values.iter().map(|value| &value[..]).collect();
    command(&[("personality", &values)])
}

#[test]
fn a_rule_has_some_hundred_combinations_at_the_most() {
    let calls: [(&str, &[&[u64]]); 2] = [("ioctl", &[&[1]]), ("personality", &[&[0]])];
    let profile = derive(&command(&calls), Arguments::Strict);
    let read = |call, combinations| {
        let profile = with(&profile, call, combinations);
        ingest::profile::parse(&render::json::profile(&profile)).map_err(|error| error.to_string())
    };
    let plain = |count| (0..count).map(|value| combination(&[int(0, value)], &[])).collect();
    let open = |count| (0..count).map(|value| combination(&[], &[int(1, value)])).collect();
    assert!(read("personality", plain(512)).is_ok() && read("ioctl", open(3)).is_ok());
    for (call, all) in [("personality", plain(513)), ("ioctl", open(4))] {
        let error = read(call, all).expect_err("more than a rule has");
        assert!(error.contains(&format!("`{call}`")) && error.contains("\nhint: "), "{error}");
    }
    // a few of every call would be a hundred thousand conditions
    let error = read("personality", open(1)).expect_err("never written");
    assert!(error.contains("`personality`"), "{error}");
}

#[test]
fn the_largest_rule_that_is_read_makes_some_thousand_conditions() {
    // conditions that overlap in many ways, so that they are not taken apart
    let spread = |at: u64, by: u64| at.wrapping_mul(by) >> 11 & INT;
    let three = |at: u64, index: u8| {
        let mask = (0..3).fold(0, |mask, bit| {
            mask | 1 << (spread(at, 0x9e37_79b9_7f4a_7c15 ^ u64::from(index) << bit) % 32)
        });
        Masked { index, mask, value: spread(at, 0xbf58_476d_1ce4_e5b9 + u64::from(index)) & mask }
    };
    let mut all: Vec<Combination> = (1..510)
        .map(|at| combination(&(1..6).map(|index| three(at, index)).collect::<Vec<_>>(), &[]))
        .collect();
    for at in 1..4 {
        let but: Vec<Masked> =
            (1..17).map(|value| int(0, spread(value, 0x94d0_49bb_1331_11eb))).collect();
        all.push(combination(&[int(1, at)], &but));
    }
    assert!(narrow::is_bounded(&all) && all.iter().all(|it| narrow::is_well_formed("ioctl", it)));
    let cubes = narrow::cubes(&all);
    assert!((512..=2048).contains(&cubes.len()), "{}", cubes.len());
}

#[test]
fn beyond_the_bound_any_are_allowed_and_it_is_said() {
    let whole = derive(&personalities(0, 512), Arguments::Strict);
    assert_eq!(
        rule(&whole, Abi::X86_64, "personality").and_then(|it| Some(it.arguments.as_ref()?.len())),
        Some(512)
    );
    let beyond = derive(&personalities(0, 513), Arguments::Strict);
    let [first, second] = [(0, 300), (300, 300)]
        .map(|(from, count)| derive(&personalities(from, count), Arguments::Strict));
    let joined = union(&first, &second).expect("same target");
    for profile in [&beyond, &joined] {
        let rule = rule(profile, Abi::X86_64, "personality").expect("a rule");
        assert_eq!(rule.arguments, None);
        assert!(says(profile, NoteKind::AnyArguments, "personality"), "{:?}", profile.notes);
    }
    for profile in [whole, beyond, joined] {
        let text = render::json::profile(&profile);
        assert_eq!(ingest::profile::parse(&text).expect("own output"), profile);
    }
}

fn portable(recording: &Recording) -> Profile {
    let options = Options { arguments: Arguments::Strict, portable: true, ..Options::default() };
    policy::derive(recording, &options)
}

#[test]
fn what_stands_in_for_others_keeps_its_conditions() {
    let both = portable(&command(&[("tgkill", &[&[6]]), ("tkill", &[&[9]])]));
    let one = portable(&command(&[("tgkill", &[&[6]])]));
    for (profile, signals) in [(&both, &[6, 9][..]), (&one, &[6])] {
        for &signal in signals {
            assert!(passes(profile, "tgkill", &[1, 1, signal]), "{signal}");
            assert!(passes(profile, "tkill", &[1, signal]), "{signal}");
        }
        assert!(!passes(profile, "tgkill", &[6, 6, 15]) && !passes(profile, "tkill", &[6, 15]));
        assert!(!says(profile, NoteKind::Portable, "tkill"), "{:?}", profile.notes);
    }
    assert!(!passes(&one, "tgkill", &[1, 1, 9]));
    // a run that looked at one of them only
    let open = portable(&command(&[("tgkill", &[]), ("tkill", &[&[9]])]));
    assert!(passes(&open, "tkill", &[1, 15]));
    assert!(says(&open, NoteKind::Portable, "x86_64 tkill"), "{:?}", open.notes);
}

#[test]
fn on_another_machine_forks_are_made_by_clone_alone() {
    let numbers = ["clone", "clone3"]
        .map(|name| syscall::number(Abi::Aarch64, name).expect("a call of aarch64"));
    let may = |profile: &Profile, at: usize, flags: u64| {
        decides(profile).verdict(Abi::Aarch64, numbers[at], &[flags, 0, 0, 0, 0, 0]).may_pass()
    };
    for arguments in [Arguments::AttackSurface, Arguments::Strict] {
        let options = Options { arguments, arch: Some(Abi::Aarch64), ..Options::default() };
        let forked = policy::derive(&command(&[("vfork", &[])]), &options);
        assert!(may(&forked, 0, 0x4111) && !may(&forked, 0, NEWUSER) && !may(&forked, 1, 0));
        assert!(rule(&forked, Abi::Aarch64, "clone3").is_none());
        let both = command(&[("vfork", &[]), ("clone", &[&[0x400_0000]])]);
        let both = policy::derive(&both, &options);
        assert!(may(&both, 0, 0x400_0011) && may(&both, 0, 0x4111), "{arguments:?}");
        assert!(!may(&both, 0, NEWUSER) && !may(&both, 1, 0), "{arguments:?}");
    }
}

/// Whether socketcall is said to go round the call's conditions, where 32-bit programs made these.
fn goes_round(call: &str, values: &[Masked], choice: Arguments) -> bool {
    let mut recording = command(&[]);
    let run = recording.runs.keys().next().expect("a run").clone();
    recording.syscalls.push(sighted(Abi::Ia32, call, Phase::Workload, &run));
    recording.arguments.push(fact(Abi::Ia32, call, Phase::Workload, values.to_vec(), &run));
    let profile = derive(&recording, choice);
    let text = format!("socketcall goes round the conditions on {call}:");
    assert!(rule(&profile, Abi::Ia32, call).is_some_and(|rule| rule.arguments.is_some()));
    says(&profile, NoteKind::Arguments, &text)
}

#[test]
fn socketcall_goes_round_where_it_can() {
    let of = |mask| [int(0, 1), Masked { index: 1, mask, value: 1 }, int(2, 0)];
    for call in ["socket", "socketpair"] {
        assert!(goes_round(call, &of(TYPE), Arguments::AttackSurface), "{call}");
        // 0x80001 is a type, and an address that memory can have
        assert!(goes_round(call, &of(TYPE), Arguments::Strict), "{call}");
        // 1 is none
        assert!(!goes_round(call, &of(INT), Arguments::Strict), "{call}");
        // no register of socketcall is the third
        assert!(goes_round(call, &[int(0, 16), int(2, 0)], Arguments::Strict), "{call}");
    }
    assert!(!goes_round("setsockopt", &[int(1, 1), int(2, 2)], Arguments::Strict));
}
