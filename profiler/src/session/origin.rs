//! Which compose files the containers of a project were made from, as their labels say: the given ones, or another project's of the
//! same name. Asks the file system which paths are the same, and reads no file.
//!
//! Labels are whoever's who makes the container, and paths may be of another machine or mount namespace than this one. So a container
//! counts as another project's only where every path that it names is here, and is none of the given ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    event::{brief, brief_list},
    followed::Followed,
    wanted::Seen,
};
use crate::{model::recording::Target, target::docker::Origin};

/// As many files of a container's label are looked at.
const MAX_FILES: usize = 64;

/// The compose files that were given, and the directories in which they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    first: PathBuf,
    files: BTreeSet<PathBuf>,
    directories: BTreeSet<PathBuf>,
}

/// What a container is to the files that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// It was made from one of them, or does not say from what.
    Own,
    /// It may have been made from another.
    Doubtful,
    /// It was made from others, in another directory.
    Foreign,
}

impl Files {
    /// `typed` is what the user gave, a file or a directory; `files` are those that compose takes then. Relative paths are of the
    /// working directory.
    #[must_use]
    pub fn new(typed: &Path, files: &[PathBuf]) -> Files {
        let above = |file: &PathBuf| file.parent().map(Path::to_owned);
        let all: BTreeSet<PathBuf> = files.iter().flat_map(|file| names(file)).collect();
        let mut directories: BTreeSet<PathBuf> = all.iter().filter_map(above).collect();
        if typed.is_dir() {
            directories.extend(names(typed));
        }
        let first = files.first().map_or(typed, PathBuf::as_path).to_owned();
        Files { first, files: all, directories }
    }

    /// The first of them, as it is typed.
    pub(super) fn first(&self) -> &Path {
        &self.first
    }

    /// What a container that says this is to them.
    pub(super) fn kin(&self, origin: &Origin) -> Kin {
        if *origin == Origin::default() {
            return Kin::Own;
        }
        let files = files(origin);
        if files.iter().flatten().any(|name| self.files.contains(name)) {
            return Kin::Own;
        }
        let directory = origin.directory.as_deref().map(Path::new);
        let is_ours = |dir: &Path| names(dir).iter().any(|name| self.directories.contains(name));
        let is_elsewhere = |dir: &Path| is_here(dir) && !is_ours(dir);
        if origin.files.is_none() && directory.is_some_and(is_ours) {
            return Kin::Own;
        }
        let all_here = files.iter().all(|names| names.iter().any(|name| is_here(name)));
        match directory.is_some_and(is_elsewhere) && all_here {
            true => Kin::Foreign,
            false => Kin::Doubtful,
        }
    }
}

/// An absolute path that this machine has.
fn is_here(path: &Path) -> bool {
    path.is_absolute() && path.canonicalize().is_ok()
}

/// A path as it is written, made absolute, and as the file system knows it.
fn names(path: &Path) -> Vec<PathBuf> {
    std::path::absolute(path).into_iter().chain(path.canonicalize()).collect()
}

/// The names that each file of a label may have. What 1.29 writes as it was typed is below the project's directory, or its first file
/// is there.
fn files(origin: &Origin) -> Vec<Vec<PathBuf>> {
    let directory = Path::new(origin.directory.as_deref().unwrap_or_default());
    let of = |file: &str| {
        let file = Path::new(file);
        let below = [Some(file), file.file_name().map(Path::new)].into_iter().flatten();
        let below = below.map(|file| directory.join(file)).filter(|file| file.is_absolute());
        if file.is_absolute() { names(file) } else { below.flat_map(|file| names(&file)).collect() }
    };
    let named =
        origin.files.iter().flat_map(|files| files.split(',')).filter(|file| !file.is_empty());
    named.take(MAX_FILES).map(of).collect()
}

