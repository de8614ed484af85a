//! Conversations with an engine that answers from a table: what a real one cannot be made to say in a test.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    thread,
    time::{Duration, SystemTime},
};

use super::*;

const ID: &str = "b34304da0dc77125be7190d46974a31d8120ee1a3edebca1afdd4b0c35002d16";

/// Answers each request whose target contains `.0` with status `.1` and body `.2`; the first match counts.
pub(crate) type Answers = Vec<(&'static str, u16, String)>;

/// Listens until the test process ends; the directory must live as long.
fn engine(answers: Answers) -> (tempfile::TempDir, Endpoint) {
    let dir = tempfile::tempdir().expect("temp dir");
    let path: PathBuf = dir.path().join("engine.sock");
    let listener = UnixListener::bind(&path).expect("bind");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &answers);
        }
    });
    let address = Address::Unix(path.to_str().expect("UTF-8").to_owned());
    (dir, Endpoint { address, source: Source::Default })
}

/// Answers one request and closes the connection.
fn answer(mut stream: UnixStream, answers: &Answers) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        // The client's probe connects and says nothing.
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request);
    let target = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = answers
        .iter()
        .find(|(part, ..)| target.contains(part))
        .map_or((404, r#"{"message":"page not found"}"#), |(_, status, body)| (*status, body));
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    );
    // A client that went away is no failure of the test.
    drop(stream.write_all(format!("{head}{body}").as_bytes()));
}

