//! What the recorder itself takes: time until it is armed, memory in user space and in the kernel, and the processor while
//! its target sleeps.

use std::{fmt::Write as _, time::Duration};

use anyhow::Result;

use crate::recorder::{CountTime, Recorder};

/// How often it is started; the least time and the most memory count.
const STARTS: usize = 10;

/// How long it is watched at rest, once `sys_exit` is detached.
const REST: Duration = Duration::from_secs(20);

/// After this long nothing new has been seen for a while.
const SETTLED: Duration = Duration::from_secs(8);

/// Measures and gives the table.
pub fn table() -> Result<String> {
    let dir = tempfile::tempdir()?;
    let start = |target: &[&str]| Recorder::start(dir.path(), &[&["--"], target].concat());
    let mut armed = f64::INFINITY;
    for _ in 0..STARTS {
        let recorder = start(&["true"])?;
        armed = armed.min(recorder.armed.as_secs_f64() * 1e3);
        recorder.wait()?;
    }
    let recorder = start(&["sleep", "60"])?;
    std::thread::sleep(SETTLED);
    let before = recorder.processor()?;
    std::thread::sleep(REST);
    let rest = (recorder.processor()? - before) / REST.as_secs_f64() * 1e3;
    let counting = CountTime::begin()?;
    let before = recorder.programs()?;
    std::thread::sleep(REST);
    let idle = (recorder.programs()? - before) / REST.as_secs_f64() * 1e3;
    drop(counting);
    let peak = recorder.status_kb("VmHWM:")? / 1024.0;
    let resident = recorder.status_kb("VmRSS:")? / 1024.0;
    let kernel = recorder.maps()?.values().sum::<f64>() / f64::from(1 << 20);
    recorder.interrupt()?;
    let mut table = String::from("| what | measured |\n|---|---:|\n");
    let _ = writeln!(table, "| start to armed, ms | {armed:.0} |");
    let _ = writeln!(table, "| resident at the most, MiB | {peak:.1} |");
    let _ = writeln!(table, "| resident at rest, MiB | {resident:.1} |");
    let _ = writeln!(table, "| maps in the kernel, at the start, MiB | {kernel:.1} |");
    let _ = writeln!(table, "| processor while the target sleeps, ms per second | {rest:.2} |");
    let _ = writeln!(
        table,
        "| its programs on a host at rest, all processes, ms per second | {idle:.3} |"
    );
    Ok(table)
}
