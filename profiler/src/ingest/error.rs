//! Why a text could not be read.

use crate::model::narrow;

impl IngestError {
    /// What a field takes, without the value that it has.
    pub(super) fn unfit(what: &'static str, at: String, error: &serde_json::Error) -> IngestError {
        let told = error.to_string();
        // The text of what is expected is the program's own; a value that holds these words comes before it.
        let expected = match told.rsplit_once(", expected ") {
            Some((_, expected)) => expected.to_owned(),
            None if told.starts_with("missing field") => told,
            None => "something else".to_owned(),
        };
        IngestError::Unfit { what, at, expected }
    }
}

/// Why a text could not be read. Messages name what it should have been; the caller adds the path.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Not JSON at all.
    #[error("not valid JSON\nhint: is this the {what} that profiler wrote, complete?")]
    Syntax {
        /// What was expected.
        what: &'static str,
        /// Where it broke.
        #[source]
        source: serde_json::Error,
    },
    /// Neither JSON nor the YAML that it could be.
    #[error(
        "not a {what}: neither JSON nor a SeccompProfile in YAML\nhint: is this the right file, complete?"
    )]
    Yaml {
        /// What was expected.
        what: &'static str,
        /// Where it broke.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// Not the YAML that an allow file is.
    #[error(
        "not an allow file\nhint: allow: [{{entry: syscall/x86_64/mount, reason: why, expires: 2027-01-31}}]"
    )]
    AllowFile {
        /// What does not fit.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// Not the YAML that a compose file or a manifest is.
    #[error(
        "neither a compose file nor a manifest: no YAML at line {line}, column {column}\n\
         hint: {}", if *.is_template { TEMPLATE } else { NO_TEMPLATE }
    )]
    Stack {
        /// Where it broke, from 1. What stands there may be a secret, and is not kept.
        line: u64,
        /// Where in the line, from 1.
        column: u64,
        /// The text has `{{`, as templates do.
        is_template: bool,
    },
    /// A value of another type than the field's. The value may be a secret, and is not kept.
    #[error(
        "the {what} has a value of another type than its field's: {expected} is expected{}\n\
         hint: hold it against the schema of its kind",
        .at.escape_debug()
    )]
    Unfit {
        /// What it is.
        what: &'static str,
        /// In which object: ` in NAME`, or empty. Hostile text.
        at: String,
        /// What the field takes.
        expected: String,
    },
    /// YAML, but nothing that runs containers.
    #[error(
        "neither a compose file nor a manifest\nhint: one has `services`, the other `apiVersion` and `kind`"
    )]
    NoStack,
    /// JSON, but no report of a scanner.
    #[error(
        "no report of Trivy or Grype\nhint: trivy image --format json IMAGE, or grype -o json IMAGE"
    )]
    NoScan,
    /// An entry of an allow file that no difference is called.
    #[error(
        "the allow file accepts `{}`, which names no call, capability or setting\n\
         hint: name each, as `profiler diff --format json` does: syscall/x86_64/mount; there are no patterns",
        .entry.escape_debug()
    )]
    AcceptsNothing {
        /// The entry. Hostile text.
        entry: String,
    },
    /// JSON, but not this kind of file.
    #[error("not a {what}: there is no number `schema_version`\nhint: is this the right file?")]
    NoVersion {
        /// What was expected.
        what: &'static str,
    },
    /// A file of another kind.
    #[error("a {is}, not a {what}\nhint: {}", hint(.what))]
    OtherKind {
        /// What was expected.
        what: &'static str,
        /// What it is.
        is: &'static str,
    },
    /// Written by a newer profiler. Nothing else in the file was looked at.
    #[error(
        "the {what} has schema version `{found}`, and this profiler reads up to `{known}`\n\
         hint: use a newer profiler, at least the one that wrote the file"
    )]
    Newer {
        /// What it is.
        what: &'static str,
        /// The file's version.
        found: u64,
        /// The newest that is read.
        known: u32,
    },
    /// The version is one that no profiler wrote.
    #[error("the {what} has schema version `{found}`, which never existed\nhint: record again")]
    NoSuchVersion {
        /// What it is.
        what: &'static str,
        /// The file's version.
        found: u64,
    },
    /// Right version, wrong content.
    #[error(
        "the {what} does not follow its schema\nhint: use the file as it was written, or make it again"
    )]
    Schema {
        /// What it is.
        what: &'static str,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// A key that means nothing here.
    #[error("the {what} has an unknown key `{}`\nhint: remove it, or correct its spelling", .key.escape_debug())]
    UnknownKey {
        /// What it is.
        what: &'static str,
        /// Where: keys and indices, separated by dots. Hostile text.
        key: String,
    },
    /// A rule with more combinations of arguments than the profiler writes.
    #[error(
        "the profile has more combinations of arguments of `{}` than a rule can have: {}, and {} with `but`\n\
         hint: remove `arguments` from the rule, which allows any, or make the profile again",
        .call.escape_debug(), narrow::MOST_COMBINATIONS, narrow::MOST_WITH_BUT
    )]
    Combinations {
        /// The call. Hostile text.
        call: String,
    },
    /// A value that its type admits but nothing else does.
    #[error("the {what} has an invalid {field} `{}`\nhint: correct its spelling", .value.escape_debug())]
    Value {
        /// What it is.
        what: &'static str,
        /// What kind of value.
        field: &'static str,
        /// The value. Hostile text.
        value: String,
    },
}

const TEMPLATE: &str = "templates are to be filled in first: helm template, kustomize build";

const NO_TEMPLATE: &str = "is this the right file? docker compose -f FILE config, or kubectl apply --dry-run=client -f FILE, says what is wrong there";

/// Where a file of this kind comes from.
fn hint(what: &str) -> &'static str {
    match what {
        "profile" => "make one of a recording: profiler generate RECORDING -o DIR",
        _ => "give the `recording.json` that `profiler record` wrote",
    }
}