fn version(kernel: &str) -> String {
    format!(r#"{{"Version":"20.10.24","ApiVersion":"1.41","KernelVersion":"{kernel}"}}"#)
}

/// A docker on this kernel that refuses every version that is named, with further answers.
pub(crate) fn docker_20_10(further: Answers) -> (tempfile::TempDir, Endpoint) {
    let refusal =
        r#"{"message":"client version 1.53 is too new. Maximum supported API version is 1.41"}"#;
    let mut answers = vec![
        ("/v1.", 400, refusal.to_owned()),
        ("/version", 200, version(&uname().release)),
        ("/info", 200, r#"{"SecurityOptions":["name=seccomp,profile=default"]}"#.to_owned()),
    ];
    answers.extend(further);
    engine(answers)
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(future)
}

pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Docker, EngineError> {
    Docker::connect(endpoint, Duration::from_secs(5)).await
}

#[test]
fn an_engine_of_another_version_is_not_told_one() {
    let (_dir, endpoint) = docker_20_10(vec![]);
    let docker = block_on(connect(&endpoint)).expect("connected");
    assert_eq!(docker.version().version, "20.10.24");
    assert_eq!(docker.endpoint(), &endpoint);
}

#[test]
fn an_engine_on_another_kernel_is_refused() {
    let (_dir, endpoint) =
        engine(vec![("/version", 200, version("0.0.1-other")), ("/info", 200, "{}".to_owned())]);
    let error = block_on(connect(&endpoint)).expect_err("another kernel");
    assert!(matches!(error, EngineError::OtherKernel { .. }), "{error}");
}

#[test]
fn what_is_no_engine_is_an_error() {
    let (_dir, endpoint) = engine(vec![("/version", 200, "<html>".to_owned())]);
    let error = block_on(connect(&endpoint)).expect_err("not JSON");
    assert!(matches!(error, EngineError::Request { .. }), "{error}");
    let (_dir, endpoint) = engine(vec![]);
    let error = block_on(connect(&endpoint)).expect_err("not found");
    assert!(matches!(error, EngineError::Refused { status: 404, .. }), "{error}");
}

#[test]
fn a_short_prefix_of_an_id_finds_nothing_and_a_long_one_may_be_ambiguous() {
    let one = format!(r#"{{"Id":"{ID}","Name":"/backend"}}"#);
    let several = r#"{"message":"multiple IDs found with provided prefix: b3"}"#;
    let (_dir, endpoint) = docker_20_10(vec![
        ("/containers/b3/", 500, several.to_owned()),
        ("/containers/aaaaaaaaaaaa/", 500, several.to_owned()),
        ("/containers/broken/", 500, r#"{"message":"disk on fire"}"#.to_owned()),
        ("/containers/b34/", 200, one.clone()),
        ("/containers/backend/", 200, one),
    ]);
    block_on(async {
        let docker = connect(&endpoint).await.expect("connected");
        let find = async |name: &str| docker.find(name).await;
        assert_eq!(find("backend").await.expect("an answer").expect("a container").id, ID);
        assert_eq!(find("b34").await.expect("an answer"), None, "the engine took it for a prefix");
        assert_eq!(find("b3").await.expect("an answer"), None, "many ids, but no such name");
        assert_eq!(find("absent").await.expect("an answer"), None);
        let error = find("aaaaaaaaaaaa").await.expect_err("several containers");
        assert!(matches!(error, EngineError::Ambiguous { .. }), "{error}");
        let error = find("broken").await.expect_err("an error of the engine");
        assert!(error.to_string().contains("disk on fire"), "{error}");
    });
}

#[test]
fn events_from_the_given_time_on_come_and_then_the_end_stays() {
    let since = SystemTime::now();
    let now_ns = since.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_nanos();
    let message = |action: &str, time_ns: u128| {
        format!(
            "{{\"Type\":\"container\",\"Action\":\"{action}\",\"Actor\":{{\"ID\":\"{ID}\",\"Attributes\":{{\"name\":\"b\"}}}},\"timeNano\":{time_ns}}}\n"
        )
    };
    let body =
        message("die", now_ns - 1) + &message("create", now_ns) + &message("start", now_ns + 1);
    let (_dir, endpoint) =
        docker_20_10(vec![("until=", 200, String::new()), ("/events", 200, body)]);
    block_on(async {
        let docker = connect(&endpoint).await.expect("connected");
        let mut events = docker.events(since).await.expect("subscribed");
        for kind in [ContainerEventKind::Create, ContainerEventKind::Start] {
            assert_eq!(events.next().await.expect("an event").kind, kind);
        }
        let gone = events.next().await.expect_err("the engine closed the connection");
        assert_eq!(events.next().await.expect_err("for good"), gone);
    });
}

#[test]
fn a_refused_subscription_is_an_error_at_once() {
    let (_dir, endpoint) =
        docker_20_10(vec![("/events", 403, r#"{"message":"not for you"}"#.to_owned())]);
    block_on(async {
        let docker = connect(&endpoint).await.expect("connected");
        let error = docker.events(SystemTime::now()).await.expect_err("refused");
        assert!(matches!(error, EngineError::Refused { status: 403, .. }), "{error}");
    });
}

/// A podman on this kernel, with what it says about containers.
fn podman(further: Answers) -> (tempfile::TempDir, Endpoint) {
    let version = format!(
        r#"{{"Components":[{{"Name":"Podman Engine","Version":"4.3.1"}}],"Version":"4.3.1","KernelVersion":"{}"}}"#,
        uname().release
    );
    let mut answers = vec![("/version", 200, version), ("/info", 200, "{}".to_owned())];
    answers.extend(further);
    engine(answers)
}

#[test]
fn podman_is_asked_in_its_own_words() {
    let web = format!(
        r#"{{"Id":"{ID}","Name":"web","OCIRuntime":"/nonexistent/crun","State":{{"Running":true,"Pid":7,"Health":{{"Status":""}}}}}}"#
    );
    let gone = r#"{"message":"container 4f1d does not exist in database: no such container"}"#;
    let (_dir, endpoint) = podman(vec![
        ("/v4.3.1/libpod/containers/web/json", 200, web),
        ("/v4.3.1/libpod/containers/gone/json", 500, gone.to_owned()),
        ("/v4.3.1/libpod/containers/odd/json", 200, "<html>".to_owned()),
    ]);
    block_on(async {
        let podman = connect(&endpoint).await.expect("connected");
        let web = podman.find("web").await.expect("an answer").expect("a container");
        assert_eq!((web.id.as_str(), web.pid), (ID, Some(7)));
        assert_eq!((web.facts.engine.as_str(), web.facts.runtime.as_str()), ("podman", "crun"));
        assert_eq!(web.facts.runtime_version, "", "nobody could be asked");
        for name in ["gone", "absent"] {
            assert_eq!(podman.find(name).await.expect("an answer"), None, "{name}");
        }
        let error = podman.find("odd").await.expect_err("not JSON");
        assert!(matches!(error, EngineError::Request { .. }), "{error}");
    });
}

#[test]
fn podman_is_taken_when_nothing_is_said_and_docker_is_not_there() {
    let (dir, listening) = podman(vec![]);
    let Address::Unix(socket) = listening.address else { panic!("a socket") };
    std::fs::create_dir(dir.path().join("podman")).expect("directory");
    std::os::unix::fs::symlink(socket, dir.path().join("podman/podman.sock")).expect("link");
    let environment =
        Environment { runtime_dir: Some(dir.path().to_owned()), ..Environment::default() };
    let absent = dir.path().join("absent.sock").to_str().expect("UTF-8").to_owned();
    let connect = |source| {
        let docker = Endpoint { address: Address::Unix(absent.clone()), source };
        let timeout = Duration::from_secs(5);
        block_on(Docker::connect_or_podman(&docker, &environment, timeout))
    };
    let engine = connect(Source::Default).expect("podman");
    assert_eq!(engine.version().name, "podman");
    assert_eq!(engine.endpoint().source, Source::Podman);
    let error = connect(Source::Variable).expect_err("what was asked for is not there");
    assert!(matches!(error, EngineError::NoSocket { .. }), "{error}");
}
