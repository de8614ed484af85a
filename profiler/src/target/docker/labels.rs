//! What compose's labels say of a container: which project and service it is of. Pure.
//!
//! Whoever makes a container writes its labels, so a name that compose could not have written counts as none.

use std::collections::HashMap;

/// The longest name of a project or service that is believed.
const LONGEST: usize = 128;

/// The label by which a project's containers are found.
pub(super) const PROJECT: &str = "com.docker.compose.project";

const SERVICE: &str = "com.docker.compose.service";

const ONE_OFF: &str = "com.docker.compose.oneoff";

/// Which project and service a container is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The project's name.
    pub project: String,
    /// The service's name; `None` when it is one that compose does not give.
    pub service: Option<String>,
    /// It was made by `compose run`.
    pub one_off: bool,
}

impl Membership {
    /// What the labels of a container, or of an event of it, say; `None` when it is of no project.
    pub(super) fn of(labels: &HashMap<String, String>) -> Option<Self> {
        let project = labels.get(PROJECT).filter(|name| is_name(name))?;
        Some(Membership {
            project: project.clone(),
            service: service(labels).cloned(),
            one_off: labels.get(ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true")),
        })
    }
}

/// Compose's name for the service of a container, from its labels.
pub(super) fn service(labels: &HashMap<String, String>) -> Option<&String> {
    labels.get(SERVICE).filter(|name| is_name(name))
}

/// Whether compose could have given a project or service this name: letters, digits, `.`, `_` and `-`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(service: &str) -> Option<Membership> {
        let labels = [(PROJECT, "shop"), (SERVICE, service), (ONE_OFF, "True")];
        Membership::of(&labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn a_label_names_a_service_only_if_compose_could_have_written_it() {
        let web = of("web").expect("of a project");
        assert_eq!((web.project.as_str(), web.service.as_deref()), ("shop", Some("web")));
        assert!(web.one_off);
        for name in ["", "a b", "a\nb", "'", "\"", "../x", "a/b", "$x", "ä", &"x".repeat(4096)] {
            assert_eq!(of(name).expect("of a project").service, None, "{name:?}");
        }
        assert_eq!(Membership::of(&HashMap::new()), None);
    }
}
