//! The certificates of a test stack: its own authority, a server certificate for `localhost`, a client certificate, and
//! a second authority that clients must not trust.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::secret;

/// The common name in the client certificate.
pub const CLIENT: &str = "client";

/// A folder of PEM files. The server certificate names only `localhost`, so a client that verifies names refuses it at
/// 127.0.0.1.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// The certificates in `folder`.
    #[must_use]
    pub fn within(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Their folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The certificate of a second authority, which has signed no certificate.
    #[must_use]
    pub fn untrusted(&self) -> PathBuf {
        self.folder.join("untrusted.pem")
    }

    /// The server certificate for `localhost`.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// The server certificate's key.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    /// The server's key and certificate in one file, as Kafka reads them.
    #[must_use]
    pub fn keystore(&self) -> PathBuf {
        self.folder.join("keystore.pem")
    }

    /// The client certificate, of [`CLIENT`].
    #[must_use]
    pub fn client(&self) -> PathBuf {
        self.folder.join("client.pem")
    }

    /// The client certificate's key.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.folder.join("client.key")
    }

    /// Generates all of them anew.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn make(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        // Both have the same name; only their keys differ.
        let (authority, untrusted) = (authority()?, authority()?);
        fs::write(self.authority(), authority.pem())?;
        fs::write(self.untrusted(), untrusted.pem())?;
        let (server, server_key) = certificate("localhost", &authority)?;
        fs::write(self.server(), &server)?;
        secret::write(&self.server_key(), &server_key)?;
        secret::write(&self.keystore(), &format!("{server_key}{server}"))?;
        let (client, client_key) = certificate(CLIENT, &authority)?;
        fs::write(self.client(), &client)?;
        secret::write(&self.client_key(), &client_key)
    }
}

/// Issues a certificate for `name`; returns it with its key.
fn certificate(name: &str, authority: &CertifiedIssuer<KeyPair>) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut certificate = CertificateParams::new(vec![name.to_owned()])?;
    certificate
        .distinguished_name
        .push(DnType::CommonName, name);
    let certificate = certificate.signed_by(&key, authority)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority
        .distinguished_name
        .push(DnType::CommonName, "a test stack");
    Ok(CertifiedIssuer::self_signed(
        authority,
        KeyPair::generate()?,
    )?)
}
