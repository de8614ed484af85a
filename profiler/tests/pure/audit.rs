//! Files that say how containers are run: what is found is what is there, what is not there is not known, and nothing that they
//! name acts in any format.

use std::collections::BTreeSet;

use profiler::{
    ingest::{self, stack::Stack},
    model::{
        arch::Abi,
        audit::{
            Check, Facts, Filter, Finding, Image, Inputs, Machine, Scan, Severity, State, Unknown,
            audit, pod_findings,
        },
        policy::{self, Options},
        seccomp::{KernelVersion, SeccompFile},
    },
    report::audit::{Audited, document, human, json, markdown, sarif},
};
use proptest::prelude::*;
use serde_json::Value;

use crate::{
    evidence::{BACKEND, parse},
    schemas::follows,
};

pub const COMPOSE: &str = include_str!("../data/audit-compose.yaml");
pub const MANIFEST: &str = include_str!("../data/audit-manifest.yaml");

fn inputs() -> Inputs<'static> {
    let kernel = KernelVersion { major: 6, minor: 18 };
    Inputs { machine: Machine { native: Abi::X86_64, kernel }, profile: None, scan: None }
}

/// A filter that a service has of its own: Docker's default without a call.
fn own() -> SeccompFile {
    let mut file = profiler::model::baseline::docker_default_file().clone();
    file.syscalls[0].names.retain(|name| name != "listen");
    file
}

fn stack(text: &str) -> Stack {
    let read = |path: &str| (path == "./seccomp.json").then(own);
    let mut stack = ingest::stack::parse(text, &read).expect("a stack");
    stack.resolve("/srv/app");
    stack
}

fn container(stack: &Stack, name: &str) -> Facts {
    stack.containers.iter().find(|it| it.name == name).expect(name).clone()
}

/// The identifiers that end so.
fn ids(findings: &[Finding], is: impl Fn(State) -> bool) -> BTreeSet<&'static str> {
    findings.iter().filter(|it| is(it.state)).map(|it| it.check.id).collect()
}

fn found(findings: &[Finding]) -> BTreeSet<&'static str> {
    ids(findings, |state| matches!(state, State::Found(_)))
}

fn unknown(findings: &[Finding]) -> BTreeSet<&'static str> {
    ids(findings, |state| state == State::Unknown)
}

fn of<'a>(findings: &'a [Finding], id: &str) -> &'a Finding {
    findings.iter().find(|it| it.check.id == id).expect(id)
}

/// What only an image tells.
const OF_IMAGE: [&str; 3] = ["PA031", "PA032", "PA033"];

#[test]
fn an_open_service_has_every_finding_and_a_hardened_one_none() {
    let stack = stack(COMPOSE);
    let open = audit(&container(&stack, "open"), inputs());
    let expected = [
        "PA001", "PA003", "PA004", "PA005", "PA008", "PA009", "PA010", "PA011", "PA012", "PA013",
        "PA014", "PA015", "PA016", "PA017", "PA018", "PA019", "PA020", "PA021", "PA022", "PA023",
        "PA024", "PA025", "PA026", "PA027", "PA028", "PA034", "PA035",
    ];
    assert_eq!(found(&open), expected.into());
    let mut not_told: BTreeSet<&str> = OF_IMAGE.into();
    not_told.insert("PA030");
    assert_eq!(unknown(&open), not_told);
    assert_eq!(of(&open, "PA003").state, State::Found(Severity::Error));
    assert!(
        of(&open, "PA003").message.contains("SYS_ADMIN, NET_ADMIN"),
        "{:?}",
        of(&open, "PA003")
    );
    assert_eq!(
        of(&open, "PA034").evidence,
        ["DATABASE_URL (a URL with a password)", "POSTGRES_PASSWORD"]
    );
    // a volume with a name that is bound to the root of the host
    assert!(of(&open, "PA013").evidence.iter().any(|it| it == "/ at /host (rw)"), "{open:#?}");
    assert_eq!(of(&open, "PA025").evidence, ["memlock: unlimited"]);

    let hardened = audit(&container(&stack, "hardened"), inputs());
    assert_eq!(found(&hardened), BTreeSet::new(), "{hardened:#?}");
    let mut not_told: BTreeSet<&str> = OF_IMAGE.into();
    not_told.insert("PA020");
    assert_eq!(unknown(&hardened), not_told);
}

