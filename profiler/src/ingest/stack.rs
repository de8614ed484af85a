//! Reads the files that say how containers are run: compose files and Kubernetes manifests.
//!
//! Owns telling them apart and finding the pods in manifests. No engine, cluster or template engine is asked: what is not in the file is
//! unknown.

use serde_json::Value;

use crate::{
    ingest::{compose, error::IngestError},
    model::{
        audit::{Facts, kubernetes, pod::Pod},
        seccomp::SeccompFile,
    },
};

/// Objects in objects that are looked into: Lists of Lists.
const MAX_DEPTH: usize = 8;

/// Reads a seccomp file by its path, relative to the file that names it; `None` when it cannot.
pub type ReadProfile<'a> = &'a dyn Fn(&str) -> Option<SeccompFile>;

/// What a file runs.
#[derive(Debug, Default)]
pub struct Stack {
    /// Services, or containers of pods, in the order of the file; services by name.
    pub containers: Vec<Facts>,
    /// Pods, by `KIND/NAME`.
    pub pods: Vec<(String, Pod)>,
}

/// Reads a compose file or a manifest, which may have several documents.
///
/// # Errors
/// When the text is no YAML, is neither of both, or has fields of another type than theirs.
pub fn parse(text: &str, read: ReadProfile<'_>) -> Result<Stack, IngestError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|source| IngestError::Stack { source: Box::new(source) })?;
    let mut stack = Stack::default();
    let mut is_one = false;
    for document in &documents {
        if document.get("apiVersion").is_some() && document.get("kind").is_some() {
            is_one = true;
            object(document, 0, &mut stack)?;
        } else if let Some(services) = document.get("services").and_then(Value::as_object) {
            is_one = true;
            for (name, service) in services {
                stack.containers.push(compose::service(name, service, document, read)?);
            }
        }
    }
    if !is_one {
        return Err(IngestError::NoStack);
    }
    Ok(stack)
}

/// An object of Kubernetes. One that runs nothing is passed over.
fn object(object: &Value, depth: usize, stack: &mut Stack) -> Result<(), IngestError> {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let template = match kind {
        "Pod" => Some(object),
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "ReplicaSet"
        | "ReplicationController"
        | "Job" => object.pointer("/spec/template"),
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template"),
        "PodTemplate" => object.pointer("/template"),
        _ => None,
    };
    if let Some(template) = template {
        let name = object.pointer("/metadata/name").or(object.pointer("/metadata/generateName"));
        let name = format!("{kind}/{}", name.and_then(Value::as_str).unwrap_or_default());
        let field = |name: &str| template.pointer(name).filter(|it| !it.is_null()).cloned();
        let pod = serde_json::json!({
            "annotations": field("/metadata/annotations").unwrap_or_else(|| serde_json::json!({})),
            "spec": field("/spec").unwrap_or_else(|| serde_json::json!({})),
        });
        let pod: Pod = serde_json::from_value(pod)
            .map_err(|source| IngestError::Schema { what: "manifest", source })?;
        stack.containers.extend(pod.containers().map(|one| kubernetes::facts(&name, &pod, one)));
        stack.pods.push((name, pod));
    }
    if kind.ends_with("List") && depth < MAX_DEPTH {
        for item in object.get("items").and_then(Value::as_array).into_iter().flatten() {
            self::object(item, depth + 1, stack)?;
        }
    }
    Ok(())
}
