//! What happens to containers, as the engine tells it, without a gap at the beginning.
//!
//! The engine answers the request for events before it subscribes, so an answer proves nothing. The caller
//! names a point in time instead, taken before anything depends on events. dockerd takes the events since then
//! out of its memory and subscribes under one lock (daemon/events/events.go, `SubscribeTopic`): what happened
//! after that point comes, be it from memory or live, or the stream ends with [`EngineGone`]. Two limits: the
//! memory holds 256 events, so the subscription must follow soon; and an event may come twice.
//! The clock is the engine's, which is this machine's, for engines elsewhere are refused.
//!
//! dockerd drops events for a client that does not read for 100 ms once 1024 are waiting. A task of its own
//! reads the connection, so a caller that is busy loses nothing.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::{models::EventMessage, query_parameters::EventsOptionsBuilder};
use futures_util::StreamExt;
use thiserror::Error;
use tokio::{sync::mpsc, task::JoinHandle};

use super::{Docker, EngineError, labels::Membership};

/// Asked for in addition: times of events are taken before they are put in order.
const MARGIN: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerEventKind {
    /// The container exists; nothing runs and it has no cgroup yet.
    Create,
    /// Its first process runs. Comes after the fact.
    Start,
    /// Its first process ended.
    Die,
    /// It was removed.
    Destroy,
    /// Anything else, by the engine's word.
    Other(String),
}

/// An event of a container. The name is hostile text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    /// What happened.
    pub kind: ContainerEventKind,
    /// The container's full id.
    pub id: String,
    /// Its name, without a slash; the new one after `rename`.
    pub name: String,
    /// Which project and service of compose it is of.
    pub membership: Option<Membership>,
    /// When, in nanoseconds since the epoch; 0 when the engine does not say.
    pub time_ns: u64,
}

/// The engine closed the connection or cannot be understood any more: no further event will come.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the engine went away: {reason}")]
pub struct EngineGone {
    /// What was seen of it.
    pub reason: String,
}

/// The events of all containers from a point in time on.
#[derive(Debug)]
pub struct EventStream {
    received: mpsc::UnboundedReceiver<Result<ContainerEvent, EngineGone>>,
    reader: JoinHandle<()>,
    gone: Option<EngineGone>,
}

impl EventStream {
    /// Starts the reader. Must be called within a tokio runtime.
    pub(super) fn open(client: bollard::Docker, since: SystemTime) -> Self {
        let (sender, received) = mpsc::unbounded_channel();
        let reader = tokio::spawn(async move {
            let gone = forward(&client, since, &sender).await;
            // The receiver may be gone as well; then nobody wants to know.
            drop(sender.send(Err(gone)));
        });
        EventStream { received, reader, gone: None }
    }

