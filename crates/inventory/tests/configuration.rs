//! The command `check-config` of a service whose prefix begins another one's.

use std::path::PathBuf;
use std::process::Command;

#[test]
fn the_workers_variables_are_none_of_the_services_business() {
    let check = |variable: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_inventory"))
            .args(["check-config", "--print"])
            .env(variable, "127.0.0.1:8002")
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.success(), said)
    };
    let (good, said) = check("INVENTORY_WORKER__HTTP__LISTEN");
    assert!(good && said.contains("127.0.0.1:8000"), "{said}");
    let (good, said) = check("INVENTORY__HTTP__LISTEN");
    assert!(good && said.contains("127.0.0.1:8002"), "{said}");
    let printed = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("inventory.toml");
    std::fs::write(&printed, &said).unwrap();
    let again = Command::new(env!("CARGO_BIN_EXE_inventory"))
        .args(["check-config", "--print", "--config"])
        .arg(&printed)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&again.stdout), said);
    let (good, said) = check("INVENTORY_HTTP_LISTEN");
    assert!(!good && said.contains("INVENTORY__HTTP__LISTEN"), "{said}");
}
