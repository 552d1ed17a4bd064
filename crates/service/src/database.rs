//! The service's PostgreSQL: its pool, single connections, and errors that say what to do.

#[cfg(any(feature = "keeper", feature = "listener"))]
mod readiness;

use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};

use crate::config::{self, Database};

/// How long to wait for a connection out of the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may take to let a role in, when a command connects by itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A database that does not serve, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The password's file is missing or unreadable.
    #[error(
        "cannot read the password file {path} of role {user}: check the path and the file's permissions"
    )]
    Password {
        /// The file.
        path: PathBuf,
        /// The role.
        user: String,
        /// Why.
        source: std::io::Error,
    },
    /// The settings for TLS contradict each other, or name a file that is not one.
    #[error(transparent)]
    Settings(#[from] config::Problem),
    /// No connection.
    #[error("no connection to database {database} as {user}: {hint}")]
    Connect {
        /// The database: name, host and port.
        database: String,
        /// The role.
        user: String,
        /// What to do next.
        hint: &'static str,
        /// Why.
        source: Box<sqlx::Error>,
    },
}

/// A pool of connections, with the time-outs of the settings. It connects when it is first used.
///
/// # Errors
/// [`Error::Password`], [`Error::Settings`].
pub fn pool(database: &Database, application: &str) -> Result<PgPool, Error> {
    let options = options(database)?.application_name(application).options([
        ("statement_timeout", database.statement_timeout_ms),
        ("lock_timeout", database.lock_timeout_ms),
        (
            "idle_in_transaction_session_timeout",
            database.idle_in_transaction_timeout_ms,
        ),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(database.max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options))
}

/// Connects once, for an early error that says what to do.
///
/// # Errors
/// [`Error::Password`], [`Error::Settings`], [`Error::Connect`].
pub async fn probe(database: &Database) -> Result<(), Error> {
    drop(open(database).await?.close().await);
    Ok(())
}

/// One connection, for a command.
///
/// # Errors
/// [`Error::Password`], [`Error::Settings`], [`Error::Connect`].
pub async fn open(database: &Database) -> Result<PgConnection, Error> {
    let options = options(database)?;
    // Without it, a server that accepts the connection and falls silent would hang the command.
    tokio::time::timeout(CONNECT_TIMEOUT, options.connect())
        .await
        .unwrap_or_else(|elapsed| Err(sqlx::Error::Io(elapsed.into())))
        .map_err(|source| Error::Connect {
            database: format!("{} at {}:{}", database.name, database.host, database.port),
            user: database.user.clone(),
            hint: hint(&source),
            source: source.into(),
        })
}

fn options(database: &Database) -> Result<PgConnectOptions, Error> {
    database.check_tls()?;
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&database.host)
        .port(database.port)
        .database(&database.name)
        .username(&database.user)
        .ssl_mode(database.sslmode.into());
    options = match &database.sslrootcert {
        Some(path) => options.ssl_root_cert(path),
        // Not the file of the variable PGSSLROOTCERT.
        None => options.ssl_root_cert_from_pem(Vec::new()),
    };
    if let (Some(certificate), Some(key)) = (&database.sslcert, &database.sslkey) {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    let Some(path) = &database.password_file else {
        return Ok(options);
    };
    let password = config::secret(path).map_err(|source| Error::Password {
        path: path.clone(),
        user: database.user.clone(),
        source,
    })?;
    Ok(options.password(&password))
}

fn hint(error: &sqlx::Error) -> &'static str {
    if let Some(hint) = tls_hint(error) {
        return hint;
    }
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    match code.as_deref() {
        Some("3D000") => {
            "it does not exist; create it, owned by the owner's role, and run the command `migrate`"
        }
        Some("28P01") => {
            "the password is wrong; check the settings `password_file` of `database`, `owner` and `keeper`"
        }
        Some("28000") => {
            "the server does not let this role in; check its pg_hba.conf and the roles that exist"
        }
        Some("53300") => "the server has no connection left; raise its max_connections",
        Some("57P03") => "the server is starting or stopping; try again",
        Some(_) => "the server refuses the connection; its answer says why",
        None => "is the server running there? See the settings `host` and `port` of `database`",
    }
}

/// What to do about a connection whose TLS failed.
fn tls_hint(error: &sqlx::Error) -> Option<&'static str> {
    use rustls::CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        UnknownIssuer,
    };
    let error = match error {
        sqlx::Error::Tls(_) => {
            return Some("TLS fails; check `sslmode` and the other settings `ssl…` of `database`");
        }
        sqlx::Error::Io(error) => error.get_ref()?.downcast_ref::<rustls::Error>()?,
        _ => return None,
    };
    Some(match error {
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            "the server's certificate is of no trusted authority; set `sslrootcert` of `database` to the file with the \
             certificate of its authority"
        }
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            "the server's certificate is for another host; set `host` of `database` to a name that it holds, or issue a \
             certificate for this host"
        }
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            "the server's certificate has expired; renew it"
        }
        rustls::Error::InvalidCertificate(_) => {
            "this service rejects the server's certificate; the cause says why"
        }
        _ => {
            "the server and this service do not agree on TLS; see the settings `ssl…` of `database`"
        }
    })
}

