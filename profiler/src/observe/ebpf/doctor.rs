//! What this kernel offers to the observer, as checks for `doctor`.

use std::path::Path;

use fs_err as fs;
use profiler_common::globals::OFFSETS;

use super::{
    attach::{AttachPoint, Attached, Need, POINTS, Way},
    error::ObserveError,
    observer::{Observer, Options},
    twins,
};
use crate::{
    kernel::{btf::Btf, version::uname},
    model::check::{Check, CheckState},
};

/// Attach points, struct fields, and whether loading works. Needs no privileges to tell most of it.
#[must_use]
pub fn checks(sysfs: &Path) -> Vec<Check> {
    let Ok(bytes) = fs::read(sysfs.join("kernel/btf/vmlinux")) else {
        return vec![unknown("attach points", "the kernel's BTF cannot be read")];
    };
    let btf = match Btf::parse(&bytes) {
        Ok(btf) => btf,
        Err(error) => return vec![unknown("attach points", &error.to_string())],
    };
    // loads and attaches everything for a moment; no cgroup is in scope meanwhile
    let observer = Observer::start(sysfs, Options::default());
    let capabilities = observer.as_ref().ok().map(Observer::capabilities);
    let mut checks: Vec<Check> = POINTS.iter().map(|at| point(at, &btf, capabilities)).collect();
    checks.push(fields(&btf));
    checks.push(load(observer.as_ref()));
    if let Ok(Some(watches)) = observer.as_ref().map(Observer::watches_twins) {
        checks.push(left_out(watches));
    }
    checks
}

/// One line of the table: how a point is attached, and what was tried before.
fn point(point: &AttachPoint, btf: &Btf<'_>, capabilities: Option<&Attached>) -> Check {
    let lacks = |way: &Way| Some((*way, way.lacks(point.name, btf)?));
    let attached = match capabilities {
        Some(attached) if point.need == Need::Capabilities => attached.clone(),
        // as far as the types tell
        _ => Attached {
            by: point.ways.iter().copied().find(|way| lacks(way).is_none()),
            refused: point.ways.iter().map_while(lacks).collect(),
        },
    };
    let state = match (attached.by, point.need) {
        (Some(_), _) => CheckState::Ok,
        (None, Need::Capabilities) => CheckState::Warning,
        (None, _) => CheckState::Missing,
    };
    let refusals = attached.refusals();
    let detail = match attached.by {
        Some(way) if refusals.is_empty() => format!("{}: {}", way.name(), point.purpose),
        Some(way) => format!("{}: {} ({refusals})", way.name(), point.purpose),
        None => format!("{}: {refusals}", point.purpose),
    };
    Check::new(format!("attach {}", point.name), state, detail)
}

/// The globals of fields that only kernels of another machine have.
const ELSEWHERE: &[&str] = if cfg!(target_arch = "aarch64") {
    &["TASK_STATUS"]
} else {
    &["REGS_SYSCALLNO", "REGS_ORIG_X0"]
};

/// The globals of when an inode changed, which has other names in other kernels: the last are two since 6.11.
const CHANGED: [&[&str]; 3] =
    [&["INODE_CTIME"], &["INODE_CTIME_6_6"], &["INODE_CTIME_SEC", "INODE_CTIME_NSEC"]];

/// The globals of fields that are read only where programs have twins.
const OF_TWINS: &[&str] =
    &["PROG_ACTIVE", "ARRAY_PPTRS", "TASK_FILES", "FILES_FDT", "FDTABLE_FD", "FILE_PRIVATE_DATA"];

