//! Measurements, each both ways in one run: what is shown is the ratio.

pub mod consume;
pub mod flush;

use anyhow::Result;

use crate::description::Description;
use crate::session::Home;
use crate::stack::interrupted;

/// Measures on a stack that is started for it and stopped after it.
async fn on_stack<T>(
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

/// A figure of each round, in order of size.
fn sorted<R>(rounds: &[R], figure: impl Fn(&R) -> f64) -> Vec<f64> {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures
}
