use super::*;
use crate::parts::maven::POM;
use crate::parts::routes::ROUTES;

fn version(text: &str) -> Version {
    Version::leading(text).unwrap()
}

#[test]
fn versions_within_the_range_are_accepted_and_no_others() {
    let accepted = &ROUTES.accepted;
    for (range, found, holds) in [
        (&accepted.kafka, "4.1.9", false),
        (&accepted.kafka, "4.2", true),
        (&accepted.kafka, "4.2.1", true),
        (&accepted.kafka, "4.10.0-SNAPSHOT.jar", true),
        (&accepted.kafka, "5.0.0-rc1", false),
        (&accepted.postgresql, "16.14", false),
        (&accepted.postgresql, "17.0", true),
        (&accepted.postgresql, "18.6 (Debian 18.6-1)", true),
        (&accepted.postgresql, "19beta1", false),
    ] {
        assert_eq!(range.check("it", &version(found)).is_ok(), holds, "{found}");
    }
}

#[test]
fn a_refused_version_is_named_with_the_accepted_range() {
    let error = ROUTES.accepted.kafka.check("Kafka", &version("3.9.1"));
    assert_eq!(
        error.unwrap_err().to_string(),
        "Kafka is 3.9.1, but must be 4.2 or later, and below 5"
    );
}

#[test]
fn other_text_is_not_a_version() {
    for text in ["", ".", "v4", "4..2", "99999999999"] {
        assert_eq!(Version::leading(text), None, "{text}");
    }
    serde_json::from_str::<Version>(r#""4.2 or so""#).unwrap_err();
}

/// The pinned parts would be accepted from elsewhere, too.
#[test]
fn the_pinned_versions_are_accepted() {
    let pinned = |name: &str| {
        let (_, rest) = POM.split_once(&format!("<{name}.version>")).unwrap();
        version(rest)
    };
    let accepted = &ROUTES.accepted;
    accepted.kafka.check("Kafka", &pinned("kafka")).unwrap();
    let postgres = pinned("postgres");
    accepted.postgresql.check("PostgreSQL", &postgres).unwrap();
}
