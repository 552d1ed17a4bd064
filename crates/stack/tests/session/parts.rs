//! The third-party parts: those from elsewhere, and the lock of those that Maven resolves.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::home::{Home, PROGRAM};

#[tokio::test]
async fn a_kafka_that_is_too_old_is_refused_before_anything_starts() {
    let mut home = Home::new();
    let kafka = home.folder().join("too-old");
    fs::create_dir(&kafka).unwrap();
    File::create(kafka.join("kafka-clients-3.9.1.jar")).unwrap();
    home.parts_mut().kafka = kafka;
    let mut up = home.start(&["up"]);
    assert!(!up.ended().await.success());
    let said = up.said();
    assert!(said.contains("Kafka is 3.9.1, but must be 4.2"), "{said}");
    assert!(said.contains("STACK_KAFKA"), "{said}");
    home.is_quiet().await;
}

#[tokio::test]
async fn parts_of_which_only_some_are_named_are_refused() {
    let home = Home::new();
    let output = Command::new(PROGRAM)
        .arg("up")
        .env("STACK_HOME", home.folder())
        .env("STACK_PORTS", "free")
        .env("STACK_POSTGRES", "/usr/bin")
        .env_remove("STACK_KAFKA")
        .env_remove("STACK_PLUGINS")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        said.contains("STACK_KAFKA and STACK_PLUGINS are not set"),
        "{said}"
    );
    home.is_quiet().await;
}

/// On a copy of the checkout's `parts` folder.
#[tokio::test]
async fn parts_lock_corrects_a_wrong_lock_and_leaves_a_current_one_alone() {
    if std::env::var_os("STACK_KAFKA").is_some() {
        println!("skipped: where the environment names the parts, there may be no Maven");
        return;
    }
    let home = Home::new();
    let checkout = home.folder().join("checkout");
    let (original, copy) = (
        Path::new(env!("CARGO_MANIFEST_DIR")).join("parts"),
        checkout.join("crates/stack/parts"),
    );
    fs::create_dir_all(&copy).unwrap();
    fs::copy(original.join("pom.xml"), copy.join("pom.xml")).unwrap();
    File::create(checkout.join("crates/stack/Cargo.toml")).unwrap();
    let (current, lock) = (
        fs::read_to_string(original.join("parts.sha256")).unwrap(),
        copy.join("parts.sha256"),
    );
    let (first, rest) = current.split_once('\n').unwrap();
    let unknown = format!("{}  kafka/unknown.jar", "0".repeat(64));
    fs::write(&lock, format!("{rest}{unknown}\n")).unwrap();
    let run = || {
        let output = Command::new(PROGRAM)
            .args(["parts", "lock"])
            .current_dir(&checkout)
            .env("STACK_HOME", home.folder())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        (String::from_utf8(output.stdout).unwrap(), errors)
    };

    let (difference, _) = run();
    assert_eq!(difference, format!("- {unknown}\n+ {first}\n"));
    assert_eq!(fs::read_to_string(&lock).unwrap(), current);

    let written = fs::metadata(&lock).unwrap().ino();
    let (difference, said) = run();
    assert_eq!(difference, "");
    assert!(said.contains("parts.sha256 is current"), "{said}");
    assert_eq!(fs::metadata(&lock).unwrap().ino(), written);
    assert_eq!(fs::read_to_string(&lock).unwrap(), current);
    let files = fs::read_dir(&copy).unwrap().count();
    assert_eq!(files, 2, "no temporary file is left");
    home.is_quiet().await;
}
