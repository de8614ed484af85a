//! `merge`, `diff`, `generate --into` and `git`, as they are typed.

mod files;
mod git;
mod place;