#[test]
fn what_a_file_does_not_say_is_no_pass() {
    let unsaid = audit(&container(&stack(COMPOSE), "unsaid"), inputs());
    assert!(of(&unsaid, "PA001").message.contains("`APP_USER`"), "{unsaid:#?}");
    assert!(of(&unsaid, "PA010").message.contains("`READ_ONLY`"));
    let passed = ids(&unsaid, |state| state == State::Passed);
    // the default network is compose's own; all else could come with what it extends
    assert_eq!(passed, ["PA029"].into(), "{unsaid:#?}");
    assert_eq!(found(&unsaid), BTreeSet::new());
}

#[test]
fn a_manifest_is_judged_by_container_and_by_pod() {
    let stack = stack(MANIFEST);
    let names: Vec<&str> = stack.containers.iter().map(|it| it.name.as_str()).collect();
    let expected = [
        "Deployment/open container app",
        "CronJob/hardened container root",
        "CronJob/hardened container app",
    ];
    assert_eq!(names, expected);
    let open = audit(&stack.containers[0], inputs());
    for id in
        ["PA002", "PA003", "PA005", "PA008", "PA012", "PA014", "PA016", "PA027", "PA028", "PA034"]
    {
        assert!(found(&open).contains(id), "{id}: {open:#?}");
    }
    assert!(unknown(&open).contains("PA001"), "the image says who it runs as");
    // a container's own word comes before the pod's
    assert_eq!(found(&audit(&stack.containers[1], inputs())).first(), Some(&"PA001"));
    let hardened = audit(&stack.containers[2], inputs());
    assert_eq!(found(&hardened), ["PA007"].into(), "{hardened:#?}");
    let told: BTreeSet<&str> =
        ["PA009", "PA022", "PA025", "PA030"].into_iter().chain(OF_IMAGE).collect();
    assert_eq!(unknown(&hardened), told);

    let judged: Vec<_> =
        stack.pods.iter().map(|(name, pod)| pod_findings(name, &pod.violations())).collect();
    assert_eq!(found(&judged[0]), ["PA037", "PA038"].into());
    assert!(
        of(&judged[0], "PA037")
            .message
            .contains("Host Namespaces, Privileged Containers, HostPath Volumes, Host Ports"),
        "{judged:#?}"
    );
    assert_eq!(found(&judged[1]), ["PA038"].into());
    assert!(
        of(&judged[1], "PA038").evidence.iter().all(|it| it.contains("container root")),
        "{judged:#?}"
    );
}

