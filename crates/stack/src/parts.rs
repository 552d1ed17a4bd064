//! The parts that are not ours: Kafka and Connect, Debezium's plugin, PostgreSQL's server.
//!
//! Maven resolves what `parts/pom.xml` pins; each file is held to its SHA-256 in `parts/parts.sha256` before
//! anything of it runs. Where the parts come from elsewhere (Nix), the environment names them.

pub(crate) mod accepted;
pub(crate) mod routes;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::stat::{Mode, umask};
use sha2::{Digest, Sha256};

use self::routes::ROUTES;
use crate::process::die_with_parent;
use crate::{home, say};

/// Where the parts are, if they come from elsewhere.
const NAMES: [&str; 3] = ["STACK_KAFKA", "STACK_PLUGINS", "STACK_POSTGRES"];

const POM: &str = include_str!("../parts/pom.xml");
const LOCK: &str = include_str!("../parts/parts.sha256");

/// Where the parts are.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The folder with the jars of Kafka and Kafka Connect.
    pub kafka: PathBuf,
    /// The folder above the plugin's own, as `plugin.path` wants it.
    pub plugins: PathBuf,
    /// The folder with `initdb` and `postgres`.
    pub postgres: PathBuf,
}

impl Parts {
    /// The parts named by `STACK_KAFKA`, `STACK_PLUGINS` and `STACK_POSTGRES`, or else those in `home`, resolved
    /// if they are not there yet.
    ///
    /// # Errors
    /// What is missing, or not accepted, and what to do about it.
    pub fn resolve(home: &Path) -> Result<Self> {
        if let Some(named) = Self::named()? {
            ROUTES.accepted.holds(&named)?;
            return Ok(named);
        }
        let parts = home.join("parts");
        let resolved = Self {
            kafka: parts.join("kafka"),
            plugins: parts.join("plugins"),
            postgres: parts.join("postgres/bin"),
        };
        let (stamp, wanted) = (parts.join("stamp"), hex(&Sha256::digest(LOCK)));
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(resolved);
        }
        // Two runs at once take turns; the second then finds the stamp.
        fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
        let lock = File::create(home.join("parts.lock"))?;
        lock.lock()?;
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(resolved);
        }
        if parts.exists() {
            fs::remove_dir_all(&parts)?;
        }
        home::make(&parts)?;
        // PostgreSQL runs as another user, who must get at its files whatever the umask here.
        let before = umask(Mode::from_bits_truncate(0o022));
        let brought = download(&parts)
            .and_then(|()| verify(&parts))
            .and_then(|()| unpack(&parts));
        umask(before);
        brought?;
        fs::write(stamp, wanted)?;
        Ok(resolved)
    }

    /// Those that the environment names: all or none.
    fn named() -> Result<Option<Self>> {
        let found = NAMES.map(std::env::var_os);
        let missing: Vec<&str> = (NAMES.iter().zip(&found))
            .filter_map(|(name, found)| found.is_none().then_some(*name))
            .collect();
        if let [Some(kafka), Some(plugins), Some(postgres)] = found {
            return Ok(Some(Self {
                kafka: kafka.into(),
                plugins: plugins.into(),
                postgres: postgres.into(),
            }));
        }
        ensure!(
            missing.len() == NAMES.len(),
            "parts are named in part: {} not set. Name all of {} or none",
            match missing.as_slice() {
                [one] => format!("{one} is"),
                several => format!("{} are", several.join(" and ")),
            },
            NAMES.join(", ")
        );
        Ok(None)
    }
}

/// As PostgreSQL's archives are named.
fn platform() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("linux-amd64"),
        "aarch64" => Ok("linux-arm64v8"),
        other => bail!(
            "there is no PostgreSQL for {other} in the parts list; name parts of your own with {}",
            NAMES.join(", ")
        ),
    }
}

