//! What no connector can be derived from.

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

/// Looks for what Kafka Connect, Debezium or its driver would understand otherwise than it is meant.
pub(super) fn check(host: &str, database: &str, user: &str) -> Result<(), Unfit> {
    address("host", host, IN_HOST)?;
    address("database", database, IN_DATABASE)?;
    if user.contains("${") {
        return Err(Unfit::User(user.to_owned()));
    }
    Ok(())
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

    #[test]
    fn host_and_database_add_nothing_to_a_jdbc_url() {
        for (host, database) in [
            ("127.0.0.1", "order_db"),
            ("db.example.org", "Bestellungen-ü"),
            ("[::1]", "order"),
        ] {
            assert_eq!(check(host, database, "cdc"), Ok(()));
        }
        for (host, found) in [
            ("db?options=-c", "?"),
            ("db&x", "&"),
            ("/run/postgresql", "/"),
            ("one,two", ","),
            ("${dir:/run:host}", "/"),
            ("${env:HOST}", "${"),
        ] {
            let refused = check(host, "order", "cdc").unwrap_err();
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
            let refused = check("db", database, "cdc").unwrap_err();
            let (part, value, found) = ("database", database.to_owned(), found.to_owned());
            assert_eq!(refused, Unfit::Address { part, value, found });
        }
    }

    #[test]
    fn a_user_is_no_reference() {
        let user = "${dir:/run/secrets:user}";
        assert_eq!(
            check("db", "order", user),
            Err(Unfit::User(user.to_owned()))
        );
    }
}
