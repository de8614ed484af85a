//! The JSON schemas of everything that is written as JSON, derived from the types that are written.
//!
//! They are committed under docs/schemas; a test compares them.

use schemars::{JsonSchema, schema_for};

use crate::{
    model::{minimise::State, profile::Profile, recording::Recording, surface::Surface},
    report::{audit, coverage, diff, doctor, explain, lint, minimise, quick, static_check, verify},
};

/// File name and text of each schema.
#[must_use]
pub fn all() -> Vec<(&'static str, String)> {
    vec![
        ("recording.schema.json", of::<Recording>()),
        ("profile.schema.json", of::<Profile>()),
        ("surface.schema.json", of::<Surface>()),
        ("audit.schema.json", of::<audit::Document>()),
        ("coverage.schema.json", of::<coverage::Document<'_>>()),
        ("diff.schema.json", of::<diff::json::Document>()),
        ("doctor.schema.json", of::<doctor::Document<'_>>()),
        ("explain.schema.json", of::<explain::Entries<'_>>()),
        ("why-not.schema.json", of::<explain::Answers<'_>>()),
        ("lint.schema.json", of::<lint::Document<'_>>()),
        ("minimise.schema.json", of::<minimise::Document>()),
        ("minimise-state.schema.json", of::<State>()),
        ("verify-static.schema.json", of::<static_check::Document>()),
        ("verify-quick.schema.json", of::<quick::Document>()),
        ("verify.schema.json", of::<verify::Document>()),
    ]
}

fn of<T: JsonSchema>() -> String {
    let schema = serde_json::to_string_pretty(&schema_for!(T));
    schema.map_or_else(|_| String::new(), |text| format!("{text}\n"))
}
