//! A PostgreSQL server, its roles and its database.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::context::Context;
use crate::description::Database;
use crate::instance::{Instance, Stage};
use crate::parts::routes::ROUTES;
use crate::program::Program;
use crate::secret::{self, Temporary};
use crate::unprivileged::give;

/// How long the processes of a killed server may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// The interval at which they are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The server of a context.
pub struct Server<'a> {
    instance: &'a Instance,
    context: Context,
    port: u16,
    data: PathBuf,
}

impl<'a> Server<'a> {
    /// Describes it; [`Server::start`] starts it.
    #[must_use]
    pub fn new(instance: &'a Instance, context: Context, port: u16) -> Self {
        let data = instance.folder.join(part(context));
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

    /// Starts the server and waits until it accepts connections. Initialises the data folder if it is missing.
    ///
    /// # Errors
    /// If the server does not become ready; the error holds the last lines of its log.
    pub async fn start(&self) -> Result<()> {
        self.await_predecessor().await?;
        if !self.data.exists() {
            self.initialise().await?;
        }
        self.configure()?;
        let mut server = self.program("postgres");
        server.arguments = vec!["-D".to_owned(), self.data.display().to_string()];
        // Fast shutdown: it ends sessions and waits for no client.
        server.stop = Signal::SIGINT;
        let running = self.instance.start(server, Stage::Database)?;
        let maintenance = self.maintenance();
        running
            .ready(async || Ok(maintenance.superuser().connect().await?.close().await?))
            .await
    }

    /// Waits until all processes of an earlier, killed server have ended, then removes its `postmaster.pid`. PostgreSQL
    /// takes even a zombie for a running server, and in a container a zombie may never be reaped.
    async fn await_predecessor(&self) -> Result<()> {
        let deadline = Instant::now() + ENDS_WITHIN;
        while let Some(process) = process_in(&self.data) {
            ensure!(
                Instant::now() < deadline,
                "process {process} still runs in {}; stop it and try again",
                self.data.display()
            );
            tokio::time::sleep(POLL_INTERVAL).await;
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

    fn program(&self, name: &str) -> Program {
        let path = self.instance.parts.postgres.join(name);
        let mut program = Program::new(part(self.context), path, &self.instance.logs());
        program.user = self.instance.unprivileged;
        program
    }

    async fn initialise(&self) -> Result<()> {
        // An interrupted initdb leaves a folder that seems complete. So it works in another one, which then gets its name.
        let fresh = self.data.with_extension("new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir_all(&fresh)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o700))?;
        let user = self.instance.unprivileged;
        give(&fresh, user)?;
        // initdb reads it as the unprivileged user; it is removed before the server accepts connections.
        let password = Temporary(self.data.with_extension("initial"));
        secret::write(
            &password.0,
            &secret::password(&self.instance.secrets(), "postgres")?,
        )?;
        give(&password.0, user)?;
        let mut initdb = self.program("initdb");
        initdb.arguments = [
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
        initdb.run().await?;
        fs::rename(&fresh, &self.data)
            .with_context(|| format!("cannot create {}", self.data.display()))
    }

    fn configure(&self) -> Result<()> {
        let port = self.port;
        let connections = if self.instance.ephemeral { 300 } else { 100 };
        let tls = if let Some(certificates) = self.instance.certificates() {
            // PostgreSQL requires that the key belongs to its own user.
            for (from, name) in [
                (certificates.server(), "server.crt"),
                (certificates.server_key(), "server.key"),
                (certificates.authority(), "authority.crt"),
            ] {
                let path = self.data.join(name);
                fs::copy(&from, &path)
                    .with_context(|| format!("cannot copy {}", from.display()))?;
                give(&path, self.instance.unprivileged)?;
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
        // Logical replication matches the line of its database; `replication` names physical replication alone.
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
            give(&path, self.instance.unprivileged)?;
        }
        Ok(())
    }

    /// Creates the roles of `contexts`, each with the password in its file.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn create_roles(&self, contexts: &[Context]) -> Result<()> {
        let mut connection = self.maintenance().superuser().connect().await?;
        for context in contexts {
            sqlx::raw_sql(context.roles_sql())
                .execute(&mut connection)
                .await?;
            for role in context.roles() {
                let password = secret::password(&self.instance.secrets(), role)?;
                // Neither needs quoting: roles and passwords consist of lowercase letters, digits and underscores.
                let statement = format!("alter role {role} password '{password}'");
                sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
                    .execute(&mut connection)
                    .await?;
            }
        }
        Ok(connection.close().await?)
    }

    /// Creates the context's database if it is missing.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn create_database(&self) -> Result<()> {
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

/// The part's name.
fn part(context: Context) -> &'static str {
    match context {
        Context::Order => "postgres-order",
        Context::Inventory => "postgres-inventory",
    }
}

/// A process whose current folder is `folder`, as that of each of a server's processes is its data folder.
fn process_in(folder: &Path) -> Option<String> {
    let mut processes = fs::read_dir("/proc").ok()?.flatten();
    let process = processes.find(|process| {
        fs::read_link(process.path().join("cwd")).is_ok_and(|works_in| works_in == folder)
    })?;
    Some(process.file_name().to_string_lossy().into_owned())
}

/// Creates a database that only its context's roles may connect to.
///
/// # Errors
/// If the server refuses.
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
