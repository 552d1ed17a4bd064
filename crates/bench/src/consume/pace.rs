//! How fast messages are settled.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// Measures from the end of the first batch to the end of the last: joining the group takes seconds.
#[derive(Default)]
pub(super) struct Pace {
    first: Option<(Instant, u64)>,
    last: Option<(Instant, u64)>,
}

impl Pace {
    /// Records that `settled` messages are settled now.
    pub(super) fn record(&mut self, settled: u64) {
        let now = (Instant::now(), settled);
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// Messages a second.
    pub(super) fn rate(&self) -> Result<f64> {
        let ((began, few), (ended, all)) =
            self.first.zip(self.last).context("no batch was settled")?;
        ensure!(all > few, "a single batch has no rate");
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let messages = (all - few) as f64;
        Ok(messages / (ended - began).as_secs_f64())
    }
}
