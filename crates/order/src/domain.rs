//! Orders: what a client asks for, parsed, and what becomes of it. Pure: no I/O, no clock.

mod new_order;
mod pending;

use chrono::{DateTime, Utc};
use events::{OrderEvent, OrderPlaced, Rejection};
use uuid::Uuid;

pub use new_order::{NewOrder, Refused};
pub use pending::Pending;

/// An order that has its id and its time, before the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The order's id.
    pub id: Uuid,
    /// The id of the event that publishes it.
    pub event_id: Uuid,
    /// What was asked for.
    pub order: NewOrder,
    /// When.
    pub at: DateTime<Utc>,
}

impl Placed {
    /// The event that publishes it.
    #[must_use]
    pub fn event(&self) -> OrderEvent {
        OrderEvent::Placed(OrderPlaced {
            event_id: self.event_id,
            order_id: self.id,
            item_id: self.order.product_id,
            quantity: self.order.quantity,
            estimated_price: self.order.estimated_price,
            placed_at: self.at,
        })
    }
}

/// What inventory decided about an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Inventory has reserved the pieces.
    Confirmed,
    /// Inventory cannot serve the order.
    Rejected(Rejection),
}
