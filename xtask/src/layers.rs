//! `cargo xtask layers`: who may import whom, who may name which client, where `unsafe` may stand.
//!
//! The tables at the top are the rules; the rest reads sources token by token, so that macro bodies
//! count and comments and strings do not. It resolves no re-exports: a name is judged by its path.

use std::fmt;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

use crate::sh::{root, say};

/// The library, whose directories are the layers.
const LIBRARY: &str = "profiler/src";

/// A layer and the layers that it may import.
const LAYERS: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("binaries", &["model"]),
    // What a part finds out about the host is told by `model::check`.
    ("kernel", &["model"]),
    ("target", &["kernel", "model"]),
    ("observe", &["kernel", "model"]),
    ("session", &["target", "observe", "kernel", "model"]),
    ("ingest", &["model"]),
    ("render", &["model"]),
    ("report", &["model"]),
    ("fuzz", &["ingest", "kernel", "render", "session", "model"]),
    // A crate of its own: it names the library, and all of it.
    ("bin", &[]),
];

/// A crate and the only part of the library that may name it.
const CLIENTS: [(&str, &str); 7] = [
    ("aya", "observe/ebpf"),
    ("aya_log", "observe/ebpf"),
    ("aya_obj", "observe/ebpf"),
    ("bollard", "target"),
    ("iced_x86", "binaries"),
    ("libloading", "kernel/libseccomp.rs"),
    ("profiler_common", "observe"),
];

/// Where sources are searched for `unsafe`.
const SOURCES: [&str; 5] = ["profiler", "profiler-common", "profiler-ebpf", "tests", "xtask"];

/// Where `unsafe` may stand: the two sides of the kernel's boundary and what they agree on; the calls into the machine's
/// libseccomp; ptrace and what runs before an execve; and the descriptor that `--ready-fd` names, because std and rustix offer no safe way from a number to a
/// descriptor.
const UNSAFE: [&str; 6] = [
    "profiler-common",
    "profiler-ebpf",
    "profiler/src/observe/ebpf",
    "profiler/src/kernel/filters.rs",
    "profiler/src/kernel/libseccomp.rs",
    "profiler/src/bin/ready.rs",
];

/// Checks the workspace and prints each violation on stdout.
///
/// # Errors
/// When there is one, or a source cannot be read.
pub fn run() -> Result<()> {
    let mut violations = Vec::new();
    for tree in SOURCES {
        for path in sources(&root().join(tree))? {
            let name = path.strip_prefix(root())?;
            let text = fs_err::read_to_string(&path)?;
            violations.extend(check(name, &text)?);
        }
    }
    for violation in &violations {
        println!("{violation}");
    }
    if violations.is_empty() {
        say("layers: every import is allowed");
        return Ok(());
    }
    // The violations are the message; a trailing error would only repeat them.
    std::process::exit(1);
}

