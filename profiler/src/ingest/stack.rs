//! Reads the files that say how containers are run: compose files and Kubernetes manifests.
//!
//! Owns telling them apart and finding the pods in manifests. No engine, cluster or template engine is asked: what is not in the file is
//! unknown.

use serde_json::Value;

use crate::{
    ingest::{compose, error::IngestError},
    model::{
        audit::{Facts, Source, Unknown, kubernetes, pod::Pod},
        seccomp::SeccompFile,
    },
};

/// Kinds of Kubernetes that run nothing. Others, custom ones among them, may.
const RUN_NOTHING: &[&str] = &[
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "CSIDriver",
    "CustomResourceDefinition",
    "EndpointSlice",
    "Endpoints",
    "HorizontalPodAutoscaler",
    "Ingress",
    "IngressClass",
    "LimitRange",
    "MutatingWebhookConfiguration",
    "Namespace",
    "NetworkPolicy",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "PriorityClass",
    "ResourceQuota",
    "Role",
    "RoleBinding",
    "RuntimeClass",
    "Secret",
    "Service",
    "ServiceAccount",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

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
    /// What of the file may run containers and was not looked at, and why.
    pub unread: Vec<(String, Unknown)>,
}

impl Stack {
    fn not_read(&mut self, what: impl Into<String>, why: &str) {
        self.unread.push((what.into(), Unknown::because(why)));
    }

    /// Takes relative paths of services from `directory`, the absolute one of the file.
    pub fn resolve(&mut self, directory: &str) {
        let services = self.containers.iter_mut().filter(|it| it.source == Source::Compose);
        for mount in services.flat_map(|it| &mut it.mounts.known) {
            if let Some(path) = mount.host.as_mut().filter(|path| path.starts_with('.')) {
                *path = format!("{}/{path}", directory.trim_end_matches('/'));
            }
        }
    }
}

/// Reads a compose file or a manifest, which may have several documents.
///
/// # Errors
/// When the text is no YAML, is neither of both, or has fields of another type than theirs.
pub fn parse(text: &str, read: ReadProfile<'_>) -> Result<Stack, IngestError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| broken(&error, text))?;
    let mut stack = Stack::default();
    let mut is_one = false;
    for (index, document) in documents.iter().enumerate() {
        if document.get("apiVersion").is_some() && document.get("kind").is_some() {
            is_one = true;
            object(document, 0, &mut stack)?;
            continue;
        }
        let services = document.get("services");
        let is_empty = services.is_none_or(Value::is_null);
        let includes = document.get("include").is_some();
        if let Some(services) = services.and_then(Value::as_object) {
            is_one = true;
            for (name, service) in services {
                stack.containers.push(compose::service(name, service, document, read)?);
            }
        } else if is_empty && (services.is_some() || includes) {
            is_one = true;
        } else if !document.is_null() {
            stack.not_read(format!("document {}", index + 1), "neither services nor an object");
        }
        if includes {
            stack.not_read("include", "files that are included are not read");
        }
    }
    if !is_one {
        return Err(IngestError::NoStack);
    }
    Ok(stack)
}

/// Where the YAML ends to be some.
fn broken(error: &serde_saphyr::Error, text: &str) -> IngestError {
    let at = error.location();
    IngestError::Stack {
        line: at.map_or(1, |at| at.line()),
        column: at.map_or(1, |at| at.column()),
        is_template: text.contains("{{"),
    }
}

/// An object of Kubernetes. One that runs nothing is passed over.
fn object(object: &Value, depth: usize, stack: &mut Stack) -> Result<(), IngestError> {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    of_kind(kind, object, depth, stack)
}

