//! Which containers are to be recorded: some by name, or those of a compose project. No I/O.

use super::{followed::Followed, origin::Files};
use crate::{
    model::recording::TargetKind,
    target::docker::{ContainerEvent, ContainerInfo, Membership, is_named},
};

/// As many services of a project are recorded, where nobody has named them: whoever makes containers could make up more.
const MAX_SERVICES: usize = 256;

/// Whose containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Containers by name or id, as the user wrote them.
    Containers(Vec<String>),
    /// Services of a compose project.
    Project(Stack),
}

impl Whom {
    /// Containers by name or id.
    pub fn containers(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Whom::Containers(names.into_iter().map(Into::into).collect())
    }

    /// What is known to be recorded, before anything was asked.
    pub(super) fn followed(&self) -> Vec<Followed> {
        match self {
            Whom::Containers(names) => {
                names.iter().map(|name| Followed::new(Wanted::Container(name.clone()))).collect()
            }
            Whom::Project(stack) => {
                let services = stack.services.iter().flatten();
                services.map(|service| Followed::new(Wanted::Service(service.clone()))).collect()
            }
        }
    }
}

/// Services of a compose project, told by the labels of their containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// The project's name.
    pub project: String,
    /// The services; when absent, all of which a container is made.
    pub services: Option<Vec<String>>,
    /// The compose files that have these services: they are no mistake, though none has a container yet.
    pub declared: Option<Files>,
    /// Containers of `compose run` belong to their service.
    pub one_off: bool,
}

/// What one recording is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A container by its name or id, as the user wrote it.
    Container(String),
    /// All containers of a service.
    Service(String),
}

impl Wanted {
    /// In words.
    pub fn kind(&self) -> TargetKind {
        match self {
            Wanted::Container(_) => TargetKind::Container,
            Wanted::Service(_) => TargetKind::Service,
        }
    }

    /// As the user wrote it, or the label says.
    pub fn name(&self) -> &str {
        let (Wanted::Container(name) | Wanted::Service(name)) = self;
        name
    }
}

/// What is known of a container without looking at it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its full id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What its labels say.
    pub membership: Option<Membership>,
}

impl From<&ContainerInfo> for Seen {
    fn from(info: &ContainerInfo) -> Self {
        let ContainerInfo { id, name, membership, .. } = info;
        Seen { id: id.clone(), name: name.clone(), membership: membership.clone() }
    }
}

impl From<&ContainerEvent> for Seen {
    fn from(event: &ContainerEvent) -> Self {
        let ContainerEvent { id, name, membership, .. } = event;
        Seen { id: id.clone(), name: name.clone(), membership: membership.clone() }
    }
}

/// What a container is to this recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meant {
    /// One that is recorded, by its place in the list.
    Yes(usize),
    /// Nothing.
    No,
    /// It is of the project, and cannot be recorded as a service of it: its name is none, or there are too many.
    Odd,
}

impl Whom {
    /// Which of those that are followed a container belongs to. A service that nobody has named joins the list.
    pub(super) fn meant(&self, followed: &mut Vec<Followed>, seen: &Seen) -> Meant {
        if let Some(index) = followed.iter().position(|one| one.knows(&seen.id)) {
            return Meant::Yes(index);
        }
        let Whom::Project(stack) = self else {
            let is_it = |one: &Followed| is_named(one.wanted.name(), &seen.id, &seen.name);
            return followed.iter().position(is_it).map_or(Meant::No, Meant::Yes);
        };
        let of = seen.membership.as_ref();
        let Some(member) = of.filter(|member| member.project == stack.project) else {
            return Meant::No;
        };
        if member.one_off && !stack.one_off {
            return Meant::No;
        }
        let Some(service) = &member.service else { return Meant::Odd };
        if let Some(index) = followed.iter().position(|one| one.wanted.name() == service) {
            return Meant::Yes(index);
        }
        if stack.services.is_some() {
            return Meant::No;
        }
        if followed.len() >= MAX_SERVICES {
            return Meant::Odd;
        }
        followed.push(Followed::new(Wanted::Service(service.clone())));
        Meant::Yes(followed.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::docker::Origin;

    fn stack(services: Option<&[&str]>, one_off: bool) -> Whom {
        let services = services.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Whom::Project(Stack { project: "shop".to_owned(), services, declared: None, one_off })
    }

    fn member(project: &str, service: Option<&str>, one_off: bool) -> Membership {
        Membership {
            project: project.to_owned(),
            service: service.map(str::to_owned),
            one_off,
            is_composed: true,
            origin: Origin::default(),
        }
    }

    fn seen(id: &str, membership: Option<Membership>) -> Seen {
        Seen { id: id.to_owned(), name: "web".to_owned(), membership }
    }

    fn ask(whom: &Whom, followed: &mut Vec<Followed>, id: &str, of: &Membership) -> Meant {
        whom.meant(followed, &seen(id, Some(of.clone())))
    }

    #[test]
    fn labels_count_and_names_do_not() {
        let whom = stack(Some(&["web", "db"]), true);
        let mut list = whom.followed();
        let web = member("shop", Some("web"), false);
        assert_eq!(ask(&whom, &mut list, "a", &web), Meant::Yes(0));
        assert_eq!(ask(&whom, &mut list, "b", &web), Meant::Yes(0), "a second one of the service");
        let other = member("other", Some("web"), false);
        assert_eq!(ask(&whom, &mut list, "c", &other), Meant::No);
        assert_eq!(ask(&whom, &mut list, "d", &member("shop", Some("api"), false)), Meant::No);
        assert_eq!(whom.meant(&mut list, &seen("e", None)), Meant::No);
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn a_service_that_nobody_named_joins_unless_its_name_is_none() {
        let whom = stack(None, false);
        let mut list = whom.followed();
        assert!(list.is_empty());
        let web = member("shop", Some("web"), false);
        assert_eq!(ask(&whom, &mut list, "a", &web), Meant::Yes(0));
        assert_eq!(ask(&whom, &mut list, "b", &web), Meant::Yes(0));
        assert_eq!(ask(&whom, &mut list, "c", &member("shop", Some("web"), true)), Meant::No);
        assert_eq!(ask(&whom, &mut list, "d", &member("shop", None, false)), Meant::Odd);
        for number in list.len()..MAX_SERVICES {
            let service = member("shop", Some(&format!("s{number}")), false);
            assert_eq!(ask(&whom, &mut list, "x", &service), Meant::Yes(number));
        }
        assert_eq!(ask(&whom, &mut list, "y", &member("shop", Some("more"), false)), Meant::Odd);
    }
}
