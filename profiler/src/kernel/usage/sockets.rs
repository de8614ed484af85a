//! Sockets of a network namespace, from `/proc/PID/net`, and who holds them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::DirEntry,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use super::{read, users::Process};
use crate::model::{
    recording::Program,
    usage::{Protocol, Role, Socket},
};

/// How many sockets are kept.
pub const MAX_SOCKETS: usize = 256;

/// How many descriptors are looked at, of all processes together.
const MAX_DESCRIPTORS: usize = 4_096;

/// How often a process is looked at that executes one program after another.
const TRIES: usize = 4;

/// From here on the kernel chooses ports by itself (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: u16 = 32_768;

/// States of `/proc/net`. <https://elixir.bootlin.com/linux/v6.12/source/include/net/tcp_states.h#L12>
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

/// A line of `/proc/PID/net/tcp` and the like.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    protocol: Protocol,
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
    state: u8,
    inode: u64,
}

/// Who holds which socket: by inode.
#[derive(Debug, Default)]
pub struct Holders {
    /// By inode.
    programs: BTreeMap<u64, Program>,
    /// Every descriptor of every process was looked at.
    pub complete: bool,
    left: usize,
}

impl Holders {
    /// Nobody was asked yet.
    #[must_use]
    pub fn new() -> Holders {
        Holders { programs: BTreeMap::new(), complete: true, left: MAX_DESCRIPTORS }
    }

    /// Looks at the descriptors of a process below `proc`. One that executes another program meanwhile is looked at anew: whose descriptors
    /// were read is known if it was the same program before and after.
    pub fn add(&mut self, proc: &Path, process: &Process) {
        let mut program = process.program.clone();
        for tries in (0..TRIES).rev() {
            let sockets = self.sockets_of(&proc.join(process.pid.to_string()));
            if sockets.is_empty() {
                return;
            }
            let now = Process::read(proc, process.pid).map(|now| now.program);
            // one that is gone, or does nothing else, was what it was
            if tries == 0 || now.as_ref().is_none_or(|now| *now == program) {
                for inode in sockets {
                    self.programs.entry(inode).or_insert_with(|| program.clone());
                }
                return;
            }
            program = now.unwrap_or(program);
        }
    }

    /// Inodes of the sockets that a process whose `/proc/PID` this is has open.
    fn sockets_of(&mut self, process: &Path) -> Vec<u64> {
        let Ok(entries) = std::fs::read_dir(process.join("fd")) else { return Vec::new() };
        let entries: Vec<_> = entries.flatten().take(self.left + 1).collect();
        self.complete &= entries.len() <= self.left;
        let looked = entries.len().min(self.left);
        self.left -= looked;
        let inode = |entry: &DirEntry| {
            let link = std::fs::read_link(entry.path()).ok()?;
            socket_in(link.as_os_str().as_bytes())
        };
        entries[..looked].iter().filter_map(inode).collect()
    }
}

/// `socket:[N]`
fn socket_in(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// How many descriptors a process has open.
#[must_use]
pub fn descriptors(process: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let dir = process.join("fd");
    // from Linux 6.2 on that is its size
    match std::fs::metadata(&dir).ok()?.size() {
        0 => u64::try_from(std::fs::read_dir(dir).ok()?.take(1 << 16).count()).ok(),
        size => Some(size),
    }
}

/// How many sockets of each kind are in use in a network namespace: TCP and UDP, each over IPv4 and IPv6. Cheap to ask, where the tables of TCP
/// take milliseconds on a large machine. What cannot be read counts as some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InUse([u64; 4]);

impl InUse {
    /// In the namespace of a process whose `/proc/PID` this is.
    #[must_use]
    pub fn of(process: &Path) -> InUse {
        let files = ["net/sockstat", "net/sockstat6"].map(|file| {
            String::from_utf8_lossy(&read(&process.join(file)).unwrap_or_default()).into_owned()
        });
        let count = |file: &str, kind: &str| -> Option<u64> {
            // `TCP: inuse 3 orphan 0 ...`
            let line = file.lines().find_map(|line| line.strip_prefix(kind))?;
            line.trim_start().strip_prefix("inuse ")?.split(' ').next()?.parse().ok()
        };
        let [four, six] = files.each_ref().map(String::as_str);
        let counts = [(four, "TCP:"), (six, "TCP6:"), (four, "UDP:"), (six, "UDP6:")];
        InUse(counts.map(|(file, kind)| count(file, kind).unwrap_or(u64::MAX)))
    }
}

/// What is bound or connected in the network namespace of a process whose `/proc/PID` this is. Of sockets that none of the processes holds
/// only those count that one may hold that was not asked. Each with whether the kernel may have chosen its port for
/// a client.
#[must_use]
pub fn of(process: &Path, in_use: InUse, holders: &Holders) -> BTreeSet<(Socket, bool)> {
    let files = [
        ("net/tcp", Protocol::Tcp),
        ("net/tcp6", Protocol::Tcp),
        ("net/udp", Protocol::Udp),
        ("net/udp6", Protocol::Udp),
    ];
    let mut rows = Vec::new();
    for ((file, protocol), count) in files.into_iter().zip(in_use.0) {
        if count == 0 {
            continue;
        }
        let lines = read(&process.join(file)).unwrap_or_default();
        let lines = String::from_utf8_lossy(&lines).into_owned();
        rows.extend(lines.lines().skip(1).filter_map(|line| row(line, protocol)));
    }
    let ports: BTreeSet<u16> =
        rows.iter().filter(|row| row.state == LISTEN).map(|row| row.local.1).collect();
    let sockets = rows.into_iter().filter_map(|row| {
        let program = holders.programs.get(&row.inode).cloned();
        if program.is_none() && (holders.complete || row.inode == 0) {
            return None;
        }
        let connected = match row.protocol {
            Protocol::Tcp => {
                matches!(row.state, ESTABLISHED | SYN_SENT) && !ports.contains(&row.local.1)
            }
            Protocol::Udp => row.state == ESTABLISHED,
        };
        let listening = match row.protocol {
            Protocol::Tcp => row.state == LISTEN,
            Protocol::Udp => row.state == CLOSE && row.remote.1 == 0,
        };
        let (role, (address, port)) = match (listening, connected) {
            (true, _) => (Role::Listening, row.local),
            (_, true) => (Role::Connected, row.remote),
            _ => return None,
        };
        let passing = listening && row.protocol == Protocol::Udp && port >= EPHEMERAL;
        Some((Socket { role, protocol: row.protocol, address, port, program }, passing))
    });
    sockets.take(MAX_SOCKETS * 4).collect()
}

/// The lowest port that needs no capability to be bound in the network namespace of a process. A thread goes there to ask, which takes
/// CAP_SYS_ADMIN; `None` when it may not.
#[must_use]
pub fn unprivileged_port_start(pid: i32) -> Option<u16> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let asks = move || {
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).ok()?;
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), network).ok()?;
        let start = read(Path::new("/proc/sys/net/ipv4/ip_unprivileged_port_start")).ok()?;
        String::from_utf8_lossy(&start).trim().parse().ok()
    };
    std::thread::spawn(asks).join().ok().flatten()
}

