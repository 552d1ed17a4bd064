//! The broker and Kafka Connect: two JVMs with the same jars.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use crate::instance::{Instance, Stage};
use crate::parts::routes::{BROKER, LOG4J, ROUTES, WORKER};
use crate::ports::Ports;
use crate::program::Program;
use crate::secret::{self, Temporary};
use crate::tls::Certificates;

/// The cluster id, 16 bytes in base64url: `outbox-cdc-demo1`.
const CLUSTER: &str = "b3V0Ym94LWNkYy1kZW1vMQ";

/// The user that clients over TLS log in as. The file of that name, beside those of the databases' roles, holds the
/// password.
pub const KAFKA_CLIENT: &str = "kafka_client";

/// A program of the JVM: that of `JAVA_HOME`, or the one on the path.
pub(crate) fn java(program: &str) -> PathBuf {
    std::env::var_os("JAVA_HOME")
        .filter(|home| !home.is_empty())
        .map_or_else(
            || program.into(),
            |home| PathBuf::from(home).join("bin").join(program),
        )
}

/// A program of Kafka's.
fn program(
    instance: &Instance,
    name: &'static str,
    heap_mib: u32,
    main: &str,
    arguments: &[&str],
) -> Result<Program> {
    let log4j = instance.run().join("log4j2.properties");
    fs::write(&log4j, LOG4J)?;
    let mut program = Program::new(name, java("java"), &instance.logs());
    program.arguments = [
        // A small heap, and the serial collector: two cores have no use for collector threads.
        "-Xms128m",
        &format!("-Xmx{heap_mib}m"),
        "-XX:+UseSerialGC",
        // Without memory a JVM goes on with whatever threads are left: it ends, and is restarted.
        "-XX:+ExitOnOutOfMemoryError",
        &format!("-Dlog4j2.configurationFile={}", log4j.display()),
        "-cp",
        &format!("{}/*", instance.parts.kafka.display()),
        main,
    ]
    .iter()
    .chain(arguments)
    .map(|&argument| argument.to_owned())
    .collect();
    Ok(program)
}

/// Starts the broker and waits until it accepts connections. Formats its storage if that is missing.
///
/// # Errors
/// If it does not become ready; the error holds the last lines of its log.
pub async fn start_broker(instance: &Instance, ports: &Ports) -> Result<()> {
    let (logs, heap) = (instance.folder.join("kafka"), ROUTES.heap.broker_mib);
    let (client, internal, controller) =
        (ports.kafka, ports.kafka_internal, ports.kafka_controller);
    let settings = instance.run().join("kafka.properties");
    let certificates = ports.kafka_tls.zip(instance.certificates());
    let tls = certificates.map_or_else(Tls::default, |(port, it)| Tls::at(port, &it));
    let properties = format!(
        "{BROKER}node.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=INTERNAL://127.0.0.1:{internal},EXTERNAL://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}{}\n\
         advertised.listeners=INTERNAL://127.0.0.1:{internal},EXTERNAL://127.0.0.1:{client}{}\n\
         listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT{}\n\
         log.dirs={}\n{}",
        tls.listener,
        tls.advertised,
        tls.protocol,
        logs.display(),
        tls.settings
    );
    fs::write(&settings, properties).context("cannot write the broker's settings")?;
    let settings = settings.display().to_string();
    if !logs.join("meta.properties").exists() {
        let mut arguments = format!("format\n-t\n{CLUSTER}\n-c\n{settings}\n--ignore-formatted\n");
        if ports.kafka_tls.is_some() {
            let password = secret::password(&instance.secrets(), KAFKA_CLIENT)?;
            let user = format!("SCRAM-SHA-512=[name={KAFKA_CLIENT},password={password}]");
            writeln!(arguments, "--add-scram\n{user}")?;
        }
        // Arguments from a file, one per line, keep the password out of the process list.
        let file = Temporary(instance.run().join("kafka-format"));
        secret::write(&file.0, &arguments)?;
        let arguments = format!("@{}", file.0.display());
        let tool = "kafka.tools.StorageTool";
        program(instance, "kafka", heap, tool, &[&arguments])?
            .run()
            .await?;
    }
    let broker = program(instance, "kafka", heap, "kafka.Kafka", &[&settings])?;
    let running = instance.start(broker, Stage::Broker)?;
    running
        .ready(async || {
            TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, client))).await?;
            Ok(())
        })
        .await
}

