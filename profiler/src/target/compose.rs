//! Compose's own client: which one there is, and what it says of a compose file. Starts no container.
//!
//! A file is read by compose itself, never here: variables, `extends`, `include`, `.env` and the project's name are its business.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::Deserialize;
use thiserror::Error;
use tokio::process::Command;

use super::docker::is_name;
use crate::model::shell;

/// The clients that there are, newest first.
const CLIENTS: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];

/// What compose takes for its file when none is named, in a directory or one above it. The first counts; docker-compose 1.29 looks for
/// the last two first.
pub const FILES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// What it adds to that when it is beside it, in the same order.
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// How long compose may take to read a file; what it includes may be elsewhere.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a compose file could not be read.
#[derive(Debug, Error)]
pub enum ComposeError {
    /// There is no compose.
    #[error(
        "neither `docker compose` nor `docker-compose` runs\nhint: apt-get install docker-compose; or name a project by the label of its containers: --project NAME"
    )]
    NoCompose,
    /// There is no such file.
    #[error("cannot read the compose file `{}`\nhint: --project NAME or --project FILE; docker compose ls --all shows the names", path.display())]
    NoFile {
        /// As the user wrote it.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no compose file in a directory or above it.
    #[error("no compose file in `{}` or above it\nhint: --project NAME or --project FILE", path.display())]
    NoFileIn {
        /// The directory.
        path: PathBuf,
    },
    /// Compose refused the file. The message is hostile text.
    #[error("compose cannot read `{}`: {message}\nhint: docker compose {options} config", file.display())]
    Refused {
        /// The first file.
        file: PathBuf,
        /// All of them, as they are named to compose.
        options: String,
        /// The last line that it wrote.
        message: String,
    },
    /// The file has no such service.
    #[error("`{}` has no service `{service}`\nhint: it has {known}", file.display())]
    NoService {
        /// The file that was found.
        file: PathBuf,
        /// As the user wrote it.
        service: String,
        /// Those that there are, for people.
        known: String,
    },
}

/// What a compose file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The project's name, which its containers bear as a label.
    pub name: String,
    /// Its services, sorted; not those of profiles that are not active.
    pub services: Vec<String>,
    /// The files that say so, in compose's order; at least one.
    pub files: Vec<PathBuf>,
}

impl Project {
    /// The services of these names; all when none is named.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn choose(&self, names: &[String]) -> Result<Vec<String>, ComposeError> {
        for service in names {
            if !self.services.contains(service) {
                return Err(ComposeError::NoService {
                    file: self.file().to_owned(),
                    service: service.clone(),
                    known: self.services.join(", "),
                });
            }
        }
        Ok(if names.is_empty() { self.services.clone() } else { names.to_vec() })
    }

    /// The first file.
    #[must_use]
    pub fn file(&self) -> &Path {
        self.files.first().map_or(Path::new(FILES[0]), PathBuf::as_path)
    }

    /// The directory from which compose takes the paths in its files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        let dir = self.file().parent().filter(|dir| !dir.as_os_str().is_empty());
        dir.unwrap_or(Path::new("."))
    }
}

/// The client that runs; `None` when none does.
pub async fn client() -> Option<&'static [&'static str]> {
    for words in CLIENTS {
        let mut asked = Command::new(words[0]);
        asked.args(&words[1..]).arg("version").stdin(Stdio::null());
        asked.stdout(Stdio::null()).stderr(Stdio::null());
        if asked.status().await.is_ok_and(|status| status.success()) {
            return Some(words);
        }
    }
    None
}

/// The last line that a client wrote, which says why it failed. Hostile text.
#[must_use]
pub fn last_line(stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or_default().trim().to_owned()
}

/// Asks compose about the file at `path`, and no other; or about all that it takes by itself when it is run in a directory.
///
/// # Errors
/// When there is no such file, no compose, or it refuses the file.
pub async fn read(path: &Path) -> Result<Project, ComposeError> {
    let unread = |source| ComposeError::NoFile { path: path.to_owned(), source };
    let is_directory = path.metadata().map_err(unread)?.is_dir();
    let client = client().await.ok_or(ComposeError::NoCompose)?;
    let (files, directory) = match is_directory {
        true => (found_in(path, client)?, Some(path)),
        false => (vec![path.to_owned()], None),
    };
    let said = match client {
        [_, _] => ask(client, &files, directory, &["config", "--format", "json"]).await?,
        // 1.29 knows no other format than YAML, and says nothing of the name
        _ => ask(client, &files, directory, &["config", "--services"]).await?,
    };
    let (name, mut services) = match client {
        [_, _] => config(&said).map_err(|error| refused(&files, error.to_string()))?,
        _ => (None, said.lines().map(str::to_owned).collect()),
    };
    services.sort();
    let name = name.unwrap_or_else(|| named_otherwise(&files[0]));
    if let Some(odd) = services.iter().chain([&name]).find(|name| !is_name(name)) {
        return Err(refused(&files, format!("`{odd}` is no name of a project or service")));
    }
    Ok(Project { name, services, files })
}

