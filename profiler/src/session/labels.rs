//! Test labels: what a test may ask of the recorder, and which labels are in force. No I/O.
//!
//! A label is hostile text: it is one line of at most 256 bytes without control characters, and there are at most
//! 10,000 of them in a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use thiserror::Error;

use crate::observe::ebpf::Labels;

/// Bytes of a label; a longer one is cut.
const LABEL_BYTES: usize = 256;

/// Labels in a run; what comes after them is recorded as [`OTHER`].
const LABELS: usize = 10_000;

/// Labels in force at once.
const AT_ONCE: usize = 64;

/// Stands for every label that came after the last that was kept.
const OTHER: &str = "other";

/// A request that cannot be met; one line, to be read by whoever runs the tests.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LabelError {
    /// No label was given.
    #[error("a label has at least one character")]
    Empty,
    /// It could act on a terminal.
    #[error("a label has no control characters")]
    Control,
    /// Not a line of the protocol.
    #[error("expected `mark LABEL`, `begin LABEL`, `end LABEL` or `end`")]
    Request,
    /// It was not begun.
    #[error("the label `{0}` is not in force")]
    NotInForce(Label),
    /// Labels are begun and never ended.
    #[error("{AT_ONCE} labels are in force already: end one first")]
    TooMany,
}

/// The name of a test: one line, not empty, without control characters, at most 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(String);

impl Label {
    /// Takes a name; what is too long is cut.
    ///
    /// # Errors
    /// When it is empty or has control characters.
    pub fn new(name: &str) -> Result<Self, LabelError> {
        if name.is_empty() {
            return Err(LabelError::Empty);
        }
        if name.contains(char::is_control) {
            return Err(LabelError::Control);
        }
        Ok(Label(name[..name.floor_char_boundary(LABEL_BYTES)].to_owned()))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a test asks for: a line of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// This label, in place of all others.
    Mark(Label),
    /// This label too.
    Begin(Label),
    /// This label no more; or none any more.
    End(Option<Label>),
}

impl Request {
    /// Reads a line, without its end.
    ///
    /// # Errors
    /// When it is none of the protocol's, or the label is none.
    pub fn parse(line: &str) -> Result<Self, LabelError> {
        match line.split_once(' ') {
            Some(("mark", name)) => Ok(Request::Mark(Label::new(name)?)),
            Some(("begin", name)) => Ok(Request::Begin(Label::new(name)?)),
            Some(("end", name)) => Ok(Request::End(Some(Label::new(name)?))),
            None if line == "end" => Ok(Request::End(None)),
            _ => Err(LabelError::Request),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Mark(label) => write!(f, "mark {label}"),
            Request::Begin(label) => write!(f, "begin {label}"),
            Request::End(Some(label)) => write!(f, "end {label}"),
            Request::End(None) => f.write_str("end"),
        }
    }
}

/// The labels in force in a run.
#[derive(Debug, Default)]
pub struct InForce {
    /// How often each was begun and not ended.
    begun: BTreeMap<Label, usize>,
    /// Every label of the run so far.
    known: BTreeSet<Label>,
    /// How often a label was not kept, because there are too many.
    pub lost: u64,
}

impl InForce {
    /// Meets a request; the labels in force after it.
    ///
    /// # Errors
    /// When a label is ended that was not begun, or too many are in force.
    pub fn apply(&mut self, request: Request) -> Result<Labels, LabelError> {
        match request {
            Request::Mark(label) => {
                let label = self.keep(label);
                self.begun = BTreeMap::from([(label, 1)]);
            }
            Request::Begin(label) => {
                if self.begun.len() == AT_ONCE && !self.begun.contains_key(&label) {
                    return Err(LabelError::TooMany);
                }
                let label = self.keep(label);
                *self.begun.entry(label).or_default() += 1;
            }
            Request::End(None) => self.begun.clear(),
            Request::End(Some(label)) => {
                let begun =
                    if self.known.contains(&label) { label.clone() } else { Label(OTHER.into()) };
                let count = self.begun.get_mut(&begun).ok_or(LabelError::NotInForce(label))?;
                *count -= 1;
                if *count == 0 {
                    self.begun.remove(&begun);
                }
            }
        }
        Ok(Arc::new(self.begun.keys().map(|label| label.0.clone()).collect()))
    }

    fn keep(&mut self, label: Label) -> Label {
        if self.known.contains(&label) {
            return label;
        }
        if self.known.len() == LABELS {
            self.lost += 1;
            return Label(OTHER.into());
        }
        self.known.insert(label.clone());
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(labels: &mut InForce, line: &str) -> Result<Vec<String>, LabelError> {
        Ok(labels.apply(Request::parse(line)?)?.iter().cloned().collect())
    }

    #[test]
    fn a_mark_replaces_and_begun_labels_overlap() {
        let mut labels = InForce::default();
        assert_eq!(ask(&mut labels, "mark a b"), Ok(vec!["a b".into()]));
        assert_eq!(ask(&mut labels, "begin c"), Ok(vec!["a b".into(), "c".into()]));
        assert_eq!(ask(&mut labels, "begin c"), Ok(vec!["a b".into(), "c".into()]));
        assert_eq!(ask(&mut labels, "end c"), Ok(vec!["a b".into(), "c".into()]));
        assert_eq!(ask(&mut labels, "end c"), Ok(vec!["a b".into()]));
        assert!(matches!(ask(&mut labels, "end c"), Err(LabelError::NotInForce(_))));
        assert_eq!(ask(&mut labels, "mark d"), Ok(vec!["d".into()]));
        assert_eq!(ask(&mut labels, "end"), Ok(vec![]));
    }

    #[test]
    fn what_is_no_request_is_refused_and_changes_nothing() {
        let mut labels = InForce::default();
        ask(&mut labels, "mark a").expect("a label");
        for bad in ["", "mark", "mark ", "begin ", "mark a\tb", "mark \x1b[31m", "name a", "end "] {
            ask(&mut labels, bad).expect_err(bad);
        }
        assert_eq!(ask(&mut labels, "begin a"), Ok(vec!["a".into()]));
    }

    #[test]
    fn a_request_is_written_as_it_is_read() {
        for line in ["mark a b", "begin x::y[é]", "end z", "end"] {
            assert_eq!(Request::parse(line).expect("a request").to_string(), line);
        }
    }

    #[test]
    fn labels_are_bounded_in_length_and_number() {
        let long = Label::new(&"é".repeat(200)).expect("a label");
        assert_eq!(long.0, "é".repeat(128));
        let long = Label::new(&format!("a{}", "é".repeat(200))).expect("a label");
        assert_eq!(long.0.len(), 255);

        let mut labels = InForce::default();
        for n in 0..LABELS {
            ask(&mut labels, &format!("mark {n}")).expect("a label");
        }
        assert_eq!((ask(&mut labels, "mark new"), labels.lost), (Ok(vec![OTHER.into()]), 1));
        assert_eq!(ask(&mut labels, "begin 7"), Ok(vec!["7".into(), OTHER.into()]));
        assert_eq!(ask(&mut labels, "end new"), Ok(vec!["7".into()]));

        let mut labels = InForce::default();
        for n in 0..AT_ONCE {
            ask(&mut labels, &format!("begin {n}")).expect("a label");
        }
        assert_eq!(ask(&mut labels, "begin one more"), Err(LabelError::TooMany));
        ask(&mut labels, "begin 7").expect("it is in force already");
    }
}