fn download(parts: &Path) -> Result<()> {
    let files = LOCK.lines().count() - 1;
    say!(
        "resolving {files} files with Maven: Kafka, Kafka Connect, Debezium, PostgreSQL (about 75 MB, once)"
    );
    let pom = parts.join("pom.xml");
    fs::write(&pom, POM)?;
    let mut maven = Command::new("mvn");
    die_with_parent(&mut maven);
    let mut maven = maven
        .args(["--batch-mode", "-Dstyle.color=never", "--file"])
        .arg(&pom)
        .arg(format!("-Dparts.directory={}", parts.display()))
        .arg(format!("-Dpostgres.platform={}", platform()?))
        .arg("package")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context(
            "cannot run mvn; install Maven (Debian: apt-get install maven), or let ./dev do it",
        )?;
    let output = maven.stdout.take().context("mvn has no output")?;
    let (mut downloaded, mut errors) = (0, Vec::new());
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.contains("Downloaded from") {
            downloaded += 1;
            if downloaded % 50 == 0 {
                say!("  {downloaded} files and descriptions downloaded");
            }
        } else if line.starts_with("[ERROR]") {
            errors.push(line);
        }
    }
    ensure!(
        maven.wait()?.success(),
        "Maven could not resolve the parts. Is there a network, and does ~/.m2/settings.xml name a mirror if yours \
         needs one? Run the command again when there is. Maven says:\n{}",
        errors.join("\n")
    );
    Ok(())
}

/// Holds every file to the lock: none missing, none unknown, none different.
fn verify(parts: &Path) -> Result<()> {
    let platform = platform()?;
    let mut expected: BTreeMap<&str, &str> = LOCK
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, name)| (name, sum))
        .filter(|(name, _)| !name.contains("embedded-postgres") || name.contains(platform))
        .collect();
    let files = expected.len();
    for folder in ["kafka", "archives"] {
        for entry in fs::read_dir(parts.join(folder))? {
            let path = entry?.path();
            let name = format!(
                "{folder}/{}",
                path.file_name().unwrap_or_default().display()
            );
            let Some(sum) = expected.remove(name.as_str()) else {
                bail!(
                    "{} is not in the lock (crates/stack/parts/parts.sha256); nothing was run",
                    path.display()
                );
            };
            let found = hex(&Sha256::digest(fs::read(&path)?));
            ensure!(
                found == sum,
                "{} has SHA-256 {found}, but the lock says {sum}; nothing was run. Remove it from your Maven repository \
                 (~/.m2) and try again; if it stays so, somebody has changed the file",
                path.display()
            );
        }
    }
    if let Some(missing) = expected.keys().next() {
        bail!("{missing} is in the lock, but Maven did not bring it");
    }
    say!("{files} files have the SHA-256 that the lock says");
    Ok(())
}

fn unpack(parts: &Path) -> Result<()> {
    let archives = parts.join("archives");
    let (plugins, postgres) = (parts.join("plugins"), parts.join("postgres"));
    fs::create_dir_all(&plugins)?;
    fs::create_dir_all(&postgres)?;
    for entry in fs::read_dir(&archives)? {
        let archive = entry?.path();
        let name = archive
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("debezium") {
            run(Command::new("tar")
                .arg("-xzf")
                .arg(&archive)
                .arg("-C")
                .arg(&plugins))?;
        } else {
            // A jar that holds one compressed tar archive.
            run(Command::new("unzip")
                .args(["-q", "-o"])
                .arg(&archive)
                .arg("*.txz")
                .arg("-d")
                .arg(&archives))?;
            let inner = fs::read_dir(&archives)?
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .find(|path| path.extension().is_some_and(|extension| extension == "txz"))
                .context("the PostgreSQL archive holds no .txz")?;
            run(Command::new("tar")
                .arg("-xJf")
                .arg(&inner)
                .arg("-C")
                .arg(&postgres))?;
        }
    }
    fs::remove_dir_all(archives)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().with_context(|| {
        format!("cannot run {program}; install it (Debian: apt-get install unzip xz-utils tar)")
    })?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}

/// Lowercase hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
