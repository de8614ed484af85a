//! `cargo xtask example`: applications of `examples`, recorded, hardened and compared with how they were.
//!
//! One file a part: the project under compose, what is measured of it, what must be refused, the story that ties them, and its table.

mod facts;
mod latency;
mod planted;
mod stack;
mod story;
mod table;

use anyhow::Result;
use camino::Utf8PathBuf;

/// Arguments of `example`.
#[derive(clap::Args)]
pub struct Args {
    /// Which application.
    name: Name,
    /// Write the profiles to DIR instead of `profiles/examples/NAME`.
    #[arg(long, value_name = "DIR")]
    output: Option<Utf8PathBuf>,
    /// How often each kind is started and measured, in turns.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Put the table into `examples/NAME/README.md`, and what says most into README.md.
    #[arg(long)]
    write_docs: bool,
}

/// What there is in `examples`.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Name {
    /// A task manager: PostgreSQL, Flask with gunicorn, Node.js.
    Taskapp,
}

/// Runs the verb.
///
/// # Errors
/// When the application cannot be built, does not pass its suite, or may do when hardened what it must not.
pub fn run(args: &Args) -> Result<()> {
    match args.name {
        Name::Taskapp => story::taskapp(args),
    }
}