#[test]
fn other_files_are_refused() {
    for text in
        ["", "a: 1", "- x", "services: x", "{{ .Values }}", "services: {a: [1]}", "\0", "a: b: c"]
    {
        assert!(ingest::stack::parse(text, &|_| None).is_err(), "{text}");
    }
    let wrong = "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, securityContext: {privileged: 1}}]}";
    assert!(ingest::stack::parse(wrong, &|_| None).is_err());
    for text in ["", "{}", "[]", r#"{"matches": 1}"#, r#"{"SchemaVersion": 2, "Results": 1}"#] {
        assert!(ingest::scan::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_filter_is_known_by_what_it_decides() {
    let mut facts = container(&stack(COMPOSE), "open");
    facts.capabilities = Ok(BTreeSet::new());
    let mut with = |filter: Filter| {
        facts.seccomp = Ok(filter);
        let findings = audit(&facts, inputs());
        let ids = ["PA005", "PA006", "PA007"];
        found(&findings).into_iter().filter(|id| ids.contains(id)).collect::<Vec<_>>()
    };
    let default = profiler::model::baseline::docker_default_file().clone();
    assert_eq!(
        with(Filter::File(Box::new(default.clone()))),
        ["PA007"],
        "by content, under any name"
    );
    let mut wider = default.clone();
    wider.syscalls[0].names.push("bpf".into());
    assert_eq!(with(Filter::File(Box::new(wider))), ["PA006"]);
    let mut narrower = default;
    narrower.syscalls[0].names.retain(|name| name != "read");
    assert_eq!(with(Filter::File(Box::new(narrower))), [] as [&str; 0]);
    assert_eq!(with(Filter::Unconfined), ["PA005"]);
    let permissive = ingest::seccomp::parse(profiler::model::seccomp::PERMISSIVE).expect("own");
    assert_eq!(with(Filter::File(Box::new(permissive))), ["PA005", "PA006"]);
}

#[test]
fn a_recording_says_what_could_go() {
    let profile = policy::derive(&parse(BACKEND), &Options::default());
    let inputs = Inputs { profile: Some(&profile), ..inputs() };
    let mut facts = container(&stack(COMPOSE), "open");
    facts.seccomp = Ok(Filter::EngineDefault);
    let findings = audit(&facts, inputs);
    assert_eq!(
        of(&findings, "PA003").tighten.as_deref(),
        Some("2 of 2 were never used: SYS_ADMIN, NET_ADMIN")
    );
    let required: BTreeSet<&str> =
        profile.capabilities.required.iter().map(|it| it.name.as_str()).collect();
    let unused = 14 - required.len();
    let kept = of(&findings, "PA004").tighten.as_deref().expect("a recording");
    assert!(kept.starts_with(&format!("{unused} of 14 were never used: ")), "{kept}");
    assert!(required.iter().all(|name| !kept.contains(name)), "{kept}");
    let calls = of(&findings, "PA007").tighten.as_deref().expect("a recording");
    let count: usize = calls.split(' ').next().and_then(|it| it.parse().ok()).expect("a count");
    assert!(
        count > 200
            && calls.contains(" calls that pass are not in the profile: ")
            && calls.contains("bpf (critical)"),
        "{calls}"
    );
}

pub const TRIVY: &str = r#"{"SchemaVersion": 2, "ArtifactName": "localhost/app:latest", "ArtifactType": "container_image",
  "Metadata": {"ImageID": "sha256:ab", "RepoDigests": null},
  "Results": [{"Target": "localhost/app (debian 12)", "Class": "os-pkgs"}, {"Target": "x", "Vulnerabilities": [
    {"VulnerabilityID": "CVE-2", "PkgName": "zlib1g", "InstalledVersion": "1", "Severity": "HIGH"},
    {"VulnerabilityID": "CVE-1", "PkgName": "libc6", "InstalledVersion": "2.36", "FixedVersion": "2.37", "Severity": "CRITICAL"}]}]}"#;
pub const GRYPE: &str = r#"{"matches": [{"vulnerability": {"id": "CVE-3", "severity": "Medium", "fix": {"versions": ["3"], "state": "fixed"}},
  "artifact": {"name": "openssl", "version": "2"}}], "source": {"type": "image", "target": {"userInput": "localhost/other", "imageID": "sha256:cd"}},
  "descriptor": {"name": "grype"}}"#;

#[test]
fn a_scanners_report_is_joined_with_its_image_only() {
    let facts = container(&stack(COMPOSE), "open");
    let with = |scan: &Scan| audit(&facts, Inputs { scan: Some(scan), ..inputs() });
    let trivy = with(&ingest::scan::parse(TRIVY).expect("a report"));
    let finding = of(&trivy, "PA036");
    assert_eq!(finding.state, State::Found(Severity::Error));
    assert_eq!(finding.message, "trivy knows 1 critical, 1 high of `localhost/app:latest`");
    assert_eq!(
        finding.evidence,
        ["CVE-1 (critical): libc6 2.36, fixed in 2.37", "CVE-2 (high): zlib1g 1, no fix"]
    );
    let grype = ingest::scan::parse(GRYPE).expect("a report");
    assert!(unknown(&with(&grype)).contains("PA036"), "another image's");
    let own = Scan { image: "docker.io/localhost/app:latest".into(), ..grype };
    assert_eq!(of(&with(&own), "PA036").state, State::Found(Severity::Note));
    let none = Scan { vulnerabilities: vec![], ..own };
    assert_eq!(of(&with(&none), "PA036").state, State::Passed);
    let secrets = TRIVY.replace("os-pkgs", "secret").replace("\"Vulnerabilities\"", "\"Secrets\"");
    let secrets = ingest::scan::parse(&secrets).expect("a report");
    assert!(unknown(&with(&secrets)).contains("PA036"), "it looked at no packages");

    let trivy = ingest::scan::parse(TRIVY).expect("a report");
    let mut facts = facts.clone();
    for (id, is_it) in [("sha256:ab", true), ("sha256:ff", false)] {
        let contents = Err(Unknown::because("not read"));
        facts.image = Ok(Image { id: id.into(), size: 0, layers: Vec::new(), contents });
        assert_eq!(trivy.is_of(&facts), is_it, "{id}: by name no more");
    }
}

