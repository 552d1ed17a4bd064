//! Test of the command `check-config` of a service whose variable prefix is also the beginning of another service's.

use std::path::PathBuf;
use std::process::Command;

#[test]
fn the_service_ignores_the_variables_of_the_worker() {
    let check = |variable: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_inventory"))
            .args(["check-config", "--print"])
            .env(variable, "127.0.0.1:8002")
            .output()
            .unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.success(), text)
    };
    let (success, output) = check("INVENTORY_WORKER__HTTP__LISTEN");
    assert!(success && output.contains("127.0.0.1:8000"), "{output}");
    let (success, output) = check("INVENTORY__HTTP__LISTEN");
    assert!(success && output.contains("127.0.0.1:8002"), "{output}");
    let printed = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("inventory.toml");
    std::fs::write(&printed, &output).unwrap();
    let again = Command::new(env!("CARGO_BIN_EXE_inventory"))
        .args(["check-config", "--print", "--config"])
        .arg(&printed)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&again.stdout), output);
    let (success, output) = check("INVENTORY_HTTP_LISTEN");
    assert!(
        !success && output.contains("INVENTORY__HTTP__LISTEN"),
        "{output}"
    );
}
