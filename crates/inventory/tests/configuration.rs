//! The command `check-config` of a service whose prefix begins another one's.

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
    let (good, said) = check("INVENTORY_HTTP_LISTEN");
    assert!(!good && said.contains("INVENTORY__HTTP__LISTEN"), "{said}");
}