/// What the file at `path` sets as `security_opt` of a service. Empty with 1.29, which takes an option that is there twice.
///
/// # Errors
/// When there is no compose, or it refuses the file.
pub async fn security_options(path: &Path, service: &str) -> Result<Vec<String>, ComposeError> {
    let files = [path.to_owned()];
    let client = client().await.ok_or(ComposeError::NoCompose)?;
    if client.len() == 1 {
        return Ok(Vec::new());
    }
    let said = ask(client, &files, None, &["config", "--format", "json"]).await?;
    options_of(&said, service).map_err(|error| refused(&files, error.to_string()))
}

/// The options of a service in what `config --format json` prints.
fn options_of(text: &str, service: &str) -> serde_json::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        services: BTreeMap<String, Option<Service>>,
    }
    #[derive(Default, Deserialize)]
    struct Service {
        #[serde(default)]
        security_opt: Vec<String>,
    }
    let mut config: Config = serde_json::from_str(text)?;
    Ok(config.services.remove(service).flatten().unwrap_or_default().security_opt)
}

fn refused(files: &[PathBuf], message: String) -> ComposeError {
    ComposeError::Refused { file: files[0].clone(), options: shell::join(options(files)), message }
}

/// Names these files to a client.
fn options(files: &[PathBuf]) -> impl Iterator<Item = String> {
    files.iter().flat_map(|file| ["-f".to_owned(), file.to_string_lossy().into_owned()])
}

/// The files that a client takes by itself when it is run in `dir`, at least one: those that COMPOSE_FILE names, or else the first of
/// its own names, there or above, and an override beside that.
fn found_in(dir: &Path, client: &[&str]) -> Result<Vec<PathBuf>, ComposeError> {
    let plainly = |file: PathBuf| file.strip_prefix(".").map(Path::to_owned).unwrap_or(file);
    if let Some(named) = setting(dir, "COMPOSE_FILE") {
        let separator = setting(dir, "COMPOSE_PATH_SEPARATOR").unwrap_or(":".to_owned());
        return Ok(named.split(&separator).map(|file| plainly(dir.join(file))).collect());
    }
    let (mut names, mut overrides) = (FILES, OVERRIDES);
    if client.len() == 1 {
        // 1.29 asks for its own name first
        names = [FILES[2], FILES[3], FILES[1], FILES[0]];
        overrides.rotate_left(2);
    }
    let unread = |source| ComposeError::NoFile { path: dir.to_owned(), source };
    let first = |dir: &Path, names: [&str; 4]| {
        names.map(|name| dir.join(name)).into_iter().find(|file| file.exists())
    };
    let whole = dir.canonicalize().map_err(unread)?;
    let dirs = [dir].into_iter().chain(whole.ancestors());
    let found = dirs.map(|dir| (dir, first(dir, names))).find_map(|(dir, file)| Some((dir, file?)));
    let (dir, file) = found.ok_or_else(|| ComposeError::NoFileIn { path: dir.to_owned() })?;
    Ok([Some(file), first(dir, overrides)].into_iter().flatten().map(plainly).collect())
}