fn fields(btf: &Btf<'_>) -> Check {
    let has = |global: &&str| {
        let offset = OFFSETS.iter().find(|offset| offset.global == *global);
        offset.is_some_and(|offset| btf.offset(offset.of, offset.field).is_some())
    };
    let has_twins = twins::are_needed(&uname());
    let changed = CHANGED.iter().find(|names| names.iter().all(has));
    let other_name = |global| {
        changed.is_some_and(|it| CHANGED.concat().contains(global) && !it.contains(global))
    };
    let wanted = || {
        let here = OFFSETS
            .iter()
            .filter(|offset| !ELSEWHERE.contains(&offset.global))
            .filter(|offset| has_twins || !OF_TWINS.contains(&offset.global));
        here.filter(|offset| !other_name(&offset.global))
    };
    let absent: Vec<String> = wanted()
        .filter(|offset| btf.offset(offset.of, offset.field).is_none())
        .map(|offset| format!("{}.{}", offset.of, offset.field))
        .collect();
    let required =
        wanted().any(|offset| offset.required && btf.offset(offset.of, offset.field).is_none());
    let state = match (absent.is_empty(), required) {
        (true, _) => CheckState::Ok,
        (false, false) => CheckState::Warning,
        (false, true) => CheckState::Missing,
    };
    let detail = if absent.is_empty() {
        format!("all {} found in BTF", wanted().count())
    } else {
        format!("not in this kernel: {}", absent.join(", "))
    };
    Check::new("kernel struct fields", state, detail)
}

/// Only on kernels where programs are attached twice.
fn left_out(are_watched: bool) -> Check {
    const NAME: &str = "programs left out";
    if are_watched {
        Check::new(NAME, CheckState::Ok, "noticed when two that do the same are, at once")
    } else {
        let detail =
            "it is not seen whether two that do the same are at once, which then counts as lost";
        Check::new(NAME, CheckState::Warning, detail)
    }
}

fn load(observer: Result<&Observer, &ObserveError>) -> Check {
    const NAME: &str = "load and attach";
    match observer {
        Ok(_) => Check::new(NAME, CheckState::Ok, "works"),
        Err(ObserveError::NotPermitted(_)) => {
            unknown(NAME, "not permitted for this user").hint("sudo profiler doctor")
        }
        Err(error) => {
            let text = error.to_string();
            let message = text.split('\n').next().unwrap_or_default();
            Check::new(NAME, CheckState::Missing, message)
        }
    }
}

fn unknown(name: &str, detail: &str) -> Check {
    Check::new(name, CheckState::Unknown, detail)
}

#[cfg(test)]
mod tests {
    use super::{super::attach::tests::blob, *};

    fn line(name: &str, tracepoints: &[&str], capabilities: Option<&Attached>) -> Check {
        let blob = blob(tracepoints, &[], &[]);
        let btf = Btf::parse(&blob).expect("parses");
        let at = POINTS.iter().find(|point| point.name == name).expect("in the table");
        point(at, &btf, capabilities)
    }

    #[test]
    fn a_point_is_told_as_the_types_tell_it() {
        let there = line("sys_enter", &["sys_enter"], None);
        assert_eq!(
            (there.state, there.detail.as_str()),
            (CheckState::Ok, "tracepoint: sees calls")
        );
        let gone = line("sys_enter", &[], None);
        assert_eq!(gone.state, CheckState::Missing);
        assert_eq!(gone.detail, "sees calls: tracepoint: not in this kernel");
    }

    #[test]
    fn a_field_is_missing_only_where_none_of_its_names_is_there() {
        let blob = blob(&[], &[], &[]);
        let none = fields(&Btf::parse(&blob).expect("parses")).detail;
        assert!(none.contains("inode.i_ctime, inode.__i_ctime, inode.i_ctime_sec"), "{none}");
        let Ok(bytes) = fs_err::read("/sys/kernel/btf/vmlinux") else {
            return eprintln!("skipped in part: this kernel tells no types");
        };
        let here = fields(&Btf::parse(&bytes).expect("parses")).detail;
        assert!(!here.contains("i_ctime"), "{here}");
    }

    #[test]
    fn capability_checks_are_told_as_they_were_attached() {
        let refused = vec![(Way::Fexit, "not permitted".to_owned())];
        let mut attached = Attached { by: Some(Way::Kprobe), refused };
        let seen = line("cap_capable", &["cap_capable"], Some(&attached));
        assert_eq!(seen.state, CheckState::Ok);
        assert_eq!(seen.detail, "kprobe: sees capability checks (fexit: not permitted)");
        attached.by = None;
        assert_eq!(line("cap_capable", &[], Some(&attached)).state, CheckState::Warning);
    }
}
