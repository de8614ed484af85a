//! The set-ups that are compared: what is attached while the caller calls.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result};
use aya::{Ebpf, programs::RawTracePoint};
use profiler::{
    kernel::cgroup,
    observe::ebpf::{Observer, Options, SlotKind, Twins},
    target::command::CommandCgroup,
};

use crate::caller::{self, Call};

static FLOOR: &[u8] = aya::include_bytes_aligned!("../../profiler-ebpf/floor.bpf.o");

/// How many other targets there are where there are many.
const TARGETS: u64 = 200;

/// How many cgroups each of those has.
const CGROUPS: u64 = 50;

/// What is attached, and where the caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetUp {
    /// Nothing.
    Untraced,
    /// An empty program on `sys_enter`.
    Floor,
    /// The recorder, after it has detached `sys_exit`; the caller is the target.
    Recorded,
    /// The same, with `--counts`.
    RecordedCounts,
    /// The same; the caller is not the target.
    Bystander,
    /// Empty programs on `sys_enter` and `sys_exit`.
    FloorBoth,
    /// The recorder while it waits for outcomes; the caller is the target.
    RecordedOutcomes,
    /// The same; the caller is not the target.
    BystanderOutcomes,
    /// The recorder under a filter that denies; the caller is the target.
    RecordedDenials,
    /// The recorder with 10,000 cgroups of 200 targets in scope; the caller is in one of them.
    RecordedOfMany,
    /// The same; the caller is in none.
    BystanderOfMany,
    /// The recorder with programs attached twice; the caller is the target.
    RecordedTwice,
    /// The same; the caller is none.
    BystanderTwice,
}

impl SetUp {
    /// In the order of the table.
    pub const ALL: [SetUp; 13] = [
        SetUp::Untraced,
        SetUp::Floor,
        SetUp::Recorded,
        SetUp::RecordedOfMany,
        SetUp::RecordedCounts,
        SetUp::Bystander,
        SetUp::BystanderOfMany,
        SetUp::FloorBoth,
        SetUp::RecordedOutcomes,
        SetUp::BystanderOutcomes,
        SetUp::RecordedDenials,
        SetUp::RecordedTwice,
        SetUp::BystanderTwice,
    ];

    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            SetUp::Untraced => "untraced",
            SetUp::Floor => "floor: empty program on sys_enter",
            SetUp::Recorded => "recorded",
            SetUp::RecordedCounts => "recorded with --counts",
            SetUp::Bystander => "bystander",
            SetUp::RecordedOfMany => "recorded, one of 10,000 cgroups of 200 targets",
            SetUp::BystanderOfMany => "bystander of 10,000 cgroups of 200 targets",
            SetUp::FloorBoth => "empty programs on sys_enter and sys_exit",
            SetUp::RecordedOutcomes => "recorded, outcomes wanted (first seconds)",
            SetUp::BystanderOutcomes => "bystander, outcomes wanted (first seconds)",
            SetUp::RecordedDenials => "recorded, denials wanted (filter that denies)",
            SetUp::RecordedTwice => "recorded, attached twice (Linux 7.0 and later)",
            SetUp::BystanderTwice => "bystander, attached twice (Linux 7.0 and later)",
        }
    }

    /// Nanoseconds per call.
    pub fn measure(self, calls: u64, call: Call) -> Result<f64> {
        match self {
            SetUp::Untraced => caller::measure(calls, call, None, &[]),
            SetUp::Floor => {
                let _attached = floor(&["floor_enter"])?;
                caller::measure(calls, call, None, &[])
            }
            SetUp::FloorBoth => {
                let _attached = floor(&["floor_enter", "floor_exit"])?;
                caller::measure(calls, call, None, &[])
            }
            _ => self.recorder(calls, call),
        }
    }

    fn recorder(self, calls: u64, call: Call) -> Result<f64> {
        let root = Path::new("/");
        let setup = cgroup::detect(root)?;
        let own = CommandCgroup::create(root, &setup)?;
        let dir = own.cgroup().dir.clone();
        let options = Options {
            counts: self == SetUp::RecordedCounts,
            twins: matches!(self, SetUp::RecordedTwice | SetUp::BystanderTwice)
                .then_some(Twins::Both),
            ..Options::default()
        };
        let mut observer = Observer::start(Path::new("/sys"), options)?;
        if matches!(self, SetUp::RecordedOfMany | SetUp::BystanderOfMany) {
            for target in 0..TARGETS {
                // ids that no cgroup has: the tables do not know that
                let first = 1_000_000 + target * CGROUPS * 7;
                let ids: Vec<u64> = (0..CGROUPS).map(|number| first + number * 7).collect();
                observer.watch(&ids, SlotKind::Command)?;
            }
        }
        if self != SetUp::BystanderOfMany {
            observer.watch(&[dir.metadata()?.ino()], SlotKind::Command)?;
        }
        let outcomes = matches!(self, SetUp::RecordedOutcomes | SetUp::BystanderOutcomes);
        let denials = self == SetUp::RecordedDenials;
        observer.watch_exits(outcomes || denials, denials)?;
        let bystander = matches!(
            self,
            SetUp::Bystander
                | SetUp::BystanderOutcomes
                | SetUp::BystanderOfMany
                | SetUp::BystanderTwice
        );
        let ns = caller::measure(calls, call, (!bystander).then_some(dir.as_path()), &[])?;
        observer.stop()?;
        own.remove()?;
        Ok(ns)
    }
}

/// Empty programs, attached until they are dropped.
pub fn floor(programs: &[&str]) -> Result<Ebpf> {
    let mut ebpf = Ebpf::load(FLOOR)?;
    for name in programs {
        let program: &mut RawTracePoint =
            ebpf.program_mut(name).context("in the object")?.try_into()?;
        program.load()?;
        program.attach(&name.replace("floor_", "sys_"))?;
    }
    Ok(ebpf)
}
