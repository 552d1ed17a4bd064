//! The certificates of a test stack: an authority of its own, a certificate for `localhost`, one for a client, and an
//! authority that nobody should trust.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::postgres::write_secret;

/// The name in the certificate of a client.
pub const CLIENT: &str = "client";

/// Files in PEM. The certificate holds the name `localhost` alone: whoever looks at names does not take it at 127.0.0.1.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Those in `folder`.
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

    /// The certificate of an authority that has signed nothing.
    #[must_use]
    pub fn stranger(&self) -> PathBuf {
        self.folder.join("stranger.pem")
    }

    /// The certificate for `localhost`.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// Its key.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    /// Its key and itself in one file, as Kafka takes them.
    #[must_use]
    pub fn keystore(&self) -> PathBuf {
        self.folder.join("keystore.pem")
    }

    /// The certificate of a client, [`CLIENT`].
    #[must_use]
    pub fn client(&self) -> PathBuf {
        self.folder.join("client.pem")
    }

    /// Its key.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.folder.join("client.key")
    }

    /// Makes them, for this stack alone.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn make(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        // One name for both: only its key tells the one from the other.
        let (authority, stranger) = (authority()?, authority()?);
        fs::write(self.authority(), authority.pem())?;
        fs::write(self.stranger(), stranger.pem())?;
        let (server, server_key) = certificate("localhost", &authority)?;
        fs::write(self.server(), &server)?;
        write_secret(&self.server_key(), &server_key)?;
        write_secret(&self.keystore(), &format!("{server_key}{server}"))?;
        let (client, client_key) = certificate(CLIENT, &authority)?;
        fs::write(self.client(), &client)?;
        write_secret(&self.client_key(), &client_key)
    }
}

/// A certificate of `authority` for `name`, and its key.
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
