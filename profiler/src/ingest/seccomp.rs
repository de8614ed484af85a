//! Reads seccomp files of every kind: OCI's, Docker's, podman's, the `SeccompProfile` of the Security Profiles Operator,
//! and the `linux.seccomp` of a runtime bundle's `config.json`.
//!
//! Owns telling them apart and what an engine refuses. What a file means is in [`crate::model::effective`].

use serde::Deserialize;
use serde_json::Value;

use crate::{
    ingest::{error::IngestError, strict},
    model::{
        error_number,
        seccomp::{Action, SeccompFile},
    },
};

const WHAT: &str = "seccomp profile";

/// The API group of the operator's objects; any version of it has the same `spec` as far as it is read here.
const SPO_GROUP: &str = "security-profiles-operator.x-k8s.io/";

/// The largest error of the kernel; libseccomp loads no filter with a larger one.
const MAX_ERRNO: u32 = 4095;

/// Reads a seccomp file.
///
/// # Errors
/// When the text is neither JSON nor YAML, has doubled or unknown keys, actions or operators, or what every engine
/// refuses: `architectures` beside `archMap`, `names` beside `name`, an empty name, an argument above 5, an error that
/// has no such name. A `SeccompProfile` with a base profile is refused too: the file alone decides nothing.
pub fn parse(text: &str) -> Result<SeccompFile, IngestError> {
    let file = if text.trim_start().starts_with('{') { json(text)? } else { operator(text)? };
    check(&file)?;
    Ok(file)
}

fn json(text: &str) -> Result<SeccompFile, IngestError> {
    let value = strict::parse_value(WHAT, text)?;
    let schema = |source| IngestError::Schema { what: WHAT, source };
    if value.get("ociVersion").is_some() {
        let part = value.pointer("/linux/seccomp").cloned().unwrap_or(Value::Null);
        return serde_json::from_value(part).map_err(schema);
    }
    if value.get("apiVersion").is_some() {
        return serde_json::from_str(text).map_err(schema).and_then(Object::into_file);
    }
    // From the text, not the value: the error then says where.
    serde_json::from_str(text).map_err(schema)
}

fn operator(text: &str) -> Result<SeccompFile, IngestError> {
    let object: Object = serde_saphyr::from_str(text)
        .map_err(|source| IngestError::Yaml { what: WHAT, source: Box::new(source) })?;
    object.into_file()
}

/// The operator's object. What surrounds the profile is Kubernetes' and is not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    api_version: String,
    kind: String,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    base_profile_name: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "says whether the operator installs it, not what it does")]
    disabled: bool,
    #[serde(flatten)]
    file: Value,
}

impl Object {
    fn into_file(self) -> Result<SeccompFile, IngestError> {
        let invalid = |field, value| Err(IngestError::Value { what: WHAT, field, value });
        if !self.api_version.starts_with(SPO_GROUP) {
            return invalid("apiVersion", self.api_version);
        }
        if self.kind != "SeccompProfile" {
            return invalid("kind", self.kind);
        }
        match self.spec.base_profile_name {
            Some(base) if !base.is_empty() => invalid("baseProfileName", base),
            _ => serde_json::from_value(self.spec.file)
                .map_err(|source| IngestError::Schema { what: WHAT, source }),
        }
    }
}

/// What engines and runtimes refuse to load.
fn check(file: &SeccompFile) -> Result<(), IngestError> {
    let invalid =
        |field, value: &str| Err(IngestError::Value { what: WHAT, field, value: value.to_owned() });
    if !file.architectures.is_empty() && !file.arch_map.is_empty() {
        return invalid("combination", "architectures and archMap");
    }
    let errors = file.syscalls.iter().filter_map(|rule| rule.errno.as_deref());
    let mut errors = file.default_errno.as_deref().into_iter().chain(errors);
    // podman takes an empty one for none
    if let Some(bad) = errors.find(|e| !e.is_empty() && error_number::parse(e).is_none()) {
        return invalid("errno", bad);
    }
    let rules = file.syscalls.iter().map(|rule| (rule.action, rule.errno_ret));
    let mut errors = rules.chain([(file.default_action, file.default_errno_ret)]);
    let is_error = |(action, _): &(Action, _)| *action == Action::Errno;
    if let Some((_, Some(bad))) = errors.find(|e| is_error(e) && e.1 > Some(MAX_ERRNO)) {
        return invalid("errno", &bad.to_string());
    }
    for rule in &file.syscalls {
        if rule.name.as_ref().is_some_and(|name| !name.is_empty()) && !rule.names.is_empty() {
            return invalid("combination", "name and names");
        }
        if rule.names.iter().any(String::is_empty) {
            return invalid("syscall", "");
        }
        if let Some(arg) = rule.args.iter().find(|arg| arg.index > 5) {
            return invalid("argument index", &arg.index.to_string());
        }
    }
    Ok(())
}
