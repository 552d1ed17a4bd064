//! What each binary of the workspace needs: the signals that stop it, its answer, its exit code, an error with its sources.

pub mod answer;
pub mod error;
mod exit;
pub mod signals;

pub use exit::exit;
