//! The options of the commands over a selection of dead letters.

use std::num::NonZeroUsize;

use outbox::listener::dead_letter::Filter;

use super::output::Output;
use super::selection::Selection;

/// Which dead letters, how many, and in which form. A command sets the default and the help that differ.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    selection: Selection,
    /// At most so many
    #[arg(long, default_value = "1000")]
    pub(super) most: NonZeroUsize,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Options {
    /// Matches the selection.
    pub(super) fn filter(&self) -> Filter {
        self.selection.filter()
    }

    /// The answer, written to `to`.
    pub(super) fn output<W>(&self, to: W) -> Output<W> {
        Output {
            to,
            json: self.json,
        }
    }
}
