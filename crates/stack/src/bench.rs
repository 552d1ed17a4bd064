//! Measurements, each both ways in one run: what is shown is the ratio.

pub mod consume;
pub mod flush;
