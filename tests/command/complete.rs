//! Nothing is missed: floods, short-lived children, every ABI, numbers that no table names.

use anyhow::{Result, bail, ensure};

use crate::harness::{
    machine::{Machine, Need},
    record::Record,
    syscalls::{self, NATIVE, RARE},
    test::Test,
};

const NEEDS: [Need; 2] = [Need::Bpf, Need::Tool("gcc", "gcc")];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("command::first_call", &NEEDS, first_call).on_every_machine(),
        Test::new("command::launcher_stays_out", &NEEDS, launcher),
        Test::new("command::flood_of_ten_million", &NEEDS, flood),
        Test::new("command::short_lived_children", &NEEDS, children).on_every_machine(),
        Test::new("command::a_thousand_children", &NEEDS, thousand),
        Test::new("command::numbers_without_names", &NEEDS, weird).on_every_kernel(),
        Test::new("command::int80_is_ia32", &NEEDS, int80).on_every_kernel(),
        Test::new("command::real_32_bit_program", &NEEDS, real32).on_every_kernel(),
        Test::new("command::bystanders_stay_out", &NEEDS, bystanders),
    ]
}

/// Calls of six short-lived children, which have no effect with arguments that are all -1.
pub const CHILDREN: [&str; 6] = ["vmsplice", "tee", "splice", "mq_unlink", "readahead", "io_setup"];

fn first_call(machine: &Machine) -> Result<()> {
    let end = syscalls::number("exit_group")?;
    for nr in syscalls::numbers(&["vmsplice", "pkey_free", "mq_unlink"])? {
        let scratch = machine.scratch()?;
        let calls = machine.fixture("calls")?;
        let recorded = Record::new(machine, scratch.join("out"))
            .workload([calls.as_str(), "-q", &nr.to_string()])
            .run()?
            .expect(0)?;
        let seen = recorded.recording()?.numbers(NATIVE, "workload");
        ensure!(seen == [nr, end].into(), "the program makes {nr} and exit_group, not {seen:?}");
    }
    Ok(())
}

/// The recorder's own steps before the command's execve are not the command's, however busy the machine is.
fn launcher(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let calls = machine.fixture("calls")?;
    let record = |worker: usize| {
        for round in 0..40 {
            let dir = scratch.join(&format!("{worker}-{round}"));
            let recorded = Record::new(machine, dir)
                .workload([calls.as_str(), "-q", "278"])
                .run()?
                .expect(0)?;
            let seen = recorded.recording()?.numbers("x86_64", "workload");
            ensure!(
                seen == [278, 231].into(),
                "round {round}: the program makes 278 and 231, not {seen:?}"
            );
        }
        anyhow::Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|worker| scope.spawn(move || record(worker))).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("a worker panicked"),
        })
    })
}

fn flood(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let flood = machine.fixture("flood")?;
    let rare = &RARE[..8];
    let mut workload = vec![flood.to_string(), "10000000".to_owned()];
    workload.extend(rare.iter().map(u32::to_string));
    let recorded = Record::new(machine, scratch.join("out")).workload(workload).run()?.expect(0)?;
    ensure!(
        recorded.output.stdout == "10000000 calls\n",
        "the flood made {}",
        recorded.output.stdout
    );
    let recording = recorded.recording()?;
    recording.expect_numbers(rare)?;
    recording.expect_numbers(&[110])?;
    ensure!(!recording.missing().contains("lost"), "losses: {:?}", recording.missing());
    Ok(())
}

fn children(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let forker = machine.fixture("forker")?;
    let rare = &syscalls::numbers(&CHILDREN)?;
    let mut workload = vec![forker.to_string()];
    workload.extend(rare.iter().map(u32::to_string));
    let recorded = Record::new(machine, scratch.join("out")).workload(workload).run()?.expect(0)?;
    recorded.recording()?.expect_numbers(rare)
}

/// Short-lived processes one after the other, each with a call of its own, started by a shell.
fn thousand(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let calls = machine.fixture("calls")?;
    let rare: Vec<String> = RARE.iter().map(u32::to_string).collect();
    let script = format!(
        "for round in 0 1 2 3 4 5 6 7 8 9; do for nr in {}; do {calls} -q $nr; done; done",
        rare.join(" ")
    );
    let recorded = Record::new(machine, scratch.join("out"))
        .workload(["/bin/sh", "-c", &script])
        .run()?
        .expect(0)?;
    recorded.recording()?.expect_numbers(&RARE)
}

