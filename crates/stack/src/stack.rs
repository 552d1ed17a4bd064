//! The whole stack: its parts start in parallel and stop in order.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::context::Context;
use crate::description::Description;
use crate::instance::{Instance, Stage};
use crate::ports::Ports;
use crate::postgres::Server;
use crate::program::Program;
use crate::services::{self, Binary};
use crate::{kafka, say};

/// How long a connector and its task may take to run.
const CONNECTOR_WITHIN: Duration = Duration::from_mins(1);

/// A running stack.
pub struct Stack {
    instance: Instance,
    description: Description,
    began: Instant,
}

impl Stack {
    /// Starts every part. If one fails, or `interrupted` resolves first, it stops all of them.
    ///
    /// # Errors
    /// If a part does not become ready; the error holds the last lines of its log.
    pub async fn start(
        instance: Instance,
        ports: Ports,
        interrupted: impl Future<Output = ()>,
    ) -> Result<Self> {
        let server = |context, port| Server::new(&instance, context, port).database();
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let description = Description {
            order_url: url(ports.order),
            inventory_url: url(ports.inventory),
            worker_url: url(ports.worker),
            connect_url: url(ports.connect),
            kafka: format!("127.0.0.1:{}", ports.kafka),
            kafka_tls: ports.kafka_tls.map(|port| format!("localhost:{port}")),
            order_db: server(Context::Order, ports.order_db),
            inventory_db: server(Context::Inventory, ports.inventory_db),
            ports,
            binaries: services::binaries()?,
            logs: instance.logs(),
            connectors: instance.connectors(),
            file: instance.description(),
            pids: BTreeMap::new(),
        };
        let stack = Self {
            instance,
            description,
            began: Instant::now(),
        };
        let outcome = tokio::select! {
            outcome = stack.bring_up() => outcome,
            () = interrupted => Err(anyhow::anyhow!("interrupted; everything is stopped")),
        };
        if let Err(error) = outcome {
            stack.stop().await;
            return Err(error);
        }
        stack.describe();
        Ok(stack)
    }

    /// Its addresses, folders and credentials.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Stops everything: services, Kafka Connect, the broker, the databases.
    pub async fn stop(self) {
        self.instance.stop().await;
        // A stack that is down has no description. The file may not exist, which is an error.
        drop(fs::remove_file(&self.description.file));
    }

    async fn bring_up(&self) -> Result<()> {
        let client = connect::Client::new(&self.description.connect_url)?;
        tokio::try_join!(
            self.context(Context::Order, Binary::Order),
            self.context(Context::Inventory, Binary::Inventory),
            self.kafka(&client),
        )?;
        self.reconciler().await?;
        tokio::try_join!(
            self.service(Binary::Order),
            self.service(Binary::Inventory),
            self.service(Binary::InventoryWorker),
            self.connector(Binary::Order, &client),
            self.connector(Binary::Inventory, &client),
        )?;
        Ok(())
    }

    async fn context(&self, context: Context, binary: Binary) -> Result<()> {
        let stack = &self.description;
        let port = match context {
            Context::Order => stack.ports.order_db,
            Context::Inventory => stack.ports.inventory_db,
        };
        let server = Server::new(&self.instance, context, port);
        server.start().await?;
        // A test may create a database of either context on either server.
        let both = [Context::Order, Context::Inventory];
        let roles = if self.instance.ephemeral {
            &both[..]
        } else {
            &[context]
        };
        server.create_roles(roles).await?;
        server.create_database().await?;
        self.instance
            .share_with_connect(&format!("{}_cdc", context.name()))?;
        self.say(&format!(
            "PostgreSQL with {} is ready",
            server.database().name
        ));
        services::migrate(stack, binary).await
    }

    async fn kafka(&self, client: &connect::Client) -> Result<()> {
        let ports = &self.description.ports;
        kafka::start_broker(&self.instance, ports).await?;
        self.say("Kafka is ready");
        let worker = kafka::Worker {
            group: "connect",
            secrets: &self.instance.connect_secrets(),
            exactly_once: false,
            tls: None,
        };
        kafka::start_connect(&self.instance, ports, client, &worker).await?;
        self.say("Kafka Connect is ready");
        Ok(())
    }

    async fn service(&self, binary: Binary) -> Result<()> {
        services::start(&self.instance, &self.description, binary).await?;
        self.say(&format!("{} is ready", binary.name()));
        Ok(())
    }

    /// Starts the reconciler, which creates the connectors that [`Stack::connector`] declares.
    async fn reconciler(&self) -> Result<()> {
        let folder = &self.description.connectors;
        let path = self.description.binaries.join("connect");
        let mut reconciler = Program::new("reconciler", path, &self.instance.logs());
        reconciler.arguments = [
            "--url",
            &self.description.connect_url,
            "reconcile",
            &folder.display().to_string(),
        ]
        .map(str::to_owned)
        .to_vec();
        // It answers no requests; the connectors' states show whether it works.
        self.instance
            .start(reconciler, Stage::Service)?
            .ready(async || Ok(()))
            .await
    }

    /// Declares the topics and the connector of a context's outbox and waits until it runs. In a kept stack topics that differ, and a
    /// connector that does not run, are no error.
    async fn connector(&self, binary: Binary, client: &connect::Client) -> Result<()> {
        let prepared = async {
            services::apply_topics(&self.description, binary).await?;
            services::check_outbox(&self.description, binary).await
        };
        match prepared.await {
            // An operator needs the other parts to repair it.
            Err(error) if !self.instance.ephemeral => self.say(&format!("{error:#}")),
            prepared => prepared?,
        }
        let connector = services::connector(&self.description, binary).await?;
        let name = &connector.name;
        let declaration = json!({ "name": name, "config": connector.config });
        let file = self.description.connectors.join(format!("{name}.json"));
        fs::write(&file, declaration.to_string())
            .with_context(|| format!("cannot write {}", file.display()))?;
        let deadline = Instant::now() + CONNECTOR_WITHIN;
        loop {
            let why = match client.all().await {
                Ok(all) => match all.get(name) {
                    Some(info) if info.status.is_running() => break,
                    Some(info) => format!("{}{}", info.status, client.advice(name, info)),
                    None => "not created yet".to_owned(),
                },
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                let logs = self.description.logs.display();
                let found = format!(
                    "connector {name} does not run: {why}\nsee reconciler.log and connect.log in {logs}"
                );
                if self.instance.ephemeral {
                    bail!(found);
                }
                // Orders wait in the outbox, and an operator needs the other parts to repair this one.
                self.say(&found);
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.say(&format!("connector {name} runs"));
        Ok(())
    }

    fn say(&self, what: &str) {
        say!("  {:>5.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// Writes the description anew whenever a part's process changes.
    fn describe(&self) {
        let (mut pids, mut description) =
            (self.instance.pids.subscribe(), self.description.clone());
        pids.mark_changed();
        tokio::spawn(async move {
            while pids.changed().await.is_ok() {
                description.pids.clone_from(&pids.borrow_and_update());
                if let Err(error) = description.write() {
                    say!("{error:#}");
                }
            }
        });
    }
}

/// Resolves when this process is asked to stop.
///
/// # Errors
/// If it cannot listen to signals.
pub fn interrupted() -> Result<impl Future<Output = ()>> {
    use program::signals::{SignalKind, first_of};
    let stop = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    first_of(stop).context("cannot listen to signals")
}
