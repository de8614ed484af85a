//! The table of before and after, in Markdown, and its place in a README. Pure.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{
    facts::{Facts, Service},
    latency::{Latency, percentile},
    planted::Outcome,
    stack::SERVICES,
};

/// Before the whole table.
pub const WHOLE: &str = "<!-- cargo xtask example -->\n";
/// Before the rows that say most.
pub const SHORT: &str = "<!-- cargo xtask example, in short -->\n";
const END: &str = "<!-- end -->\n";

/// All that was found about one way to start the project.
pub struct Measured {
    /// What is so while it runs.
    pub facts: Facts,
    /// How many calls the filter of each service lets pass.
    pub calls: Vec<usize>,
    /// From `up` until all are healthy, each time.
    pub start_up: Vec<Duration>,
    /// Of requests.
    pub latency: Latency,
    /// What an intruder's attempts came to.
    pub planted: Vec<Outcome>,
    /// pytest's last line.
    pub suite: String,
}

/// The table.
pub fn table(before: &Measured, after: &Measured) -> String {
    let mut rows = vec![
        row("system calls that pass", before, after, |m| each(&m.calls, usize::to_string)),
        row("capabilities that a process can get", before, after, |m| {
            services(m, |service| service.bounding.to_string())
        }),
        row("capabilities that a process has", before, after, |m| {
            services(m, |service| service.effective.to_string())
        }),
        row("users of processes", before, after, |m| {
            services(m, |service| words(service.users.iter()))
        }),
        row("no new privileges", before, after, |m| {
            services(m, |service| yes(service.no_new_privileges))
        }),
    ];
    for (index, name) in SERVICES.iter().enumerate() {
        rows.push(row(&format!("{name} can write to"), before, after, |m| {
            words(m.facts.services[index].writable.iter().map(|path| format!("`{path}`")))
        }));
    }
    rows.extend([
        row("limits of memory, processors, processes", before, after, |m| services(m, limits)),
        row("`profiler audit`: errors, warnings, notes", before, after, |m| {
            each(&m.facts.audit, usize::to_string).replace(" / ", ", ")
        }),
        row("start-up until all are healthy", before, after, |m| start_up(&m.start_up)),
        row("reading a task: median, 99 %", before, after, |m| times(&m.latency.get)),
        row("making a task: median, 99 %", before, after, |m| times(&m.latency.post)),
        row("the suite", before, after, |m| m.suite.clone()),
    ]);
    for (before, after) in before.planted.iter().zip(&after.planted) {
        rows.push(format!("| {} | {} | {} |\n", before.what, before.ended, after.ended));
    }
    format!("| {} | defaults | hardened |\n|---|---|---|\n{}", SERVICES.join(" / "), rows.concat())
}

/// The rows of a table that say most, with its head.
pub fn short(table: &str) -> String {
    let wanted = [
        "system calls",
        "capabilities",
        "users",
        "`profiler audit`",
        "start-up",
        "reading",
        "backend: open a raw",
    ];
    let is_wanted = |(index, line): &(usize, &str)| {
        *index < 2 || wanted.iter().any(|start| line.starts_with(&format!("| {start}")))
    };
    let lines = table.lines().enumerate().filter(is_wanted);
    lines.map(|(_, line)| format!("{line}\n")).collect()
}

/// `text` with `table` between the mark `begin` and the next end.
///
/// # Errors
/// When they are not there.
pub fn put(text: &str, begin: &str, table: &str) -> Result<String> {
    let begin = text.find(begin).context("no place for the table")? + begin.len();
    let end = begin + text[begin..].find(END).context("no end of the table")?;
    Ok(format!("{}{table}{}", &text[..begin], &text[end..]))
}

fn row(
    what: &str,
    before: &Measured,
    after: &Measured,
    cell: impl Fn(&Measured) -> String,
) -> String {
    format!("| {what} | {} | {} |\n", cell(before), cell(after))
}

fn each<T>(values: &[T], show: impl Fn(&T) -> String) -> String {
    values.iter().map(show).collect::<Vec<_>>().join(" / ")
}

fn services(measured: &Measured, show: impl Fn(&Service) -> String) -> String {
    each(&measured.facts.services, show)
}

fn words(all: impl Iterator<Item = impl ToString>) -> String {
    let all: Vec<_> = all.map(|word| word.to_string()).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

fn limits(service: &Service) -> String {
    let [memory, processors, processes] = service.limits;
    if service.limits == [0; 3] {
        return "none".to_owned();
    }
    let shown = [
        (memory, format!("{} MiB", memory >> 20)),
        (processors, format!("{} CPU", processors as f64 / 1e9)),
        (processes, format!("{processes} pids")),
    ];
    let set = shown.map(|(limit, text)| if limit == 0 { "-".to_owned() } else { text });
    set.join(", ")
}

/// Median and range, in seconds.
fn start_up(times: &[Duration]) -> String {
    let seconds = |percent| percentile(times, percent).as_secs_f64();
    format!("{:.1} s ({:.1} to {:.1})", seconds(50), seconds(0), seconds(100))
}

fn times(times: &[Duration]) -> String {
    let ms = |percent| percentile(times, percent).as_secs_f64() * 1e3;
    format!("{:.1} ms, {:.1} ms", ms(50), ms(99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_put_between_its_marks() -> Result<()> {
        let text = format!("# T\n\n{SHORT}old\n{END}\nmore\n");
        let expected = format!("# T\n\n{SHORT}| new |\n{END}\nmore\n");
        assert_eq!(put(&text, SHORT, "| new |\n")?, expected);
        assert!(put(&text, WHOLE, "").is_err());
        Ok(())
    }

    #[test]
    fn the_short_table_has_the_head_and_some_rows() {
        let table = "| x |\n|---|\n| the suite |\n| users of processes |\n";
        assert_eq!(short(table), "| x |\n|---|\n| users of processes |\n");
    }

    #[test]
    fn numbers_are_shown_with_their_units() {
        let ms = |list: &[u64]| list.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        assert_eq!(start_up(&ms(&[8200, 7900, 9000])), "8.2 s (7.9 to 9.0)");
        assert_eq!(times(&ms(&[4, 3, 9])), "4.0 ms, 9.0 ms");
    }
}
