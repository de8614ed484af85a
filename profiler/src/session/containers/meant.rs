//! Which containers are meant: those that are there at the start, and whichever is seen later.

use std::collections::BTreeSet;

use super::{
    super::{
        error::SessionError,
        event::{Event, brief},
        origin::{self, Kin},
        wanted::{Meant, Seen, Stack, Whom},
    },
    Session,
};
use crate::{model::recording::Target, target::docker::ContainerInfo};

/// Of as many other compose files it is told that containers name them.
const MAX_ORIGINS: usize = 16;

impl Session<'_> {
    /// Looks at every target for the first time. Returns the ids of those to restart.
    pub(super) async fn find_all(
        &mut self,
        wait: bool,
        restart: bool,
        tell: &mut impl FnMut(Event),
    ) -> Result<Vec<String>, SessionError> {
        let found = match &self.whom {
            Whom::Containers(_) => self.find_named(wait).await?,
            Whom::Project(stack) => {
                let stack = stack.clone();
                self.find_services(&stack, wait, tell).await?
            }
        };
        let mut to_restart = Vec::new();
        for (index, info) in found {
            let id = info.id.clone();
            let pid = info.pid.filter(|_| info.running);
            self.followed[index].learn(info);
            match pid {
                Some(_) if restart => to_restart.push(id),
                // it may have started between arming and asking: then it is a candidate
                Some(pid) if !self.is_candidate(&id)? => {
                    self.watch_running(index, pid, &id)?;
                }
                _ => {}
            }
        }
        for followed in &self.followed {
            let Target { kind, name } = followed.target();
            tell(match followed.is_running() {
                true => Event::Recording { kind, name },
                false => Event::Waiting { kind, name },
            });
        }
        if let Whom::Project(Stack { project, .. }) = &self.whom
            && self.followed.is_empty()
        {
            tell(Event::Step { text: format!("waiting for services of project `{project}`") });
        }
        Ok(to_restart)
    }

    /// The containers of the names that were given.
    async fn find_named(&self, wait: bool) -> Result<Vec<(usize, ContainerInfo)>, SessionError> {
        let mut found: Vec<(usize, ContainerInfo)> = Vec::new();
        for (index, followed) in self.followed.iter().enumerate() {
            let name = followed.wanted.name().to_owned();
            match self.docker.find(&name).await? {
                None if !wait => {
                    let endpoint = self.docker.endpoint().to_string();
                    return Err(SessionError::NotAwaited { name, endpoint });
                }
                None => {}
                Some(info) => {
                    if let Some((other, _)) = found.iter().find(|(_, other)| other.id == info.id) {
                        let first = self.followed[*other].wanted.name().to_owned();
                        return Err(SessionError::SameContainer { first, second: name });
                    }
                    found.push((index, info));
                }
            }
        }
        Ok(found)
    }

    /// The containers of the services that are wanted.
    async fn find_services(
        &mut self,
        stack: &Stack,
        wait: bool,
        tell: &mut impl FnMut(Event),
    ) -> Result<Vec<(usize, ContainerInfo)>, SessionError> {
        let mut found = Vec::new();
        let mut known = BTreeSet::new();
        for id in self.docker.of_project(&stack.project).await? {
            let Some(info) = self.docker.find(&id).await? else { continue };
            known.extend(info.membership.as_ref().and_then(|member| member.service.clone()));
            // what `compose run` left behind says nothing of what will run
            let is_past = !info.running && info.membership.as_ref().is_some_and(|m| m.one_off);
            if is_past {
                continue;
            }
            if let Some(index) = self.meant(&Seen::from(&info), tell) {
                found.push((index, info));
            }
        }
        let is_there = |index| found.iter().any(|(there, _)| *there == index);
        let absent = (0..self.followed.len()).find(|index| !is_there(*index));
        let service = absent.map(|index| self.followed[index].wanted.name().to_owned());
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        let project = stack.project.clone();
        match service {
            Some(service) if !wait => Err(SessionError::NoService { project, service, known }),
            None if !wait && found.is_empty() => Err(SessionError::NoProject { project }),
            Some(service) if stack.declared.is_none() && !known.is_empty() => {
                let text = format!(
                    "project `{project}` has no container of service `{service}` yet; it has {known}"
                );
                tell(Event::Warning { text });
                Ok(found)
            }
            _ => Ok(found),
        }
    }

    /// Which of those that are followed a container belongs to.
    pub(super) fn meant(&mut self, seen: &Seen, tell: &mut impl FnMut(Event)) -> Option<usize> {
        match self.whom.meant(&mut self.followed, seen) {
            Meant::Yes(index) => {
                if !self.followed[index].knows(&seen.id) && self.is_foreign(seen, tell) {
                    return None;
                }
                self.followed[index].meet(seen);
                let one_off = seen.membership.as_ref().is_some_and(|member| member.one_off);
                if one_off && self.followed[index].first_one_off() {
                    let text = format!(
                        "container `{}` of `compose run` counts as service `{}`; --no-one-off leaves such out",
                        seen.name,
                        self.followed[index].wanted.name()
                    );
                    tell(Event::Step { text });
                }
                return Some(index);
            }
            Meant::No => {}
            Meant::Odd => {
                if !std::mem::replace(&mut self.told_of_odd, true) {
                    let text = format!(
                        "container `{}` bears the label of the project and no service name that compose could have given, or there are too many: such containers are not recorded",
                        seen.name
                    );
                    tell(Event::Warning { text });
                }
            }
        }
        None
    }

    /// Whether a container of the project names other compose files than those that were given. It is said, once of each.
    fn is_foreign(&mut self, seen: &Seen, tell: &mut impl FnMut(Event)) -> bool {
        let Whom::Project(Stack { project, declared: Some(files), .. }) = &self.whom else {
            return false;
        };
        let Some(origin) = seen.membership.as_ref().map(|member| &member.origin) else {
            return false;
        };
        let kin = files.kin(origin);
        let is_foreign = kin == Kin::Foreign;
        if kin != Kin::Own
            && self.told_of.len() < MAX_ORIGINS
            && self.told_of.insert(origin.clone())
        {
            let what = match is_foreign {
                true => "it is not recorded; --project NAME records all that bear the name",
                false => "it may be of another project, and is recorded",
            };
            let text = format!(
                "container `{}` of project `{project}` says that it was made from {}, and not from `{}`: {what}",
                brief(&seen.name),
                origin::told(origin),
                brief(&files.first().to_string_lossy()),
            );
            tell(Event::Warning { text });
        }
        is_foreign
    }
}
