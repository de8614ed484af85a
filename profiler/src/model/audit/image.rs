//! The image: where it comes from, what is in it, and what the environment tells.

use super::{
    Severity,
    facts::{Image, Known, PrivilegedFile, Unknown, Variable, program},
    run::{Answer, Subject, count},
};

/// Larger than this is large, in bytes: the usual distributions with a language runtime are smaller.
const LARGE: u64 = 500_000_000;
/// Entries of a list that are told.
const SHOWN: usize = 20;

/// The labels that say where an image comes from. <https://github.com/opencontainers/image-spec/blob/v1.1.0/annotations.md>
const LABELS: [&str; 4] = ["source", "revision", "version", "licenses"];
const PREFIX: &str = "org.opencontainers.image.";

/// Parts of names that secrets have, between underscores.
const SECRET: &[&str] = &[
    "APIKEY",
    "CREDENTIAL",
    "CREDENTIALS",
    "PASS",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PRIVATEKEY",
    "PWD",
    "SECRET",
    "SECRETS",
    "TOKEN",
];
/// Pairs of parts.
const SECRET_PAIRS: &[(&str, &str)] = &[
    ("API", "KEY"),
    ("ACCESS", "KEY"),
    ("PRIVATE", "KEY"),
    ("SIGNING", "KEY"),
    ("ENCRYPTION", "KEY"),
    ("SECRET", "KEY"),
];

pub(super) fn labels(subject: &Subject<'_>) -> Known<Answer> {
    let labels = subject.facts.labels.as_ref()?;
    let is_there =
        |name: &&str| labels.get(&format!("{PREFIX}{name}")).is_some_and(|value| !value.is_empty());
    let (there, missing): (Vec<&str>, Vec<&str>) =
        LABELS.into_iter().partition(|name| is_there(name));
    Ok(if missing.is_empty() {
        Answer::Passed(
            there.iter().map(|name| format!("{PREFIX}{name}")).collect::<Vec<_>>().join(", "),
        )
    } else {
        Answer::found(Severity::Note, "labels that say where the image comes from are missing")
            .with(missing.iter().map(|name| format!("{PREFIX}{name}")))
    })
}

pub(super) fn size(subject: &Subject<'_>) -> Known<Answer> {
    let image = subject.facts.image.as_ref()?;
    let mut layers = image.layers.clone();
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.size));
    let told: Vec<String> = layers
        .iter()
        .take(3)
        .map(|layer| format!("{}: {}", bytes(layer.size), instruction(&layer.created_by)))
        .collect();
    let whole = format!("{}, layers: {}", bytes(image.size), layers.len());
    Ok(if image.size > LARGE {
        Answer::found(Severity::Note, format!("{whole}: more than {}", bytes(LARGE))).with(told)
    } else {
        Answer::Passed(format!("{whole}; the largest {}", told.join("; ")))
    })
}

