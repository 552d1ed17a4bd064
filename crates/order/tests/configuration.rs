//! Tests of the command `check-config`.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

/// Runs the command: whether it succeeds, its standard output and its standard error.
fn check(arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_order"))
        .arg("check-config")
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn the_printed_configuration_is_a_file_with_the_same_settings_and_no_secret() {
    let password = file("password", "hunter2\n");
    let empty_file = file("empty.toml", "");
    let variables = [
        ("ORDER__HTTP__LISTEN", "[::1]:9001"),
        ("ORDER__DATABASE__NAME", "00123"),
        ("ORDER__DATABASE__PASSWORD_FILE", password.as_str()),
        ("ORDER__DATABASE__SSLMODE", "require"),
        ("ORDER__KAFKA__TOPICS", "[a, \"b c\"]"),
        ("ORDER__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL"),
        ("ORDER__KAFKA__PROPERTIES__SASL_MECHANISM", "SCRAM-SHA-512"),
        ("ORDER__KAFKA__PROPERTIES__SASL_USERNAME", "\"0\\1\""),
        ("ORDER__KAFKA__PROPERTIES__SOCKET_NAGLE_DISABLE", "true"),
        (
            "ORDER__KAFKA__PROPERTY_FILES__SASL_PASSWORD",
            password.as_str(),
        ),
        (
            "ORDER__CONNECTOR__PROPERTIES__DATABASE_SSLMODE",
            "verify-full",
        ),
        ("ORDER__CONNECTOR__PORT", "6432"),
        ("ORDER__LOG__FORMAT", "json"),
    ];
    let (success, printed, errors) = check(&["--print", "--config", &empty_file], &variables);
    assert!(success, "{errors}");
    assert!(!printed.contains("hunter2"), "{printed}");
    for line in [
        "name = \"00123\"",
        "\"socket.nagle.disable\" = \"true\"",
        "port = 6432",
        &format!("\"sasl.password\" = \"{password}\""),
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line}\n{printed}"
        );
    }
    let again = file("printed.toml", &printed);
    let (success, printed_again, errors) = check(&["--print", "--config", &again], &[]);
    assert!(success, "{errors}");
    assert_eq!(printed_again, printed);
}

#[test]
fn a_secret_in_a_plain_setting_is_refused_and_not_printed() {
    let variables = [("ORDER__KAFKA__PROPERTIES__SASL_PASSWORD", "hunter2")];
    let (success, printed, errors) = check(&["--print"], &variables);
    assert!(!success);
    assert!(errors.contains("property_files.sasl.password"), "{errors}");
    assert!(printed.contains("\"sasl.password\" = \"<redacted>\""));
    assert!(!printed.contains("hunter2") && !errors.contains("hunter2"));
}

#[test]
fn an_error_names_its_setting_and_the_command_connects_to_no_server() {
    // No server listens on these ports: a connection would fail.
    let nowhere = [
        ("ORDER__DATABASE__PORT", "1"),
        ("ORDER__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
    ];
    let (success, _, errors) = check(&[], &nowhere);
    assert!(success, "{errors}");
    for (variable, text, setting) in [
        (
            "ORDER__DATABASE__PASSWORD_FILE",
            "/nowhere",
            "database.password_file",
        ),
        (
            "ORDER__OWNER__PASSWORD_FILE",
            "/nowhere",
            "owner.password_file",
        ),
        (
            "ORDER__DATABASE__SSLROOTCERT",
            "/nowhere",
            "database.sslrootcert",
        ),
        (
            "ORDER__KAFKA__PROPERTY_FILES__SASL_PASSWORD",
            "/nowhere",
            "sasl.password",
        ),
        (
            "ORDER__KAFKA__PROPERTIES__SSL_CA_LOCATION",
            "/nowhere",
            "ssl.ca.location",
        ),
        ("ORDER__KAFKA__PROPERTIES__SASL_MECH", "PLAIN", "sasl.mech"),
        ("ORDER__LOG__FILTER", "order=loud", "log.filter"),
        (
            "ORDER__DATABASE__PROT",
            "1",
            "did you mean database.port (ORDER__DATABASE__PORT)?",
        ),
        (
            "ORDER_HTTP_LISTEN",
            "127.0.0.1:1",
            "did you mean ORDER__HTTP__LISTEN?",
        ),
    ] {
        let (success, _, errors) = check(&[], &[(variable, text)]);
        assert!(!success && errors.contains(setting), "{variable}: {errors}");
    }
}

#[test]
fn without_files_only_names_and_values_are_checked() {
    let elsewhere = [
        ("ORDER__DATABASE__PASSWORD_FILE", "/nowhere"),
        ("ORDER__DATABASE__SSLMODE", "verify-full"),
        ("ORDER__DATABASE__SSLROOTCERT", "/nowhere"),
        ("ORDER__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL"),
        ("ORDER__KAFKA__PROPERTIES__SSL_CA_LOCATION", "/nowhere"),
        ("ORDER__KAFKA__PROPERTY_FILES__SSL_KEY_PEM", "/nowhere"),
    ];
    let (success, _, errors) = check(&["--without-files"], &elsewhere);
    assert!(success, "{errors}");
    for (variable, text, setting) in [
        (
            "ORDER__KAFKA__PROPERTY_FILES__SASL_PASWORD",
            "/nowhere",
            "sasl.pasword",
        ),
        (
            "ORDER__DATABASE__SSLMODE",
            "require",
            "database.sslrootcert",
        ),
        ("ORDER__LOG__FILTER", "order=loud", "log.filter"),
    ] {
        let variables: Vec<_> = elsewhere
            .into_iter()
            .filter(|(other, _)| *other != variable)
            .chain([(variable, text)])
            .collect();
        let (success, _, errors) = check(&["--without-files"], &variables);
        assert!(!success && errors.contains(setting), "{variable}: {errors}");
    }
}

#[test]
fn settings_that_a_full_disk_does_not_take_are_an_error() {
    for arguments in [&["check-config", "--print"][..], &["check-config"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_order"))
            .args(arguments)
            .stdout(full)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(
            errors.contains("cannot write the answer to standard output"),
            "{errors}"
        );
    }
}
