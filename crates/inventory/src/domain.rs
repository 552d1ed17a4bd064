//! The stock domain: which orders get their reservation. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use events::{OrderPlaced, Rejection};
use uuid::Uuid;

/// A product, its row locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stocked {
    /// Price per piece.
    pub price: i32,
    /// The pieces in stock, at least 0.
    pub stock: i32,
}

/// An order that inventory is asked to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The order's id.
    pub order_id: Uuid,
    /// The product that is ordered.
    pub product_id: Uuid,
    /// Pieces, at least 1.
    pub quantity: i32,
    /// The price per piece that the customer was shown.
    pub estimated_price: i32,
}

/// An event without a decision: poison.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Less than one piece is ordered.
    #[error("quantity is {0}, but must be at least 1")]
    Quantity(i32),
    /// An id is the nil UUID.
    #[error("{0} is the nil UUID")]
    Nil(&'static str),
}

impl Request {
    /// The request in an `order.placed`.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn parse(placed: &OrderPlaced) -> Result<Self, Invalid> {
        if placed.order_id.is_nil() {
            return Err(Invalid::Nil("order_id"));
        }
        if placed.item_id.is_nil() {
            return Err(Invalid::Nil("item_id"));
        }
        if placed.quantity < 1 {
            return Err(Invalid::Quantity(placed.quantity));
        }
        Ok(Self {
            order_id: placed.order_id,
            product_id: placed.item_id,
            quantity: placed.quantity,
            estimated_price: placed.estimated_price,
        })
    }
}

/// What inventory decides about an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Inventory reserves the pieces, at this price per piece.
    Placed {
        /// Price per piece.
        price: i32,
    },
    /// Inventory cannot serve the order.
    Rejected(Rejection),
}

impl Outcome {
    /// The reason of a rejection.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Placed { .. } => None,
            Self::Rejected(rejection) => Some(rejection.reason()),
        }
    }
}

/// A request and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The request.
    pub request: &'a Request,
    /// Its outcome.
    pub outcome: Outcome,
}

/// Decides `requests` in their order against `products`, each at most once an order: it leaves out an order
/// in `decided`, or that came earlier in `requests`.
#[must_use]
pub fn decide<'a>(
    products: &BTreeMap<Uuid, Stocked>,
    decided: &BTreeSet<Uuid>,
    requests: &'a [Request],
) -> Vec<Decision<'a>> {
    let mut left: BTreeMap<Uuid, i32> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    requests
        .iter()
        .filter(|request| !decided.contains(&request.order_id) && seen.insert(request.order_id))
        .map(|request| {
            let outcome = match products.get(&request.product_id) {
                None => Outcome::Rejected(Rejection::ProductNotFound),
                Some(product) => {
                    let left = left.entry(request.product_id).or_insert(product.stock);
                    reserve(request, product.price, left)
                }
            };
            Decision { request, outcome }
        })
        .collect()
}

fn reserve(request: &Request, price: i32, left: &mut i32) -> Outcome {
    if request.estimated_price != price {
        return Outcome::Rejected(Rejection::PriceMismatch {
            estimated_price: request.estimated_price,
            actual_price: price,
        });
    }
    if request.quantity > *left {
        return Outcome::Rejected(Rejection::InsufficientStock {
            requested: request.quantity,
            available: *left,
        });
    }
    *left -= request.quantity;
    Outcome::Placed { price }
}

/// Pieces taken per product, in product order.
#[must_use]
pub fn taken(decisions: &[Decision<'_>]) -> BTreeMap<Uuid, i32> {
    let mut taken = BTreeMap::new();
    for Decision { request, outcome } in decisions {
        if matches!(outcome, Outcome::Placed { .. }) {
            *taken.entry(request.product_id).or_insert(0) += request.quantity;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCT: Uuid = Uuid::from_u128(1);

    fn request(order: u128, quantity: i32) -> Request {
        Request {
            order_id: Uuid::from_u128(order),
            product_id: PRODUCT,
            quantity,
            estimated_price: 10,
        }
    }

    fn shelf(stock: i32) -> BTreeMap<Uuid, Stocked> {
        BTreeMap::from([(PRODUCT, Stocked { price: 10, stock })])
    }

    fn outcomes(stock: i32, requests: &[Request]) -> Vec<Outcome> {
        let decisions = decide(&shelf(stock), &BTreeSet::new(), requests);
        decisions
            .into_iter()
            .map(|decision| decision.outcome)
            .collect()
    }

    #[test]
    fn the_last_piece_goes_to_the_first_request() {
        let got = outcomes(1, &[request(1, 1), request(2, 1)]);
        let refused = Rejection::InsufficientStock {
            requested: 1,
            available: 0,
        };
        assert_eq!(
            got,
            [Outcome::Placed { price: 10 }, Outcome::Rejected(refused)]
        );
    }

    #[test]
    fn a_rejected_order_leaves_the_stock_to_the_next() {
        let got = outcomes(5, &[request(1, 6), request(2, 5)]);
        assert_eq!(got[1], Outcome::Placed { price: 10 });
    }

    #[test]
    fn a_price_mismatch_wins_over_insufficient_stock() {
        let mut wrong = request(1, 99);
        wrong.estimated_price = 11;
        let mismatch = Rejection::PriceMismatch {
            estimated_price: 11,
            actual_price: 10,
        };
        assert_eq!(outcomes(1, &[wrong]), [Outcome::Rejected(mismatch)]);
    }

    #[test]
    fn an_unknown_product_is_not_found() {
        let decisions = [request(1, 1)];
        let decisions = decide(&BTreeMap::new(), &BTreeSet::new(), &decisions);
        assert_eq!(
            decisions[0].outcome,
            Outcome::Rejected(Rejection::ProductNotFound)
        );
        assert!(taken(&decisions).is_empty());
    }

    #[test]
    fn an_order_is_decided_once() {
        let requests = [request(1, 1), request(1, 1), request(2, 1)];
        let decided = BTreeSet::from([Uuid::from_u128(2)]);
        let decisions = decide(&shelf(9), &decided, &requests);
        assert_eq!(decisions.len(), 1);
        assert_eq!(taken(&decisions), BTreeMap::from([(PRODUCT, 1)]));
    }

    #[test]
    fn an_order_for_nothing_is_invalid() {
        let placed = |quantity, order, item| OrderPlaced {
            event_id: Uuid::from_u128(1),
            order_id: Uuid::from_u128(order),
            item_id: Uuid::from_u128(item),
            quantity,
            estimated_price: 1,
            placed_at: chrono::DateTime::UNIX_EPOCH,
        };
        let parse = |placed| Request::parse(&placed);
        assert_eq!(parse(placed(0, 1, 1)), Err(Invalid::Quantity(0)));
        assert_eq!(parse(placed(1, 0, 1)), Err(Invalid::Nil("order_id")));
        assert_eq!(parse(placed(1, 1, 0)), Err(Invalid::Nil("item_id")));
        assert!(parse(placed(1, 1, 1)).is_ok());
    }
}
