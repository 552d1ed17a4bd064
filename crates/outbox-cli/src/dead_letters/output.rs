//! What a command writes.

use std::io::{self, Write};

use outbox::listener::dead_letter::DeadLetter;
use program::answer;
use serde_json::{Value, json};

use super::display;

/// The answer of a command: text for an operator, or one JSON object for a program. Each line locks standard output for itself.
pub(super) struct Output<W> {
    pub(super) to: W,
    pub(super) json: bool,
}

impl<W: Write> Output<W> {
    /// Writes a line of text; nothing if JSON was asked for.
    pub(super) fn line(&mut self, text: impl FnOnce() -> String) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        answer::write(&mut self.to, &text())
    }

    /// Writes a question. A reader that closed the pipe could not know what to answer, so that is an error.
    pub(super) fn question(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.to, "{text}")
    }

    /// Writes the JSON object, if JSON was asked for.
    pub(super) fn json(&mut self, value: impl FnOnce() -> Value) -> io::Result<()> {
        if self.json {
            answer::write(&mut self.to, &value().to_string())?;
        }
        Ok(())
    }

    /// A dead letter without its message, as a row of a list.
    pub(super) fn row(&self, dead_letter: &DeadLetter) -> Value {
        if self.json {
            display::json(dead_letter)
        } else {
            display::line(dead_letter).into()
        }
    }

    /// Writes the rows of a list, what there is to say about all of them, and whether there are more.
    pub(super) fn list(&mut self, rows: &[Value], more: bool, summary: &str) -> io::Result<()> {
        for row in rows {
            self.line(|| row.as_str().unwrap_or_default().to_owned())?;
        }
        self.line(|| summary.to_owned())?;
        self.json(|| json!({ "dead_letters": rows, "more": more }))
    }
}

/// The number of dead letters, and whether `--most` left out more.
pub(super) fn count(count: usize, more: bool) -> String {
    let dead_letters = if count == 1 {
        "dead letter"
    } else {
        "dead letters"
    };
    let more = if more {
        " (there are more, see --most)"
    } else {
        ""
    };
    format!("{count} {dead_letters}{more}")
}
