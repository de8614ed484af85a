//! Whether a difference fails a build, and what a reviewer has accepted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::model::{
    diff::{Diff, Entry, Subject},
    facts::Risk,
};

/// Which differences fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailOn {
    /// All.
    Any,
    /// Those that let more through.
    Growth,
    /// Those that let more through and are at least this risky.
    Risk(Risk),
}

impl FailOn {
    fn holds(self, entry: &Entry) -> bool {
        match self {
            FailOn::Any => true,
            FailOn::Growth => entry.grows,
            FailOn::Risk(least) => entry.grows && entry.risk >= least,
        }
    }
}

/// What was accepted. Unknown keys are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowlist {
    /// The entries.
    pub allow: Vec<Allowed>,
}

/// One accepted difference.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// What a diff calls it, `syscall/x86_64/mount`; without the ABI, of every one.
    pub entry: String,
    /// Why it is accepted. For people; hostile text.
    pub reason: String,
    /// The last day on which it is.
    pub expires: Date,
}

impl Allowed {
    fn is_of(&self, subject: &Subject) -> bool {
        let without_abi = |entry: &str| match subject {
            Subject::Syscall { name, .. } => entry.strip_prefix("syscall/") == Some(name),
            _ => false,
        };
        self.entry == subject.to_string() || without_abi(&self.entry)
    }
}

/// A day of the Gregorian calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: i64,
    month: u32,
    day: u32,
}

impl Date {
    /// The day of a time, in seconds since the epoch.
    ///
    /// Days to dates by counting in years that begin in March, so that the leap day is the last.
    #[must_use]
    pub fn of_unix_s(seconds: u64) -> Date {
        let days = i64::try_from(seconds / 86_400).unwrap_or(i64::MAX / 2) + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        // both are small and positive
        Date { year, month: month.unsigned_abs() as u32, day: day.unsigned_abs() as u32 }
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Date, String> {
        let invalid = || format!("`{}` is no date like `2027-01-31`", text.escape_debug());
        let parts: Vec<&str> = text.split('-').collect();
        let &[year, month, day] = parts.as_slice() else { return Err(invalid()) };
        let digits = |part: &str, width: usize| {
            let fits = part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit());
            fits.then(|| part.parse::<u32>().ok()).flatten().ok_or_else(invalid)
        };
        let (year, month, day) = (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            1..=12 => 31,
            _ => return Err(invalid()),
        };
        if day == 0 || day > days {
            return Err(invalid());
        }
        Ok(Date { year: year.into(), month, day })
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// What a gate says of one difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The gate does not look at it.
    Passes,
    /// It fails.
    Fails,
    /// It would fail, and was accepted.
    Accepted(Allowed),
    /// It fails: what accepted it has expired.
    Expired(Allowed),
}

/// A gate: which differences fail, what was accepted, and what day it is.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Which differences fail.
    pub fail_on: FailOn,
    /// What was accepted.
    pub allowlist: Allowlist,
    /// Today.
    pub today: Date,
}

impl Gate {
    /// The verdict on each entry of `diff`, in its order.
    #[must_use]
    pub fn judge(&self, diff: &Diff) -> Vec<Verdict> {
        diff.entries.iter().map(|entry| self.verdict(entry)).collect()
    }

    fn verdict(&self, entry: &Entry) -> Verdict {
        if !self.fail_on.holds(entry) {
            return Verdict::Passes;
        }
        // the one that holds longest
        let accepted = self.allowlist.allow.iter().filter(|allowed| allowed.is_of(&entry.subject));
        match accepted.max_by_key(|allowed| allowed.expires) {
            None => Verdict::Fails,
            Some(allowed) if allowed.expires < self.today => Verdict::Expired(allowed.clone()),
            Some(allowed) => Verdict::Accepted(allowed.clone()),
        }
    }

    /// What was accepted and is of no entry of any of `diffs`.
    #[must_use]
    pub fn unused(&self, diffs: &[Diff]) -> Vec<&Allowed> {
        let entries = || diffs.iter().flat_map(|diff| &diff.entries);
        let is_unused = |allowed: &&Allowed| !entries().any(|entry| allowed.is_of(&entry.subject));
        self.allowlist.allow.iter().filter(is_unused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (4_107_542_400, "2100-03-01"),
            (1_798_761_599, "2026-12-31"),
        ] {
            assert_eq!(Date::of_unix_s(seconds).to_string(), date);
            assert_eq!(date.parse(), Ok(Date::of_unix_s(seconds)));
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for bad in [
            "",
            "2026",
            "2026-2-1",
            "2026-02-30",
            "2100-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "+026-01-01",
        ] {
            assert!(bad.parse::<Date>().is_err(), "{bad}");
        }
    }
}
