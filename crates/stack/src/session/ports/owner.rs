//! The process that listens at a port, as `/proc` shows it.

use std::fs;

/// The id and command of the process that listens at `port`, if this user may see it.
pub(super) fn owner(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|table| fs::read_to_string(table).unwrap_or_default());
    let inode = tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .find_map(|line| {
            // Number, local address, remote address, state (0A: listening), five more, inode.
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (_, hex) = columns.get(1)?.rsplit_once(':')?;
            let found = columns.get(3) == Some(&"0A") && u16::from_str_radix(hex, 16) == Ok(port);
            if found { columns.get(9).copied() } else { None }
        })?;
    let socket = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        // `self` and `thread-self` name a process a second time.
        if process
            .file_name()
            .to_string_lossy()
            .parse::<u32>()
            .is_err()
        {
            continue;
        }
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let mut links = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok());
        if links.any(|link| link.as_os_str() == socket.as_str()) {
            let id = process.file_name().to_string_lossy().into_owned();
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {id} ({})", command.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn the_owner_of_a_busy_port_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let owner = owner(taken.local_addr().unwrap().port()).unwrap();
        assert!(owner.contains(&std::process::id().to_string()), "{owner}");
    }
}
