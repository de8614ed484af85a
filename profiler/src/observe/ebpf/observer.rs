//! Loading, arming and stopping. Nothing is recorded before every program is attached, because no
//! cgroup is in scope before.

use std::path::Path;

use aya::{
    Ebpf,
    programs::{Program, ProgramError, tp_btf::BtfTracePointLinkId},
};
use aya_log::EbpfLogger;
use profiler_common::{
    globals::{COUNTS_WANTED, FILTERS_WANTED, STACKS_WANTED},
    scope::{Control, Slot},
};

use super::{
    arguments,
    attach::{AttachPoint, Attached, Need, POINTS, Way},
    drain::{self, Drain, Uncounted},
    error::{ObserveError, load_error, program_error, reason},
    files::Files,
    labels::Labels,
    load::{give_back, load_all, load_and_attach, loader, tracepoint},
    misses,
    slots::{self, Candidate, SlotKind, Slots, array, map_error},
    stacks::Stacks,
    symbols::Symbols,
    twins::{self, Twins},
    types::Types,
};
use crate::{
    kernel::version::uname,
    model::recording::Missing,
    observe::evidence::{Evidence, Found},
};

/// The kernel side, built from `profiler-ebpf` by `cargo xtask ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../profiler-ebpf/profiler.bpf.o");

/// What to load.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Let the kernel side write debug messages to the logger.
    pub debug: bool,
    /// See capability checks this way or not at all, where another would be taken.
    pub capabilities: Option<Way>,
    /// Attach these programs also where no kernel of its version leaves one out.
    pub twins: Option<Twins>,
    /// Keep the user stack of the first occurrence of each call.
    pub stacks: bool,
    /// Count each call.
    pub counts: bool,
    /// Keep the filters under which processes enter a target.
    pub filters: bool,
}

/// Loaded and attached programs. Dropping it detaches everything.
pub struct Observer {
    ebpf: Ebpf,
    slots: Slots,
    control: Control,
    generation: u32,
    /// Attached programs of that point, with their links.
    sys_exit: Vec<(String, BtfTracePointLinkId)>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    capabilities: Attached,
    symbols: Symbols,
    stacks: Stacks,
    files: Files,
    /// Those that are attached, where programs have twins.
    twins: Option<Twins>,
    /// It is noticed when both of two were suspended.
    are_twins_watched: bool,
    skipped: u64,
}

impl Observer {
    /// Loads and attaches every program. No cgroup is in scope yet.
    ///
    /// # Errors
    /// When the kernel has no BTF, lacks a field or tracepoint, or does not permit eBPF.
    pub fn start(sysfs: &Path, options: Options) -> Result<Self, ObserveError> {
        let observer = Self::load(sysfs, options);
        give_back();
        observer
    }

    fn load(sysfs: &Path, options: Options) -> Result<Self, ObserveError> {
        let types = Types::read(sysfs, options.capabilities)?;
        let mut loader = loader()?;
        for (global, value) in &types.globals {
            loader.override_global(global, value, false);
        }
        let optional = [
            (STACKS_WANTED, "STACKS", i32::from(options.stacks)),
            (COUNTS_WANTED, "COUNTS", i32::from(options.counts)),
            (FILTERS_WANTED, "FILTERS", i32::from(options.filters)),
        ];
        for (global, map, wanted) in &optional {
            loader.override_global(global, wanted, false);
            if *wanted == 0 {
                loader.map_max_entries(map, 1);
            }
        }
        let twins = options.twins.or_else(|| twins::are_needed(&uname()).then_some(Twins::Both));
        if twins.is_none() {
            loader.map_max_entries("CHECKED", 1);
        }
        let level = if options.debug { 4_u8 } else { 0 };
        loader.override_global("AYA_LOG_LEVEL", &level, true);
        let mut ebpf = loader.load(OBJECT).map_err(load_error)?;
        arguments::choose(&mut ebpf)?;
        let stacks = if options.stacks { Stacks::start(&mut ebpf)? } else { Stacks::default() };
        let files = Files::start(&mut ebpf)?;
        let logger = if options.debug { EbpfLogger::init(&mut ebpf).ok() } else { None };

        let mut observer = Observer {
            ebpf,
            slots: Slots::new(),
            control: Control { twins: u32::from(twins.is_some()), ..Control::default() },
            generation: 0,
            sys_exit: Vec::new(),
            logger,
            capabilities: Attached::default(),
            symbols: Symbols::open(),
            stacks,
            files,
            twins,
            are_twins_watched: false,
            skipped: 0,
        };
        observer.write_control()?;
        observer.attach_all(&types, options.capabilities)?;
        Ok(observer)
    }

