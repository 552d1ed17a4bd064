//! The inventory context: products, their stock, and one decision an order.

pub mod config;
pub mod db;
pub mod domain;
pub mod http;
mod serve;
pub mod stock;

pub use serve::serve;
