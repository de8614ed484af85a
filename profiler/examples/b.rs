use std::collections::BTreeMap;
use profiler::{binaries::{bound::bound, reach::Depth, rootfs::Rootfs}, model::syscall};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let rootfs = Rootfs::open(std::path::Path::new(&args[1])).unwrap();
    let depth = if args[2] == "1" { Depth::Files } else { Depth::Functions };
    let t = std::time::Instant::now();
    let b = bound(&rootfs, &args[3..], depth);
    let mut n: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((abi, nr), makers) in &b.calls {
        n.entry(abi.to_string()).or_default().push(format!("{}[{}]", syscall::display(*abi, *nr), makers.iter().next().map(|m| format!("{}:{}", m.file.rsplit('/').next().unwrap(), m.function)).unwrap_or_default()));
    }
    for (abi, calls) in &n { println!("{abi} {}: {}", calls.len(), if std::env::var("V").is_ok() {calls.join(" ")} else {calls.iter().map(|c| c.split('[').next().unwrap()).collect::<Vec<_>>().join(" ")}); }
    println!("unbounded {:?}\nunread {:?}\nfiles {} in {:?}", b.unbounded.iter().map(|m| format!("{}:{}", m.file, m.function)).collect::<Vec<_>>(), b.unread, b.files.len(), t.elapsed());
}
