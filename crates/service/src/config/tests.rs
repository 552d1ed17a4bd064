//! What the checks of settings find.
#![expect(
    clippy::result_large_err,
    reason = "figment's Jail asks for its own error"
)]

use std::path::PathBuf;

use super::{Database, Files, Log, Role, SslMode};

fn refusal(change: impl FnOnce(&mut Database)) -> String {
    let mut database = Database::local(5433, "order_db", "order_service");
    change(&mut database);
    let problem = database.check(Files::Here).unwrap_err();
    let cause = std::error::Error::source(&problem).map(ToString::to_string);
    format!("{problem} {}", cause.unwrap_or_default())
}

/// Runs `test` with a way to write files, which are gone after it.
fn with_files(test: impl Fn(&dyn Fn(&str, &str) -> PathBuf)) {
    figment::Jail::expect_with(|jail| {
        let folder = jail.directory().to_owned();
        test(&|name, text| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        });
        Ok(())
    });
}

#[test]
fn every_file_that_a_setting_names_is_read() {
    with_files(|file| {
        let missing = || Some(PathBuf::from("/nowhere/file"));
        let certificate = file("certificate", "-----BEGIN CERTIFICATE-----\n");
        for (refusal, setting) in [
            (
                refusal(|d| d.password_file = missing()),
                "database.password_file",
            ),
            (
                refusal(|d| (d.sslmode, d.sslrootcert) = (SslMode::VerifyFull, missing())),
                "database.sslrootcert",
            ),
            (
                refusal(|d| (d.sslcert, d.sslkey) = (missing(), missing())),
                "database.sslcert",
            ),
            (
                refusal(|d| (d.sslcert, d.sslkey) = (Some(certificate.clone()), missing())),
                "database.sslkey",
            ),
        ] {
            assert!(refusal.contains(setting), "{refusal}");
            assert!(refusal.contains("/nowhere/file"), "{refusal}");
            assert!(refusal.contains("No such file"), "{refusal}");
        }
        let empty = Some(file("empty", "\n"));
        assert!(refusal(|d| d.password_file = empty).contains("holds no password"));
        let text = Some(file("text", "no PEM\n"));
        let no_pem = refusal(|d| (d.sslmode, d.sslrootcert) = (SslMode::VerifyFull, text));
        assert!(no_pem.contains("holds no certificate in PEM"), "{no_pem}");
        let owner = Role {
            password_file: missing(),
            ..Role::new("order_owner")
        };
        let refusal = owner.check("owner.password_file", Files::Here).unwrap_err();
        let refusal = refusal.to_string();
        assert!(refusal.contains("owner.password_file"), "{refusal}");
        owner
            .check("owner.password_file", Files::Elsewhere)
            .unwrap();
    });
}

#[test]
fn tls_settings_without_effect_are_refused() {
    with_files(|file| {
        let authority = || Some(file("authority", "-----BEGIN CERTIFICATE-----\n"));
        for mode in [SslMode::Disable, SslMode::Prefer, SslMode::Require] {
            let refusal = refusal(|d| (d.sslmode, d.sslrootcert) = (mode, authority()));
            assert!(refusal.contains("has no effect"), "{refusal}");
        }
        let mode_refusal = refusal(|d| d.sslmode = SslMode::VerifyCa);
        assert!(
            mode_refusal.contains("needs database.sslrootcert"),
            "{mode_refusal}"
        );
        assert!(refusal(|d| d.sslcert = authority()).contains("database.sslkey need each other"));
        let mut good = Database::local(5433, "order_db", "order_service");
        good.check(Files::Here).unwrap();
        (good.sslmode, good.sslrootcert) = (SslMode::VerifyFull, authority());
        good.check(Files::Here).unwrap();
        good.sslrootcert = Some("/nowhere/file".into());
        good.check(Files::Elsewhere).unwrap();
        good.sslmode = SslMode::Require;
        let refusal = good.check(Files::Elsewhere).unwrap_err().to_string();
        assert!(refusal.contains("has no effect"), "{refusal}");
    });
}

#[test]
fn levels_that_do_not_parse_are_named() {
    let log = Log {
        filter: "order=loud".to_owned(),
        ..Log::default()
    };
    assert!(log.check().unwrap_err().to_string().contains("log.filter"));
}
