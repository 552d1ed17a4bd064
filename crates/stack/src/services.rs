//! The three services, used only through their commands, settings and HTTP.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::process::Command;

use crate::description::Description;
use crate::instance::{Instance, Stage};
use crate::program::Program;

/// How long a service may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A service's binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// The Order Service.
    Order,
    /// The Inventory Service.
    Inventory,
    /// The Inventory Worker.
    InventoryWorker,
}

impl Binary {
    /// The name of binary and part.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
            Self::InventoryWorker => "inventory-worker",
        }
    }

    /// Its settings for `stack` as environment variables. Secrets are paths of the files that hold them.
    #[must_use]
    pub fn settings(self, stack: &Description) -> BTreeMap<String, String> {
        let (prefix, port, database, user) = match self {
            Self::Order => ("ORDER", stack.ports.order, &stack.order_db, "order_service"),
            Self::Inventory => (
                "INVENTORY",
                stack.ports.inventory,
                &stack.inventory_db,
                "inventory_service",
            ),
            Self::InventoryWorker => (
                "INVENTORY_WORKER",
                stack.ports.worker,
                &stack.inventory_db,
                "inventory_worker",
            ),
        };
        let secret = |role: &str| database.secrets.join(role).display().to_string();
        let mut settings = BTreeMap::from([
            ("HTTP__LISTEN", format!("127.0.0.1:{port}")),
            ("DATABASE__HOST", database.host.clone()),
            ("DATABASE__PORT", database.port.to_string()),
            ("DATABASE__NAME", database.name.clone()),
            ("DATABASE__PASSWORD_FILE", secret(user)),
            // On loopback, with or without a server certificate.
            ("DATABASE__SSLMODE", "disable".to_owned()),
        ]);
        if self != Self::InventoryWorker {
            let keeper = secret(&format!("{}_keeper", self.name()));
            settings.insert("KEEPER__PASSWORD_FILE", keeper);
        }
        if self != Self::Inventory {
            settings.insert("KAFKA__BOOTSTRAP_SERVERS", stack.kafka.clone());
        }
        let named = |(key, value)| (format!("{prefix}__{key}"), value);
        settings.into_iter().map(named).collect()
    }

    /// Its settings plus those of the commands `migrate` and `connector`, which the running service never gets.
    fn owner_settings(self, stack: &Description) -> BTreeMap<String, String> {
        let context = self.name();
        let prefix = context.to_uppercase();
        let secrets = stack.order_db.secrets.display();
        let mut settings = self.settings(stack);
        settings.insert(
            format!("{prefix}__OWNER__PASSWORD_FILE"),
            format!("{secrets}/{context}_owner"),
        );
        let reference = format!("${{dir:{secrets}/connect:{context}_cdc}}");
        settings.insert(format!("{prefix}__CONNECTOR__PASSWORD"), reference);
        settings.insert(
            format!("{prefix}__CONNECTOR__PROPERTIES__DATABASE_SSLMODE"),
            "disable".to_owned(),
        );
        settings
    }
}

/// A connector as a service's command `connector` prints it.
#[derive(Debug, Deserialize)]
pub struct Connector {
    /// Its name.
    pub name: String,
    /// Its configuration.
    pub config: Map<String, Value>,
}

/// A topic as a test declares it.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partitions: i32,
    /// Replicas of each partition.
    pub replication_factor: i32,
    /// Its settings, by Kafka's names.
    pub config: BTreeMap<String, String>,
}

/// Starts a service and waits until it is ready.
///
/// # Errors
/// If it does not become ready; the error holds the last lines of its log.
pub async fn start(instance: &Instance, stack: &Description, binary: Binary) -> Result<()> {
    let path = stack.binaries.join(binary.name());
    let mut service = Program::new(binary.name(), path, &instance.logs());
    service.arguments = vec!["serve".to_owned()];
    service.environment = binary.settings(stack);
    let running = instance.start(service, Stage::Service)?;
    let url = match binary {
        Binary::Order => &stack.order_url,
        Binary::Inventory => &stack.inventory_url,
        Binary::InventoryWorker => &stack.worker_url,
    };
    running.ready(async || ready(url).await).await
}

/// Checks once that the service at `url` is ready.
///
/// # Errors
/// If it is not, or does not answer.
pub async fn ready(url: &str) -> Result<()> {
    let (ready, text) = readiness(url).await?;
    ensure!(ready, "{url} is not ready: {text}");
    Ok(())
}

/// Whether the service at `url` is ready, and the text of its answer.
///
/// # Errors
/// If it does not answer.
pub(crate) async fn readiness(url: &str) -> Result<(bool, String)> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(ANSWER_WITHIN)
        .build()?;
    let answer = client.get(format!("{url}/health/ready")).send().await?;
    let ready = answer.status().is_success();
    Ok((ready, answer.text().await?))
}

/// Brings a context's tables up to date.
///
/// # Errors
/// If the service's command fails.
pub async fn migrate(stack: &Description, binary: Binary) -> Result<()> {
    output(stack, binary, &["migrate"]).await.map(drop)
}

/// Creates the topics of a context's outbox, and gives those that exist what is declared.
///
/// # Errors
/// If the service's command fails.
pub async fn apply_topics(stack: &Description, binary: Binary) -> Result<()> {
    let arguments = ["apply-topics", "--kafka", &stack.kafka];
    output(stack, binary, &arguments).await.map(drop)
}

/// Checks that a context's database and topics have what its outbox needs.
///
/// # Errors
/// If the service's command fails.
pub async fn check_outbox(stack: &Description, binary: Binary) -> Result<()> {
    let arguments = ["check-outbox", "--kafka", &stack.kafka];
    output(stack, binary, &arguments).await.map(drop)
}

/// The connector of a context's outbox.
///
/// # Errors
/// If the service's command fails.
pub async fn connector(stack: &Description, binary: Binary) -> Result<Connector> {
    let text = output(stack, binary, &["connector"]).await?;
    serde_json::from_slice(&text)
        .with_context(|| format!("`{} connector` prints no connector", binary.name()))
}

async fn output(stack: &Description, binary: Binary, arguments: &[&str]) -> Result<Vec<u8>> {
    let program = stack.binaries.join(binary.name());
    let output = Command::new(&program)
        .args(arguments)
        .envs(binary.owner_settings(stack))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| {
            format!(
                "cannot run {}; build it: cargo build --workspace --bins",
                program.display()
            )
        })?;
    ensure!(
        output.status.success(),
        "`{} {}` failed: {}",
        binary.name(),
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

/// The folder of the services' binaries: `STACK_BINARIES`, or the folder of this program. A test's program is one folder
/// deeper.
///
/// # Errors
/// If the path of this program is unknown.
pub fn binaries() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("STACK_BINARIES") {
        return Ok(named.into());
    }
    let program = std::env::current_exe()?;
    let folder = program
        .parent()
        .context("the path of this program has no folder")?;
    Ok(if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    }
    .to_owned())
}