/// A worker of Kafka Connect.
pub struct Worker<'a> {
    /// Its group; the names of its topics begin with it.
    pub group: &'a str,
    /// The folder of the passwords that it may read.
    pub secrets: &'a Path,
    /// Whether sources write within Kafka's transactions.
    pub exactly_once: bool,
    /// The folder of its keystore and truststore, if clients must use TLS with a certificate of their own.
    pub tls: Option<&'a Path>,
}

/// The names of the stores in PKCS#12, since Kafka Connect's server reads no PEM.
pub const KEYSTORE: &str = "keystore.p12";
/// The store of the authorities of clients.
pub const TRUSTSTORE: &str = "truststore.p12";
/// The password of both; Java's keytool makes none without one.
pub const STORE_PASSWORD: &str = "changeit";

/// What a further listener adds to the broker's settings: TLS and SCRAM, as a cluster beyond loopback has them.
#[derive(Default)]
struct Tls {
    listener: String,
    advertised: String,
    protocol: &'static str,
    settings: String,
}

impl Tls {
    fn at(port: u16, certificates: &Certificates) -> Self {
        Self {
            listener: format!(",TLS://127.0.0.1:{port}"),
            advertised: format!(",TLS://localhost:{port}"),
            protocol: ",TLS:SASL_SSL",
            settings: format!(
                "listener.name.tls.sasl.enabled.mechanisms=SCRAM-SHA-512\n\
                 listener.name.tls.scram-sha-512.sasl.jaas.config=\
                 org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
                 listener.name.tls.ssl.keystore.type=PEM\nlistener.name.tls.ssl.keystore.location={}\n",
                certificates.keystore().display()
            ),
        }
    }
}

/// Starts a worker in distributed mode and waits until it answers requests.
///
/// # Errors
/// If it does not become ready; the error holds the last lines of its log.
pub async fn start_connect(
    instance: &Instance,
    ports: &Ports,
    client: &connect::Client,
    worker: &Worker<'_>,
) -> Result<()> {
    let Worker { group, secrets, .. } = worker;
    let support = if worker.exactly_once {
        "enabled"
    } else {
        "disabled"
    };
    let settings = instance.run().join("connect.properties");
    let (broker, rest) = (ports.kafka_internal, ports.connect);
    let listener = worker.tls.map_or_else(
        || format!("listeners=http://127.0.0.1:{rest}\nrest.advertised.host.name=127.0.0.1\n"),
        |stores| {
            let stores = stores.display();
            format!(
                "listeners=https://localhost:{rest}\nrest.advertised.host.name=localhost\nrest.advertised.listener=https\n\
                 listeners.https.ssl.client.auth=required\n\
                 listeners.https.ssl.keystore.type=PKCS12\nlisteners.https.ssl.keystore.location={stores}/{KEYSTORE}\n\
                 listeners.https.ssl.keystore.password={STORE_PASSWORD}\nlisteners.https.ssl.key.password={STORE_PASSWORD}\n\
                 listeners.https.ssl.truststore.type=PKCS12\nlisteners.https.ssl.truststore.location={stores}/{TRUSTSTORE}\n\
                 listeners.https.ssl.truststore.password={STORE_PASSWORD}\n"
            )
        },
    );
    let properties = format!(
        "{WORKER}bootstrap.servers=127.0.0.1:{broker}\ngroup.id={group}\n\
         offset.storage.topic={group}-offsets\nconfig.storage.topic={group}-configs\nstatus.storage.topic={group}-status\n\
         {listener}rest.advertised.port={rest}\n\
         plugin.path={}\nconfig.providers.dir.param.allowed.paths={}\nexactly.once.source.support={support}\n",
        instance.parts.plugins.display(),
        secrets.display()
    );
    fs::write(&settings, properties).context("cannot write the settings of Kafka Connect")?;
    let main = "org.apache.kafka.connect.cli.ConnectDistributed";
    let connect = program(
        instance,
        "connect",
        ROUTES.heap.connect_mib,
        main,
        &[&settings.display().to_string()],
    )?;
    let running = instance.start(connect, Stage::Connect)?;
    running.ready(async || Ok(client.ready().await?)).await
}
