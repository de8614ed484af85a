//! What compose's labels say of a container: which project and service it is of. Pure.
//!
//! Whoever makes a container writes its labels, so a name that compose could not have written counts as none.

use std::collections::HashMap;

/// The longest name of a project or service that is believed.
const LONGEST: usize = 128;

/// The label by which a project's containers are found.
pub(super) const PROJECT: &str = "com.docker.compose.project";

const SERVICE: &str = "com.docker.compose.service";

const VERSION: &str = "com.docker.compose.version";

const ONE_OFF: &str = "com.docker.compose.oneoff";

/// The directory and the files that a container was made from, as compose 1.29 and 2 write them; the files are parted by commas.
const DIRECTORY: &str = "com.docker.compose.project.working_dir";
const FILES: &str = "com.docker.compose.project.config_files";

/// Either of them is on every container that compose makes: 1.29 gives those of `compose run` no hash, 2 no number.
const ALWAYS: [&str; 2] = ["com.docker.compose.config-hash", "com.docker.compose.container-number"];

/// The longest of the labels that hold paths which is believed.
const LONGEST_PATHS: usize = 4_096;

/// Which project and service a container is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The project's name.
    pub project: String,
    /// The service's name; `None` when it is one that compose does not give.
    pub service: Option<String>,
    /// It was made by `compose run`.
    pub one_off: bool,
    /// It bears a label that compose always writes, and that nobody needs who labels a container by hand.
    pub is_composed: bool,
    /// What it was made from.
    pub origin: Origin,
}

/// The directory and the files that a container says it was made from. Hostile text.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The project's directory.
    pub directory: Option<String>,
    /// Its files, parted by commas; 1.29 writes them as they were typed.
    pub files: Option<String>,
}

impl Origin {
    fn of(labels: &HashMap<String, String>) -> Self {
        let path = |key| {
            let is_path = |text: &&String| (1..=LONGEST_PATHS).contains(&text.len());
            labels.get(key).filter(is_path).cloned()
        };
        Origin { directory: path(DIRECTORY), files: path(FILES) }
    }
}

impl Membership {
    /// What the labels of a container, or of an event of it, say; `None` when it is of no project.
    pub(super) fn of(labels: &HashMap<String, String>) -> Option<Self> {
        let project = labels.get(PROJECT).filter(|name| is_name(name))?;
        Some(Membership {
            project: project.clone(),
            service: service(labels).cloned(),
            one_off: labels.get(ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true")),
            is_composed: ALWAYS.iter().any(|key| labels.contains_key(*key)),
            origin: Origin::of(labels),
        })
    }
}

/// Whether docker-compose 1 made a container, from its labels.
pub(super) fn is_of_compose_1(labels: &HashMap<String, String>) -> bool {
    labels.get(VERSION).is_some_and(|version| version.starts_with("1."))
}

/// Compose's name for the service of a container, from its labels.
pub(super) fn service(labels: &HashMap<String, String>) -> Option<&String> {
    labels.get(SERVICE).filter(|name| is_name(name))
}

/// Whether compose could have given a project or service this name: letters, digits, `.`, `_` and `-`. What means a directory is
/// nobody's.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=LONGEST).contains(&name.len())
        && ![".", ".."].contains(&name)
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
        for name in
            ["", ".", "..", "a b", "a\nb", "'", "\"", "../x", "a/b", "$x", "ä", &"x".repeat(4096)]
        {
            assert_eq!(of(name).expect("of a project").service, None, "{name:?}");
        }
        assert_eq!(of("...").expect("of a project").service.as_deref(), Some("..."));
        assert_eq!(Membership::of(&HashMap::new()), None);
    }

    #[test]
    fn the_first_compose_is_told_by_its_version() {
        for (version, expected) in
            [("1.29.2", true), ("2.26.1", false), ("12.0", false), ("", false)]
        {
            let labels = [(VERSION.to_owned(), version.to_owned())].into();
            assert_eq!(is_of_compose_1(&labels), expected, "{version}");
        }
        assert!(!is_of_compose_1(&HashMap::new()));
    }

    #[test]
    fn what_made_a_container_is_taken_from_what_compose_writes() {
        let plain = of("web").expect("of a project");
        assert_eq!((plain.is_composed, plain.origin), (false, Origin::default()));
        let long = "x".repeat(LONGEST_PATHS + 1);
        for (always, files, known) in [
            (ALWAYS[0], "/srv/shop/compose.yaml", Some("/srv/shop/compose.yaml")),
            (ALWAYS[1], long.as_str(), None),
        ] {
            let labels =
                [(PROJECT, "shop"), (always, "1"), (DIRECTORY, "/srv/shop"), (FILES, files)];
            let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            let member = Membership::of(&labels).expect("of a project");
            assert!(member.is_composed);
            let directory = Some("/srv/shop".to_owned());
            assert_eq!(member.origin, Origin { directory, files: known.map(str::to_owned) });
        }
    }
}
