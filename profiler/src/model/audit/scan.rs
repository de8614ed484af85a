//! What a scanner found, joined.

use super::{
    Severity,
    facts::{Facts, Known, Unknown},
    run::{Answer, Subject},
};

/// Vulnerabilities that are named.
const SHOWN: usize = 20;

/// A scanner's report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// `trivy` or `grype`.
    pub tool: String,
    /// The image that it looked at, as the report names it. Hostile text.
    pub image: String,
    /// The ids and digests of that image; empty when the report names none. Hostile text.
    pub ids: Vec<String>,
    /// It says that packages were looked at; a report on secrets or licences alone does not.
    pub looked: bool,
    /// What it found.
    pub vulnerabilities: Vec<Vulnerability>,
}

/// A vulnerability of a package. Hostile text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vulnerability {
    /// `CVE-2024-1086`.
    pub id: String,
    /// The package.
    pub package: String,
    /// Its version.
    pub installed: String,
    /// The version in which it is mended; `None` when there is none.
    pub fixed: Option<String>,
    /// `critical`, `high`, `medium`, `low`, or what the scanner says instead; in lower case.
    pub severity: String,
}

impl Vulnerability {
    fn rank(&self) -> usize {
        ["critical", "high", "medium", "low"]
            .iter()
            .position(|it| *it == self.severity)
            .unwrap_or(4)
    }
}

pub(super) fn vulnerabilities(subject: &Subject<'_>) -> Known<Answer> {
    let Some(scan) = subject.inputs.scan else { return Ok(Answer::Moot) };
    if !scan.is_of(subject.facts) {
        return Err(Unknown::because(format!(
            "the report is about another image, `{}`",
            scan.image
        )));
    }
    if scan.vulnerabilities.is_empty() && !scan.looked {
        return Err(Unknown::because("the report does not say that packages were looked at"));
    }
    if scan.vulnerabilities.is_empty() {
        return Ok(Answer::Passed(format!("{} knows none of `{}`", scan.tool, scan.image)));
    }
    let mut found: Vec<_> = scan.vulnerabilities.iter().collect();
    found.sort_by_key(|it| (it.rank(), it.fixed.is_none(), it.id.clone(), it.package.clone()));
    found.dedup();
    let counts: Vec<String> = ["critical", "high", "medium", "low", "other"]
        .iter()
        .enumerate()
        .map(|(rank, name)| (found.iter().filter(|it| it.rank() == rank).count(), name))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let severity = match found[0].rank() {
        0 => Severity::Error,
        1 => Severity::Warning,
        _ => Severity::Note,
    };
    let told = found.iter().take(SHOWN).map(|it| {
        let fixed =
            it.fixed.as_ref().map_or("no fix".into(), |version| format!("fixed in {version}"));
        format!("{} ({}): {} {}, {fixed}", it.id, it.severity, it.package, it.installed)
    });
    let more = found.len().saturating_sub(SHOWN);
    let rest = (more > 0).then(|| format!("and {more} more"));
    let message = format!("{} knows {} of `{}`", scan.tool, counts.join(", "), scan.image);
    Ok(Answer::found(severity, message).with(told).with(rest))
}

impl Scan {
    /// Whether it is about the image of this container: by id where both name one, else by name. A report that names none is about all.
    #[must_use]
    pub fn is_of(&self, facts: &Facts) -> bool {
        let reference = facts.image_reference.as_deref().unwrap_or_default();
        if let Ok(image) = &facts.image
            && !self.ids.is_empty()
        {
            let digest = |id: &String| id.rsplit('@').next() == Some(image.id.as_str());
            if self.ids.iter().any(digest) {
                return true;
            }
            // A name can have moved; the digest of a registry is another than the image's id.
            if self.ids.iter().any(|id| !id.contains('@')) {
                return false;
            }
        }
        let whole = |name: &str| {
            let name = name.trim_start_matches("docker.io/").trim_start_matches("library/");
            let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
            if has_tag { name.to_owned() } else { format!("{name}:latest") }
        };
        self.image.is_empty() || whole(&self.image) == whole(reference)
    }
}