    fn attach_all(&mut self, types: &Types, only: Option<Way>) -> Result<(), ObserveError> {
        let btf = aya::Btf::parse(&types.attachable, aya::Endianness::default())?;
        let twins = self.twins;
        load_all(&mut self.ebpf, &btf, twins, |point| match point.need {
            // the newest kernels have it; what becomes of it is told where it is attached
            Need::Capabilities => {
                let first = point.ways.first().filter(|way| only.is_none_or(|only| only == **way));
                let lacks = types.lacks(point.name, Way::Tracepoint);
                first == Some(&Way::Tracepoint) && lacks.is_none()
            }
            Need::WithTwins => twins.is_some(),
            Need::Always | Need::WhileWanted => true,
        })?;
        for point in POINTS {
            match point.need {
                Need::Always => {
                    self.attach_tracepoint(point.name)?;
                }
                Need::WithTwins if twins.is_some() => {
                    self.attach_tracepoint(point.name)?;
                    self.are_twins_watched = twins::find(&mut self.ebpf, point.name)?;
                }
                Need::Capabilities => {
                    self.capabilities = self.attach_first(point, types, &btf, only)
                }
                Need::WhileWanted | Need::WithTwins => {}
            }
        }
        Ok(())
    }

    /// Attaches every program of a tracepoint, which are loaded.
    fn attach_tracepoint(
        &mut self,
        point: &'static str,
    ) -> Result<Vec<(String, BtfTracePointLinkId)>, ObserveError> {
        let attach = |name: String| {
            let program = tracepoint(&mut self.ebpf, &name, point)?;
            let link = program.attach().map_err(program_error(point))?;
            Ok((name, link))
        };
        Way::Tracepoint.programs(point, self.twins).into_iter().map(attach).collect()
    }

    /// Attaches in the first way that this kernel takes. What it does not take costs nothing.
    fn attach_first(
        &mut self,
        point: &AttachPoint,
        types: &Types,
        btf: &aya::Btf,
        only: Option<Way>,
    ) -> Attached {
        let mut attached = Attached::default();
        for way in point.ways.iter().filter(|way| only.is_none_or(|only| only == **way)) {
            let outcome = match types.lacks(point.name, *way) {
                Some(reason) => Err(reason.to_owned()),
                None => self.attach_by(*way, point.name, btf).map_err(|error| {
                    tracing::debug!("{} {}: {error:?}", way.name(), point.name);
                    reason(&error)
                }),
            };
            match outcome {
                Ok(()) => {
                    attached.by = Some(*way);
                    break;
                }
                Err(reason) => attached.refused.push((*way, reason)),
            }
        }
        attached
    }

    fn attach_by(&mut self, way: Way, point: &str, btf: &aya::Btf) -> Result<(), ProgramError> {
        let outcome = way.programs(point, self.twins).iter().try_for_each(|name| {
            let program = self.ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?;
            load_and_attach(program, point, btf)
        });
        if outcome.is_err() {
            self.unload(way, point);
        }
        outcome
    }

    /// Unloading detaches; a program that never was loaded has nothing to undo.
    fn unload(&mut self, way: Way, point: &str) {
        for name in way.programs(point, self.twins) {
            let _ = match self.ebpf.program_mut(&name) {
                Some(Program::BtfTracePoint(program)) => program.unload(),
                Some(Program::FExit(program)) => program.unload(),
                Some(Program::KProbe(program)) => program.unload(),
                _ => Ok(()),
            };
        }
    }

    /// How capability checks are seen, and what was tried.
    #[must_use]
    pub fn capabilities(&self) -> &Attached {
        &self.capabilities
    }

    /// Whether it would be noticed if two programs that do the same were left out at once; nothing where there is one of each.
    #[must_use]
    pub fn watches_twins(&self) -> Option<bool> {
        self.twins.map(|_| self.are_twins_watched)
    }

    /// Puts existing cgroups in scope, all writing to one new slot.
    ///
    /// # Errors
    /// When there is no slot left or the maps cannot be written.
    pub fn watch(&mut self, cgroup_ids: &[u64], kind: SlotKind) -> Result<Slot, ObserveError> {
        let slot = self.slots.take(&mut self.ebpf, kind)?;
        self.slots.begin(slot);
        self.watch_also(cgroup_ids, slot)?;
        Ok(slot)
    }

    /// Puts more cgroups in scope, writing to a slot that is in use.
    ///
    /// # Errors
    /// When the maps cannot be written.
    pub fn watch_also(&mut self, cgroup_ids: &[u64], slot: Slot) -> Result<(), ObserveError> {
        for id in cgroup_ids {
            self.slots.choose(&mut self.ebpf, *id, slot)?;
        }
        Ok(())
    }

