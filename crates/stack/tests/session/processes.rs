//! The processes of one home, found in `/proc`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::unistd::Pid;

use crate::home::Home;
use crate::world::eventually;

/// How long processes may take to end after they were killed or lost their parent.
const GONE: Duration = Duration::from_secs(20);

impl Home {
    /// Every process of this home: one with the folder in its command or environment, or as its current folder.
    pub(crate) fn processes(&self) -> Vec<(Pid, String)> {
        let mut found = Vec::new();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let name = process.file_name();
            let Ok(id) = name.to_string_lossy().parse::<u32>() else {
                continue;
            };
            if id != self.cleaner() && belongs(&process.path(), self.folder()) {
                let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command).replace('\0', " ");
                found.push((Pid::from_raw(i32::try_from(id).unwrap()), command));
            }
        }
        found
    }

    /// Waits until no process of this home is left.
    pub(crate) async fn is_quiet(&self) {
        eventually(GONE, "no process is left", async || {
            let left = self.processes();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        })
        .await;
    }
}

fn belongs(process: &Path, folder: &Path) -> bool {
    let wanted = folder.as_os_str().as_encoded_bytes();
    let mentions = |file: &str| {
        // The files of a process that has ended, or is another user's, cannot be read.
        let text = fs::read(process.join(file)).unwrap_or_default();
        text.windows(wanted.len()).any(|window| window == wanted)
    };
    mentions("cmdline")
        || mentions("environ")
        || fs::read_link(process.join("cwd")).is_ok_and(|works_in| works_in.starts_with(folder))
}
