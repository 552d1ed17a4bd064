//! The Inventory Worker: applies the events of topic `order` to the stock.

pub mod config;
pub mod orders;
mod serve;

pub use serve::serve;
