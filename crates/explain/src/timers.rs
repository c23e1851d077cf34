//! Idle timers that products have by default. All can be configured: a match is a hint.

/// A known timer: seconds, and whose it is.
pub struct Timer {
    /// Seconds.
    pub seconds: f64,
    /// The products.
    pub whose: &'static str,
    /// It is a timer of a device between the ends that drops or resets connections.
    pub device: bool,
}

const fn application(seconds: f64, whose: &'static str) -> Timer {
    Timer { seconds, whose, device: false }
}

const fn device(seconds: f64, whose: &'static str) -> Timer {
    Timer { seconds, whose, device: true }
}

/// The timers, by length.
pub const TIMERS: &[Timer] = &[
    application(5.0, "Apache, Node.js, CloudFront to the origin"),
    application(15.0, "a server's keep-alive timeout"),
    application(20.0, "a server's keep-alive timeout"),
    application(30.0, "a server's keep-alive or read timeout"),
    application(60.0, "AWS ALB, nginx proxy_read_timeout, Windows HTTP clients"),
    application(75.0, "nginx keepalive_timeout"),
    application(90.0, "Go's idle client connections, Cloudflare"),
    application(100.0, "Cloudflare's read timeout"),
    application(120.0, "IIS, Cloudflare"),
    application(180.0, "NetScaler client timeout"),
    device(240.0, "Azure load balancer and SNAT"),
    device(300.0, "BIG-IP"),
    device(350.0, "AWS NLB or NAT gateway"),
    application(400.0, "Cloudflare to clients"),
    device(600.0, "GCP"),
    application(900.0, "Cloudflare to the origin"),
    device(3600.0, "FortiGate, Palo Alto, Check Point, Cisco ASA, Envoy"),
    application(7200.0, "Linux keep-alive"),
    device(432_000.0, "Linux conntrack"),
];

/// The timer that an idle time in seconds fits: within 2 %, or at most a second longer.
#[must_use]
pub fn fitting(idle: f64) -> Option<&'static Timer> {
    TIMERS.iter().find(|timer| {
        let off = idle - timer.seconds;
        off.abs() <= timer.seconds * 0.02 || (0.0..=1.0).contains(&off)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_fits_a_timer_within_its_tolerance() {
        assert_eq!(fitting(350.4).unwrap().whose, "AWS NLB or NAT gateway");
        assert_eq!(fitting(5.9).unwrap().seconds, 5.0);
        assert!(fitting(45.0).is_none() && fitting(1.0).is_none());
        assert!(TIMERS.windows(2).all(|pair| pair[0].seconds < pair[1].seconds));
    }
}
