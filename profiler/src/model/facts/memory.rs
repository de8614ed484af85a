//! Facts about calls on memory. Data only.

use super::{
    Family,
    Risk::{High, Low, Moderate},
};

#[rustfmt::skip]
pub(super) static FAMILIES: &[Family] = &[
    Family {
        title: "a process's own memory",
        risk: Low,
        why: "every program makes these; they act on the process's own address space",
        calls: &[
            ("brk", "", "moves the end of the heap"),
            ("cachestat", "kernel: mm/filemap.c", "tells how much of a file is in the page cache"),
            ("map_shadow_stack", "kernel: Documentation/arch/x86/shstk.rst", "makes a shadow stack for return addresses"),
            ("mincore", "", "tells which pages are in memory"),
            ("mlock", "", "keeps pages in memory"),
            ("mlock2", "mlock(2)", "keeps pages in memory, with flags"),
            ("mlockall", "mlock(2)", "keeps all pages in memory"),
            ("mmap", "", "maps a file or memory; with PROT_EXEC, code"),
            ("mmap2", "mmap(2)", "as mmap, the offset in pages"),
            ("mprotect", "", "changes the access to pages; can make data executable"),
            ("mseal", "kernel: Documentation/userspace-api/mseal.rst", "forbids later changes to a mapping"),
            ("msync", "", "writes mapped pages to their file"),
            ("munlock", "mlock(2)", "lets pages be swapped out again"),
            ("munlockall", "mlock(2)", "lets all pages be swapped out again"),
            ("munmap", "mmap(2)", "removes a mapping"),
            ("pkey_alloc", "", "allocates a memory protection key"),
            ("pkey_free", "pkey_alloc(2)", "frees a memory protection key"),
            ("pkey_mprotect", "mprotect(2)", "changes the access to pages and sets their key"),
        ],
    },
    Family {
        title: "advice and moves within a process's own memory",
        risk: Low,
        why: "common, but at the heart of memory management, where races became root (CVE-2016-5195, Dirty COW; CVE-2018-18281)",
        calls: &[
            ("madvise", "", "says how pages are going to be used"),
            ("mremap", "", "grows, shrinks or moves a mapping"),
        ],
    },
    Family {
        title: "memory as a file",
        risk: Moderate,
        why: "makes files that no path names: code can be loaded and executed without touching a file system",
        calls: &[
            ("memfd_create", "", "makes a file in memory"),
            ("memfd_secret", "", "makes memory that the kernel itself does not map"),
        ],
    },
    Family {
        title: "placement on NUMA nodes",
        risk: Moderate,
        why: "rarely needed, and a record of leaks (CVE-2017-7616, CVE-2017-14140)",
        calls: &[
            ("get_mempolicy", "", "reads the NUMA policy"),
            ("mbind", "", "sets the NUMA policy of a range"),
            ("migrate_pages", "", "moves a process's pages to other nodes"),
            ("move_pages", "", "moves single pages of a process, or tells where they are"),
            ("set_mempolicy", "", "sets the NUMA policy of a thread"),
            ("set_mempolicy_home_node", "kernel: Documentation/admin-guide/mm/numa_memory_policy.rst", "sets the home node of a range"),
        ],
    },
    Family {
        title: "memory of other processes",
        risk: High,
        why: "reads or changes what other processes hold; file modes do not protect them, only ptrace's rules do",
        calls: &[
            ("process_madvise", "", "gives advice about another process's memory"),
            ("process_mrelease", "kernel: mm/oom_kill.c", "frees the memory of a dying process"),
            ("process_vm_readv", "", "reads another process's memory"),
            ("process_vm_writev", "process_vm_readv(2)", "writes another process's memory"),
        ],
    },
    Family {
        title: "page faults in user space",
        risk: High,
        why: "stops the kernel in the middle of a copy for as long as the process likes: the usual tool to win kernel races",
        calls: &[("userfaultfd", "", "lets a process handle its own page faults")],
    },
    Family {
        title: "nonlinear mappings",
        risk: Moderate,
        why: "deprecated and only emulated; no current program needs it",
        calls: &[("remap_file_pages", "", "rearranges the pages of a file mapping")],
    },
    Family {
        title: "swap areas",
        risk: High,
        why: "with CAP_SYS_ADMIN it changes where the host's memory is written to",
        calls: &[
            ("swapoff", "swapon(2)", "ends swapping to a file or device"),
            ("swapon", "", "starts swapping to a file or device"),
        ],
    },
];