#[test]
fn what_only_looks_confined_is_no_pass() {
    let text = "services:
  host: {network_mode: host, security_opt: ['label:type:spc_t']}
  volumes: {volumes: ['other:/a', '~/x:/b'], secrets: [s]}
  runs: {volumes: ['/run:/r:ro', '.:/app', './etc:/c']}
volumes: {other: {external: true}}
secrets: {s: {file: ./s}}
";
    let stack = stack(text);
    let judged = |name: &str| audit(&container(&stack, name), inputs());
    let host = judged("host");
    assert!(found(&host).is_superset(&["PA009", "PA017"].into()), "{host:#?}");
    assert!(unknown(&host).is_superset(&["PA027", "PA028"].into()), "{host:#?}");
    let volumes = judged("volumes");
    assert!(unknown(&volumes).is_superset(&["PA012", "PA013"].into()), "{volumes:#?}");
    assert_eq!(of(&volumes, "PA011").evidence, ["~/x at /b (rw)"]);
    let runs = judged("runs");
    assert_eq!(of(&runs, "PA012").evidence, ["/run at /r (ro)"]);
    assert_eq!(of(&runs, "PA013").evidence, ["/run at /r (ro)"]);
    assert_eq!(
        of(&runs, "PA011").evidence,
        ["/srv/app/. at /app (rw)", "/srv/app/./etc at /c (rw)"]
    );
}

/// A service whose every name is `text`.
fn hostile(text: &str) -> String {
    let json = serde_json::json!({"services": {text: {
        "image": text, "user": text, "cap_add": [text], "security_opt": [format!("apparmor={text}unconfined"), format!("seccomp:{text}")],
        "volumes": [format!("/etc/{text}:/x{text}"), {"type": "bind", "source": format!("/{text}/docker.sock"), "target": text}],
        "devices": [text], "ports": [format!("0.0.0.0:80:{text}")], "ulimits": {text: -1}, "mem_limit": text,
        "environment": {format!("{text}_PASSWORD"): text}, "healthcheck": {"test": [text]},
        "labels": {format!("org.opencontainers.image.{text}"): text},
    }}})
    .to_string();
    // as YAML takes every character
    let escaped = |c: char| match c {
        ' '..='~' => c.to_string(),
        c => format!("\\U{:08x}", u32::from(c)),
    };
    json.chars().map(escaped).collect()
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).expect("a vector takes everything");
    String::from_utf8(out).expect("UTF-8")
}

fn acts(c: char) -> bool {
    profiler::model::text::acts(c) && c != '\n'
}

fn audited(file: &str, text: &str) -> Vec<Audited> {
    let stack = ingest::stack::parse(text, &|_| None).expect("a stack");
    let scan = Scan {
        tool: "trivy".into(),
        vulnerabilities: vec![profiler::model::audit::Vulnerability {
            id: file.into(),
            package: file.into(),
            installed: file.into(),
            fixed: Some(file.into()),
            severity: file.into(),
        }],
        ..Scan::default()
    };
    let inputs = Inputs { scan: Some(&scan), ..inputs() };
    let one = |facts: &Facts| Audited {
        file: Some(file.to_owned()),
        line: ingest::place::line_of(text, &facts.name),
        subject: facts.name.clone(),
        findings: audit(facts, inputs),
    };
    stack.containers.iter().map(one).collect()
}

