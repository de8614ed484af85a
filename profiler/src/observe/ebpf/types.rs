//! What loading has to know of the running kernel's types. They take megabytes; nothing here keeps them.

use std::path::Path;

use fs_err as fs;
use profiler_common::globals::{CAPABLE_OPTS, OFFSETS, REGS_ON_STACK, TASK_HELPERS};

use super::{
    attach::{self, POINTS, Way},
    error::ObserveError,
};
use crate::kernel::btf::Btf;

/// Of one kernel.
pub struct Types {
    /// Globals of the object that depend on it, with their values.
    pub globals: Vec<(&'static str, i32)>,
    /// A blob of the types that the verifier is asked for, and no others.
    pub attachable: Vec<u8>,
    /// What it does not have, with the reason, by point.
    lacks: Vec<(&'static str, Way, String)>,
}

impl Types {
    /// Reads them from `kernel/btf/vmlinux` below `sysfs`, for attaching in one way only where one is given. Functions come late among the
    /// types, and the verifier is not asked for one where there is a tracepoint.
    ///
    /// # Errors
    /// When the kernel has no BTF, or lacks a field or tracepoint that no recording can do without.
    pub fn read(sysfs: &Path, only: Option<Way>) -> Result<Self, ObserveError> {
        let path = sysfs.join("kernel/btf/vmlinux");
        let bytes = fs::read(&path)
            .map_err(|source| ObserveError::NoBtf { path: path.display().to_string(), source })?;
        let btf = Btf::parse(&bytes)?;
        if let Some(point) = attach::missing(&btf) {
            return Err(ObserveError::NoTracepoint(point.name));
        }
        let mut globals = offsets(&btf)?;
        globals.extend([
            (TASK_HELPERS, i32::from(attach::has_task_helpers(&btf))),
            (REGS_ON_STACK, attach::regs_on_stack(&btf, procfs::page_size())),
            (CAPABLE_OPTS, attach::capable_opts(&btf)),
        ]);
        let ways = POINTS.iter().flat_map(|point| point.ways.iter().map(|way| (point.name, *way)));
        let tracepoints: Vec<_> = POINTS.iter().map(|point| point.name).collect();
        let functions: Vec<_> = POINTS
            .iter()
            .filter(|point| point.ways.contains(&Way::Fexit))
            .filter(|point| only.is_some() || Way::Tracepoint.lacks(point.name, &btf).is_some())
            .map(|point| point.name)
            .collect();
        Ok(Types {
            globals,
            attachable: btf.only(&tracepoints, &functions),
            lacks: ways
                .filter_map(|(point, way)| Some((point, way, way.lacks(point, &btf)?)))
                .collect(),
        })
    }

    /// Why the kernel does not have this way to attach at the point of that name; nothing when only attaching can tell.
    pub fn lacks(&self, point: &str, way: Way) -> Option<&str> {
        let found = self.lacks.iter().find(|(name, of, _)| *name == point && *of == way);
        found.map(|(_, _, reason)| reason.as_str())
    }
}

/// Values for [`OFFSETS`]; -1 for a field that the kernel lacks and may lack.
fn offsets(btf: &Btf<'_>) -> Result<Vec<(&'static str, i32)>, ObserveError> {
    OFFSETS
        .iter()
        .map(|offset| match btf.offset(offset.of, offset.field) {
            Some(value) => Ok((offset.global, value as i32)),
            None if offset.required => {
                Err(ObserveError::NoField { of: offset.of, field: offset.field })
            }
            None => Ok((offset.global, -1)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_lacks_what_is_needed_is_refused_with_a_way_out() {
        let blob = attach::tests::blob(&[], &[], &[]);
        let btf = Btf::parse(&blob).expect("parses");
        let no_tracepoint = attach::missing(&btf).expect("none is there");
        for error in [
            ObserveError::NoTracepoint(no_tracepoint.name),
            offsets(&btf).expect_err("no field is there"),
        ] {
            let text = error.to_string();
            assert!(text.starts_with("this kernel is not supported: "), "{text}");
            assert!(text.contains("\nhint: "), "{text}");
        }
    }

    #[test]
    fn a_kernel_without_types_and_broken_ones_are_told() {
        let sysfs = tempfile::tempdir().expect("a directory");
        let missing =
            Types::read(sysfs.path(), None).err().expect("no types are there").to_string();
        assert!(missing.contains("kernel/btf/vmlinux"), "{missing}");
        fs::create_dir_all(sysfs.path().join("kernel/btf")).expect("made");
        fs::write(sysfs.path().join("kernel/btf/vmlinux"), b"ELF").expect("written");
        assert!(matches!(Types::read(sysfs.path(), None), Err(ObserveError::Btf(_))));
    }
}
