//! The way into a Kafka Connect that is protected: basic authentication and TLS.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use reqwest::{Certificate, Identity, Url};

use super::Error;

/// How to get into a Kafka Connect that is protected. Each file is read once, when the client is made.
///
/// ```no_run
/// use connect::{Access, Client};
///
/// # fn client() -> Result<Client, connect::Error> {
/// let access = Access {
///     user: Some("operator".to_owned()),
///     password_file: Some("/run/secrets/connect".into()),
///     ca: Some("/etc/connect/authority.pem".into()),
///     ..Access::default()
/// };
/// Client::with_access("https://connect.example.org:8443", &access)
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The user of basic authentication, instead of the one in the address.
    pub user: Option<String>,
    /// The file of the user's password. A newline at its end does not belong to the password.
    pub password_file: Option<PathBuf>,
    /// The authorities that may have signed the worker's certificate, as PEM, instead of the machine's.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key in PKCS#8, both as PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The user that requests are sent as.
#[derive(Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: Option<String>,
}

impl fmt::Debug for User {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Parses the address of a worker, and takes the user out of it, so that no error or log shows the password.
pub(super) fn parse(base: &str) -> Result<(Url, Option<User>), Error> {
    let wrong = |why: String| Error::Address {
        base: without_user(base),
        why,
    };
    let mut url = Url::parse(base).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("its scheme is {}", url.scheme())));
    }
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    let user = (!url.username().is_empty()).then(|| User {
        name: decoded(url.username()),
        password: url.password().map(decoded),
    });
    // An address of HTTP has a host, so neither fails.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    Ok((url, user))
}

/// An address, which may not be one, without what stands before its `@`.
fn without_user(base: &str) -> String {
    let Some((before, host)) = base.rsplit_once('@') else {
        return base.to_owned();
    };
    let scheme = before.find("://").map_or("", |at| &before[..at + 3]);
    format!("{scheme}{host}")
}

impl Access {
    /// The user, from the options or else from the address.
    pub(super) fn user(&self, of_address: Option<User>) -> Result<Option<User>, Error> {
        let password = match &self.password_file {
            Some(path) => Some(text(path)?.trim_end_matches(['\n', '\r']).to_owned()),
            None => None,
        };
        let of_address_or = |name: Option<String>| match (name, of_address) {
            (Some(name), Some(user)) if user.name == name => Some(user),
            (Some(name), _) => Some(User {
                name,
                password: None,
            }),
            (None, user) => user,
        };
        Ok(of_address_or(self.user.clone()).map(|user| User {
            password: password.or(user.password),
            name: user.name,
        }))
    }

    /// Adds authorities and certificate to an HTTP client.
    pub(super) fn secure(
        &self,
        mut http: reqwest::ClientBuilder,
    ) -> Result<reqwest::ClientBuilder, Error> {
        if let Some(path) = &self.ca {
            let authorities =
                Certificate::from_pem_bundle(text(path)?.as_bytes()).map_err(pem(path))?;
            http = http.tls_certs_only(authorities);
        }
        if let Some((certificate, key)) = &self.identity {
            let identity =
                Identity::from_pkcs8_pem(text(certificate)?.as_bytes(), text(key)?.as_bytes())
                    .map_err(pem(certificate))?;
            http = http.identity(identity);
        }
        Ok(http)
    }
}

fn text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

fn pem(path: &Path) -> impl FnOnce(reqwest::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Pem { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_an_address_is_sent_and_never_shown() {
        let (url, user) = parse("https://an%40operator:s%2Fecret@example.org:8443/x/").unwrap();
        let user = user.unwrap();
        assert_eq!(url.as_str(), "https://example.org:8443/x/");
        assert_eq!(
            (user.name.as_str(), user.password.as_deref()),
            ("an@operator", Some("s/ecret"))
        );
        assert!(!format!("{user:?}").contains("ecret"));
        for wrong in [
            "ftp://me:secret@host",
            "http://me:secret@host:port",
            "me:secret@host",
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn options_go_before_the_address() {
        let file = std::env::temp_dir().join(format!("connect-password-{}", std::process::id()));
        fs::write(&file, "of the file\n").unwrap();
        let access = Access {
            password_file: Some(file.clone()),
            ..Access::default()
        };
        let (_, of_address) = parse("http://me:of-the-address@host").unwrap();
        let user = access.user(of_address).unwrap().unwrap();
        fs::remove_file(file).unwrap();
        assert_eq!(
            (user.name.as_str(), user.password.as_deref()),
            ("me", Some("of the file"))
        );
        assert!(
            access
                .user(None)
                .unwrap_err()
                .to_string()
                .contains("connect-password")
        );
    }
}