    /// Waits for the next event. Cancel safe. After the end every call gives the same error at once.
    pub async fn next(&mut self) -> Result<ContainerEvent, EngineGone> {
        if let Some(gone) = &self.gone {
            return Err(gone.clone());
        }
        let item = self.received.recv().await.unwrap_or_else(|| {
            Err(EngineGone { reason: "the reader of its events stopped".to_owned() })
        });
        if let Err(gone) = &item {
            self.gone = Some(gone.clone());
        }
        item
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Docker {
    /// Whether somebody had the engine stop a container, at `since` or later. It remembers 256 events.
    ///
    /// # Errors
    /// When the engine does not tell its events.
    pub async fn was_stopped(&self, id: &str, since: SystemTime) -> Result<bool, EngineError> {
        let filters = HashMap::from([("container", vec![id]), ("event", vec!["stop"])]);
        let options = EventsOptionsBuilder::default()
            .since(&unix_time(since))
            .until(&unix_time(SystemTime::now()))
            .filters(&filters)
            .build();
        let asked = async {
            let mut stops = std::pin::pin!(self.client.events(Some(options)));
            Ok(stops.next().await.transpose()?.is_some())
        };
        self.connection().ask("tell its events", asked).await
    }
}

/// Asks for the events of containers between two times.
pub(super) fn options(
    since: SystemTime,
    until: Option<SystemTime>,
) -> bollard::query_parameters::EventsOptions {
    let filters = HashMap::from([("type", vec!["container"])]);
    let builder =
        EventsOptionsBuilder::default().since(&unix_time(since - MARGIN)).filters(&filters);
    match until {
        Some(until) => builder.until(&unix_time(until)).build(),
        None => builder.build(),
    }
}

/// `seconds.nanoseconds`, as the API wants it.
fn unix_time(time: SystemTime) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", since_epoch.as_secs(), since_epoch.subsec_nanos())
}

async fn forward(
    client: &bollard::Docker,
    since: SystemTime,
    sender: &mpsc::UnboundedSender<Result<ContainerEvent, EngineGone>>,
) -> EngineGone {
    let since_ns = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut messages = std::pin::pin!(client.events(Some(options(since, None))));
    while let Some(message) = messages.next().await {
        match message {
            Ok(message) => {
                let Some(event) = container_event(message) else { continue };
                if event.time_ns != 0 && u128::from(event.time_ns) < since_ns {
                    continue;
                }
                if sender.send(Ok(event)).is_err() {
                    break;
                }
            }
            Err(error) => return EngineGone { reason: error.to_string() },
        }
    }
    EngineGone { reason: "it closed the connection".to_owned() }
}

/// `None` for messages that tell of no container.
fn container_event(message: EventMessage) -> Option<ContainerEvent> {
    let actor = message.actor?;
    let id = actor.id.filter(|id| !id.is_empty())?;
    // the container's labels stand among them
    let mut attributes = actor.attributes.unwrap_or_default();
    let membership = Membership::of(&attributes);
    let name = attributes.remove("name").unwrap_or_default();
    let action = message.action.unwrap_or_default();
    // `exec_create: sh -c ...` and `health_status: healthy` carry hostile text after the colon.
    let kind = match action.split(':').next().unwrap_or_default() {
        "create" => ContainerEventKind::Create,
        "start" => ContainerEventKind::Start,
        "die" | "died" => ContainerEventKind::Die,
        "destroy" | "remove" => ContainerEventKind::Destroy,
        other => ContainerEventKind::Other(other.to_owned()),
    };
    let time_ns = message
        .time_nano
        .or_else(|| message.time?.checked_add(1)?.checked_mul(1_000_000_000))
        .and_then(|time| u64::try_from(time).ok())
        .unwrap_or(0);
    Some(ContainerEvent { kind, id, name: bare_name(&name), membership, time_ns })
}

/// The API writes `/backend` in places.
pub(super) fn bare_name(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> Option<ContainerEvent> {
        container_event(serde_json::from_str(json).expect("an event message"))
    }

    #[test]
    fn a_death_is_told_with_id_name_and_time() {
        let event = event(
            r#"{"status":"die","id":"4f1d","from":"x","Type":"container","Action":"die",
                "Actor":{"ID":"4f1d","Attributes":{"exitCode":"137","image":"x","name":"backend",
                "com.docker.compose.project":"shop","com.docker.compose.service":"web"}},
                "scope":"local","time":1700000000,"timeNano":1700000000123456789}"#,
        )
        .expect("a container's event");
        assert_eq!(event.kind, ContainerEventKind::Die);
        assert_eq!((event.id.as_str(), event.name.as_str()), ("4f1d", "backend"));
        assert_eq!(event.time_ns, 1_700_000_000_123_456_789);
        let membership = event.membership.expect("of a project");
        assert_eq!((membership.service.as_deref(), membership.one_off), (Some("web"), false));
    }

    #[test]
    fn the_text_after_the_colon_is_not_the_kind() {
        for (action, kind) in [
            ("exec_create: sh -c die", ContainerEventKind::Other("exec_create".to_owned())),
            ("exec_start: start", ContainerEventKind::Other("exec_start".to_owned())),
            ("health_status: healthy", ContainerEventKind::Other("health_status".to_owned())),
        ] {
            let json = format!(
                r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"a","Attributes":null}}}}"#
            );
            assert_eq!(event(&json).expect("a container's event").kind, kind);
        }
    }

    #[test]
    fn a_rename_has_the_new_name_without_a_slash() {
        let event = event(
            r#"{"Action":"rename","Actor":{"ID":"a","Attributes":{"name":"/new","oldName":"/old"}}}"#,
        )
        .expect("a container's event");
        assert_eq!(event.kind, ContainerEventKind::Other("rename".to_owned()));
        assert_eq!((event.name.as_str(), event.time_ns), ("new", 0));
    }

    #[test]
    fn messages_without_a_container_are_left_out() {
        assert_eq!(event("{}"), None);
        assert_eq!(event(r#"{"Action":"start","Actor":{"ID":"","Attributes":{}}}"#), None);
    }

    #[test]
    fn whole_seconds_are_taken_as_their_end() {
        let event = event(r#"{"Action":"start","Actor":{"ID":"a"},"time":1700000000}"#);
        assert_eq!(event.expect("a container's event").time_ns, 1_700_000_001_000_000_000);
    }

    #[test]
    fn times_are_written_with_nine_digits() {
        assert_eq!(unix_time(UNIX_EPOCH + Duration::new(12, 34)), "12.000000034");
    }
}
