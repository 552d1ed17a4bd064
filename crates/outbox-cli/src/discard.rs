//! Giving dead letters up.

use std::io::Write;
use std::process::ExitCode;

use outbox::listener::Handler;
use outbox::listener::dead_letter::DeadLetters;
use serde_json::json;

use crate::{Chosen, Error, Output, STAYS, shown};

/// Discards `chosen`, the first of a key last: once it is gone, the running listener tries what waits behind it.
pub(crate) async fn discard_all<H: Handler, W: Write>(
    dead_letters: &DeadLetters<H>,
    chosen: &[Chosen],
    reason: &str,
    output: &mut Output<W>,
) -> Result<ExitCode, Error> {
    let (mut discarded, mut gone, mut failed) = (Vec::new(), Vec::new(), None);
    for dead_letter in chosen.iter().rev() {
        let (id, name) = (dead_letter.id, &dead_letter.name);
        match dead_letters.discard(id, reason).await {
            Ok(true) => {
                output.line(|| format!("discarded  {name}"))?;
                discarded.push(id);
            }
            // Somebody was faster, such as the listener itself.
            Ok(false) => {
                output.line(|| format!("gone     {name}"))?;
                gone.push(id);
            }
            // The connection broke before the answer came, perhaps.
            Err(source) if matches!(dead_letters.find(id).await, Ok(None)) => {
                output.line(|| {
                    let source = shown::plain(&source.to_string());
                    format!("gone     {name}, perhaps by this command: {source}")
                })?;
                gone.push(id);
            }
            // The first dead letters of its key are not to go before it.
            Err(source) => {
                failed = Some(Error::Discard { id, source });
                break;
            }
        }
    }
    output.line(|| match (discarded.len(), gone.len()) {
        _ if chosen.is_empty() => "no dead letters".to_owned(),
        (discarded, gone) => {
            format!(
                "{discarded} discarded, {gone} gone; the discarded ones are kept in discarded_dead_letter"
            )
        }
    })?;
    output.json(|| json!({ "discarded": discarded, "gone": gone }))?;
    match failed {
        Some(error) => Err(error),
        None if chosen.is_empty() || !gone.is_empty() => Ok(STAYS.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}
