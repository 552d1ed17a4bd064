//! What no connector can be derived from.

use super::outbox::Outline;

/// A part of a specification that would mean something else to Kafka Connect.
///
/// ```
/// use outbox::Retention;
/// use outbox::specification::{Invalid, Outline, Settings, Specification, Unfit};
///
/// let specification = Specification::new(Outline {
///     context: "account".to_owned(),
///     address: ("127.0.0.1".to_owned(), 5432),
///     database: "account_db?options=-c%20search_path=other".to_owned(),
///     writers: vec!["account_service".to_owned()],
///     keeper: "account_keeper".to_owned(),
///     topics: vec!["account".to_owned()],
///     retention: Retention::default(),
///     settings: Settings::of_role("account_cdc"),
/// });
/// assert!(matches!(specification, Err(Invalid::Connector(Unfit::Address { part: "database", .. }))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Debezium pastes host and database into the JDBC URL without quoting them: what follows such a character is read as another part of
    /// the URL, such as `options=…`, which sets any parameter of the session.
    #[error(
        "the {part} {value:?} contains {found:?}, which has a meaning in a JDBC URL; name one without"
    )]
    Address {
        /// `host` or `database`.
        part: &'static str,
        /// The text.
        value: String,
        /// The character, or the two that begin a reference.
        found: String,
    },
    /// Kafka Connect would put the secret there, which Debezium logs.
    #[error(
        "the connector's user {0:?} is a reference to a config provider; name the role, and refer to its password alone"
    )]
    User(String),
}

/// Characters that end a host in a JDBC URL, or begin a second server: a slot is one server's.
const IN_HOST: &[&str] = &["?", "&", "/", "%", "#", ",", "${"];
/// Characters that end a database in a JDBC URL; the driver decodes `%` and `+`.
const IN_DATABASE: &[&str] = &["?", "&", "/", "%", "+", "#", "${"];

impl Outline {
    /// Looks for what Kafka Connect, Debezium or its driver would understand otherwise than it is meant.
    ///
    /// # Errors
    /// [`Unfit`]: the first.
    pub(super) fn fits_connector(&self) -> Result<(), Unfit> {
        let settings = &self.settings;
        let host = settings.host.as_ref().unwrap_or(&self.address.0);
        address("host", host, IN_HOST)?;
        address("database", &self.database, IN_DATABASE)?;
        if settings.user.contains("${") {
            return Err(Unfit::User(settings.user.clone()));
        }
        Ok(())
    }
}

fn address(part: &'static str, value: &str, forbidden: &[&str]) -> Result<(), Unfit> {
    let marks = forbidden.iter().map(|mark| (*mark).to_owned());
    let blanks = value
        .chars()
        .filter(|c| c.is_whitespace() || c.is_control())
        .map(String::from);
    match marks
        .filter(|mark| value.contains(mark))
        .chain(blanks)
        .next()
    {
        Some(found) => Err(Unfit::Address {
            part,
            value: value.to_owned(),
            found,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Retention;
    use crate::specification::Settings;

    fn of(host: &str, database: &str) -> Outline {
        Outline {
            context: "order".to_owned(),
            address: (host.to_owned(), 5432),
            database: database.to_owned(),
            writers: vec!["writer".to_owned()],
            keeper: "keeper".to_owned(),
            topics: vec!["order".to_owned()],
            retention: Retention::default(),
            settings: Settings::of_role("cdc"),
        }
    }

    #[test]
    fn host_and_database_add_nothing_to_a_jdbc_url() {
        for (host, database) in [
            ("127.0.0.1", "order_db"),
            ("db.example.org", "Bestellungen-ü"),
            ("[::1]", "order"),
        ] {
            assert_eq!(of(host, database).fits_connector(), Ok(()));
        }
        for (host, found) in [
            ("db?options=-c", "?"),
            ("db&x", "&"),
            ("/run/postgresql", "/"),
            ("one,two", ","),
            ("${dir:/run:host}", "/"),
            ("${env:HOST}", "${"),
        ] {
            let refused = of(host, "order").fits_connector().unwrap_err();
            let (part, value, found) = ("host", host.to_owned(), found.to_owned());
            assert_eq!(refused, Unfit::Address { part, value, found });
        }
        for (database, found) in [
            ("order?options=-c", "?"),
            ("order&x=y", "&"),
            ("order/x", "/"),
            ("%6frder", "%"),
            ("a+b", "+"),
            ("two words", " "),
        ] {
            let refused = of("db", database).fits_connector().unwrap_err();
            let (part, value, found) = ("database", database.to_owned(), found.to_owned());
            assert_eq!(refused, Unfit::Address { part, value, found });
        }
        // Kafka Connect's way is the one that counts.
        let mut outline = of("/run/postgresql", "order");
        outline.settings.host = Some("127.0.0.1".to_owned());
        assert_eq!(outline.fits_connector(), Ok(()));
    }

    #[test]
    fn a_user_is_no_reference() {
        let mut outline = of("db", "order");
        "${dir:/run/secrets:user}".clone_into(&mut outline.settings.user);
        let refused = outline.fits_connector();
        assert_eq!(refused, Err(Unfit::User(outline.settings.user.clone())));
    }
}
