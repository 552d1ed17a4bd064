//! A PostgreSQL server, its roles and its database.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::description::Database;
use crate::home::Unprivileged;
use crate::instance::Instance;
use crate::parts::routes::ROUTES;
use crate::process::{Running, Spec, Stage};

/// How long what is left of a killed server may take to end.
const OUTLIVED_WITHIN: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The two sides of the flow, each with a database and roles of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Takes orders.
    Order,
    /// Keeps stock.
    Inventory,
}

impl Context {
    /// The name that roles, databases and connectors begin with.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
        }
    }

    /// The roles of the context; the first one owns its database.
    #[must_use]
    pub fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Order => &["order_owner", "order_service", "order_cdc", "order_keeper"],
            Self::Inventory => &[
                "inventory_owner",
                "inventory_service",
                "inventory_worker",
                "inventory_cdc",
                "inventory_keeper",
            ],
        }
    }

    fn roles_sql(self) -> &'static str {
        match self {
            Self::Order => include_str!("../../../migrations/order/roles.sql"),
            Self::Inventory => include_str!("../../../migrations/inventory/roles.sql"),
        }
    }

    fn part(self) -> &'static str {
        match self {
            Self::Order => "postgres-order",
            Self::Inventory => "postgres-inventory",
        }
    }
}

/// A server to be started.
pub struct Server<'a> {
    instance: &'a Instance,
    context: Context,
    port: u16,
    data: PathBuf,
}

impl<'a> Server<'a> {
    /// The server of a context.
    #[must_use]
    pub fn new(instance: &'a Instance, context: Context, port: u16) -> Self {
        let data = instance.folder.join(context.part());
        Self {
            instance,
            context,
            port,
            data,
        }
    }

    /// The context's database on this server.
    #[must_use]
    pub fn database(&self) -> Database {
        Database {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            name: format!("{}_db", self.context.name()),
            secrets: self.instance.secrets(),
            tls: self
                .instance
                .certificates()
                .map(|certificates| certificates.folder().to_owned()),
        }
    }

    /// Makes the data folder if there is none, starts the server, and waits until it takes connections.
    ///
    /// # Errors
    /// With the last lines of its log.
    pub async fn start(&self) -> Result<()> {
        self.outlive().await?;
        if !self.data.exists() {
            self.initialise().await?;
        }
        self.configure()?;
        let mut spec = self.spec("postgres");
        spec.arguments = vec!["-D".to_owned(), self.data.display().to_string()];
        // Fast: sessions are ended, nothing waits for clients.
        spec.stop = Signal::SIGINT;
        let running = Running::start(spec, Stage::Database, self.instance)?;
        let maintenance = self.maintenance();
        running
            .ready(async || Ok(maintenance.superuser().connect().await?.close().await?))
            .await
    }

