//! Giving letters up.

use std::io::Write;
use std::process::ExitCode;

use outbox::listener::Handler;
use outbox::listener::letters::Letters;
use serde_json::json;

use crate::{Chosen, Error, Output, STAYS, shown};

/// Drops `chosen`, the first of a key last: once it is gone, the running listener tries what waits behind it.
pub(crate) async fn drop_all<H: Handler, W: Write>(
    letters: &Letters<H>,
    chosen: &[Chosen],
    reason: &str,
    output: &mut Output<W>,
) -> Result<ExitCode, Error> {
    let (mut dropped, mut gone, mut failed) = (Vec::new(), Vec::new(), None);
    for letter in chosen.iter().rev() {
        let (id, name) = (letter.id, &letter.name);
        match letters.drop(id, reason).await {
            Ok(true) => {
                output.line(|| format!("dropped  {name}"))?;
                dropped.push(id);
            }
            // Somebody was faster, such as the listener itself.
            Ok(false) => {
                output.line(|| format!("gone     {name}"))?;
                gone.push(id);
            }
            // The connection broke before the answer came, perhaps.
            Err(source) if matches!(letters.find(id).await, Ok(None)) => {
                output.line(|| {
                    let source = shown::plain(&source.to_string());
                    format!("gone     {name}, perhaps by this command: {source}")
                })?;
                gone.push(id);
            }
            // The first letters of its key are not to go before it.
            Err(source) => {
                failed = Some(Error::Drop { id, source });
                break;
            }
        }
    }
    output.line(|| match (dropped.len(), gone.len()) {
        _ if chosen.is_empty() => "no letters".to_owned(),
        (dropped, gone) => {
            format!("{dropped} dropped, {gone} gone; the dropped ones are kept in dropped_letter")
        }
    })?;
    output.json(|| json!({ "dropped": dropped, "gone": gone }))?;
    match failed {
        Some(error) => Err(error),
        None if chosen.is_empty() || !gone.is_empty() => Ok(STAYS.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}
