//! The reason that a RST segment may carry as data: draft-ietf-tcpm-rst-diagnostic-payload-03.
//!
//! Eight bytes: the magic number 0x33AA, the code, and a private enterprise number (PEN). PEN 0 means that the code
//! is from the registry "TCP Failure Causes".
//!
//! ```
//! use lastack_wire::ResetReason;
//! let payload = ResetReason::AckInListen.to_payload();
//! assert_eq!(payload, [0x33, 0xaa, 0, 5, 0, 0, 0, 0]);
//! assert_eq!(ResetReason::from_payload(&payload), Some(ResetReason::AckInListen));
//! ```

use core::fmt;

/// The first two bytes of the payload.
pub const MAGIC: u16 = 0x33aa;

/// Length of the payload.
pub const LEN: usize = 8;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $earlier:expr;)*) => {
        /// Why a connection was reset, according to the sender of the reset.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ResetReason {
            $(#[doc = concat!($text, " (", stringify!($code), ").")] $(#[$doc])* $name,)*
            /// A code that is not assigned in the registry.
            Unassigned(u16),
            /// A code defined by a vendor.
            Vendor {
                /// The vendor's private enterprise number; not 0.
                pen: u32,
                /// The code.
                code: u16,
            },
        }

        impl ResetReason {
            /// The registry, in the order of the codes.
            pub const REGISTERED: &'static [Self] = &[$(Self::$name),*];

            /// The code on the wire.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Unassigned(code) | Self::Vendor { code, .. } => code,
                }
            }

            /// The description in the registry.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unassigned(_) => "unassigned reason",
                    Self::Vendor { .. } => "vendor's reason",
                }
            }

            /// The meaning of the same code in the versions -00 to -02 of the draft, which cannot be distinguished from -03 on
            /// the wire; `None` if they did not define it.
            #[must_use]
            pub const fn earlier_reading(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => $earlier,)*
                    Self::Unassigned(_) | Self::Vendor { .. } => None,
                }
            }

            /// The reason with this code in the registry; `None` for 0, which is reserved.
            ///
            /// ```
            /// use lastack_wire::reset_reason::ResetReason;
            ///
            /// assert_eq!(ResetReason::registered(0), None);
            /// println!("{}", ResetReason::registered(1).unwrap());
            /// ```
            #[must_use]
            pub const fn registered(code: u16) -> Option<Self> {
                match code {
                    0 => None,
                    $($code => Some(Self::$name),)*
                    _ => Some(Self::Unassigned(code)),
                }
            }
        }
    };
}

reasons! {
    IllegalOptionLength = 1, "illegal option length", Some("illegal option length");
    DataUnread = 2, "data available or received that the application cannot read any more", Some("desynchronized state");
    Abort = 3, "ABORT process", Some("new data received after CLOSE");
    Closed = 4, "segment received in CLOSED state", Some("ABORT process");
    AckInListen = 5, "ACK received in LISTEN state", Some("unexpected ACK in a non-synchronized state");
    AckInSynSent = 6, "unacceptable ACK received in SYN-SENT state", Some("unexpected SYN in the window");
    AckInSynReceived = 7, "unacceptable ACK received in SYN-RECEIVED state", Some("unexpected security compartment");
    SynInWindow = 8, "SYN in the window received in a synchronized state", Some("malformed message");
    SecurityCompartment = 9, "unexpected security compartment", Some("not authorized");
    MalformedMessage = 10, "malformed message", Some("resource exceeded");
    NotAuthorized = 11, "not authorized", Some("network failure");
    ResourceExceeded = 12, "resource exceeded", Some("reset received from the peer");
    NetworkFailure = 13, "network failure", Some("destination unreachable");
    ResetByPeer = 14, "reset received from the peer", Some("connection timeout");
    DestinationUnreachable = 15, "destination unreachable", Some("too much outstanding data");
    ConnectionTimeout = 16, "connection timeout", Some("unacceptable performance");
    TooMuchOutstandingData = 17, "too much outstanding data", Some("middlebox interference");
    UnacceptablePerformance = 18, "unacceptable performance", None;
    MiddleboxInterference = 19, "middlebox interference", None;
}

impl ResetReason {
    /// The private enterprise number; 0 for the registry.
    #[must_use]
    pub const fn pen(self) -> u32 {
        match self {
            Self::Vendor { pen, .. } => pen,
            _ => 0,
        }
    }

    /// The data of the RST segment.
    #[must_use]
    pub const fn to_payload(self) -> [u8; LEN] {
        let [m, n] = MAGIC.to_be_bytes();
        let [a, b] = self.code().to_be_bytes();
        let [c, d, e, f] = self.pen().to_be_bytes();
        [m, n, a, b, c, d, e, f]
    }

    /// Parses the data of a RST segment. `None`: it contains no reason, and the RST is to be processed as if it had
    /// no data; [`has_magic`] distinguishes a malformed reason from other data.
    #[must_use]
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        let &[m, n, a, b, c, d, e, f] = payload else {
            return None;
        };
        if u16::from_be_bytes([m, n]) != MAGIC {
            return None;
        }
        match (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])) {
            // Code 0 is reserved and must not be used, by vendors either.
            (0, _) => None,
            (code, 0) => Self::registered(code),
            (code, pen) => Some(Self::Vendor { pen, code }),
        }
    }
}

/// Whether the data of a RST segment starts with the magic number of a reason.
#[must_use]
pub fn has_magic(payload: &[u8]) -> bool {
    payload.starts_with(&MAGIC.to_be_bytes())
}

impl fmt::Display for ResetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Vendor { pen, code } => write!(f, "vendor's reason {code} (PEN {pen})"),
            reason => write!(f, "{} ({})", reason.text(), reason.code()),
        }
    }
}
