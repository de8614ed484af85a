//! The one line that shows that a recording is alive. Formatting and pacing; the binary writes it.

use std::time::Duration;

use crate::report::{escape, text};

/// How often a line is printed where none can be redrawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Returns to the begin of the line and clears it.
const CLEAR: &str = "\r\x1b[2K";

/// What is known at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The targets, for people: `container `backend``. Hostile text.
    pub target: String,
    /// Since everything was attached.
    pub elapsed: Duration,
    /// Distinct system calls so far.
    pub syscalls: usize,
    /// Distinct capabilities so far.
    pub capabilities: usize,
    /// Distinct calls that a filter refused.
    pub denied: usize,
    /// Since the last new one of any of these; absent before the first.
    pub since_new: Option<Duration>,
}

/// The line, without an end and without styles.
#[must_use]
pub fn line(progress: &Progress) -> String {
    let mut line = format!(
        "{}: {}, {}, {}",
        escape::short(&progress.target, 60),
        text::seconds(progress.elapsed),
        text::count(progress.syscalls, "system call"),
        if progress.capabilities == 1 {
            "1 capability".to_owned()
        } else {
            format!("{} capabilities", progress.capabilities)
        },
    );
    if progress.denied > 0 {
        line.push_str(&format!(", {} refused", progress.denied));
    }
    match progress.since_new {
        Some(since) if since.as_secs() > 0 => {
            line.push_str(&format!(", nothing new for {}", text::seconds(since)));
        }
        Some(_) => line.push_str(", new just now"),
        None => line.push_str(", nothing yet"),
    }
    line
}

/// Where the line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// A terminal of so many columns: one line, redrawn.
    Terminal {
        /// Its width.
        columns: usize,
    },
    /// A file or a pipe: a new line now and then.
    Lines,
}

/// Decides what to write, and when.
#[derive(Debug)]
pub struct ProgressLine {
    surface: Surface,
    last: Option<Duration>,
    drawn: bool,
}

impl ProgressLine {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new(surface: Surface) -> Self {
        ProgressLine { surface, last: None, drawn: false }
    }

    /// What to write now, if anything. Call it as often as you like; a terminal wants a few times a second.
    pub fn update(&mut self, progress: &Progress) -> Option<String> {
        match self.surface {
            Surface::Terminal { columns } => {
                self.drawn = true;
                // The last column is left free: some terminals wrap when it is written.
                let text = escape::short(&line(progress), columns.saturating_sub(1).max(1));
                Some(format!("{CLEAR}{text}"))
            }
            Surface::Lines => {
                let due = match self.last {
                    Some(last) => progress.elapsed.saturating_sub(last) >= LINE_EVERY,
                    None => progress.elapsed >= LINE_EVERY,
                };
                if !due {
                    return None;
                }
                self.last = Some(progress.elapsed);
                Some(format!("{}\n", line(progress)))
            }
        }
    }

    /// What to write before anything else goes to the same terminal.
    pub fn clear(&mut self) -> Option<&'static str> {
        std::mem::take(&mut self.drawn).then_some(CLEAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Progress {
        Progress {
            target: "container `backend`".into(),
            elapsed: Duration::from_secs(seconds),
            syscalls: 71,
            capabilities: 2,
            denied: 0,
            since_new: Some(Duration::from_millis(4_200)),
        }
    }

    #[test]
    fn the_line_tells_what_was_found_and_when_last() {
        assert_eq!(
            line(&at(65)),
            "container `backend`: 1 min 5 s, 71 system calls, 2 capabilities, nothing new for 4 s"
        );
        let first = Progress { syscalls: 1, capabilities: 1, denied: 3, since_new: None, ..at(0) };
        assert_eq!(
            line(&first),
            "container `backend`: 0 s, 1 system call, 1 capability, 3 refused, nothing yet"
        );
    }

    #[test]
    fn a_terminal_line_is_redrawn_and_never_wraps() {
        let mut shown = ProgressLine::new(Surface::Terminal { columns: 20 });
        assert_eq!(shown.clear(), None, "nothing is drawn yet");
        let text = shown.update(&at(1)).expect("always");
        let visible = text.strip_prefix(CLEAR).expect("the line is cleared first");
        assert_eq!(visible.chars().count(), 19);
        assert_eq!(shown.clear(), Some(CLEAR));
        assert_eq!(shown.clear(), None);
    }

    #[test]
    fn a_log_gets_a_line_every_ten_seconds_at_most() {
        let mut shown = ProgressLine::new(Surface::Lines);
        let written: Vec<u64> = (0..35).filter(|now| shown.update(&at(*now)).is_some()).collect();
        assert_eq!(written, [10, 20, 30]);
        assert_eq!(shown.clear(), None);
    }

    #[test]
    fn a_hostile_name_cannot_move_the_cursor() {
        let evil = Progress { target: "\x1b[1A\r\u{202e}".into(), ..at(1) };
        assert!(!line(&evil).chars().any(char::is_control));
    }
}
