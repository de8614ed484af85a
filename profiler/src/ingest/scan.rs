//! Reads what scanners say of an image: the JSON reports of Trivy (`--format json`) and Grype (`-o json`).
//!
//! Sources: <https://github.com/aquasecurity/trivy/blob/v0.50.0/pkg/types/report.go>,
//! <https://github.com/anchore/grype/blob/v0.80.0/grype/presenter/models/document.go>. Other keys come and go with their versions and are not read.

use serde::Deserialize;

use crate::{
    ingest::error::IngestError,
    model::audit::{Scan, Vulnerability},
};

const WHAT: &str = "scanner's report";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Trivy {
    #[serde(default)]
    artifact_name: String,
    #[serde(default)]
    metadata: Metadata,
    // Where nothing is found, the key is left out.
    #[serde(default)]
    results: Option<Vec<TrivyResult>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    #[serde(default, rename = "ImageID")]
    image_id: String,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyResult {
    #[serde(default)]
    class: String,
    #[serde(default)]
    vulnerabilities: Option<Vec<TrivyVulnerability>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyVulnerability {
    #[serde(rename = "VulnerabilityID")]
    id: String,
    #[serde(default)]
    pkg_name: String,
    #[serde(default)]
    installed_version: String,
    #[serde(default)]
    fixed_version: String,
    #[serde(default)]
    severity: String,
}

#[derive(Deserialize)]
struct Grype {
    matches: Vec<Match>,
    #[serde(default)]
    source: Option<GrypeSource>,
}

#[derive(Deserialize)]
struct GrypeSource {
    // Of a directory it is a string.
    #[serde(default)]
    target: serde_json::Value,
}

#[derive(Deserialize)]
struct Match {
    vulnerability: GrypeVulnerability,
    artifact: Artifact,
}

#[derive(Deserialize)]
struct GrypeVulnerability {
    id: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    fix: Fix,
}

#[derive(Default, Deserialize)]
struct Fix {
    #[serde(default)]
    versions: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Artifact {
    name: String,
    #[serde(default)]
    version: String,
}

/// Reads a report.
///
/// # Errors
/// When the text is not JSON, or of neither scanner.
pub fn parse(text: &str) -> Result<Scan, IngestError> {
    let syntax = |source| IngestError::Syntax { what: WHAT, source };
    let schema = |error| IngestError::unfit(WHAT, String::new(), &error);
    let value: serde_json::Value = serde_json::from_str(text).map_err(syntax)?;
    if value.get("matches").is_some() {
        return Ok(of_grype(serde_json::from_value(value).map_err(schema)?));
    }
    if value.get("SchemaVersion").is_some() || value.get("ArtifactName").is_some() {
        return Ok(of_trivy(serde_json::from_value(value).map_err(schema)?));
    }
    Err(IngestError::NoScan)
}

fn of_trivy(report: Trivy) -> Scan {
    let results = report.results.unwrap_or_default();
    let looked = results.iter().any(|it| matches!(it.class.as_str(), "os-pkgs" | "lang-pkgs"));
    let found = results.into_iter().filter_map(|it| it.vulnerabilities).flatten();
    let digests = report.metadata.repo_digests.into_iter().flatten();
    Scan {
        tool: "trivy".into(),
        image: report.artifact_name,
        ids: [report.metadata.image_id]
            .into_iter()
            .chain(digests)
            .filter(|id| !id.is_empty())
            .collect(),
        looked,
        vulnerabilities: found
            .map(|it| Vulnerability {
                id: it.id,
                package: it.pkg_name,
                installed: it.installed_version,
                fixed: Some(it.fixed_version).filter(|version| !version.is_empty()),
                severity: it.severity.to_lowercase(),
            })
            .collect(),
    }
}

fn of_grype(report: Grype) -> Scan {
    let target = report.source.map(|source| source.target).unwrap_or_default();
    let text =
        |key: &str| target.get(key).and_then(|it| it.as_str()).unwrap_or_default().to_owned();
    Scan {
        tool: "grype".into(),
        image: text("userInput"),
        ids: [text("imageID"), text("manifestDigest")]
            .into_iter()
            .filter(|id| !id.is_empty())
            .collect(),
        looked: true,
        vulnerabilities: report
            .matches
            .into_iter()
            .map(|it| Vulnerability {
                id: it.vulnerability.id,
                package: it.artifact.name,
                installed: it.artifact.version,
                fixed: it.vulnerability.fix.versions.unwrap_or_default().into_iter().next(),
                severity: it.vulnerability.severity.to_lowercase(),
            })
            .collect(),
    }
}