/// The instruction that made a layer, and the program that it ran. All else in it may be a secret: build arguments, variables, URLs.
fn instruction(created_by: &str) -> String {
    let told = created_by.trim_start();
    let of_build_kit = ["ADD", "COPY", "RUN", "WORKDIR"]
        .into_iter()
        .find(|word| told.strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', '\t'])));
    let rest = told.strip_prefix(of_build_kit.unwrap_or_default()).unwrap_or(told).trim_start();
    // `|1 NAME=VALUE /bin/sh -c COMMAND`: a value may have spaces in it, so what is after the last shell counts.
    let (arguments, command) = match rest.strip_prefix('|') {
        Some(rest) => (true, rest.rsplit_once("/bin/sh -c ").map_or("", |(_, command)| command)),
        None => (false, rest.strip_prefix("/bin/sh -c ").unwrap_or(rest)),
    };
    if of_build_kit.is_none() && !arguments && !rest.starts_with("/bin/sh -c ") {
        return "an instruction".into();
    }
    if let Some(rest) = command.trim_start().strip_prefix("#(nop)") {
        let word = rest.split_whitespace().next().unwrap_or_default();
        return if matches!(word, "ADD" | "COPY" | "WORKDIR") { word } else { "an instruction" }
            .into();
    }
    let program = match of_build_kit {
        None | Some("RUN") => program(command),
        Some(_) => None,
    };
    let word = of_build_kit.unwrap_or("RUN");
    let with = if arguments { " (with build arguments)" } else { "" };
    format!("{word}{}{with}", program.map(|name| format!(" {name}")).unwrap_or_default())
}

fn bytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

pub(super) fn packages(subject: &Subject<'_>) -> Known<Answer> {
    let contents = contents(subject.facts.image.as_ref()?)?;
    let counted: Vec<String> = contents
        .packages
        .iter()
        .map(|it| match it.count {
            Some(count) => format!("{count} packages of {}", it.manager),
            None => format!("packages of {}, whose database is not read", it.manager),
        })
        .collect();
    let counted =
        if counted.is_empty() { "no database of packages".to_owned() } else { counted.join(", ") };
    Ok(if contents.managers.is_empty() {
        Answer::Passed(format!("{counted}; nothing that installs more"))
    } else {
        Answer::found(Severity::Note, format!("{counted}, and what installs more"))
            .with(contents.managers.iter().cloned())
    })
}

pub(super) fn privileged_files(subject: &Subject<'_>) -> Known<Answer> {
    let contents = contents(subject.facts.image.as_ref()?)?;
    let files = &contents.privileged;
    if files.is_empty() {
        return Ok(Answer::Passed("no file with set-user-id, set-group-id or capabilities".into()));
    }
    let process = subject.facts.process.as_ref();
    let inert = match process {
        Some(process) => process.no_new_privileges,
        None => *subject.facts.no_new_privileges.as_ref().unwrap_or(&false),
    };
    let told = format!("{} with privileges for who executes it", count(files.len(), "file"));
    let (severity, told) = if inert {
        (Severity::Note, format!("{told}, were no-new-privileges not set"))
    } else {
        (Severity::Warning, told)
    };
    let more = files.len().saturating_sub(SHOWN);
    let rest = (more > 0).then(|| format!("and {more} more"));
    Ok(Answer::found(severity, told).with(files.iter().take(SHOWN).map(file)).with(rest))
}

fn file(file: &PrivilegedFile) -> String {
    let mut kinds = Vec::new();
    if file.mode & 0o4000 != 0 {
        kinds.push("set-user-id");
    }
    if file.mode & 0o2000 != 0 {
        kinds.push("set-group-id");
    }
    if file.has_capabilities {
        kinds.push("capabilities");
    }
    format!("{} ({:04o}: {})", file.path, file.mode, kinds.join(", "))
}

fn contents(image: &Image) -> Known<&super::Contents> {
    Ok(image.contents.as_ref()?)
}

pub(super) fn secrets(subject: &Subject<'_>) -> Known<Answer> {
    let found = subject.facts.environment.bad(is_secret)?;
    if found.is_empty() {
        return Ok(Answer::Passed(format!(
            "{}, none by name a secret",
            count(subject.facts.environment.known.len(), "variable")
        )));
    }
    let told = |it: &&Variable| {
        if it.has_password {
            format!("{} (a URL with a password)", it.name)
        } else {
            it.name.clone()
        }
    };
    Ok(Answer::found(
        Severity::Warning,
        "variables that look like secrets have values; whoever may inspect it reads them",
    )
    .with(found.iter().map(told)))
}

/// By its name, or because its value is a URL with a password. `*_FILE` names where a secret is.
fn is_secret(variable: &Variable) -> bool {
    if variable.has_password {
        return true;
    }
    let name = variable.name.to_ascii_uppercase();
    let parts: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    if !variable.is_set
        || matches!(parts.last(), Some(&("FILE" | "PATH" | "DIR")))
        || name == "PWD"
        || name == "OLDPWD"
    {
        return false;
    }
    let is_one = |part: &&str| {
        SECRET.contains(part)
            || ["PASSWORD", "PASSWD", "SECRET"].iter().any(|end| part.ends_with(end))
    };
    let is_pair = |pair: &[&str]| SECRET_PAIRS.contains(&(pair[0], pair[1]));
    parts.iter().any(is_one) || parts.windows(2).any(is_pair)
}

pub(super) fn pinned(subject: &Subject<'_>) -> Known<Answer> {
    let name = subject.facts.image_reference.as_ref()?;
    if name.contains("@sha256:") || name.starts_with("sha256:") {
        return Ok(Answer::Passed(format!("`{name}`")));
    }
    if name.is_empty() {
        return Err(Unknown::because("no image is named"));
    }
    let is_of = |image: &Image| image.id.trim_start_matches("sha256:").starts_with(name.as_str());
    if name.len() >= 12 && subject.facts.image.as_ref().is_ok_and(is_of) {
        return Ok(Answer::Passed(format!("`{name}`, which is its id")));
    }
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    let message = match tag {
        None | Some("latest") => "the image is whatever is the latest",
        Some(_) => "the image is named by a tag, which can move",
    };
    let id = subject.facts.image.as_ref().ok().map(|image| format!("it is {} now", image.id));
    Ok(Answer::found(Severity::Note, message).with([format!("`{name}`")]).with(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_made_a_layer_no_value_is_told() {
        for (created_by, told) in [
            ("|1 NPM_TOKEN=s3cret /bin/sh -c npm install", "RUN npm (with build arguments)"),
            (
                "RUN |1 T=a s3cret b /bin/sh -c make T=s3cret # buildkit",
                "RUN make (with build arguments)",
            ),
            ("RUN |1 T=s3cret npm i", "RUN (with build arguments)"),
            ("RUN /bin/sh -c T=s3cret npm i # buildkit", "RUN"),
            ("RUN /bin/sh -c curl -H s3cret # buildkit", "RUN curl"),
            ("/bin/sh -c #(nop) ADD file:s3cret in / ", "ADD"),
            ("/bin/sh -c #(nop)  ENV A=s3cret", "an instruction"),
            ("ADD https://a:s3cret@b/ / # buildkit", "ADD"),
            ("s3cret x", "an instruction"),
            ("", "an instruction"),
        ] {
            assert_eq!(instruction(created_by), told, "{created_by}");
        }
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        let is = |name: &str| is_secret(&Variable::new(name, Some("x")));
        for name in [
            "POSTGRES_PASSWORD",
            "db_passwd",
            "API_KEY",
            "GITHUB_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "PGPASSWORD",
            "DB_PASS",
            "MY-SECRET",
        ] {
            assert!(is(name), "{name}");
        }
        for name in [
            "POSTGRES_PASSWORD_FILE",
            "PWD",
            "OLDPWD",
            "PASSENGER",
            "KEYBOARD",
            "COMPASS",
            "TOKENIZER",
            "PATH",
            "SECRETARY",
            "SSH_KEY_PATH",
        ] {
            assert!(!is(name), "{name}");
        }
        assert!(
            !is_secret(&Variable::new("DB_PASSWORD", Some("")))
                && !is_secret(&Variable::new("DB_PASSWORD", None))
        );
        let url = |value: &str| is_secret(&Variable::new("DATABASE_URL", Some(value)));
        assert!(url("postgres://app:hunter2@db/app") && url("amqp://a:b@c:1@d"));
        assert!(!url("postgres://app@db/app") && !url("http://db/a:b@c") && !url("http://a:@db"));
    }
}
