//! Which images there are, in which order they are made, and whether one is out of date.

use std::sync::{
    LazyLock, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result, bail};
use camino::Utf8Path;

use super::{Builder, Store, archive, context, rootfs};
use crate::sh::{root, say};

/// The image that needs nothing but busybox: there within a second.
const BUSYBOX: &str = "localhost/busybox:1";
/// The base of all built images.
const DEBIAN: &str = "localhost/debian:bookworm";
/// Built from `tests/images/NAME`, each as `localhost/NAME:1`.
const BUILT: [&str; 5] = ["postgres", "flask", "node", "nginx", "redis"];
/// Installing packages waits for the mirror half of the time.
const BUILDERS: usize = 2;

/// Makes sure of the image that is there at once, so that the engine is useful early.
///
/// # Errors
/// When it cannot be made or loaded.
pub fn ensure_first(store: &dyn Store, work: &Utf8Path) -> Result<()> {
    let recipe = rootfs::busybox_recipe()?;
    ensure_base(store, work, BUSYBOX, "/bin/sh", &recipe, rootfs::busybox)
}

/// Makes sure that `store` has every image, made from what it would be made from now. `work` is a
/// directory for intermediate files; archives in it are used again.
///
/// # Errors
/// When an image cannot be made; every failure is named, not only the first.
pub fn ensure(store: &dyn Builder, work: &Utf8Path) -> Result<()> {
    ensure_first(store, work)?;
    let base = rootfs::debian_recipe()?;
    ensure_base(store, work, DEBIAN, "/bin/bash", &base, |out| rootfs::debian(work, out))?;

    // Asking pip takes half a second: only when something is built.
    let arguments: LazyLock<Vec<(String, String)>> = LazyLock::new(context::build_arguments);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..BUILDERS {
            scope.spawn(|| {
                while let Some(name) = BUILT.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = ensure_built(store, name, &base, &arguments) {
                        failures.lock().expect("no panic above").push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic above");
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

fn ensure_base(
    store: &dyn Store,
    work: &Utf8Path,
    name: &str,
    command: &str,
    recipe: &str,
    make: impl FnOnce(&Utf8Path) -> Result<()>,
) -> Result<()> {
    if store.recipe(name)?.as_deref() == Some(recipe) {
        return Ok(());
    }
    let short = name.trim_start_matches("localhost/").replace(':', "-");
    let file = work.join(format!("{short}-{}.tar", &recipe[..12]));
    if !file.exists() {
        say(format!("engines: making `{name}`"));
        fs_err::create_dir_all(work)?;
        let layer = work.join(format!("{short}.layer"));
        make(&layer).with_context(|| format!("cannot make `{name}`"))?;
        archive::write(&archive::Image { name, command, recipe }, &layer, &file)?;
        fs_err::remove_file(&layer)?;
    }
    store.load(&file)
}

fn ensure_built(
    store: &dyn Builder,
    name: &str,
    base: &str,
    arguments: &LazyLock<Vec<(String, String)>>,
) -> Result<()> {
    let image = format!("localhost/{name}:1");
    let dir = root().join("tests/images").join(name);
    let recipe = context::recipe(&dir, base)?;
    if store.recipe(&image)?.as_deref() == Some(&recipe) {
        return Ok(());
    }
    say(format!("engines: building `{image}`"));
    store.build(&image, &dir, arguments, &recipe).with_context(|| format!("cannot build `{image}`"))
}
