//! Loading, arming and stopping. Nothing is recorded before every program is attached, because no
//! cgroup is in scope before.

use std::path::Path;

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    programs::{BtfTracePoint, ProgramError, tp_btf::BtfTracePointLinkId},
};
use aya_log::EbpfLogger;
use fs_err as fs;
use profiler_common::{
    globals::OFFSETS,
    scope::{Control, Slot},
};

use super::{
    attach::{Need, POINTS},
    drain::{self, Drain},
    error::ObserveError,
    labels::Labels,
    slots::{self, Candidate, SlotKind, Slots, array, map_error},
    symbols::Symbols,
};
use crate::{
    kernel::btf::Btf,
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
}

/// Loaded and attached programs. Dropping it detaches everything.
pub struct Observer {
    ebpf: Ebpf,
    slots: Slots,
    control: Control,
    generation: u32,
    sys_exit: Option<BtfTracePointLinkId>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    no_capabilities: Option<String>,
    symbols: Symbols,
}

impl Observer {
    /// Loads and attaches every program. No cgroup is in scope yet.
    ///
    /// # Errors
    /// When the kernel has no BTF, lacks a field or tracepoint, or does not permit eBPF.
    pub fn start(sysfs: &Path, options: Options) -> Result<Self, ObserveError> {
        let path = sysfs.join("kernel/btf/vmlinux");
        let bytes = fs::read(&path)
            .map_err(|source| ObserveError::NoBtf { path: path.display().to_string(), source })?;
        let btf = Btf::parse(&bytes)?;
        let no_capabilities = check(&btf)?;
        let offsets = offsets(&btf)?;

        let mut loader = EbpfLoader::new();
        for (offset, value) in OFFSETS.iter().zip(&offsets) {
            loader.override_global(offset.global, value, false);
        }
        let level = if options.debug { 4_u8 } else { 0 };
        loader.override_global("AYA_LOG_LEVEL", &level, true);
        let mut ebpf = loader.load(OBJECT).map_err(load_error)?;
        let logger = if options.debug { EbpfLogger::init(&mut ebpf).ok() } else { None };

        let mut observer = Observer {
            ebpf,
            slots: Slots::new(),
            control: Control::default(),
            generation: 0,
            sys_exit: None,
            logger,
            no_capabilities,
            symbols: Symbols::default(),
        };
        observer.attach_all()?;
        Ok(observer)
    }

