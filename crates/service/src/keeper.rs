//! A service's keeper in its readiness.

use outbox::keeper::{Limits, Observation};
use tokio::sync::watch;

use crate::health::{Health, Report};

impl Health {
    /// Adds a check `outbox`: what the keeper observes, with warnings beyond `limits`. It never fails.
    #[must_use]
    pub fn with_outbox(self, observation: watch::Receiver<Observation>, limits: Limits) -> Self {
        self.with("outbox", move || {
            let observation = observation.borrow().clone();
            async move { Report::warnings(observation.warnings(&limits)).with_facts(&observation) }
        })
    }
}
