//! Parts that come from elsewhere.

use std::fs::{self, File};
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
async fn parts_that_are_named_in_part_are_refused() {
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