    /// From now on every cgroup that is created at this path of the cgroup2 tree writes to a slot, and is among
    /// the [candidates](Self::candidates). Recorders in a cgroup namespace of their own see other paths than the
    /// kernel.
    ///
    /// # Errors
    /// When the path is too long or the maps cannot be written.
    pub fn want(&mut self, path: &[u8], slot: Slot) -> Result<(), ObserveError> {
        self.slots.want(&mut self.ebpf, path, slot)
    }

    /// Puts an existing cgroup in scope as a candidate of a slot, so that its end is noticed.
    ///
    /// # Errors
    /// When the maps cannot be written.
    pub fn adopt_one(&mut self, cgroup_id: u64, slot: Slot) -> Result<(), ObserveError> {
        self.slots.adopt_one(&mut self.ebpf, cgroup_id, slot)
    }

    /// Notes processes that are in scope already, so that they are seen to leave.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn note_members(
        &mut self,
        pids: impl IntoIterator<Item = u32>,
        slot: Slot,
    ) -> Result<(), ObserveError> {
        self.slots.note_members(&mut self.ebpf, pids, slot)
    }

    /// Forgets a candidate that has ended, and keeps its evidence.
    ///
    /// # Errors
    /// When the maps cannot be written.
    pub fn forget(&mut self, candidate: &Candidate) -> Result<(), ObserveError> {
        self.slots.forget(&mut self.ebpf, candidate.cgroup_id)
    }

    /// From now on every new cgroup with a container id in its name is recorded as a candidate.
    ///
    /// # Errors
    /// When the maps cannot be written.
    pub fn adopt_candidates(&mut self) -> Result<(), ObserveError> {
        self.slots.adopt(&mut self.ebpf)?;
        self.control.adopt = 1;
        self.write_control()
    }

    /// Candidates adopted so far and not released.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn candidates(&mut self) -> Result<Vec<Candidate>, ObserveError> {
        slots::candidates(&mut self.ebpf)
    }

    /// Makes a candidate's calls cheap: it is a target.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn keep(&mut self, candidate: &Candidate) -> Result<(), ObserveError> {
        slots::promote(&mut self.ebpf, candidate.cgroup_id, candidate.slot)
    }

    /// Forgets a candidate and its evidence.
    ///
    /// # Errors
    /// When the maps cannot be written.
    pub fn release(&mut self, candidate: &Candidate) -> Result<(), ObserveError> {
        self.slots.release(&mut self.ebpf, candidate)
    }

    /// Switches on or off what needs `sys_exit`: outcomes of capability checks, and denied calls.
    /// The program is attached before it is believed, and believed no more before it is detached.
    ///
    /// # Errors
    /// When `sys_exit` cannot be attached.
    pub fn watch_exits(&mut self, outcomes: bool, denials: bool) -> Result<(), ObserveError> {
        const POINT: &str = "sys_exit";
        let wanted = outcomes || denials;
        if wanted && self.sys_exit.is_empty() {
            self.sys_exit = self.attach_tracepoint(POINT)?;
        }
        self.control.outcomes = self.generation_of(outcomes, self.control.outcomes);
        self.control.denials = self.generation_of(denials, self.control.denials);
        self.write_control()?;
        if !wanted {
            for (name, link) in self.sys_exit.drain(..) {
                let program = tracepoint(&mut self.ebpf, &name, POINT)?;
                program.detach(link).map_err(program_error(POINT))?;
            }
        }
        Ok(())
    }

    /// The generation that a switch goes on with: what an earlier one left in the maps does not count.
    fn generation_of(&mut self, wanted: bool, current: u32) -> u32 {
        match (wanted, current) {
            (false, _) => 0,
            (true, 0) => {
                self.generation += 1;
                self.generation
            }
            (true, current) => current,
        }
    }

    /// What was found so far in the given slots.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn found(&mut self, slots: &[Slot]) -> Result<Found, ObserveError> {
        let slots = slots
            .iter()
            .map(|target| (*target, self.slots.of(*target).into_keys().collect()))
            .collect();
        drain::found(&mut self.ebpf, &slots, &mut self.symbols)
    }

    /// Puts labels in force, in place of those before: when this returns, every call that begins is recorded
    /// under them. `run` and `armed_ns` as in [`Observer::evidence`].
    ///
    /// # Errors
    /// When the maps cannot be read or written.
    pub fn label(&mut self, labels: &Labels, run: &str, armed_ns: u64) -> Result<(), ObserveError> {
        let (stacks, files) = (&self.stacks, &self.files);
        let mut drain = Drain { run, armed_ns, symbols: &mut self.symbols, stacks, files };
        self.slots.label(&mut self.ebpf, labels, &mut drain)
    }

    /// Takes over evidence of earlier labels, so that its slots can serve later ones. To be called now and then.
    ///
    /// # Errors
    /// When the maps cannot be read or written.
    pub fn tidy(&mut self, run: &str, armed_ns: u64) -> Result<(), ObserveError> {
        let (stacks, files) = (&self.stacks, &self.files);
        self.slots.filters.take(&mut self.ebpf)?;
        let mut drain = Drain { run, armed_ns, symbols: &mut self.symbols, stacks, files };
        self.slots.reuse(&mut self.ebpf, &mut drain)
    }

    /// Writes what the kernel side logged to the logger.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// Stops recording; evidence stays readable.
    ///
    /// # Errors
    /// When the control map cannot be written.
    pub fn stop(&mut self) -> Result<(), ObserveError> {
        // programs still run, and what they may do about being suspended stays
        self.control = Control { twins: self.control.twins, ..Control::default() };
        self.write_control()?;
        self.skipped = misses::lost(&mut self.ebpf, self.are_twins_watched)?;
        self.sys_exit.clear();
        for point in POINTS {
            for way in point.ways {
                self.unload(*way, point.name);
            }
        }
        self.flush_log();
        Ok(())
    }

    /// The evidence of one target, in the given slots. `armed_ns` is CLOCK_MONOTONIC, `unlabelled` how many labels were
    /// not kept.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn evidence(
        &mut self,
        slots: &[Slot],
        run: &str,
        armed_ns: u64,
        unlabelled: u64,
    ) -> Result<Evidence, ObserveError> {
        let (stacks, files) = (&self.stacks, &self.files);
        let mut drain = Drain { run, armed_ns, symbols: &mut self.symbols, stacks, files };
        let mut evidence = Evidence::default();
        self.slots.filters.take(&mut self.ebpf)?;
        for slot in slots {
            evidence.absorb(self.slots.evidence(&mut self.ebpf, *slot, &mut drain)?);
        }
        let unlabelled = unlabelled + self.slots.unlabelled;
        let unnamed = drain::bound_unread(&mut evidence.missing);
        let uncounted = Uncounted { unlabelled, stacks: self.stacks.lost(), files: unnamed };
        let losses = drain::losses(&mut self.ebpf, &uncounted)?;
        evidence.missing.extend(losses);
        let skipped = self.skipped.max(misses::lost(&mut self.ebpf, self.are_twins_watched)?);
        if skipped > 0 {
            evidence.missing.push(Missing::Skipped { count: skipped });
        }
        if self.capabilities.by.is_none() {
            evidence.missing.push(Missing::Capabilities { reason: self.capabilities.refusals() });
        }
        Ok(evidence)
    }

    fn write_control(&mut self) -> Result<(), ObserveError> {
        let control = self.control;
        array::<Control>(&mut self.ebpf, "CONTROL")?
            .set(0, control, 0)
            .map_err(map_error("CONTROL"))
    }
}