fn weird(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let calls = machine.fixture("calls")?;
    // 1073741863 is x32's getpid: bit 30 and 39.
    let recorded = Record::new(machine, scratch.join("out"))
        .workload([calls.as_str(), "999", "4000", "100000", "1073741863", "-1"])
        .run()?
        .expect(0)?;
    let recording = recorded.recording()?;
    recording.expect_numbers(&[999, 4000, 100_000])?;
    let x32 = recording.numbers("x32", "workload");
    ensure!(x32.contains(&39), "x32's getpid is not in {x32:?}");
    let minus_one = recording
        .facts("syscalls")
        .filter_map(|fact| fact["nr"].as_u64())
        .any(|nr| nr | 1 << 30 == u64::from(u32::MAX));
    ensure!(minus_one, "number -1 is not in the recording");
    // A profile cannot name them, and must not pretend to.
    let allowed = recorded.emitted().seccomp()?.allowed();
    let strange: Vec<_> = allowed
        .iter()
        .filter(|name| {
            !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        })
        .collect();
    ensure!(strange.is_empty(), "strange names in seccomp.json: {strange:?}");
    Ok(())
}

fn int80(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let calls = machine.fixture("calls")?;
    // ia32's 20 is getpid, x86_64's is writev; ia32's 53 is lock, which x86_64 calls vmsplice's neighbour.
    let recorded = Record::new(machine, scratch.join("out"))
        .workload([calls.as_str(), "i20", "i53", "39"])
        .run()?
        .expect(0)?;
    let recording = recorded.recording()?;
    let ia32 = recording.numbers("ia32", "workload");
    ensure!(ia32 == [20, 53].into(), "ia32 calls are {ia32:?}");
    let native = recording.numbers("x86_64", "workload");
    ensure!(native == [1, 39, 231].into(), "x86_64 calls are {native:?}");
    expect_architecture(&recorded.emitted().seccomp()?.json["architectures"], "SCMP_ARCH_X86")
}

fn real32(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let real32 = machine.fixture("real32")?;
    let recorded = Record::new(machine, scratch.join("out"))
        .workload([real32.as_str(), "53", "44"])
        .run()?
        .expect(0)?;
    let recording = recorded.recording()?;
    let ia32 = recording.numbers("ia32", "workload");
    // lock, prof; write, exit_group and mmap2 of its libc.
    for nr in [53, 44, 4, 252] {
        ensure!(ia32.contains(&nr), "ia32's {nr} is not in {ia32:?}");
    }
    let native = recording.numbers("x86_64", "workload");
    ensure!(native.is_empty(), "a 32-bit program made x86_64 calls: {native:?}");
    let seccomp = recorded.emitted().seccomp()?;
    ensure!(seccomp.allowed().contains("exit_group"), "exit_group is not allowed");
    expect_architecture(&seccomp.json["architectures"], "SCMP_ARCH_X86")
}

fn expect_architecture(list: &serde_json::Value, wanted: &str) -> Result<()> {
    if !list.as_array().is_some_and(|list| list.iter().any(|arch| arch == wanted)) {
        bail!("{wanted} is not among {list}");
    }
    Ok(())
}

/// A process outside the target makes a call the whole time; it is not the target's.
fn bystanders(machine: &Machine) -> Result<()> {
    let scratch = machine.scratch()?;
    let (calls, flood) = (machine.fixture("calls")?, machine.fixture("flood")?);
    let script = format!("while :; do {calls} -q 178 331; {flood} 1000 276; done");
    let bystander = crate::harness::program::start(
        &mut crate::harness::program::command("sh", ["-c", &script]),
        &[],
    )?;
    let recorded = Record::new(machine, scratch.join("out"))
        .workload(["/bin/sleep", "0.5"])
        .run()?
        .expect(0)?;
    drop(bystander);
    let seen = recorded.recording()?.numbers("x86_64", "workload");
    let foreign: Vec<_> = [178, 331, 276].into_iter().filter(|nr| seen.contains(nr)).collect();
    ensure!(foreign.is_empty(), "calls of a bystander: {foreign:?}");
    Ok(())
}
