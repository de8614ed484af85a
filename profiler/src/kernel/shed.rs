//! Giving up what is no longer needed: capabilities of the calling thread, in every set, and the right to gain any by execve.
//!
//! Linux has capabilities per thread, and no call that takes those of another. So each thread gives up its own, when it
//! starts or when it has done what needs them; threads that it starts later have no more than it. Gives up only.

use std::io;

pub use rustix::thread::CapabilitySet as Capabilities;
use rustix::{
    io::Errno,
    thread::{
        CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

/// bpf(2): before 6.0 every command may need it, if `kernel.unprivileged_bpf_disabled` is set. CAP_PERFMON is for attaching
/// what was loaded.
const BPF: Capabilities = Capabilities::BPF.union(Capabilities::PERFMON);

/// Looking at files of other users' processes.
pub const LOOKING: Capabilities = Capabilities::SYS_PTRACE.union(Capabilities::DAC_READ_SEARCH);

/// What a thread needs that looks at files which others execute.
pub const FILES: Capabilities = BPF.union(LOOKING);

/// The same, of one that looks at what they have mapped.
pub const STACKS: Capabilities = FILES.union(Capabilities::CHECKPOINT_RESTORE);

/// What the main thread needs until the end of a recording: also for results, cgroups and an engine's socket that are another
/// user's, and for signals to a command that changed its user.
pub const RECORDING: Capabilities =
    FILES.union(Capabilities::DAC_OVERRIDE).union(Capabilities::KILL);

/// Keeps no more than `kept` of the calling thread's capabilities, or what stands in for them, and lets it gain none.
///
/// # Errors
/// When the kernel, or a filter, does not let it.
pub fn keep(kept: Capabilities) -> io::Result<()> {
    set_no_new_privs(true)?;
    let held = capabilities(None)?;
    let kept = substituted(kept, held.permitted);
    for number in 0..u64::BITS {
        let one = Capabilities::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        match capability_is_in_bounding_set(one) {
            // without CAP_SETPCAP it stays there, of no use to who cannot gain privileges
            Ok(true) => match remove_capability_from_bounding_set(one) {
                Ok(()) | Err(Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            },
            Ok(false) => {}
            Err(_) => break, // the kernel has no more
        }
    }
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: held.effective & kept,
            permitted: held.permitted & kept,
            inheritable: Capabilities::empty(),
        },
    )?;
    Ok(())
}

/// With what stands in for those that are wanted and not held: CAP_SYS_ADMIN for the ones that were made of it, and
/// CAP_DAC_OVERRIDE for CAP_DAC_READ_SEARCH.
fn substituted(kept: Capabilities, held: Capabilities) -> Capabilities {
    let made_of_admin = BPF.union(Capabilities::CHECKPOINT_RESTORE);
    let lacking = kept.difference(held);
    let mut kept = kept;
    if lacking.intersects(made_of_admin) {
        kept |= Capabilities::SYS_ADMIN;
    }
    if lacking.contains(Capabilities::DAC_READ_SEARCH) {
        kept |= Capabilities::DAC_OVERRIDE;
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_stands_in_for_a_capability_stays_only_where_it_must() {
        let all = Capabilities::from_bits_retain((1 << 41) - 1);
        assert_eq!(substituted(RECORDING, all), RECORDING);
        let old = all.difference(Capabilities::BPF);
        assert!(substituted(FILES, old).contains(Capabilities::SYS_ADMIN));
        let docker = all.difference(Capabilities::DAC_READ_SEARCH);
        let kept = substituted(FILES, docker);
        assert!(
            kept.contains(Capabilities::DAC_OVERRIDE) && !kept.contains(Capabilities::SYS_ADMIN)
        );
    }

    /// Of this thread and of no other.
    #[test]
    fn a_thread_gives_up_its_own() {
        let before = capabilities(None).expect("asks");
        thread::spawn(|| {
            keep(Capabilities::empty()).expect("gives up");
            let left = capabilities(None).expect("asks");
            for set in [left.effective, left.permitted, left.inheritable] {
                assert!(set.is_empty());
            }
            assert!(rustix::thread::no_new_privs().expect("asks"));
            keep(Capabilities::all()).expect("there is nothing to give up");
            assert!(capabilities(None).expect("asks").permitted.is_empty());
        })
        .join()
        .expect("does");
        assert_eq!(capabilities(None).expect("asks"), before);
    }
}
