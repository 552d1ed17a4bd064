//! Orders applied to the stock, within the caller's transaction.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use events::{OrderPlaced, ReservationEvent, ReservationPlaced, ReservationRejected};
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::db;
use crate::domain::{self, Decision, Invalid, Outcome, Request};

/// Orders that the transaction does not apply. The caller must roll it back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The orders at these indexes can never be applied.
    #[error("cannot decide {} invalid event(s)", .0.len())]
    Invalid(Vec<(usize, Invalid)>),
    /// Another transaction decided one of the orders at the same time; try again.
    #[error("another transaction decided an order at the same time; try again")]
    DecidedMeanwhile,
    /// The database's error.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Decides each order once, takes its pieces off the stock, and returns the outcomes to publish, in the orders' order. An
/// order with an earlier decision changes nothing and has no outcome here.
///
/// # Errors
/// [`Error`]; the caller must roll its transaction back.
pub async fn apply(
    tx: &mut PgTransaction<'_>,
    orders: &[&OrderPlaced],
) -> Result<Vec<ReservationEvent>, Error> {
    let mut requests = Vec::with_capacity(orders.len());
    let mut invalid = Vec::new();
    for (index, placed) in orders.iter().enumerate() {
        match Request::parse(placed) {
            Ok(request) => requests.push(request),
            Err(why) => invalid.push((index, why)),
        }
    }
    if !invalid.is_empty() {
        return Err(Error::Invalid(invalid));
    }

    // The products' locks come first: the decisions of earlier transactions over the same products are then visible.
    let products: BTreeSet<Uuid> = requests.iter().map(|request| request.product_id).collect();
    let products = db::lock_products(tx, &products.into_iter().collect::<Vec<_>>()).await?;
    let order_ids: Vec<Uuid> = requests.iter().map(|request| request.order_id).collect();
    let decided = db::decided(tx, &order_ids).await?;

    let decisions = domain::decide(&products, &decided, &requests);
    let named: Vec<(Uuid, &Decision<'_>)> = decisions
        .iter()
        .map(|decision| (Uuid::now_v7(), decision))
        .collect();
    let at = Utc::now();
    if db::record_decisions(tx, &named, at).await? < named.len() as u64 {
        return Err(Error::DecidedMeanwhile);
    }
    db::take(tx, &domain::taken(&decisions)).await?;
    Ok(named
        .into_iter()
        .map(|(id, decision)| outcome(id, decision, at))
        .collect())
}

fn outcome(reservation_id: Uuid, decision: &Decision<'_>, at: DateTime<Utc>) -> ReservationEvent {
    let request = decision.request;
    let event_id = Uuid::now_v7();
    match decision.outcome {
        Outcome::Placed { price } => ReservationEvent::Placed(ReservationPlaced {
            event_id,
            order_id: request.order_id,
            reservation_id,
            product_id: request.product_id,
            quantity: request.quantity,
            price,
            reserved_at: at,
        }),
        Outcome::Rejected(reason) => ReservationEvent::Rejected(ReservationRejected {
            event_id,
            order_id: request.order_id,
            product_id: request.product_id,
            reason,
        }),
    }
}