    fn attach_all(&mut self) -> Result<(), ObserveError> {
        let btf = aya::Btf::from_sys_fs()?;
        for point in POINTS {
            if point.need == Need::Capabilities && self.no_capabilities.is_some() {
                continue;
            }
            let program = program(&mut self.ebpf, point.name)?;
            program.load(point.name, &btf).map_err(program_error(point.name))?;
        }
        for point in POINTS {
            let skip = point.need == Need::WhileWanted
                || point.need == Need::Capabilities && self.no_capabilities.is_some();
            if !skip {
                program(&mut self.ebpf, point.name)?.attach().map_err(program_error(point.name))?;
            }
        }
        Ok(())
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
        let wanted = outcomes || denials;
        if wanted && self.sys_exit.is_none() {
            let program = program(&mut self.ebpf, "sys_exit")?;
            self.sys_exit = Some(program.attach().map_err(program_error("sys_exit"))?);
        }
        self.control.outcomes = self.generation_of(outcomes, self.control.outcomes);
        self.control.denials = self.generation_of(denials, self.control.denials);
        self.write_control()?;
        if !wanted && let Some(link) = self.sys_exit.take() {
            program(&mut self.ebpf, "sys_exit")?.detach(link).map_err(program_error("sys_exit"))?;
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
        let slots: Vec<Slot> = slots.iter().flat_map(|slot| self.slots.of(*slot)).map(|(slot, _)| slot).collect();
        drain::found(&mut self.ebpf, &slots, &mut self.symbols)
    }

    /// Puts labels in force, in place of those before: when this returns, every call that begins is recorded
    /// under them. `run` and `armed_ns` as in [`Observer::evidence`].
    ///
    /// # Errors
    /// When the maps cannot be read or written.
    pub fn label(&mut self, labels: &Labels, run: &str, armed_ns: u64) -> Result<(), ObserveError> {
        let mut drain = Drain { run, armed_ns, symbols: &mut self.symbols };
        self.slots.label(&mut self.ebpf, labels, &mut drain)
    }

    /// Takes over evidence of earlier labels, so that its slots can serve later ones. To be called now and then.
    ///
    /// # Errors
    /// When the maps cannot be read or written.
    pub fn tidy(&mut self, run: &str, armed_ns: u64) -> Result<(), ObserveError> {
        let mut drain = Drain { run, armed_ns, symbols: &mut self.symbols };
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
        self.control = Control::default();
        self.write_control()?;
        self.sys_exit = None;
        for point in POINTS {
            // unloading detaches; a program that never was attached has nothing to undo
            let _ = program(&mut self.ebpf, point.name)?.unload();
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
        let mut drain = Drain { run, armed_ns, symbols: &mut self.symbols };
        let mut evidence = Evidence::default();
        for slot in slots {
            evidence.absorb(self.slots.evidence(&mut self.ebpf, *slot, &mut drain)?);
        }
        evidence.missing = drain::losses(&mut self.ebpf, unlabelled + self.slots.unlabelled)?;
        if let Some(reason) = &self.no_capabilities {
            evidence.missing.push(Missing::Capabilities { reason: reason.clone() });
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

/// Fails on a kernel that cannot be recorded on; `Some` is why capability checks cannot be seen.
fn check(btf: &Btf<'_>) -> Result<Option<String>, ObserveError> {
    let mut no_capabilities = None;
    for point in POINTS.iter().filter(|point| !btf.has_tracepoint(point.name)) {
        if point.need != Need::Capabilities {
            return Err(ObserveError::NoTracepoint(point.name));
        }
        no_capabilities = Some(format!("this kernel has no tracepoint `{}`", point.name));
    }
    Ok(no_capabilities)
}

/// Values for [`OFFSETS`], in its order.
fn offsets(btf: &Btf<'_>) -> Result<Vec<i32>, ObserveError> {
    OFFSETS
        .iter()
        .map(|offset| match btf.offset(offset.of, offset.field) {
            Some(value) => Ok(value as i32),
            None if offset.required => {
                Err(ObserveError::NoField { of: offset.of, field: offset.field })
            }
            None => Ok(-1),
        })
        .collect()
}

fn program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut BtfTracePoint, ObserveError> {
    let program = ebpf.program_mut(name).ok_or(ObserveError::NoTracepoint(name))?;
    program.try_into().map_err(program_error(name))
}

fn load_error(error: EbpfError) -> ObserveError {
    if is_permission(&error) {
        ObserveError::NotPermitted(Box::new(error))
    } else {
        ObserveError::Load(error)
    }
}

fn program_error(program: &'static str) -> impl Fn(ProgramError) -> ObserveError {
    move |source| {
        if is_permission(&source) {
            ObserveError::NotPermitted(Box::new(source))
        } else {
            ObserveError::Attach { program, source: Box::new(source) }
        }
    }
}

/// Whether EPERM or EACCES without a verifier log is at the bottom of an error.
fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(ProgramError::LoadError { verifier_log, .. }) = error.downcast_ref()
        && !verifier_log.to_string().is_empty()
    {
        return false;
    }
    match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.kind() == std::io::ErrorKind::PermissionDenied,
        None => error.source().is_some_and(is_permission),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF of a kernel that has nothing: a header and the empty string.
    fn empty() -> Vec<u8> {
        let mut blob = 0xeb9f_u16.to_ne_bytes().to_vec();
        blob.extend([1, 0]);
        for word in [24_u32, 0, 0, 0, 1] {
            blob.extend(word.to_ne_bytes());
        }
        blob.push(0);
        blob
    }

    #[test]
    fn a_kernel_that_lacks_what_is_needed_is_refused_with_a_way_out() {
        let blob = empty();
        let btf = Btf::parse(&blob).expect("parses");
        for error in [check(&btf).expect_err("no tracepoint"), offsets(&btf).expect_err("no field")]
        {
            let text = error.to_string();
            assert!(text.starts_with("this kernel is not supported: "), "{text}");
            assert!(text.contains("\nhint: "), "{text}");
        }
    }
}