/// What a client says, of these files; run in a directory, it finds them itself.
async fn ask(
    client: &[&str],
    files: &[PathBuf],
    directory: Option<&Path>,
    verb: &[&str],
) -> Result<String, ComposeError> {
    let refused = |message| refused(files, message);
    let mut command = Command::new(client[0]);
    command.args(&client[1..]).stdin(Stdio::null());
    match directory {
        Some(directory) => command.current_dir(directory),
        None => command.args(options(files)),
    };
    let output = command.args(verb).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .map_err(|_| refused(format!("no answer within {} s", PATIENCE.as_secs())))?
        .map_err(|error| refused(error.to_string()))?;
    if !output.status.success() {
        return Err(refused(last_line(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Name and services of what `config --format json` prints.
fn config(text: &str) -> serde_json::Result<(Option<String>, Vec<String>)> {
    #[derive(Deserialize)]
    struct Config {
        name: Option<String>,
        #[serde(default)]
        services: BTreeMap<String, serde::de::IgnoredAny>,
    }
    let Config { name, services } = serde_json::from_str(text)?;
    Ok((name, services.into_keys().collect()))
}

/// The name that a client gives which does not tell: COMPOSE_PROJECT_NAME, in the environment or in `.env`, or else the
/// directory's name.
fn named_otherwise(file: &Path) -> String {
    let whole = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let dir = whole.parent().unwrap_or(Path::new("/"));
    let base = || dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    normalised(&setting(dir, "COMPOSE_PROJECT_NAME").unwrap_or_else(base))
}

/// A variable for compose: of the environment, or of `.env` in a directory; `None` when empty.
fn setting(dir: &Path, variable: &str) -> Option<String> {
    let is_set = |value: &String| !value.is_empty();
    let settings = std::fs::read_to_string(dir.join(".env")).unwrap_or_default();
    let set = settings.lines().rev().find_map(|line| {
        let (key, value) = line.trim().trim_start_matches("export ").split_once('=')?;
        (key.trim() == variable).then(|| value.trim().trim_matches(['"', '\'']).to_owned())
    });
    std::env::var(variable).ok().filter(is_set).or(set).filter(is_set)
}

/// A name as compose writes it into labels.
fn normalised(name: &str) -> String {
    let kept = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(*c);
    let kept: String = name.to_lowercase().chars().filter(kept).collect();
    if kept.is_empty() { "default".to_owned() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_services_are_taken_from_what_compose_prints() {
        let text = r#"{"name":"shop","networks":{"default":{}},"services":{"web":{"image":"x"},"db":null}}"#;
        let (name, services) = config(text).expect("JSON");
        assert_eq!((name.as_deref(), services), (Some("shop"), vec!["db".into(), "web".into()]));
        assert_eq!(config("{}").expect("JSON"), (None, vec![]));
        assert!(config("services:").is_err());
    }

    #[test]
    fn the_options_of_a_service_are_taken_from_what_compose_prints() {
        let text = r#"{"services":{"web":{"security_opt":["no-new-privileges:true"]},"db":null}}"#;
        let options = |service| options_of(text, service).expect("JSON");
        assert_eq!(options("web"), ["no-new-privileges:true"]);
        assert!(options("db").is_empty() && options("other").is_empty());
    }

    #[test]
    fn a_directory_is_named_as_compose_names_its_project() {
        for (directory, name) in [
            ("shop", "shop"),
            ("My Shop.v2", "myshopv2"),
            ("a-b_c", "a-b_c"),
            ("..", "default"),
            ("ü", "default"),
        ] {
            assert_eq!(normalised(directory), name);
        }
    }

    #[test]
    fn the_name_is_set_by_the_settings_beside_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (inner, file) = (dir.path().join("Shop 1"), dir.path().join("Shop 1/compose.yaml"));
        std::fs::create_dir(&inner).expect("creates");
        std::fs::write(&file, "").expect("writes");
        assert_eq!(named_otherwise(&file), "shop1");
        std::fs::write(inner.join(".env"), "A=1\nCOMPOSE_PROJECT_NAME='other'\n").expect("writes");
        assert_eq!(named_otherwise(&file), "other");
        let below = inner.join("below");
        std::fs::create_dir(&below).expect("creates");
        let above = found_in(&below, CLIENTS[0]).expect("a file above");
        assert_eq!(above, [file.canonicalize().expect("exists")]);
        assert!(matches!(found_in(&inner.join("x"), CLIENTS[0]), Err(ComposeError::NoFile { .. })));
    }

    #[test]
    fn each_client_takes_its_own_files_and_what_is_set() {
        let dir = tempfile::tempdir().expect("a directory");
        let top = dir.path();
        let write = |name: &str, text: &str| std::fs::write(top.join(name), text).expect("writes");
        let found = |client: usize| {
            let files = found_in(top, CLIENTS[client]).expect("files");
            let name =
                |file: &PathBuf| file.strip_prefix(top).expect("below").display().to_string();
            files.iter().map(name).collect::<Vec<_>>()
        };
        for name in FILES.iter().chain(&OVERRIDES) {
            write(name, "");
        }
        assert_eq!(found(0), ["compose.yaml", "compose.override.yml"]);
        assert_eq!(found(1), ["docker-compose.yml", "docker-compose.override.yml"]);
        write(".env", "COMPOSE_FILE=a/b.yaml:c.yaml\n");
        assert_eq!(found(0), ["a/b.yaml", "c.yaml"]);
        write(".env", "COMPOSE_FILE=a.yaml,c.yaml\nCOMPOSE_PATH_SEPARATOR=,\n");
        assert_eq!(found(1), ["a.yaml", "c.yaml"]);
    }

    #[test]
    fn a_service_that_is_not_there_is_an_error_that_lists_those_that_are() {
        let (name, files) = ("shop".to_owned(), vec!["compose.yaml".into()]);
        let project = Project { name, services: vec!["db".into(), "web".into()], files };
        assert_eq!(project.choose(&[]).expect("all"), ["db", "web"]);
        assert_eq!(project.choose(&["web".into()]).expect("one"), ["web"]);
        let error = project.choose(&["api".into()]).expect_err("not there").to_string();
        assert_eq!(error, "`compose.yaml` has no service `api`\nhint: it has db, web");
        assert_eq!(project.directory(), Path::new("."));
    }
}
