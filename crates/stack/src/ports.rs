//! The ports of a stack.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The range of free ports, below the ephemeral ports (from 32768) that the kernel gives to outgoing connections. One
/// of those could be taken before its part is up, and a client that waits for it could even connect to itself.
const FREE: Range<u16> = 10_000..29_000;
/// How many ports are attempted.
const ATTEMPTS: usize = 1000;

/// The ports of one stack, all on 127.0.0.1.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ports {
    /// PostgreSQL with `inventory_db`.
    pub inventory_db: u16,
    /// PostgreSQL with `order_db`.
    pub order_db: u16,
    /// Kafka, for clients.
    pub kafka: u16,
    /// Kafka, for clients over TLS; for tests only.
    pub kafka_tls: Option<u16>,
    /// Kafka, for Kafka Connect.
    pub kafka_internal: u16,
    /// Kafka's controller.
    pub kafka_controller: u16,
    /// Kafka Connect's REST interface.
    pub connect: u16,
    /// The Order Service.
    pub order: u16,
    /// The Inventory Service.
    pub inventory: u16,
    /// The Inventory Worker's health.
    pub worker: u16,
}

impl Ports {
    /// Ports that are free now.
    ///
    /// # Errors
    /// If there are too few.
    pub fn free() -> Result<Self> {
        // Each is held until the last one is chosen, so that all differ.
        let mut held = Vec::new();
        let mut next = || -> Result<u16> {
            let (port, listener) = hold()?;
            held.push(listener);
            Ok(port)
        };
        Ok(Self {
            inventory_db: next()?,
            order_db: next()?,
            kafka: next()?,
            kafka_tls: Some(next()?),
            kafka_internal: next()?,
            kafka_controller: next()?,
            connect: next()?,
            order: next()?,
            inventory: next()?,
            worker: next()?,
        })
    }
}

/// A port that is free now.
///
/// # Errors
/// If there is none.
pub fn free() -> Result<u16> {
    hold().map(|(port, _)| port)
}

/// A free port, and the listener that holds it until it is dropped.
fn hold() -> Result<(u16, TcpListener)> {
    let span = u128::from(FREE.end - FREE.start);
    let found = (0..ATTEMPTS).find_map(|_| {
        let step = u16::try_from(uuid::Uuid::new_v4().as_u128() % span).ok()?;
        let port = FREE.start + step;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        Some((port, listener))
    });
    found.with_context(|| format!("no free port from {} to {}", FREE.start, FREE.end))
}
