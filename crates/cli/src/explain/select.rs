//! The connection selected by `--conn`.

use lastack_explain::Explained;
use lastack_explain::record::Writer;

/// Whether the connection is selected: by its identifier or a prefix of it, its two ends, or a frame.
pub fn matches(wanted: &str, explained: &Explained, writer: &Writer) -> bool {
    let wanted = wanted.trim();
    if let Some(frame) = wanted.strip_prefix("frame:").or_else(|| wanted.strip_prefix("frame ")) {
        return has_frame(frame.trim(), explained, writer);
    }
    let id = writer.id(explained);
    if id == wanted || (wanted.len() >= 8 && id.starts_with(wanted)) {
        return true;
    }
    let (client, server) = (writer.endpoint(explained.client()), writer.endpoint(explained.server()));
    let ends = |a: &str, b: &str| (a == client && b == server) || (a == server && b == client);
    for between in [" > ", " - ", ">", " "] {
        if let Some((a, b)) = wanted.split_once(between) {
            return ends(a.trim(), b.trim());
        }
    }
    wanted == client || wanted == server
}

fn has_frame(frame: &str, explained: &Explained, writer: &Writer) -> bool {
    let named = |of| writer.frame(of).to_string() == frame;
    let conn = &explained.conn;
    if conn.kept().any(|pkt| named(pkt.frame)) || conn.resets.iter().any(|reset| named(reset.pkt.frame)) {
        return true;
    }
    // A packet in the middle of the connection that was not kept is indistinguishable from others of its time.
    false
}
