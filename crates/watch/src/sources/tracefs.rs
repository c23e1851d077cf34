//! The descriptions of tracepoints: their numbers, where their fields are, and the names of the reset reasons.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use super::sys;

/// A place where tracefs can be read. Nothing is written there: the trace buffer of the machine is not touched.
#[derive(Debug)]
pub(super) struct Tracefs {
    path: PathBuf,
    /// A mount of our own goes with this descriptor.
    _mount: Option<OwnedFd>,
}

impl Tracefs {
    /// The mounted one; else a private one.
    pub(super) fn open() -> io::Result<Self> {
        let mut denied = None;
        for path in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
            let path = PathBuf::from(path);
            match fs::metadata(path.join("events/tcp/tcp_send_reset/format")) {
                Ok(_) => return Ok(Self { path, _mount: None }),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied = Some(error),
                Err(_) => {}
            }
        }
        match sys::mount_tracefs() {
            Ok(mount) => {
                let path = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
                Ok(Self { path, _mount: Some(mount) })
            }
            Err(error) => Err(denied.unwrap_or(error)),
        }
    }

    /// The description of an event, such as `tcp/tcp_send_reset`.
    pub(super) fn format(&self, event: &str) -> io::Result<Format> {
        let path = self.path.join("events").join(event).join("format");
        let content = fs::read_to_string(path)?;
        Format::parse(&content).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("the format of {event} has no id"))
        })
    }
}

/// The layout of an event's record.
#[derive(Debug, Default)]
pub(super) struct Format {
    pub(super) id: u64,
    /// Offset and size of each field.
    fields: HashMap<String, (usize, usize)>,
    /// The names of the numbers of `reason`.
    reasons: HashMap<u32, Arc<str>>,
}

impl Format {
    fn parse(content: &str) -> Option<Self> {
        let mut format = Self::default();
        for line in content.lines() {
            let line = line.trim();
            if let Some(id) = line.strip_prefix("ID:") {
                format.id = id.trim().parse().ok()?;
            } else if let Some(field) = line.strip_prefix("field:") {
                format.add_field(field);
            } else if let Some(print) = line.strip_prefix("print fmt:")
                && let Some((_, reasons)) = print.rsplit_once("REC->reason, ")
            {
                format.add_reasons(reasons);
            }
        }
        (format.id != 0).then_some(format)
    }

    /// `__u8 saddr[28]; offset:32; size:28; signed:0;`
    fn add_field(&mut self, field: &str) {
        let mut parts = field.split(';').map(str::trim);
        let Some(declaration) = parts.next() else { return };
        let name = declaration.rsplit([' ', '*']).next().unwrap_or_default();
        let name = name.split('[').next().unwrap_or_default();
        let (mut offset, mut size) = (None, None);
        for part in parts {
            match part.split_once(':') {
                Some(("offset", value)) => offset = value.parse().ok(),
                Some(("size", value)) => size = value.parse().ok(),
                _ => {}
            }
        }
        if let (Some(offset), Some(size)) = (offset, size) {
            self.fields.insert(name.to_owned(), (offset, size));
        }
    }

    /// `{ 0, "NOT_SPECIFIED" }, { 1, "NO_SOCKET" } ..`
    fn add_reasons(&mut self, list: &str) {
        for entry in list.split('{').skip(1) {
            let Some((number, name)) = entry.split_once(',') else { continue };
            if let (Ok(number), Some(name)) = (number.trim().parse(), name.split('"').nth(1)) {
                self.reasons.insert(number, name.into());
            }
        }
    }

    pub(super) fn reason(&self, number: u32) -> Option<Arc<str>> {
        self.reasons.get(&number).cloned()
    }

    /// The bytes of a field.
    pub(super) fn bytes<'a>(&self, record: &'a [u8], field: &str) -> Option<&'a [u8]> {
        let &(offset, size) = self.fields.get(field)?;
        record.get(offset..offset.checked_add(size)?)
    }

    /// A field that is a number of 1, 2, 4 or 8 bytes.
    pub(super) fn number(&self, record: &[u8], field: &str) -> Option<u64> {
        let bytes = self.bytes(record, field)?;
        Some(match bytes.len() {
            1 => bytes[0].into(),
            2 => u16::from_ne_bytes(bytes.try_into().ok()?).into(),
            4 => u32::from_ne_bytes(bytes.try_into().ok()?).into(),
            8 => u64::from_ne_bytes(bytes.try_into().ok()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_reasons_are_read() {
        let format = Format::parse(
            "name: tcp_send_reset\nID: 2280\nformat:\n\
             \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
             \tfield:const void * skbaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
             \tfield:enum sk_rst_reason reason;\toffset:28;\tsize:4;\tsigned:0;\n\
             \tfield:__u8 saddr[28];\toffset:32;\tsize:28;\tsigned:0;\n\n\
             print fmt: \"state=%s reason=%s\", REC->state ? __print_symbolic(REC->state, { TCP_LISTEN, \"TCP_LISTEN\" }) \
             : \"UNKNOWN\", __print_symbolic(REC->reason, { 0, \"NOT_SPECIFIED\" }, { 1, \"NO_SOCKET\" })\n",
        )
        .unwrap();
        assert_eq!(format.id, 2280);
        assert_eq!(format.reason(1).as_deref(), Some("NO_SOCKET"));
        assert_eq!(format.reason(2), None);
        let mut record = vec![0; 60];
        record[8] = 7;
        record[28] = 1;
        assert_eq!(format.number(&record, "skbaddr"), Some(7));
        assert_eq!(format.number(&record, "reason"), Some(1));
        assert_eq!(format.bytes(&record, "saddr").unwrap().len(), 28);
        assert_eq!(format.bytes(&record[..59], "saddr"), None);
        assert_eq!(format.number(&record, "nothing"), None);
        assert!(Format::parse("name: x\n").is_none());
    }
}
