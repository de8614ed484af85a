//! Numbers and names as people write them.

use std::time::Duration;

use crate::{
    model::{error_number, recording::Program},
    report::escape,
};

/// The longest name of a program that is shown.
const NAME_CHARS: usize = 40;

/// `850 ms`, `42.3 s`, `5 min 7 s`, `2 h 5 min`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// The same without parts of a second: a line that is redrawn would flicker.
pub(super) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => self::duration(Duration::from_secs(seconds)),
    }
}

/// `1 run`, `2 runs`.
pub(super) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// `nginx`, or `worker (nginx)` when the thread has a name of its own.
pub(super) fn program(program: &Program) -> String {
    let comm = escape::short(&program.comm, NAME_CHARS);
    if program.exe.is_empty() || program.exe == program.comm {
        return comm;
    }
    format!("{comm} ({})", escape::short(&program.exe, NAME_CHARS))
}

/// The name of an error number that a filter gave, else the number.
pub(super) fn errno(number: i32) -> String {
    match u32::try_from(number) {
        Ok(number) => error_number::display(number).into_owned(),
        Err(_) => format!("errno {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_fits() {
        for (ms, text) in [
            (0, "0 ms"),
            (850, "850 ms"),
            (42_345, "42.3 s"),
            (59_999, "60.0 s"),
            (307_000, "5 min 7 s"),
            (7_500_000, "2 h 5 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn programs_are_named_once_and_escaped() {
        let of = |comm: &str, exe: &str| program(&Program { comm: comm.into(), exe: exe.into() });
        assert_eq!(of("nginx", "nginx"), "nginx");
        assert_eq!(of("nginx", ""), "nginx");
        assert_eq!(of("\x1b[2J", "sh"), "\\x1b[2J (sh)");
    }

    #[test]
    fn error_numbers_have_names_where_one_knows_them() {
        assert_eq!(errno(libc::EPERM), "EPERM");
        assert_eq!(errno(libc::ENOSYS), "ENOSYS");
        assert_eq!(errno(libc::EAFNOSUPPORT), "EAFNOSUPPORT");
        assert_eq!(errno(4000), "errno 4000");
    }
}
