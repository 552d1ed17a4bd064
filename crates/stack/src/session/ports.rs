//! The ports of the kept stack, as `STACK_PORTS` chooses them.

mod owner;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::owner::owner;
use crate::home::command;
use crate::parts::routes::ROUTES;
use crate::ports::Ports;
use crate::replace::{Readers, replace};

/// How long the processes of a killed stack may take to release a port.
const GRACE: Duration = Duration::from_secs(2);
/// The wait between two attempts to bind a busy port.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The ports that `STACK_PORTS` chooses: `default`, which is also the choice if it is not set, or `free`. Free ports are
/// chosen once and stored in the file `kept`, so that a stack keeps its addresses.
///
/// # Errors
/// If `STACK_PORTS` has another value, or a port is busy: the error names its owner.
pub(super) fn chosen(kept: &Path) -> Result<Ports> {
    let choice = std::env::var("STACK_PORTS").unwrap_or_default();
    let ports = match choice.as_str() {
        "" | "default" => default(),
        "free" => stored(kept)?,
        other => bail!("STACK_PORTS is {other:?}; it must be `default` or `free`"),
    };
    refuse_busy(&ports)?;
    Ok(ports)
}

/// The original demo's ports, one for Kafka's controller and one for the worker's health.
fn default() -> Ports {
    ROUTES.ports.clone()
}

fn stored(file: &Path) -> Result<Ports> {
    if let Ok(text) = fs::read(file) {
        return serde_json::from_slice(&text).with_context(|| {
            format!("{} names no ports; remove it and try again", file.display())
        });
    }
    let ports = Ports::free()?;
    replace(file, &serde_json::to_vec_pretty(&ports)?, Readers::Everyone)?;
    Ok(ports)
}

fn refuse_busy(ports: &Ports) -> Result<()> {
    for (port, part) in [
        (ports.inventory_db, "PostgreSQL with inventory_db"),
        (ports.order_db, "PostgreSQL with order_db"),
        (ports.kafka, "Kafka"),
        (ports.kafka_internal, "Kafka (internal)"),
        (ports.kafka_controller, "Kafka (controller)"),
        (ports.connect, "Kafka Connect"),
        (ports.order, "the Order Service"),
        (ports.inventory, "the Inventory Service"),
        (ports.worker, "the Inventory Worker"),
    ] {
        if !free_within(port, GRACE) {
            let owner = owner(port).unwrap_or_else(|| "another user's process".to_owned());
            bail!(
                "port {port}, for {part}, is taken by {owner}; stop that process and try again (`{} down` stops an \
                 earlier stack)",
                command()
            );
        }
    }
    Ok(())
}

/// Whether the port is free, or its owner releases it in time.
fn free_within(port: u16, grace: Duration) -> bool {
    let deadline = Instant::now() + grace;
    while TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_ports_are_the_original_demos() {
        let ports = default();
        let ports = [
            ports.inventory_db,
            ports.order_db,
            ports.kafka,
            ports.kafka_internal,
            ports.connect,
            ports.order,
            ports.inventory,
        ];
        assert_eq!(ports, [5432, 5433, 29092, 9092, 8083, 9000, 8000]);
    }
}
