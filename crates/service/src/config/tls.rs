//! The TLS of connections to PostgreSQL.

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgSslMode;

/// The TLS of connections to PostgreSQL, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never.
    Disable,
    /// If the server offers it, without a look at its certificate.
    Prefer,
    /// Always, without a look at the server's certificate.
    Require,
    /// Always, and the server's certificate must come from a trusted authority; it may hold any host name. An authority
    /// that this machine trusts will do as well as `sslrootcert`, so prefer [`SslMode::VerifyFull`].
    VerifyCa,
    /// Always, and the server's certificate must come from a trusted authority and hold the server's host.
    VerifyFull,
}

impl SslMode {
    /// Whether the server must show a certificate of a trusted authority.
    pub(super) fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

impl From<SslMode> for PgSslMode {
    fn from(mode: SslMode) -> Self {
        match mode {
            SslMode::Disable => Self::Disable,
            SslMode::Prefer => Self::Prefer,
            SslMode::Require => Self::Require,
            SslMode::VerifyCa => Self::VerifyCa,
            SslMode::VerifyFull => Self::VerifyFull,
        }
    }
}
