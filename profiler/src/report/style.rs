//! The few styles of all reports.

use anstyle::{AnsiColor, Style};

/// Headings and the subject of a line.
pub(super) const HEADING: Style = Style::new().bold();
/// What is well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// What wants attention.
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// What is wrong.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What can be typed.
pub(super) const COMMAND: Style = AnsiColor::Cyan.on_default();
/// What is beside the point.
pub(super) const FAINT: Style = Style::new().dimmed();

/// `text` in a style. Escape it first.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}
