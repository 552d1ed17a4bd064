//! The command `check-config`.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::PathBuf;
use std::process::Command;

fn print(configure: impl FnOnce(&mut Command) -> &mut Command) -> String {
    // At run time: a compiler that is started by a shell loses variables with a hyphen.
    let program = std::env::var_os("CARGO_BIN_EXE_inventory-worker").unwrap();
    let mut command = Command::new(program);
    command.args(["check-config", "--print"]);
    let output = configure(&mut command).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_printed_is_a_file_with_the_same_settings() {
    let printed = print(|command| {
        command
            .env("INVENTORY_WORKER__HTTP__LISTEN", "127.0.0.1:8002")
            .env("INVENTORY_WORKER__KAFKA__PROPERTIES__CLIENT_RACK", "00123")
            // The Inventory Service's.
            .env("INVENTORY__HTTP__LISTEN", "127.0.0.1:8003")
    });
    assert!(printed.contains("127.0.0.1:8002") && printed.contains("\"client.rack\" = \"00123\""));
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("inventory-worker.toml");
    std::fs::write(&file, &printed).unwrap();
    let again = print(|command| command.arg("--config").arg(&file));
    assert_eq!(again, printed);
}