/// A source line that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: Utf8PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Every Rust file below `dir`, sorted; build output is not searched.
fn sources(dir: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let mut found = Vec::new();
    if !dir.exists() {
        return Ok(found);
    }
    for entry in dir.read_dir_utf8()? {
        let path = entry?.into_path();
        if path.is_dir() {
            if path.file_name() != Some("target") || dir.file_name() == Some("src") {
                found.extend(sources(&path)?);
            }
        } else if path.extension() == Some("rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The violations in the source `text` of `file`, a path from the workspace's root.
fn check(file: &Utf8Path, text: &str) -> Result<Vec<Violation>> {
    let tokens: TokenStream = text
        .parse()
        .map_err(|error: proc_macro2::LexError| {
            anyhow::anyhow!("line {}: {error}", error.span().start().line)
        })
        .with_context(|| format!("cannot read `{file}` as Rust"))?;
    let mut names = Names::default();
    let inside = file.strip_prefix(LIBRARY).ok();
    names.collect(&tokens.into_iter().collect::<Vec<_>>(), &module_of(inside));

    let mut violations = Vec::new();
    let mut report = |span: Span, what: String| {
        violations.push(Violation { file: file.to_owned(), line: span.start().line, what });
    };
    if !UNSAFE.iter().any(|allowed| file.starts_with(allowed)) {
        for span in names.unsafes {
            report(span, format!("`unsafe` must stand only in {}", UNSAFE.join(", ")));
        }
    }
    if let Some(inside) = inside {
        for (name, span) in names.idents {
            let home = CLIENTS.iter().find(|(client, _)| *client == name);
            if let Some((client, home)) = home.filter(|(_, home)| !inside.starts_with(home)) {
                report(span, format!("only {home} may name `{client}`"));
            }
        }
        let layer = inside.components().next().map_or("", |part| part.as_str());
        // lib.rs declares the layers; a binary's `crate` is itself.
        if layer != "lib.rs" && layer != "bin" {
            let allowed =
                LAYERS.iter().find(|(name, _)| *name == layer).map(|(_, allowed)| *allowed);
            if allowed.is_none() {
                report(Span::call_site(), format!("`{layer}` is no layer of the table"));
            }
            for (name, span) in names.of_root {
                if name != layer && !allowed.unwrap_or_default().contains(&name.as_str()) {
                    report(span, format!("layer {layer} must not import {name}"));
                }
            }
        }
    }
    violations.sort_by_key(|violation| violation.line);
    Ok(violations)
}

/// The module path that a file of the library has: `observe/ebpf/load.rs` is `observe::ebpf::load`.
fn module_of(inside: Option<&Utf8Path>) -> Vec<String> {
    let path = inside.map(|path| path.with_extension("")).unwrap_or_default();
    let mut parts: Vec<String> = path.components().map(|part| part.as_str().to_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib")) {
        parts.pop();
    }
    parts
}

/// What a source names.
#[derive(Default)]
struct Names {
    /// Items of the crate's root, by whichever path: `crate::x`, `super::super::x`.
    of_root: Vec<(String, Span)>,
    /// Every other identifier.
    idents: Vec<(String, Span)>,
    /// The keyword `unsafe`, of blocks, functions, implementations and attributes.
    unsafes: Vec<Span>,
}

impl Names {
    /// Collects from the tokens of the module `module`.
    fn collect(&mut self, tokens: &[TokenTree], module: &[String]) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Group(group) => {
                    let mut inner = module.to_vec();
                    inner.extend(inline_module(&tokens[..at - 1]));
                    self.collect(&group.stream().into_iter().collect::<Vec<_>>(), &inner);
                }
                TokenTree::Ident(ident) => {
                    let name = ident.to_string();
                    match name.as_str() {
                        "unsafe" => self.unsafes.push(ident.span()),
                        "crate" => self.path(&tokens[at..], &[], ident.span()),
                        // The first `super` of a chain speaks for all of it.
                        "super" if !follows_super(&tokens[..at - 1]) => {
                            let parent = module.split_last().map_or(&[][..], |(_, rest)| rest);
                            self.path(&tokens[at..], parent, ident.span());
                        }
                        _ => self.idents.push((name, ident.span())),
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// Notes what is named of the root by the path that goes on with `rest`, below `base`.
    fn path(&mut self, rest: &[TokenTree], base: &[String], span: Span) {
        if is_ident(rest.first(), "as") && base.is_empty() {
            self.of_root.push(("the whole crate under another name".to_owned(), span));
            return;
        }
        let Some(rest) = after_colons(rest) else { return };
        match rest.first() {
            Some(TokenTree::Ident(next)) if next == "super" => {
                let parent = base.split_last().map_or(&[][..], |(_, rest)| rest);
                self.path(&rest[1..], parent, span);
            }
            _ if !base.is_empty() => {}
            Some(TokenTree::Ident(next)) => self.of_root.push((next.to_string(), next.span())),
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                self.of_root.push(("everything of the crate".to_owned(), star.span()));
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let items: Vec<TokenTree> = group.stream().into_iter().collect();
                for item in items.split(|token| is_punct(Some(token), ',')) {
                    if let Some(first) = item.first() {
                        self.of_root.push((first.to_string(), first.span()));
                    }
                }
            }
            _ => {}
        }
    }
}

/// The name of the module whose body comes after `before`.
fn inline_module(before: &[TokenTree]) -> Option<String> {
    match before {
        [.., keyword, TokenTree::Ident(name)] if is_ident(Some(keyword), "mod") => {
            Some(name.to_string())
        }
        _ => None,
    }
}

fn follows_super(before: &[TokenTree]) -> bool {
    matches!(before, [.., first, a, b]
        if is_ident(Some(first), "super") && is_punct(Some(a), ':') && is_punct(Some(b), ':'))
}

fn after_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    let colons = is_punct(tokens.first(), ':') && is_punct(tokens.get(1), ':');
    colons.then(|| &tokens[2..])
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_ident(token: Option<&TokenTree>, wanted: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(file: &str, text: &str) -> Vec<String> {
        let found = check(Utf8Path::new(file), text).expect("it is Rust");
        found.iter().map(|violation| format!("{}: {}", violation.line, violation.what)).collect()
    }

    #[test]
    fn a_forbidden_import_is_found_however_it_is_written() {
        let file = "profiler/src/render/compose.rs";
        for text in [
            "use crate::session::Event;",
            "use crate::{model::profile::Profile, session};",
            "use crate::session as other;",
            "fn f() { crate::session::start() }",
            "fn f() { println!(\"{}\", crate::session::NAME) }",
            "use super::super::session::Event;",
            "mod inner { use super::super::super::session::Event; }",
            "macro_rules! m { () => { $crate::session::start() } }",
        ] {
            assert_eq!(
                violations(file, text),
                ["1: layer render must not import session"],
                "{text}"
            );
        }
    }

    #[test]
    fn the_message_names_file_line_and_both_layers() {
        let text = "//! Doc.\n\nuse crate::observe::Evidence;\n";
        let found = check(Utf8Path::new("profiler/src/model/merge.rs"), text).expect("it is Rust");
        let expected = "profiler/src/model/merge.rs:3: layer model must not import observe";
        assert_eq!(found[0].to_string(), expected);
    }

    #[test]
    fn the_root_cannot_be_had_as_a_whole() {
        let file = "profiler/src/kernel/btf.rs";
        let expected = ["1: layer kernel must not import everything of the crate"];
        assert_eq!(violations(file, "use crate::*;"), expected);
        let expected = ["1: layer kernel must not import the whole crate under another name"];
        assert_eq!(violations(file, "use crate as c;"), expected);
    }

    #[test]
    fn allowed_imports_comments_and_strings_pass() {
        let text = "//! Not crate::session.\n\
                    use crate::{kernel, model::arch::Abi, target::{self, docker}};\n\
                    use super::sibling;\n\
                    pub(crate) fn f() -> &'static str { \"crate::report unsafe aya\" }\n\
                    mod tests { use super::*; use super::super::x; }\n";
        assert_eq!(violations("profiler/src/session/record.rs", text), Vec::<String>::new());
        assert_eq!(
            violations("profiler/src/bin/main.rs", "use crate::args; use profiler::report;"),
            Vec::<String>::new()
        );
        assert_eq!(violations("profiler/src/lib.rs", "pub mod model;"), Vec::<String>::new());
    }

    #[test]
    fn clients_stay_in_their_part() {
        let aya = "use aya::Ebpf;";
        assert_eq!(violations("profiler/src/observe/ebpf/load.rs", aya), Vec::<String>::new());
        assert_eq!(
            violations("profiler/src/observe/replay.rs", aya),
            ["1: only observe/ebpf may name `aya`"]
        );
        assert_eq!(
            violations("profiler/src/bin/main.rs", "fn f() { let _ = bollard::Docker::x(); }"),
            ["1: only target may name `bollard`"]
        );
        assert_eq!(
            violations("profiler/src/kernel/mod.rs", "use profiler_common::Key;"),
            ["1: only observe may name `profiler_common`"]
        );
    }

    #[test]
    fn unsafe_stays_in_its_part() {
        let text = "fn f() {\n    unsafe { g() }\n}\n#[expect(unsafe_code)] fn h() {}";
        let found = violations("profiler/src/target/pid.rs", text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("2: `unsafe` must stand only in "), "{found:?}");
        assert_eq!(violations("xtask/src/sh.rs", text).len(), 1);
        assert_eq!(violations("profiler-ebpf/src/main.rs", text), Vec::<String>::new());
        assert_eq!(violations("profiler/src/observe/ebpf/mod.rs", text), Vec::<String>::new());
    }

    #[test]
    fn a_directory_outside_the_table_is_a_violation() {
        let found = violations("profiler/src/utils/mod.rs", "use crate::model::arch;");
        assert_eq!(
            found,
            ["1: `utils` is no layer of the table", "1: layer utils must not import model"]
        );
    }

    #[test]
    fn what_is_not_rust_is_an_error() {
        assert!(check(Utf8Path::new("profiler/src/model/x.rs"), "fn f( {").is_err());
    }
}