#[cfg(test)]
mod tests {
    use stack::testing::{self, Context};

    use super::*;
    use crate::config::SslMode;

    fn settings(database: &testing::Database, role: &str) -> Database {
        let mut settings = Database::local(database.port, &database.name, role);
        settings.password_file = Some(database.secrets.join(role));
        settings
    }

    #[tokio::test]
    async fn time_outs_are_set_on_every_connection() {
        let database = testing::database(Context::Order).await;
        let pool = pool(&settings(&database, "order_service"), "test").unwrap();
        for (setting, expected) in [
            ("statement_timeout", "10s"),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("application_name", "test"),
        ] {
            let value: String = sqlx::query_scalar("select current_setting($1)")
                .bind(setting)
                .fetch_one(&pool)
                .await
                .unwrap();
            assert_eq!(value, expected, "{setting}");
        }
    }

    #[tokio::test]
    async fn an_error_of_a_database_says_what_to_do() {
        let database = testing::database(Context::Order).await;
        let good = settings(&database, "order_service");
        probe(&good).await.unwrap();
        let answer = async |settings: Database| probe(&settings).await.unwrap_err().to_string();
        let missing = Database {
            name: "nowhere".to_owned(),
            ..good.clone()
        };
        assert!(answer(missing).await.contains("run the command `migrate`"));
        let wrong = Database {
            password_file: Some(database.secrets.join("order_owner")),
            ..good.clone()
        };
        assert!(answer(wrong).await.contains("the password is wrong"));
        let away = Database {
            port: 1,
            ..good.clone()
        };
        assert!(answer(away).await.contains("is the server running there?"));
        let no_file = Database {
            password_file: Some("/nowhere/secret".into()),
            ..good
        };
        assert!(answer(no_file).await.contains("/nowhere/secret"));
    }

    #[tokio::test]
    async fn connections_are_as_safe_as_the_setting_says() {
        let database = testing::database(Context::Order).await;
        let certificates = database.certificates();
        let with = |host: &str, sslmode, authority| Database {
            host: host.to_owned(),
            sslmode,
            sslrootcert: authority,
            ..settings(&database, "order_service")
        };
        let encrypted = async |settings: Database| -> Option<String> {
            let mut connection = open(&settings).await.unwrap();
            let (ssl, client): (bool, Option<String>) = sqlx::query_as(
                "select ssl, coalesce(client_dn, '') from pg_stat_ssl where pid = pg_backend_pid()",
            )
            .fetch_one(&mut connection)
            .await
            .unwrap();
            client.filter(|_| ssl)
        };
        let (right, wrong) = (certificates.authority(), certificates.untrusted());
        // The server's certificate is for `localhost`.
        for (host, sslmode, authority, is_encrypted) in [
            ("127.0.0.1", SslMode::Disable, None, false),
            ("127.0.0.1", SslMode::Prefer, None, true),
            ("127.0.0.1", SslMode::Require, None, true),
            ("127.0.0.1", SslMode::VerifyCa, Some(&right), true),
            ("localhost", SslMode::VerifyFull, Some(&right), true),
        ] {
            let settings = with(host, sslmode, authority.cloned());
            assert_eq!(
                encrypted(settings).await.is_some(),
                is_encrypted,
                "{sslmode:?}"
            );
        }
        let answer = async |settings: Database| probe(&settings).await.unwrap_err().to_string();
        for (host, sslmode, authority, advice) in [
            (
                "127.0.0.1",
                SslMode::VerifyCa,
                Some(&wrong),
                "`sslrootcert`",
            ),
            (
                "localhost",
                SslMode::VerifyFull,
                Some(&wrong),
                "`sslrootcert`",
            ),
            ("localhost", SslMode::VerifyFull, None, "`sslrootcert`"),
            ("127.0.0.1", SslMode::VerifyFull, Some(&right), "`host`"),
        ] {
            let answer = answer(with(host, sslmode, authority.cloned())).await;
            assert!(answer.contains(advice), "{host} {sslmode:?}: {answer}");
        }
        let known = Database {
            sslcert: Some(certificates.client()),
            sslkey: Some(certificates.client_key()),
            ..with("localhost", SslMode::VerifyFull, Some(right))
        };
        assert_eq!(encrypted(known).await.as_deref(), Some("/CN=client"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_an_error_in_time() {
        // Never accepted: only the kernel answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let error = probe(&Database::local(port, "order_db", "order_service"))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
    }
}
