//! Images: a container of one that is never started, what it is configured to execute, and its files as an archive.

use std::{
    hash::{BuildHasher as _, RandomState},
    io::Write,
};

use bollard::{models::ContainerCreateBody, query_parameters::CreateContainerOptions};
use futures_util::StreamExt as _;

use super::{Docker, EngineError};

/// A health check that a shell runs, and one that is executed.
const SHELL: &str = "CMD-SHELL";
const EXECUTED: &str = "CMD";

/// A name for a container of ours that no other has, also when the process's number comes again: `profiler-WHAT-PID-RANDOM`.
#[must_use]
pub fn own_name(what: &str) -> String {
    let process = std::process::id();
    format!("profiler-{what}-{process}-{:016x}", RandomState::new().hash_one(process))
}

impl Docker {
    /// Creates a container of an image, with nothing but what the image says; its id.
    ///
    /// # Errors
    /// When the engine refuses: there may be no such image.
    pub async fn create_from_image(&self, image: &str, name: &str) -> Result<String, EngineError> {
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let body = ContainerCreateBody { image: Some(image.to_owned()), ..Default::default() };
        let request = self.client.create_container(Some(options), body);
        Ok(self.patient().ask(&format!("create a container of image `{image}`"), request).await?.id)
    }

    /// Writes the files of a container, running or not, as a tar archive.
    ///
    /// # Errors
    /// When the engine refuses, or `out` takes no more.
    pub async fn export(&self, id: &str, out: &mut impl Write) -> Result<(), EngineError> {
        let exported = async {
            let mut stream = std::pin::pin!(self.client.export_container(id));
            while let Some(part) = stream.next().await {
                out.write_all(&part?)?;
            }
            Ok(())
        };
        self.patient().ask(&format!("export container `{id}`"), exported).await
    }

    /// The programs that a container is configured to execute: of its entry point, of its command, and of its health
    /// check. An entry point may execute its arguments, so the command's first word counts. Hostile text.
    ///
    /// # Errors
    /// When there is no such container, or the engine does not answer.
    pub async fn programs(&self, id: &str) -> Result<Vec<String>, EngineError> {
        let config = self.inspected(id).await?.config.unwrap_or_default();
        let mut programs = Vec::new();
        for words in [config.entrypoint, config.cmd].into_iter().flatten() {
            programs.extend(words.into_iter().next());
        }
        let test = config.healthcheck.and_then(|check| check.test).unwrap_or_default();
        match test.first().map(String::as_str) {
            Some(SHELL) => programs.push("/bin/sh".to_owned()),
            Some(EXECUTED) => programs.extend(test.into_iter().nth(1)),
            _ => {}
        }
        Ok(programs)
    }
}