/// What a container says it was made from, for people.
pub fn told(origin: &Origin) -> String {
    let Origin { directory, files } = origin;
    let quoted = |text: &Option<String>| text.as_ref().map(|text| format!("`{}`", brief(text)));
    match (quoted(files), quoted(directory)) {
        (Some(files), Some(directory)) => format!("{files} in {directory}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => "nothing that it names".to_owned(),
    }
}

/// That containers of a project were made from compose files that have none in common, if so.
pub fn difference<'a>(project: &str, all: impl Iterator<Item = &'a Seen>) -> Option<String> {
    let mut origins: BTreeMap<&Origin, &str> = BTreeMap::new();
    for seen in all {
        let Some(member) = &seen.membership else { continue };
        if member.origin != Origin::default() {
            origins.entry(&member.origin).or_insert(&seen.name);
        }
    }
    let mut origins = origins.into_iter();
    let (first, its_name) = origins.next()?;
    let (other, name) = origins.find(|(other, _)| !share(first, other))?;
    Some(format!(
        "containers of project `{project}` were made from different compose files, and all of them count as its own: `{}` from {}, `{}` from {}",
        brief(its_name),
        told(first),
        brief(name),
        told(other)
    ))
}

/// Whether a file is in both, or, where one names none, the directory is the same.
fn share(one: &Origin, other: &Origin) -> bool {
    let all = |origin: &Origin| -> BTreeSet<PathBuf> {
        match (&origin.files, &origin.directory) {
            (Some(_), _) if one.files.is_some() && other.files.is_some() => {
                files(origin).into_iter().flatten().collect()
            }
            (_, Some(directory)) => names(Path::new(directory)).into_iter().collect(),
            _ => BTreeSet::new(),
        }
    };
    let (of_one, of_other) = (all(one), all(other));
    // nothing to compare is no difference
    of_one.is_empty() || of_other.is_empty() || !of_one.is_disjoint(&of_other)
}

/// That no container of a service was made by compose, if so: it may be of no compose file.
pub fn by_hand(service: &Followed) -> Option<String> {
    let members = || service.counting().filter_map(|seen| Some((seen, seen.membership.as_ref()?)));
    if members().next().is_none() || members().any(|(_, member)| member.is_composed) {
        return None;
    }
    let Target { name, .. } = service.target();
    Some(format!(
        "compose made no container of service `{name}`, which has its labels only ({}): if no compose file has this service, compose refuses the override; --project FILE, or --service with the others, leaves it out",
        brief_list(members().map(|(seen, _)| seen.name.as_str()))
    ))
}

#[cfg(test)]
mod tests {
    use super::{super::wanted::Wanted, *};
    use crate::target::docker::Membership;

    fn origin(directory: &Path, files: &[&str]) -> Origin {
        let files = (!files.is_empty()).then(|| files.join(","));
        Origin { directory: Some(directory.display().to_string()), files }
    }

    fn seen(name: &str, is_composed: bool, origin: Origin) -> Seen {
        let membership = Membership {
            project: "shop".to_owned(),
            service: Some("worker".to_owned()),
            one_off: false,
            is_composed,
            origin,
        };
        Seen { id: name.to_owned(), name: name.to_owned(), membership: Some(membership) }
    }

    /// Two projects, and a link to the first.
    fn projects() -> (tempfile::TempDir, PathBuf, PathBuf, PathBuf) {
        let top = tempfile::tempdir().expect("a directory");
        let dirs = ["shop", "other", "link"].map(|name| top.path().join(name));
        for dir in &dirs[..2] {
            std::fs::create_dir(dir).expect("creates");
            for file in ["compose.yaml", "more.yaml"] {
                std::fs::write(dir.join(file), "").expect("writes");
            }
        }
        std::os::unix::fs::symlink(&dirs[0], &dirs[2]).expect("links");
        let [shop, other, link] = dirs;
        (top, shop, other, link)
    }