fn of_kind(kind: &str, object: &Value, depth: usize, stack: &mut Stack) -> Result<(), IngestError> {
    let name = object.pointer("/metadata/name").or(object.pointer("/metadata/generateName"));
    let name = format!("{kind}/{}", name.and_then(Value::as_str).unwrap_or_default());
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
        _ if kind.ends_with("List") => return list(kind, &name, object, depth, stack),
        _ if RUN_NOTHING.contains(&kind) => return Ok(()),
        _ => {
            stack.not_read(name, "what objects of this kind run is not known");
            return Ok(());
        }
    };
    if let Some(template) = template.filter(|it| !it.is_null()) {
        let field = |name: &str| template.pointer(name).filter(|it| !it.is_null()).cloned();
        let pod = serde_json::json!({
            "annotations": field("/metadata/annotations").unwrap_or_else(|| serde_json::json!({})),
            "spec": field("/spec").unwrap_or_else(|| serde_json::json!({})),
        });
        let pod: Pod = serde_json::from_value(pod)
            .map_err(|error| IngestError::unfit("manifest", format!(" in {name}"), &error))?;
        if pod.containers().next().is_none() {
            stack.not_read(name.clone(), "its pod has no containers here");
        }
        stack.containers.extend(pod.containers().map(|one| kubernetes::facts(&name, &pod, one)));
        stack.pods.push((name, pod));
    } else {
        stack.not_read(name, "it has no pod template here");
    }
    Ok(())
}

/// The objects of a list. Those of `PodList` need not say that they are pods.
fn list(
    kind: &str,
    name: &str,
    list: &Value,
    depth: usize,
    stack: &mut Stack,
) -> Result<(), IngestError> {
    if depth >= MAX_DEPTH {
        stack.not_read(name, "lists in lists, too deep");
        return Ok(());
    }
    for item in list.get("items").and_then(Value::as_array).into_iter().flatten() {
        let own = item.get("kind").and_then(Value::as_str);
        let kind = own.unwrap_or(kind.strip_suffix("List").unwrap_or_default());
        of_kind(kind, item, depth + 1, stack)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(text: &str) -> (usize, Vec<String>) {
        let stack = parse(text, &|_| None).expect(text);
        (stack.containers.len(), stack.unread.into_iter().map(|(what, _)| what).collect())
    }

    #[test]
    fn what_may_run_containers_and_is_not_read_is_told() {
        let pod = "spec: {containers: [{name: a}]}";
        for (text, containers, left) in [
            (format!("{{apiVersion: v1, kind: PodList, items: [{{{pod}}}]}}"), 1, ""),
            (
                "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}".into(),
                0,
                "Deployment/d",
            ),
            (format!("{{apiVersion: x/v1, kind: Rollout, {pod}}}"), 0, "Rollout/"),
            (
                format!("{{apiVersion: v1, kind: List, items: [{{kind: Pod, {pod}}}, {{}}]}}"),
                1,
                "/",
            ),
            ("{apiVersion: v1, kind: ConfigMap}".into(), 0, ""),
            ("{apiVersion: v1, kind: Pod}".into(), 0, "Pod/"),
            ("include: [a.yaml]".into(), 0, "include"),
            ("services: {}".into(), 0, ""),
            ("services:".into(), 0, ""),
            ("services: {a: {}}\n---\nx: 1".into(), 1, "document 2"),
        ] {
            let expected: Vec<String> =
                Some(left.to_owned()).filter(|it| !it.is_empty()).into_iter().collect();
            assert_eq!(unread(&text), (containers, expected), "{text}");
        }
    }

    #[test]
    fn errors_hold_no_value_of_the_file() {
        for text in [
            "services:\n  db:\n    environment:\n      A: s3cret\n       B: s3cret",
            "a: {b: s3cret\nc: [",
            "services: {a: {x: s3cret, x: s3cret}}",
            "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, env: [{name: B, value: 53237}]}]}",
            "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, image: [s3cret]}]}",
            "apiVersion: v1\nkind: Pod\nspec: 's3cret, expected x'",
        ] {
            let error = parse(text, &|_| None).expect_err(text);
            let told = format!("{:#}", anyhow::Error::from(error));
            assert!(!told.contains("s3cret") && !told.contains("53237"), "{told}");
        }
    }
}