/// All that Markdown shows outside of code.
fn shown(markdown: &str) -> String {
    use pulldown_cmark::{Event, Parser};
    let mut out = String::new();
    for event in Parser::new(markdown) {
        match event {
            Event::Text(text) => out.push_str(&text),
            Event::Html(html) | Event::InlineHtml(html) => {
                let ours = ["<details>", "<summary>", "</summary>", "</details>"];
                assert!(ours.iter().any(|tag| html.contains(tag)), "{html}");
            }
            Event::Start(pulldown_cmark::Tag::Link { .. } | pulldown_cmark::Tag::Image { .. }) => {
                panic!("a link in {markdown}")
            }
            _ => {}
        }
    }
    out
}

fn inert(name: &str) {
    let all = audited(name, &hostile(name));
    assert_eq!(all.len(), 1);
    assert!(found(&all[0].findings).contains("PA012"), "the hostile mount is found");
    let mut plain = all.clone();
    plain[0].file = Some("f".into());
    plain[0].subject = "s".into();
    for finding in &mut plain[0].findings {
        finding.message = "m".into();
        finding.evidence.iter_mut().for_each(|it| *it = "e".into());
    }

    let text = written(|out| json(&all, out));
    assert!(!text.contains(acts));
    follows("audit.schema.json", &text);
    let read: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(read, serde_json::to_value(document(&all)).expect("JSON"), "nothing is lost");
    assert!(read["checks"].as_array().expect("a list").iter().all(|row| row["subject"] == name));

    let text = written(|out| sarif(&all, "1", out));
    assert!(!text.contains(acts));
    let read: Value = serde_json::from_str(&text).expect("JSON");
    let results = read["runs"][0]["results"].as_array().expect("a list");
    let told = all[0].findings.iter().filter(|it| it.state != State::Passed).count();
    assert_eq!(results.len(), told);
    for result in results {
        let index = result["ruleIndex"].as_u64().expect("an index") as usize;
        assert_eq!(result["ruleId"], Check::ALL[index].id);
        assert_eq!(read["runs"][0]["tool"]["driver"]["rules"][index]["id"], Check::ALL[index].id);
        assert_eq!(result["kind"] == "open", result["level"] == "none");
        let uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
            .as_str()
            .expect("a URI");
        assert!(uri.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%".contains(&b)), "{uri}");
    }

    let text = written(|out| human(&all, true, out));
    let bare = anstream::adapter::strip_str(&text).to_string();
    assert!(!bare.contains(acts), "{bare:?}");
    let lines = |it: &Finding| {
        let more = it.evidence.len() + usize::from(it.tighten.is_some());
        1 + if matches!(it.state, State::Found(_)) { more } else { 0 }
    };
    let expected = 3 + all[0].findings.iter().map(lines).sum::<usize>();
    assert_eq!(bare.lines().count(), expected, "no line of its own: {bare}");

    let text = written(|out| markdown(&all, out));
    assert!(!text.contains(acts));
    assert_eq!(
        shown(&text),
        shown(&written(|out| markdown(&plain, out))),
        "names stand in code only"
    );
}

#[test]
fn names_that_look_like_markup_are_inert() {
    for name in [
        "a`b``c",
        "</details><script>",
        "[x](http://y)",
        "@team",
        "| a |",
        "\n# x",
        "a'b\"c; rm -rf",
        "../..",
        "x: {y: z}",
        "\u{202e}x",
        "~~~",
        "&lt;",
    ] {
        inert(name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_name_is_inert(name in "[^$:/\0]{1,40}") {
        prop_assume!(name.parse::<f64>().is_err() && !["root"].contains(&name.as_str()));
        inert(&name);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = ingest::stack::parse(&text, &|_| None);
        let _ = ingest::scan::parse(&text);
    }
}

#[test]
fn sarif_shows_each_service_at_its_line() {
    let all = audited("compose.yaml", "services:\n  one:\n    image: x\n  two:\n    image: y\n");
    let read: Value = serde_json::from_str(&written(|out| sarif(&all, "1", out))).expect("JSON");
    let results = read["runs"][0]["results"].as_array().expect("a list");
    let places = results.iter().map(|result| {
        let place = &result["locations"][0];
        let name = place["logicalLocations"][0]["fullyQualifiedName"].as_str().expect("a name");
        (name, place["physicalLocation"]["region"]["startLine"].as_u64().expect("a line"))
    });
    let places: BTreeSet<(&str, u64)> = places.collect();
    assert_eq!(places, [("one", 2), ("two", 4)].into());
}
