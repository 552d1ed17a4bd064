//! The listener's handler: what inventory decided becomes the order's status.

use std::collections::BTreeMap;

use events::ReservationEvent;
use outbox::Outgoing;
use outbox::listener::{Failure, Handler, Received, Refusal};
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::db;
use crate::domain::Outcome;

/// The handler of topic `reservation`.
#[derive(Debug, Clone, Copy)]
pub struct Outcomes;

impl Handler for Outcomes {
    type Event = ReservationEvent;

    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<ReservationEvent>],
    ) -> Result<Vec<Outgoing>, Failure> {
        let mut outcomes: BTreeMap<Uuid, Outcome> = BTreeMap::new();
        for received in batch {
            let (order, outcome) = outcome(&received.event);
            // An order has one outcome; the first one stands.
            outcomes.entry(order).or_insert(outcome);
        }
        let known = db::lock(tx, &outcomes.keys().copied().collect::<Vec<_>>()).await?;
        let refused: Vec<Refusal> = batch
            .iter()
            .filter_map(|received| {
                let (order, _) = outcome(&received.event);
                // The outcome may arrive before the order is visible: a commit reaches the log before other transactions see it.
                (!known.contains(&order))
                    .then(|| Refusal::deferred(received.id, format!("there is no order {order}")))
            })
            .collect();
        if !refused.is_empty() {
            return Err(Failure::Refused(refused));
        }
        db::settle(tx, &outcomes).await?;
        Ok(Vec::new())
    }
}

fn outcome(event: &ReservationEvent) -> (Uuid, Outcome) {
    match event {
        ReservationEvent::Placed(placed) => (placed.order_id, Outcome::Confirmed),
        ReservationEvent::Rejected(rejected) => {
            (rejected.order_id, Outcome::Rejected(rejected.reason))
        }
    }
}