#[cfg(test)]
mod tests {
    use object::{
        Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, read::elf::ElfFile64,
    };

    use super::*;
    use crate::model::{arch::Abi, syscall};

    /// The kernel side knows some calls by number, on both machines.
    #[test]
    fn the_numbers_of_the_kernel_side_are_those_of_the_tables() {
        let source = include_str!("../../../../profiler-ebpf/src/calls.rs");
        let rows = source
            .lines()
            .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("const "));
        let rows: Vec<(&str, &str)> =
            rows.filter_map(|row| row.strip_suffix(");")?.split_once(": Call = call(")).collect();
        assert_eq!(rows.len(), 18, "{rows:?}");
        for (name, numbers) in rows {
            let name = name.to_lowercase();
            let expected = [Abi::X86_64, Abi::Ia32, Abi::Aarch64, Abi::Arm].map(|abi| {
                let is_wide = matches!(abi, Abi::X86_64 | Abi::Aarch64);
                let number = match name.strip_suffix("16") {
                    Some(_) if is_wide => None,
                    Some(name) => syscall::number(abi, name),
                    None => syscall::number(abi, &format!("{name}32"))
                        .or_else(|| syscall::number(abi, &name)),
                };
                number.map_or_else(|| "NONE".to_owned(), |number| number.to_string())
            });
            assert_eq!(numbers, expected.join(", "), "{name}");
        }
    }

    /// The programs that read registers ask which machine they are on.
    #[test]
    fn the_object_is_for_both_machines() {
        let file: ElfFile64 = ElfFile64::parse(OBJECT).expect("an object");
        for name in ["tp_btf/sys_enter", "tp_btf/sys_exit", "tp_btf/cap_capable", "kprobe", ".text"]
        {
            let section = file.section_by_name(name).expect(name);
            let asks = section.relocations().any(|(_, relocation)| match relocation.target() {
                RelocationTarget::Symbol(index) => file
                    .symbol_by_index(index)
                    .is_ok_and(|symbol| symbol.name() == Ok("REGS_SYSCALLNO")),
                _ => false,
            });
            assert!(asks, "{name}");
        }
    }
}
