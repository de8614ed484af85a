//! The container that a search copies: what a search that was killed left of it is put in order.
//!
//! Each run undoes what it did ([`verify`](crate::session::verify)); SIGKILL leaves no time for that.

use std::time::Duration;

use crate::{
    session::SessionError,
    target::docker::{Docker, Endpoint, Environment},
};

/// How long the engine may take to answer a question.
pub(super) const ENGINE_TIMEOUT: Duration = Duration::from_secs(30);

/// The container that a search copies.
pub struct Original<'a> {
    /// Name or id.
    pub name: String,
    /// Its engine.
    pub endpoint: Endpoint,
    /// Of this process.
    pub environment: &'a Environment,
    /// What the search's copies are labelled with, and those of no other search.
    pub label: String,
}

impl Original<'_> {
    /// Its id, if it runs now.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn running(&self) -> Result<Option<String>, SessionError> {
        self.ask(async |docker| {
            let info = docker.find(&self.name).await?;
            Ok(info.filter(|info| info.running).map(|info| info.id))
        })
    }

    /// What its copies cannot have each, in words; they cannot run at the same time then.
    ///
    /// # Errors
    /// When there is no such container, or the engine does not answer.
    pub fn shared(&self) -> Result<Vec<String>, SessionError> {
        self.ask(async |docker| Ok(docker.shared(&self.name).await?))
    }

    /// Removes the search's copies, and starts the container of this id, which it had stopped. Those that were put in order
    /// already stay as they are.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn restore(&self, stopped: Option<&str>) -> Result<(), SessionError> {
        self.ask(async |docker| {
            for copy in docker.copies(&self.label).await? {
                docker.remove(&copy).await?;
            }
            if let Some(id) = stopped
                && docker.find(id).await?.is_some_and(|info| !info.running)
            {
                docker.start(id).await?;
            }
            Ok(())
        })
    }

    fn ask<T>(
        &self,
        question: impl AsyncFnOnce(Docker) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| SessionError::Spawn {
            program: "a question to the engine".to_owned(),
            source,
        })?;
        runtime.block_on(async {
            let connecting =
                Docker::connect_or_podman(&self.endpoint, self.environment, ENGINE_TIMEOUT);
            question(connecting.await?).await
        })
    }
}
