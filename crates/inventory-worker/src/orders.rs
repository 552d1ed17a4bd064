//! The handler of topic `order`: applies its events to the stock.

use events::{OrderEvent, OrderPlaced};
use inventory::stock;
use outbox::Outgoing;
use outbox::listener::{Failure, Handler, Received, Refusal};
use sqlx::postgres::PgTransaction;

/// The handler of topic `order`.
#[derive(Debug, Clone, Copy)]
pub struct Orders;

impl Handler for Orders {
    type Event = OrderEvent;

    async fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<OrderEvent>],
    ) -> Result<Vec<Outgoing>, Failure> {
        let orders: Vec<&OrderPlaced> = batch
            .iter()
            .map(|received| match &received.event {
                OrderEvent::Placed(placed) => placed,
            })
            .collect();
        let outcomes = stock::apply(tx, &orders)
            .await
            .map_err(|error| match error {
                stock::Error::Invalid(invalid) => {
                    let refusal = |(index, why): (usize, _)| Refusal::poison(batch[index].id, why);
                    Failure::Refused(invalid.into_iter().map(refusal).collect())
                }
                error @ stock::Error::DecidedMeanwhile => Failure::Transient(error.into()),
                stock::Error::Database(error) => error.into(),
            })?;
        Ok(outcomes
            .iter()
            .map(Outgoing::new)
            .collect::<Result<_, _>>()?)
    }
}
