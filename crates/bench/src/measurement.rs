//! One measurement: a stack of its own, and the figures of its rounds.

use anyhow::Result;
use stack::description::Description;
use stack::session::Home;
use stack::stack::interrupted;

/// Starts a stack, measures on it and stops it.
pub(crate) async fn on_stack<T>(
    home: &Home,
    measure: impl AsyncFnOnce(&Description) -> Result<T>,
) -> Result<T> {
    let (stack, _guard) = home.start_ephemeral(interrupted()?).await?;
    let stop = interrupted()?;
    let measured = tokio::select! {
        measured = measure(stack.description()) => measured,
        () = stop => Err(anyhow::anyhow!("interrupted; everything is stopped")),
    };
    stack.stop().await;
    measured
}

/// One figure of each round, in ascending order.
pub(crate) fn sorted<R>(rounds: &[R], figure: impl Fn(&R) -> f64) -> Vec<f64> {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures
}
