//! The name servers of the host, as listed in its resolv.conf(5).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::host::resolvers;

/// The servers, in the sequence in which they are tried.
#[derive(Debug)]
pub struct Resolvers {
    servers: RefCell<Vec<SocketAddr>>,
    /// The file they are read from, if changes of it apply.
    file: Option<PathBuf>,
    seen: Cell<Option<Stamp>>,
}

/// File metadata that changes when a file is written or replaced.
type Stamp = (u64, u64, SystemTime);

impl Resolvers {
    /// These, in this order, regardless of changes of the host's resolv.conf. There is at least one.
    pub fn fixed(servers: Vec<SocketAddr>) -> Self {
        assert!(!servers.is_empty(), "a plan names a resolver");
        Self { servers: servers.into(), file: None, seen: Cell::new(None) }
    }

    /// Those in this file, which is read again when it has changed.
    pub fn of_file(file: &Path) -> Self {
        let servers = resolvers::of_file(file);
        Self { servers: servers.into(), file: Some(file.to_owned()), seen: Cell::new(stamp(file)) }
    }

    /// All, beginning with the one of this number: the program's second name server begins with the host's second.
    pub fn order(&self, first: usize) -> Vec<SocketAddr> {
        self.refresh();
        let servers = self.servers.borrow();
        let (before, from) = servers.split_at(first % servers.len());
        from.iter().chain(before).copied().collect()
    }

    /// As in libc, which checks the file for each query (resolv.conf(5), `no-reload`).
    fn refresh(&self) {
        let Some(file) = &self.file else { return };
        let now = stamp(file);
        if now != self.seen.get() {
            self.seen.set(now);
            *self.servers.borrow_mut() = resolvers::of_file(file);
        }
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.modified().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_server_inside_begins_with_another_outside() {
        let resolvers = Resolvers::fixed(addresses(&["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"]));
        assert_eq!(resolvers.order(0), addresses(&["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"]));
        assert_eq!(resolvers.order(1), addresses(&["192.0.2.2:53", "192.0.2.3:53", "192.0.2.1:53"]));
        assert_eq!(resolvers.order(3), resolvers.order(0));
    }

    #[test]
    fn a_file_that_changes_is_read_again() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("resolv.conf");
        let resolvers = Resolvers::of_file(&file);
        assert_eq!(resolvers.order(0), addresses(&["127.0.0.1:53"]), "there is none yet");
        std::fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(resolvers.order(0), addresses(&["192.0.2.1:53"]));
        std::fs::write(place.path().join("new"), "nameserver 192.0.2.2\nnameserver 192.0.2.3\n").unwrap();
        std::fs::rename(place.path().join("new"), &file).unwrap();
        assert_eq!(resolvers.order(1), addresses(&["192.0.2.3:53", "192.0.2.2:53"]));
    }
}
