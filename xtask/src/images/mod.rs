//! Container images made on this machine, with no registry.
//!
//! Owns how images are made and when they are made again. It knows no engine: whoever has images
//! to keep implements [`Store`], and [`Builder`] to have all of them.

mod archive;
mod catalogue;
mod context;
mod rootfs;

pub use catalogue::{ensure, ensure_first};
pub use context::build_arguments;

use anyhow::Result;
use camino::Utf8Path;

/// The label that holds the hash of what an image was made from.
pub const RECIPE: &str = "profiler.recipe";

/// An engine's store of images.
pub trait Store: Sync {
    /// The value of [`RECIPE`] on `image`; `None` when there is no such image.
    fn recipe(&self, image: &str) -> Result<Option<String>>;
    /// Loads a docker-archive.
    fn load(&self, archive: &Utf8Path) -> Result<()>;
}

/// A store whose engine can build images.
pub trait Builder: Store {
    /// Builds `image` from a directory with a Dockerfile, with build arguments, and labels it.
    fn build(
        &self,
        image: &str,
        context: &Utf8Path,
        arguments: &[(String, String)],
        recipe: &str,
    ) -> Result<()>;
}
