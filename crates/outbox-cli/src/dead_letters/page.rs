//! Dead letters read up to a bound.

use outbox::listener::dead_letter::{DeadLetter, Filter};
use outbox::listener::{DeadLetters, Handler};

/// At most `most` dead letters that match `filter`, each as `of` maps it, and whether there are more. One that `of` maps to none does
/// not count. It keeps none whole: each may be as large as a message.
pub(super) async fn page<H: Handler, T>(
    dead_letters: &DeadLetters<H>,
    filter: &Filter,
    most: usize,
    of: impl FnMut(DeadLetter) -> Option<T>,
) -> Result<(Vec<T>, bool), sqlx::Error> {
    let asked = most.saturating_add(1);
    let mut found = dead_letters.list_as(filter, asked, of).await?;
    let more = found.len() > most;
    found.truncate(most);
    Ok((found, more))
}
