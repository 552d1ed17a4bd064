//! Ports: the original demo's, or free ones; and who has a busy one.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::home::command;
use crate::parts::routes::ROUTES;

/// How long the parts of a stack that was killed may take to let go of a port.
const GRACE: Duration = Duration::from_secs(2);
/// How often a busy port is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Where free ports are looked for: below those (from 32768) that the kernel gives to outgoing connections. One of
/// those could be gone before its part is up, and a client that waits for it could even connect to itself.
const FREE: Range<u16> = 10_000..29_000;
/// How many ports are tried.
const TRIES: usize = 1000;

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
    /// The original demo's ports, and two of our own: the controller's and the worker's health.
    #[must_use]
    pub fn seed() -> Self {
        ROUTES.ports.clone()
    }

    /// The ports of a stack that is kept, as `STACK_PORTS` says: `seed`, the default, or `free`. Free ones are chosen
    /// once and kept in the file `kept`, so that a stack is found again where it was.
    ///
    /// # Errors
    /// If it says something else; or the first port that is busy, and who has it.
    pub fn asked_for(kept: &Path) -> Result<Self> {
        let asked = std::env::var("STACK_PORTS").unwrap_or_default();
        match asked.as_str() {
            "" | "seed" => Self::seed(),
            "free" => Self::kept(kept)?,
            other => bail!("STACK_PORTS is {other:?}; it may be `seed` or `free`"),
        }
        .unused()
    }

    fn kept(file: &Path) -> Result<Self> {
        if let Ok(text) = fs::read(file) {
            return serde_json::from_slice(&text).with_context(|| {
                format!("{} names no ports; remove it and try again", file.display())
            });
        }
        let (ports, fresh) = (Self::free()?, file.with_extension("new"));
        fs::write(&fresh, serde_json::to_vec_pretty(&ports)?)
            .and_then(|()| fs::rename(&fresh, file))
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(ports)
    }

    /// Nobody has one of them.
    fn unused(self) -> Result<Self> {
        for (port, part) in [
            (self.inventory_db, "PostgreSQL with inventory_db"),
            (self.order_db, "PostgreSQL with order_db"),
            (self.kafka, "Kafka"),
            (self.kafka_internal, "Kafka (internal)"),
            (self.kafka_controller, "Kafka (controller)"),
            (self.connect, "Kafka Connect"),
            (self.order, "the Order Service"),
            (self.inventory, "the Inventory Service"),
            (self.worker, "the Inventory Worker"),
        ] {
            if !free_within(port, GRACE) {
                let owner = owner(port)
                    .unwrap_or_else(|| "a process that cannot be seen from here".to_owned());
                bail!(
                    "port {port}, for {part}, is taken by {owner}. Stop it and try again; if it is an earlier \
                     run of this, `{} down` stops it",
                    command()
                );
            }
        }
        Ok(self)
    }

    /// Ports that nobody has at this moment.
    ///
    /// # Errors
    /// If there are none.
    pub fn free() -> Result<Self> {
        // All are held until the last one is known, so that they differ.
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

/// Whether nobody has the port, or whoever has it lets go of it in time.
fn free_within(port: u16, grace: Duration) -> bool {
    let deadline = Instant::now() + grace;
    while TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

/// A port that nobody has at this moment.
///
/// # Errors
/// If there is none.
pub fn free() -> Result<u16> {
    hold().map(|(port, _)| port)
}

/// A port, and what holds it until it is dropped.
fn hold() -> Result<(u16, TcpListener)> {
    let span = u128::from(FREE.end - FREE.start);
    let tried = (0..TRIES).find_map(|_| {
        let step = u16::try_from(uuid::Uuid::new_v4().as_u128() % span).ok()?;
        let port = FREE.start + step;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        Some((port, listener))
    });
    tried.with_context(|| format!("no free port from {} to {}", FREE.start, FREE.end))
}

/// The process that listens at `port`: its id and its command.
fn owner(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|table| fs::read_to_string(table).unwrap_or_default());
    let inode = tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .find_map(|line| {
            // Number, local address, remote address, state (0A: listens), five more, inode.
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (_, hex) = columns.get(1)?.rsplit_once(':')?;
            let found = columns.get(3) == Some(&"0A") && u16::from_str_radix(hex, 16) == Ok(port);
            if found { columns.get(9).copied() } else { None }
        })?;
    let socket = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        // `self` and its like are processes under a second name.
        if process
            .file_name()
            .to_string_lossy()
            .parse::<u32>()
            .is_err()
        {
            continue;
        }
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let mut links = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok());
        if links.any(|link| link.as_os_str() == socket.as_str()) {
            let id = process.file_name().to_string_lossy().into_owned();
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {id} ({})", command.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The original demo's clients know these.
    #[test]
    fn the_original_demos_ports_are_the_seeds() {
        let Ports {
            inventory_db,
            order_db,
            kafka,
            kafka_internal,
            connect,
            order,
            inventory,
            ..
        } = Ports::seed();
        let ports = [
            inventory_db,
            order_db,
            kafka,
            kafka_internal,
            connect,
            order,
            inventory,
        ];
        assert_eq!(ports, [5432, 5433, 29092, 9092, 8083, 9000, 8000]);
    }

    #[test]
    fn the_owner_of_a_busy_port_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let owner = owner(taken.local_addr().unwrap().port()).unwrap();
        assert!(owner.contains(&std::process::id().to_string()), "{owner}");
    }
}