    /// Waits until nothing is left of an earlier server that was killed, and removes its `postmaster.pid`: PostgreSQL
    /// takes even a zombie, which in a container may never be reaped, for a running server.
    async fn outlive(&self) -> Result<()> {
        let deadline = Instant::now() + OUTLIVED_WITHIN;
        while let Some(process) = process_in(&self.data) {
            ensure!(
                Instant::now() < deadline,
                "process {process} still works in {}; stop it and try again",
                self.data.display()
            );
            tokio::time::sleep(LOOK).await;
        }
        match fs::remove_file(self.data.join("postmaster.pid")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn maintenance(&self) -> Database {
        Database {
            name: "postgres".to_owned(),
            ..self.database()
        }
    }

    fn spec(&self, program: &str) -> Spec {
        let program = self.instance.parts.postgres.join(program);
        let mut spec = Spec::new(self.context.part(), program, &self.instance.logs());
        spec.user = self.instance.unprivileged;
        spec
    }

    async fn initialise(&self) -> Result<()> {
        // initdb begins with the file by which a data folder is known, so it works elsewhere and is moved when done.
        let fresh = self.data.with_extension("new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir_all(&fresh)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o700))?;
        let user = self.instance.unprivileged;
        own(&fresh, user)?;
        // initdb reads it as the other user; it is gone before anybody can connect.
        let password = Temporary(self.data.with_extension("initial"));
        write_secret(&password.0, &secret(&self.instance.secrets(), "postgres")?)?;
        own(&password.0, user)?;
        let mut spec = self.spec("initdb");
        spec.arguments = [
            "--pgdata",
            &fresh.display().to_string(),
            "--username=postgres",
            "--auth=scram-sha-256",
            "--pwfile",
            &password.0.display().to_string(),
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ]
        .map(str::to_owned)
        .to_vec();
        spec.run().await?;
        fs::rename(&fresh, &self.data)
            .with_context(|| format!("cannot make {}", self.data.display()))
    }

    fn configure(&self) -> Result<()> {
        let port = self.port;
        let connections = if self.instance.ephemeral { 300 } else { 100 };
        let tls = if let Some(certificates) = self.instance.certificates() {
            // PostgreSQL insists that the key is its own user's.
            for (from, name) in [
                (certificates.server(), "server.crt"),
                (certificates.server_key(), "server.key"),
                (certificates.authority(), "authority.crt"),
            ] {
                let path = self.data.join(name);
                fs::copy(&from, &path)
                    .with_context(|| format!("cannot copy {}", from.display()))?;
                own(&path, self.instance.unprivileged)?;
            }
            "ssl = on\nssl_ca_file = 'authority.crt'\n"
        } else {
            ""
        };
        let mut settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\n\
             max_connections = {connections}\n{tls}"
        );
        for (name, value) in &ROUTES.postgresql {
            writeln!(settings, "{name} = {value}")?;
        }
        // Logical replication matches a database's own line: there is no line for `replication`.
        let access = if self.instance.ephemeral {
            "host all all 127.0.0.1/32 scram-sha-256\n".to_owned()
        } else {
            format!(
                "host all postgres 127.0.0.1/32 scram-sha-256\nhost {} {} 127.0.0.1/32 scram-sha-256\n",
                self.database().name,
                self.context.roles().join(",")
            )
        };
        for (name, text) in [("postgresql.conf", settings), ("pg_hba.conf", access)] {
            let path = self.data.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            own(&path, self.instance.unprivileged)?;
        }
        Ok(())
    }

    /// Makes the roles of `contexts`, each with the password in its file.
    ///
    /// # Errors
    /// The database's.
    pub async fn make_roles(&self, contexts: &[Context]) -> Result<()> {
        let mut connection = self.maintenance().superuser().connect().await?;
        for context in contexts {
            sqlx::raw_sql(context.roles_sql())
                .execute(&mut connection)
                .await?;
            for role in context.roles() {
                let password = secret(&self.instance.secrets(), role)?;
                // Neither a role nor a password of ours needs quoting: dead letters, digits, underscores.
                let statement = format!("alter role {role} password '{password}'");
                sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
                    .execute(&mut connection)
                    .await?;
            }
        }
        Ok(connection.close().await?)
    }

    /// Makes the context's database if there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn make_database(&self) -> Result<()> {
        let mut connection = self.maintenance().superuser().connect().await?;
        let name = self.database().name;
        let exists: bool =
            sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
                .bind(&name)
                .fetch_one(&mut connection)
                .await?;
        if !exists {
            create(&mut connection, self.context, &name).await?;
        }
        Ok(connection.close().await?)
    }
}

/// A process that works in `folder`, as all of PostgreSQL's do in their data folder.
fn process_in(folder: &Path) -> Option<String> {
    let mut processes = fs::read_dir("/proc").ok()?.flatten();
    let process = processes.find(|process| {
        fs::read_link(process.path().join("cwd")).is_ok_and(|works_in| works_in == folder)
    })?;
    Some(process.file_name().to_string_lossy().into_owned())
}

/// Creates a database that its context's roles, and nobody else, may enter.
///
/// # Errors
/// The database's.
pub async fn create(connection: &mut PgConnection, context: Context, name: &str) -> Result<()> {
    let (owner, roles) = (context.roles()[0], context.roles().join(", "));
    for statement in [
        format!("create database {name} owner {owner}"),
        format!("revoke connect, temporary on database {name} from public"),
        format!("grant connect on database {name} to {roles}"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The secret in the file `name`, made up if there is none.
///
/// # Errors
/// If it can be neither read nor written.
pub fn secret(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(name);
    if let Ok(secret) = fs::read_to_string(&path) {
        return Ok(secret);
    }
    // Version 4 is 122 bits from the system's generator. Moved when whole: half a secret would be kept for ever.
    let (secret, fresh) = (
        uuid::Uuid::new_v4().simple().to_string(),
        path.with_extension("new"),
    );
    write_secret(&fresh, &secret)?;
    fs::rename(&fresh, &path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(secret)
}

/// A file that is gone when this is.
pub(crate) struct Temporary(pub(crate) PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may never have been there.
        drop(fs::remove_file(&self.0));
    }
}

pub(crate) fn write_secret(path: &Path, secret: &str) -> Result<()> {
    fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(secret.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn own(path: &Path, user: Option<Unprivileged>) -> Result<()> {
    if let Some(user) = user {
        nix::unistd::chown(path, Some(user.uid), Some(user.gid)).with_context(|| {
            format!(
                "cannot give {} to the user that PostgreSQL runs as",
                path.display()
            )
        })?;
    }
    Ok(())
}
