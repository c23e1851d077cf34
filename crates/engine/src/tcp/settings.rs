//! What the user of a connection has set, and what it waits for.

use super::Keepalive;
use crate::config::TcpConfig;
use core::time::Duration;

/// What the user has set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub nodelay: bool,
    pub linger: Option<Duration>,
    pub keepalive: Option<Keepalive>,
    pub user_timeout: Option<Duration>,
}

impl Settings {
    pub fn new(config: &TcpConfig) -> Self {
        Self { nodelay: config.nodelay, linger: None, keepalive: None, user_timeout: None }
    }
}

/// What the user waits for, and is to be told once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    pub read: bool,
    pub write: bool,
    pub drain: bool,
}

impl Default for Waits {
    /// The first text is told without being asked for.
    fn default() -> Self {
        Self { read: true, write: true, drain: false }
    }
}