/// `0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 12345 ...`
fn row(line: &str, protocol: Protocol) -> Option<Row> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (endpoint(words.next()?)?, endpoint(words.next()?)?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let inode = words.nth(5)?.parse().ok()?;
    Some(Row { protocol, local, remote, state, inode })
}

/// `0100007F:1F90`: words of the address as this machine keeps them, and the port.
fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = [0; 16];
    for (place, chunk) in bytes.chunks_exact_mut(4).enumerate().take(address.len() / 8) {
        let word = u32::from_str_radix(address.get(place * 8..place * 8 + 8)?, 16).ok()?;
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        32 => IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(),
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    #[test]
    fn who_listens_and_who_is_connected() {
        let proc = tempfile::tempdir().expect("a directory");
        let dir = proc.path().join("7");
        let net = dir.join("net");
        let fd = dir.join("fd");
        for made in [&dir, &net, &fd] {
            std::fs::create_dir(made).expect("creates");
        }
        let tcp = "\
   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 0200000A:0050 0300000A:C000 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0
   2: 0200000A:C001 0300000A:1538 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 100 0 0 10 0
   3: 0200000A:C002 0300000A:1539 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0 100 0 0 10 0
   4: 0200000A:C003 0300000A:153A 01 00000000:00000000 00:00000000 00000000     0        0 99 1 0 100 0 0 10 0
   5: broken
";
        let tcp6 = "   0: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 14 1\n";
        let udp = "\
   0: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 15 1 0
   1: 00000000:9C40 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 16 1 0
";
        for (name, rows) in [("tcp", tcp), ("tcp6", tcp6), ("udp", udp)] {
            std::fs::write(net.join(name), format!("{HEAD}{rows}")).expect("writes");
        }
        for inode in 11..=16 {
            let link = format!("socket:[{inode}]");
            std::os::unix::fs::symlink(link, fd.join(inode.to_string())).expect("links");
        }
        std::os::unix::fs::symlink("/dev/null", fd.join("0")).expect("links");
        let stat =
            "sockets: used 9\nTCP: inuse 4 orphan 0 tw 1\nUDP: inuse 2 mem 0\nUDPLITE: inuse 0\n";
        std::fs::write(net.join("sockstat"), stat).expect("writes");
        assert_eq!(InUse::of(&dir), InUse([4, u64::MAX, 2, u64::MAX]));
        let status = "Name:\tserver\nUid:\t0 0 0 0\nGid:\t0 0 0 0\nGroups:\t\n";
        std::fs::write(dir.join("status"), status).expect("writes");
        let exe = dir.join("exe");
        std::os::unix::fs::symlink("/bin/sh", &exe).expect("links");
        let process = Process::read(proc.path(), 7).expect("a process");
        // since it was read it has executed another program
        std::fs::remove_file(&exe).expect("removes");
        std::os::unix::fs::symlink("/bin/server", &exe).expect("links");
        let mut holders = Holders::new();
        holders.add(proc.path(), &process);
        assert_eq!(holders.programs.len(), 6);
        assert!(holders.programs.values().all(|program| program.exe == "server"), "{holders:?}");
        assert_eq!(descriptors(&dir).map(|count| count > 0), Some(true));
        let told = |holders: &Holders| -> Vec<(Role, String, bool)> {
            let told = of(&dir, InUse::of(&dir), holders).into_iter().map(|(socket, passing)| {
                let at = format!("{}:{}", socket.address, socket.port);
                (socket.role, at, passing)
            });
            told.collect()
        };
        let listening = |at: &str, passing| (Role::Listening, at.to_owned(), passing);
        let mut expected = vec![
            listening("0.0.0.0:80", false),
            listening("127.0.0.1:81", false),
            listening("0.0.0.0:53", false),
            listening("0.0.0.0:40000", true),
            (Role::Connected, "10.0.0.3:5432".to_owned(), false),
        ];
        if cfg!(target_endian = "little") {
            assert_eq!(told(&holders), expected);
            holders.complete = false;
            expected.push((Role::Connected, "10.0.0.3:5434".to_owned(), false));
            assert_eq!(
                told(&holders).into_iter().collect::<BTreeSet<_>>(),
                expected.into_iter().collect()
            );
        }
    }
}
