//! `cargo xtask engines`: arguments and dispatch.

use anyhow::{Result, bail};
use camino::Utf8PathBuf;
use clap::Subcommand;

use super::{
    Engine, cgroups,
    containerd::Containerd,
    docker::{Docker, Edition},
    place::Place,
    podman::Podman,
};
use crate::sh::root;

/// Arguments of `engines`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Install, start and fill engines; prints what to export.
    Up(Which),
    /// Stop engines and restore what they changed on the machine. Images are kept.
    Down(Which),
    /// One line an engine.
    Status(Which),
}

#[derive(clap::Args)]
struct Which {
    /// Names of engines; all when none is given.
    #[arg(value_name = "ENGINE")]
    names: Vec<String>,
}

/// Where engines live: `target/engines` of this checkout.
pub fn home() -> Utf8PathBuf {
    root().join("target/engines")
}

/// Runs the verb.
///
/// # Errors
/// When an engine is unknown or cannot be installed, started or stopped.
pub fn run(args: &Args) -> Result<()> {
    match &args.action {
        Action::Up(which) => {
            let _alone = lock()?;
            for engine in chosen(which)? {
                for (name, value) in engine.up()? {
                    println!("export {name}={value}");
                }
            }
        }
        Action::Down(which) => {
            let _alone = lock()?;
            for engine in chosen(which)?.iter().rev() {
                engine.down()?;
            }
        }
        Action::Status(which) => {
            for engine in chosen(which)? {
                println!("{}: {}", engine.name(), engine.status()?);
            }
        }
    }
    Ok(())
}

/// The engines that this machine can have. The first is the one that most tests use.
fn known() -> Result<Vec<Box<dyn Engine>>> {
    let home = &home();
    let mut known: Vec<Box<dyn Engine>> = vec![
        Box::new(Docker::new(home, Edition::Whole)?),
        Box::new(Containerd::engine("containerd", home, Place::Machine)),
    ];
    if cgroups::machine_has_v1()? {
        known.push(Box::new(Podman::new("podman", home, Place::Machine, "runc")));
    }
    if cgroups::unified().is_ok() {
        let own = |name: &str| Place::own(&home.join(name));
        known.push(Box::new(Docker::new(home, Edition::Cgroup2)?));
        known.push(Box::new(Docker::new(home, Edition::Trixie)?));
        known.push(Box::new(Podman::new("podman-cgroup2", home, own("podman-cgroup2")?, "crun")));
        let containerd = "containerd-cgroup2";
        known.push(Box::new(Containerd::engine(containerd, home, own(containerd)?)));
    }
    Ok(known)
}

fn chosen(which: &Which) -> Result<Vec<Box<dyn Engine>>> {
    let mut known = known()?;
    let names: Vec<&str> = known.iter().map(|engine| engine.name()).collect();
    if let Some(unknown) = which.names.iter().find(|name| !names.contains(&name.as_str())) {
        bail!(
            "no such engine: `{unknown}` (known: {0})\nhint: cargo xtask engines up {0}",
            names.join(" ")
        );
    }
    known.retain(|e| which.names.is_empty() || which.names.iter().any(|name| name == e.name()));
    Ok(known)
}

/// Held while the machine is changed: two `up` at once wait for one another.
fn lock() -> Result<std::fs::File> {
    fs_err::create_dir_all(home())?;
    let file = fs_err::File::create(home().join("lock"))?.into_parts().0;
    file.lock()?;
    Ok(file)
}
