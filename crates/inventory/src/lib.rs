//! The inventory context: products, their stock, and one decision an order.

pub mod db;
pub mod domain;
pub mod stock;
