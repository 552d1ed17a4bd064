//! An error with its sources, as text.

use std::error::Error;

/// The error and its sources in one line, joined by `: `, as a log field.
///
/// ```
/// let refused = std::io::Error::other("connection refused");
/// let error = sources::Unreachable(refused);
/// assert_eq!(program::error::one_line(&error), "no answer: connection refused");
/// # mod sources {
/// #     #[derive(Debug)]
/// #     pub struct Unreachable(pub std::io::Error);
/// #     impl std::fmt::Display for Unreachable {
/// #         fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { to.write_str("no answer") }
/// #     }
/// #     impl std::error::Error for Unreachable {
/// #         fn source(&self) -> Option<&(dyn std::error::Error + 'static)> { Some(&self.0) }
/// #     }
/// # }
/// ```
#[must_use]
pub fn one_line(error: &dyn Error) -> String {
    joined(error, ": ")
}

/// The error and its sources, with `separator` before each source. It leaves out a source that its error's text ends with.
pub(crate) fn joined(error: &dyn Error, separator: &str) -> String {
    let sources = std::iter::successors(error.source(), |&error| error.source());
    sources.fold(error.to_string(), |text, source| {
        let source = source.to_string();
        if text.ends_with(&source) {
            text
        } else {
            format!("{text}{separator}{source}")
        }
    })
}
