//! What user space reads from the running kernel's BTF and injects: offsets of its structs, and two traits.
//!
//! Rust emits no CO-RE relocations, so no field offset is compiled in. -1 means that this kernel
//! has no such field.

/// One injected offset: the symbol in the object, and where BTF has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Name of the global.
    pub global: &'static str,
    /// Struct name.
    pub of: &'static str,
    /// Field path; inner structs by dots, pointers are not followed.
    pub field: &'static str,
    /// Recording is impossible without it.
    pub required: bool,
}

macro_rules! offsets {
    ($($global:ident: $of:literal $field:literal $required:literal;)*) => {
        /// Every injected offset.
        pub const OFFSETS: &[Offset] = &[
            $(Offset { global: stringify!($global), of: $of, field: $field, required: $required },)*
        ];

        /// Calls a macro with the names of all globals, to define them on the kernel side.
        #[macro_export]
        macro_rules! for_each_global {
            ($m:ident) => { $m! { $($global)* TASK_HELPERS REGS_ON_STACK CAPABLE_OPTS STACKS_WANTED COUNTS_WANTED FILTERS_WANTED } };
        }
    };
}

/// Global: 1 where the kernel has the helpers `bpf_get_current_task_btf` (5.11) and `bpf_task_pt_regs` (5.15).
pub const TASK_HELPERS: &str = "TASK_HELPERS";

/// Global: where a task's `pt_regs` begin on its kernel stack. Read where `TASK_HELPERS` is 0.
pub const REGS_ON_STACK: &str = "REGS_ON_STACK";

/// Global: what the last argument of `cap_capable` means, one of [`opts`].
pub const CAPABLE_OPTS: &str = "CAPABLE_OPTS";

/// Global: 1 when the user stack of each call that is new is wanted.
pub const STACKS_WANTED: &str = "STACKS_WANTED";

/// Global: 1 when calls are counted.
pub const COUNTS_WANTED: &str = "COUNTS_WANTED";

/// Global: 1 when the filters are wanted under which processes enter a target.
pub const FILTERS_WANTED: &str = "FILTERS_WANTED";

/// Values of [`CAPABLE_OPTS`]. Anything else is not known.
pub mod opts {
    /// `unsigned int opts`: bits, of which the second says that no denial is audited
    /// (<https://elixir.bootlin.com/linux/v5.10/source/include/linux/security.h#L67>).
    pub const BITS: i32 = 1;
    /// `int audit`, before 5.1: 0 says that no denial is audited
    /// (<https://elixir.bootlin.com/linux/v4.19/source/include/linux/security.h#L62>).
    pub const AUDIT: i32 = 2;
}

offsets! {
    TASK_STATUS: "task_struct" "thread_info.status" false;
    REGS_SYSCALLNO: "pt_regs" "syscallno" false; // of aarch64 only: it tells the machine
    REGS_ORIG_X0: "pt_regs" "orig_x0" false;
    TASK_PID: "task_struct" "pid" true;
    TASK_TGID: "task_struct" "tgid" true;
    TASK_SIGNAL: "task_struct" "signal" true;
    SIGNAL_LIVE: "signal_struct" "live" true;
    TASK_FLAGS: "task_struct" "flags" true;
    TASK_SECCOMP_MODE: "task_struct" "seccomp.mode" true;
    TASK_NSPROXY: "task_struct" "nsproxy" true;
    TASK_SECCOMP_FILTER: "task_struct" "seccomp.filter" true;
    FILTER_PROG: "seccomp_filter" "prog" false;
    PROG_ORIG: "bpf_prog" "orig_prog" false;
    PROG_ACTIVE: "bpf_prog" "active" false;
    ARRAY_PPTRS: "bpf_array" "pptrs" false;
    TASK_FILES: "task_struct" "files" false;
    FILES_FDT: "files_struct" "fdt" false;
    FDTABLE_FD: "fdtable" "fd" false;
    FILE_PRIVATE_DATA: "file" "private_data" false;
    FPROG_LEN: "sock_fprog_kern" "len" false;
    FPROG_FILTER: "sock_fprog_kern" "filter" false;
    TASK_CGROUPS: "task_struct" "cgroups" true;
    TASK_REAL_CRED: "task_struct" "real_cred" true;
    TASK_STACK: "task_struct" "stack" false;
    TASK_MM: "task_struct" "mm" false;
    MM_EXE_FILE: "mm_struct" "exe_file" false;
    MM_START_STACK: "mm_struct" "start_stack" false;
    BPRM_INTERP: "linux_binprm" "interp" false;
    TASK_REAL_PARENT: "task_struct" "real_parent" false;
    TASK_COMM: "task_struct" "comm" true;
    TASK_GROUP_LEADER: "task_struct" "group_leader" true;
    TASK_SELF_EXEC_ID: "task_struct" "self_exec_id" true;
    FILE_INODE: "file" "f_inode" false;
    INODE_NUMBER: "inode" "i_ino" false;
    INODE_SB: "inode" "i_sb" false;
    SUPER_DEV: "super_block" "s_dev" false;
    INODE_CTIME: "inode" "i_ctime" false;
    INODE_CTIME_6_6: "inode" "__i_ctime" false;
    INODE_CTIME_SEC: "inode" "i_ctime_sec" false;
    INODE_CTIME_NSEC: "inode" "i_ctime_nsec" false;
    FILE_DENTRY: "file" "f_path.dentry" false;
    DENTRY_NAME: "dentry" "d_name.name" false;
    NSPROXY_MNT_NS: "nsproxy" "mnt_ns" true;
    NSPROXY_IPC_NS: "nsproxy" "ipc_ns" false;
    IPC_NS_QUEUES: "ipc_namespace" "mq_queues_count" false;
    IPC_NS_QUEUES_MAX: "ipc_namespace" "mq_queues_max" false;
    IPC_NS_MESSAGES_MAX: "ipc_namespace" "mq_msg_max" false;
    IPC_NS_MESSAGE_SIZE_MAX: "ipc_namespace" "mq_msgsize_max" false;
    CSS_SET_DFL_CGRP: "css_set" "dfl_cgrp" true;
    CGROUP_KN: "cgroup" "kn" true;
    CGROUP_ROOT: "cgroup" "root" true;
    CGROUP_PARENT_CSS: "cgroup" "self.parent" true;
    CGROUP_SELF: "cgroup" "self" true;
    CGROUP_ROOT_HIERARCHY_ID: "cgroup_root" "hierarchy_id" true;
    KERNFS_NODE_ID: "kernfs_node" "id" true;
    KERNFS_NODE_NAME: "kernfs_node" "name" true;
    CRED_UID: "cred" "uid" false;
    CRED_EUID: "cred" "euid" false;
    CRED_SUID: "cred" "suid" false;
    CRED_GID: "cred" "gid" false;
    CRED_EGID: "cred" "egid" false;
    CRED_SGID: "cred" "sgid" false;
    CRED_PERMITTED: "cred" "cap_permitted" false;
    CRED_INHERITABLE: "cred" "cap_inheritable" false;
    CRED_AMBIENT: "cred" "cap_ambient" false;
    CRED_USER_NS: "cred" "user_ns" true;
    USER_NS_UID_MAP: "user_namespace" "uid_map.extent" false;
    USER_NS_UID_EXTENTS: "user_namespace" "uid_map.nr_extents" false;
    USER_NS_GID_MAP: "user_namespace" "gid_map.extent" false;
    USER_NS_GID_EXTENTS: "user_namespace" "gid_map.nr_extents" false;
    USER_NS_LEVEL: "user_namespace" "level" true;
}
