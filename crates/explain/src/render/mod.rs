//! Verdicts as text, Markdown, pcapng and HTML.

mod conversation;
mod html;
mod markdown;
mod sequence;
mod text;

use crate::packet::Addr;

pub use html::html;
pub use markdown::markdown;
pub use sequence::{Arrow, Row, rows, sequence};
pub use text::{detail, headline, in_order, line, lines};

/// An address that stands for another one, in a range for documentation: always the same one for the same address.
#[must_use]
pub fn pseudonym(addr: Addr) -> Addr {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(b"lastack");
    hash.update(&addr.0.to_be_bytes());
    let digest = hash.digest().bytes();
    if addr.is_v4() {
        // Class E is unassigned: 240.0.0.0/4 has enough addresses to distinguish many hosts.
        Addr::v4([240 | digest[0] & 7, digest[1], digest[2], digest[3]])
    } else {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        bytes[8..].copy_from_slice(&digest[..8]);
        Addr::v6(bytes)
    }
}
