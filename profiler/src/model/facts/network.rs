//! Facts about sockets and communication between processes. Data only.

use super::{
    Family,
    Risk::{High, Low, Moderate},
};

#[rustfmt::skip]
pub(super) static FAMILIES: &[Family] = &[
    Family {
        title: "using sockets",
        risk: Low,
        why: "acts on sockets that the process has already; which kinds it can have is decided at socket",
        calls: &[
            ("accept", "", "takes a connection"),
            ("accept4", "accept(2)", "takes a connection, with flags"),
            ("bind", "", "gives a socket an address"),
            ("connect", "", "connects a socket"),
            ("getpeername", "", "tells the other side's address"),
            ("getsockname", "", "tells a socket's address"),
            ("listen", "", "lets a socket take connections"),
            ("recv", "", "receives from a socket"),
            ("recvfrom", "recv(2)", "receives from a socket, with the sender's address"),
            ("send", "", "sends on a socket"),
            ("sendto", "send(2)", "sends on a socket to an address"),
            ("shutdown", "", "ends one or both directions of a connection"),
            ("socketpair", "", "makes two connected sockets"),
        ],
    },
    Family {
        title: "messages with ancillary data",
        risk: Low,
        why: "passes descriptors and credentials; a record of bugs in rare protocols and in descriptor passing \
              (CVE-2016-7117, CVE-2021-0920)",
        calls: &[
            ("recvmmsg", "", "receives several messages"),
            ("recvmmsg_time64", "recvmmsg(2)", "receives several messages, 64-bit time on a 32-bit ABI"),
            ("recvmsg", "recv(2)", "receives a message and ancillary data"),
            ("sendmmsg", "", "sends several messages"),
            ("sendmsg", "send(2)", "sends a message and ancillary data"),
        ],
    },
    Family {
        title: "making sockets",
        risk: Moderate,
        why: "the first argument chooses among dozens of protocols, most of them rarely used: bugs of packet, DCCP and vsock \
              sockets gave root (CVE-2016-8655, CVE-2017-6074, CVE-2021-26708)",
        calls: &[("socket", "", "makes a socket")],
    },
    Family {
        title: "the multiplexed socket call",
        risk: High,
        why: "all socket calls of 32-bit programs in one, with arguments in memory: a filter on socket's arguments does not see them",
        calls: &[("socketcall", "", "makes any socket call of a 32-bit ABI")],
    },
    Family {
        title: "socket options",
        risk: Low,
        why: "tunes sockets; with CAP_NET_ADMIN in any network namespace it reaches netfilter (CVE-2021-22555)",
        calls: &[
            ("getsockopt", "", "reads a socket option"),
            ("setsockopt", "getsockopt(2)", "sets a socket option"),
        ],
    },
    Family {
        title: "System V IPC",
        risk: Low,
        why: "shares memory, semaphores and messages within the IPC namespace",
        calls: &[
            ("msgctl", "", "controls a message queue"),
            ("msgget", "", "finds or makes a message queue"),
            ("msgrcv", "msgop(2)", "takes a message"),
            ("msgsnd", "msgop(2)", "sends a message"),
            ("semctl", "", "controls a set of semaphores"),
            ("semget", "", "finds or makes a set of semaphores"),
            ("semop", "", "changes semaphores"),
            ("semtimedop", "semop(2)", "changes semaphores, with a time limit"),
            ("semtimedop_time64", "semop(2)", "as semtimedop, 64-bit time on a 32-bit ABI"),
            ("shmat", "shmop(2)", "attaches shared memory"),
            ("shmctl", "", "controls shared memory"),
            ("shmdt", "shmop(2)", "detaches shared memory"),
            ("shmget", "", "finds or makes shared memory"),
        ],
    },
    Family {
        title: "the multiplexed IPC call",
        risk: Moderate,
        why: "all System V IPC calls of 32-bit programs in one: a filter cannot tell them apart well",
        calls: &[("ipc", "", "makes any System V IPC call of a 32-bit ABI")],
    },
    Family {
        title: "POSIX message queues",
        risk: Low,
        why: "queues within the IPC namespace; rarely used, one use after free gave root (CVE-2017-11176)",
        calls: &[
            ("mq_getsetattr", "", "reads and sets attributes of a message queue"),
            ("mq_notify", "mq_notify(3)", "asks to be told of a message"),
            ("mq_open", "mq_open(3)", "opens or makes a message queue"),
            ("mq_timedreceive", "mq_receive(3)", "takes a message, with a time limit"),
            ("mq_timedreceive_time64", "mq_receive(3)", "takes a message, 64-bit time on a 32-bit ABI"),
            ("mq_timedsend", "mq_send(3)", "sends a message, with a time limit"),
            ("mq_timedsend_time64", "mq_send(3)", "sends a message, 64-bit time on a 32-bit ABI"),
            ("mq_unlink", "mq_unlink(3)", "removes a message queue"),
        ],
    },
];
