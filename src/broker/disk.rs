//! The disk under the database server, where it is this machine's.

use std::path::Path;

use serde::Serialize;
use sysinfo::{DiskRefreshKind, Disks, System};

use crate::domain::to_mb;
use crate::mysql::ServerInfo;

/// What the file system says. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RealDisk {
    /// Size of the file system.
    #[serde(rename = "total_mb", serialize_with = "as_mb")]
    pub total: u64,
    /// What is free on it.
    #[serde(rename = "free_mb", serialize_with = "as_mb")]
    pub free: u64,
}

fn as_mb<S: serde::Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(to_mb(*bytes))
}

/// The disk that holds the server's data directory; none where the server runs on another host.
pub(super) fn real_disk(server: &ServerInfo) -> Option<RealDisk> {
    let same_host = System::host_name().is_ok_and(|name| name == server.hostname);
    if !same_host {
        return None;
    }
    let directory = server.data_directory.canonicalize().ok()?;
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage()).ok()?;
    disks
        .iter()
        .filter(|disk| directory.starts_with(disk.mount_point()))
        .max_by_key(|disk| depth(disk.mount_point()))
        .map(|disk| RealDisk { total: disk.total_space(), free: disk.available_space() })
}

fn depth(path: &Path) -> usize {
    path.components().count()
}
