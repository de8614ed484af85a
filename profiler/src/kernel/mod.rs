//! Placeholder paragraph, replaced with the module.