    #[test]
    fn only_what_is_surely_another_projects_is_foreign() {
        let (_top, shop, other, link) = projects();
        let path = |dir: &Path, file: &str| dir.join(file).display().to_string();
        let file = Files::new(&shop.join("compose.yaml"), &[shop.join("compose.yaml")]);
        let linked = Files::new(&link, &[link.join("compose.yaml")]);
        for files in [&file, &linked] {
            let kin = |directory: &Path, names: &[&str]| files.kin(&origin(directory, names));
            assert_eq!(files.kin(&Origin::default()), Kin::Own, "labels set by hand");
            for dir in [&shop, &link] {
                let (own, more) = (path(dir, "compose.yaml"), path(&other, "more.yaml"));
                assert_eq!(kin(dir, &[&own]), Kin::Own);
                assert_eq!(kin(dir, &[&more, &own]), Kin::Own, "one more file");
                assert_eq!(kin(&other, &[&own]), Kin::Own, "--project-directory");
                assert_eq!(kin(dir, &[]), Kin::Own);
                for typed in ["compose.yaml", "./compose.yaml", "deploy/shop/compose.yaml"] {
                    assert_eq!(kin(dir, &[typed]), Kin::Own, "1.29 writes what was typed: {typed}");
                }
                assert_eq!(kin(dir, &[&path(dir, "more.yaml")]), Kin::Doubtful);
                assert_eq!(kin(dir, &["-"]), Kin::Doubtful);
            }
            let elsewhere = path(&other, "compose.yaml");
            assert_eq!(kin(&other, &[&elsewhere]), Kin::Foreign);
            assert_eq!(kin(&other, &["compose.yaml"]), Kin::Foreign);
            assert_eq!(kin(&other, &[]), Kin::Foreign);
            let unknown = Path::new("/no/such/directory");
            assert_eq!(kin(unknown, &["/no/such/directory/compose.yaml"]), Kin::Doubtful);
            assert_eq!(kin(&other, &[&elsewhere, "/no/such/file"]), Kin::Doubtful);
            assert_eq!(kin(Path::new("other"), &["compose.yaml"]), Kin::Doubtful);
        }
    }

    #[test]
    fn containers_of_one_name_and_different_files_are_told_with_both() {
        let (_top, shop, other, link) = projects();
        let file = |dir: &Path, name: &str| dir.join(name).display().to_string();
        let of = |dir: &Path, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| file(dir, name)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            seen(&dir.file_name().unwrap_or_default().to_string_lossy(), true, origin(dir, &names))
        };
        let base = of(&shop, &["compose.yaml"]);
        let by_hand = seen("hand", false, Origin::default());
        let alike = [
            of(&shop, &["compose.yaml", "more.yaml"]),
            of(&link, &["compose.yaml"]),
            of(&link, &[]),
            by_hand,
        ];
        for one in &alike {
            assert_eq!(difference("shop", [&base, one].into_iter()), None, "{one:?}");
        }
        let stranger = of(&other, &["compose.yaml"]);
        let told = difference("shop", [&base, &alike[0], &stranger].into_iter()).expect("differ");
        for dir in [&shop, &other] {
            assert!(told.contains(&format!("`{}`", file(dir, "compose.yaml"))), "{told}");
        }
        assert!(difference("shop", [&base, &of(&shop, &["more.yaml"])].into_iter()).is_some());
        let mut hostile = stranger;
        if let Some(member) = &mut hostile.membership {
            member.origin.files = Some("/x".repeat(2_000));
        }
        assert!(difference("shop", [&base, &hostile].into_iter()).expect("differ").len() < 1_500);
    }

    #[test]
    fn a_service_that_compose_did_not_make_is_told() {
        let mut worker = Followed::new(Wanted::Service("worker".to_owned()));
        assert_eq!(by_hand(&worker), None);
        worker.meet(&seen("a", false, Origin::default()));
        assert_eq!(by_hand(&worker), None, "it was not started");
        worker.started("a", 1);
        let told = by_hand(&worker).expect("nobody else");
        assert!(told.contains("service `worker`") && told.contains("(`a`)"), "{told}");
        worker.meet(&seen("b", true, Origin::default()));
        worker.started("b", 2);
        assert_eq!(by_hand(&worker), None);
    }
}
