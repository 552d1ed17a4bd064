//! The published language: the events of both contexts, as they are in Kafka, and nothing else.

use chrono::{DateTime, Utc};
use outbox::Event;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Events about an order, on topic `order`, keyed by the order's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
pub enum OrderEvent {
    /// A customer has placed an order.
    #[serde(rename = "order.placed")]
    Placed(OrderPlaced),
}

/// A customer has placed an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPlaced {
    /// The event's id.
    pub event_id: Uuid,
    /// The order's id.
    pub order_id: Uuid,
    /// The product that is ordered.
    pub item_id: Uuid,
    /// Pieces, at least 1.
    pub quantity: i32,
    /// The price per piece that the customer was shown, at least 1.
    pub estimated_price: i32,
    /// When the order was placed.
    pub placed_at: DateTime<Utc>,
}

impl Event for OrderEvent {
    const AGGREGATE_TYPE: &'static str = "order";

    fn id(&self) -> Uuid {
        let Self::Placed(placed) = self;
        placed.event_id
    }

    fn aggregate_id(&self) -> String {
        let Self::Placed(placed) = self;
        placed.order_id.to_string()
    }
}

/// Outcomes of an order, on topic `reservation`, keyed by the order's id; of one topic, so that they stay in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "payload")]
pub enum ReservationEvent {
    /// Stock was reserved for the order.
    #[serde(rename = "reservation.placed")]
    Placed(ReservationPlaced),
    /// The order cannot be served; an outcome, not an error.
    #[serde(rename = "reservation.rejected")]
    Rejected(ReservationRejected),
}

/// Stock was reserved for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationPlaced {
    /// The event's id.
    pub event_id: Uuid,
    /// The order that it settles.
    pub order_id: Uuid,
    /// The reservation's id.
    pub reservation_id: Uuid,
    /// The product reserved.
    pub product_id: Uuid,
    /// Pieces reserved.
    pub quantity: i32,
    /// The price per piece.
    pub price: i32,
    /// When it was reserved.
    pub reserved_at: DateTime<Utc>,
}

/// An order cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationRejected {
    /// The event's id.
    pub event_id: Uuid,
    /// The order that it settles.
    pub order_id: Uuid,
    /// The product that was asked for.
    pub product_id: Uuid,
    /// The reason and its facts.
    #[serde(flatten)]
    pub reason: Rejection,
}

/// Why an order cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Rejection {
    /// There is no such product.
    ProductNotFound,
    /// The customer was shown another price.
    PriceMismatch {
        /// The price per piece that the customer was shown.
        estimated_price: i32,
        /// The price per piece.
        actual_price: i32,
    },
    /// There are fewer pieces than were ordered.
    InsufficientStock {
        /// Pieces ordered.
        requested: i32,
        /// The pieces in stock.
        available: i32,
    },
}

impl Rejection {
    /// The reason, as it is published.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ProductNotFound => "product_not_found",
            Self::PriceMismatch { .. } => "price_mismatch",
            Self::InsufficientStock { .. } => "insufficient_stock",
        }
    }
}

impl Event for ReservationEvent {
    const AGGREGATE_TYPE: &'static str = "reservation";

    fn id(&self) -> Uuid {
        match self {
            Self::Placed(placed) => placed.event_id,
            Self::Rejected(rejected) => rejected.event_id,
        }
    }

    fn aggregate_id(&self) -> String {
        match self {
            Self::Placed(placed) => placed.order_id.to_string(),
            Self::Rejected(rejected) => rejected.order_id.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "00000000-0000-0000-0000-000000000001";

    #[test]
    fn order_placed_is_the_original_demos_payload() {
        let event = json!({
            "type": "order.placed",
            "payload": {
                "event_id": ID, "order_id": ID, "item_id": ID, "quantity": 2, "estimated_price": 1500,
                "placed_at": "2026-01-02T03:04:05.678901Z"
            }
        });
        let typed: OrderEvent = serde_json::from_value(event.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), event);
    }

    #[test]
    fn a_rejection_names_its_reason_and_its_facts() {
        let facts = [
            json!({ "reason": "product_not_found" }),
            json!({ "reason": "price_mismatch", "estimated_price": 1, "actual_price": 2 }),
            json!({ "reason": "insufficient_stock", "requested": 3, "available": 2 }),
        ];
        for fact in facts {
            let mut payload = json!({ "event_id": ID, "order_id": ID, "product_id": ID });
            payload
                .as_object_mut()
                .unwrap()
                .extend(fact.as_object().unwrap().clone());
            let event = json!({ "type": "reservation.rejected", "payload": payload });
            let typed: ReservationEvent = serde_json::from_value(event.clone()).unwrap();
            assert_eq!(serde_json::to_value(&typed).unwrap(), event);
            let ReservationEvent::Rejected(rejected) = typed else {
                panic!("{typed:?} is no rejection");
            };
            assert_eq!(fact["reason"], rejected.reason.reason());
        }
    }
}
