//! The initial settings of a run: addresses, tolerances, and the stack's configuration.

use super::error::Problem;
use super::lexer;
use super::syntax::{Script, Setting};
use lastack_engine::{Config, Ecn, MtuProbing};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The min MTU of a path of either version (RFC 791, RFC 8200 section 5), and the max size of a packet.
const MIN_MTU_V4: usize = 68;
const MIN_MTU_V6: usize = 1280;
const MAX_MTU: usize = 65_535;

/// Options without an effect on the stack: they set up the device of the original, mark the packets that it
/// injects into the kernel, or control its output. Definitions are read with the text.
const WITHOUT_EFFECT: &[&str] = &[
    "define",
    "gateway_ip",
    "is_anyip",
    "mss",
    "netmask_ip",
    "psp_udp_port",
    "send_omit_free",
    "speed",
    "verbose",
];

/// The version of the sockets and packets of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4 sockets and packets.
    #[default]
    V4,
    /// IPv6 sockets with IPv4-mapped addresses, IPv4 packets.
    Mapped,
    /// IPv6 sockets and packets.
    V6,
}

impl IpVersion {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V4, Self::Mapped, Self::V6];

    /// Its name in the options of scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::Mapped => "ipv4-mapped-ipv6",
            Self::V6 => "ipv6",
        }
    }

    /// The version with this name.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.replace('_', "-");
        Self::ALL.into_iter().find(|version| version.name() == name)
    }

    /// The version given by the line `--ip_version=` of a script.
    pub fn of_script(source: &str) -> Option<Self> {
        let lexemes = lexer::lex(source, &HashMap::new()).ok()?;
        lexemes.iter().map_while(|lexeme| lexer::setting(&lexeme.token)).find_map(|(name, value)| {
            (name == "ip_version").then(|| Self::named(value.unwrap_or_default())).flatten()
        })
    }

    /// The definitions of the suites for it.
    fn definitions(self) -> [(&'static str, &'static str); 5] {
        let (cookie, level, recverr) = match self {
            Self::V4 => ("3021b9d889017eeb", "SOL_IP", "IP_RECVERR"),
            Self::Mapped => ("3021b9d889017eeb", "SOL_IPV6", "IPV6_RECVERR"),
            Self::V6 => ("c1d1e9742a47a9bc", "SOL_IPV6", "IPV6_RECVERR"),
        };
        [
            ("TFO_COOKIE", cookie),
            ("TFO_COOKIE_ZERO", "0000000000000000"),
            ("CMSG_LEVEL_IP", level),
            ("CMSG_TYPE_RECVERR", recverr),
            ("CODE", if matches!(self, Self::V6) { "address_unreachable" } else { "host_unreachable" }),
        ]
    }
}

/// The settings given by the caller.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The version of sockets and packets.
    pub version: IpVersion,
    /// Definitions beside those of the suites.
    pub definitions: Vec<(String, String)>,
    /// The tolerance of times, in place of the script's.
    pub tolerance: Option<Duration>,
}

impl Settings {
    /// All definitions.
    pub fn definitions(&self) -> HashMap<String, String> {
        let suites = self.version.definitions().map(|(name, value)| (name.to_owned(), value.to_owned()));
        suites.into_iter().chain(self.definitions.iter().cloned()).collect()
    }
}

/// The initial settings of a run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The version of sockets and packets.
    pub version: IpVersion,
    /// The address of the system under test.
    pub local: IpAddr,
    /// The address of the peer.
    pub remote: IpAddr,
    /// The largest packet that the system sends.
    pub mtu: usize,
    /// The port of `bind` calls.
    pub bind_port: u16,
    /// The port of `connect` calls.
    pub connect_port: u16,
    /// The max deviation of an event from its time.
    pub tolerance: Duration,
    /// The deviation in percent of the time since the previous event, if that is more.
    pub tolerance_percent: f64,
    /// The unit of timestamps; zero: they are not compared.
    pub tick: Duration,
    /// Unknown timestamps are counted from the first one.
    pub scaled_echoes: bool,
    /// A packet of the script is one packet on the wire.
    pub strict_segments: bool,
}

impl Setup {
    fn new(settings: &Settings) -> Self {
        let v6 = settings.version == IpVersion::V6;
        let parse = |text: &str| text.parse().expect("it is an address");
        let addresses =
            if v6 { ["fd3d:a0b:17d6::1", "fd3d:fa7b:d17d::1"] } else { ["192.168.0.1", "192.0.2.1"] };
        Self {
            version: settings.version,
            local: parse(addresses[0]),
            remote: parse(addresses[1]),
            mtu: if v6 { 1520 } else { 1500 },
            bind_port: 8080,
            connect_port: 8080,
            tolerance: settings.tolerance.unwrap_or(Duration::from_micros(4000)),
            tolerance_percent: 12.5,
            tick: Duration::ZERO,
            scaled_echoes: false,
            strict_segments: false,
        }
    }

    /// The settings of a script.
    pub fn of(script: &Script, settings: &Settings) -> Result<Self, Problem> {
        let mut setup = Self::new(settings);
        for option in &script.options {
            setup.take(option, settings)?;
        }
        if setup.local.is_ipv4() != setup.remote.is_ipv4() {
            let span = script.options.first().map_or(0..0, |option| option.span.clone());
            return Err(Problem::unsupported(span, "the script's addresses have another IP version"));
        }
        Ok(setup)
    }

    fn take(&mut self, option: &Setting, settings: &Settings) -> Result<(), Problem> {
        let value = option.value.as_deref().unwrap_or_default();
        let bad =
            || Problem::syntax(option.span.clone(), format!("invalid value {value:?} for --{}", option.name));
        let number = || lexer::integer(value).ok_or_else(bad);
        let micros = || u64::try_from(number()?).map(Duration::from_micros).map_err(|_| bad());
        let port = || number().and_then(|number| u16::try_from(number).map_err(|_| bad()));
        match option.name.as_str() {
            "tolerance_usecs" if settings.tolerance.is_none() => self.tolerance = micros()?,
            "tolerance_usecs" => _ = micros()?,
            "tolerance_percent" => {
                let percent: f64 = value.parse().map_err(|_| bad())?;
                self.tolerance_percent = Some(percent).filter(|p| (0.0..=1e6).contains(p)).ok_or_else(bad)?;
            }
            "tcp_ts_tick_usecs" => self.tick = micros()?,
            "tcp_ts_ecr_scaled" => self.scaled_echoes = true,
            "strict_segments" => self.strict_segments = true,
            "mtu" => {
                let min = if self.version == IpVersion::V6 { MIN_MTU_V6 } else { MIN_MTU_V4 };
                let mtu = usize::try_from(number()?).ok().filter(|mtu| (min..=MAX_MTU).contains(mtu));
                let range = || bad().note(format!("expected {min} to {MAX_MTU} bytes"));
                self.mtu = mtu.ok_or_else(range)?;
            }
            "bind_port" => self.bind_port = port()?,
            "connect_port" => self.connect_port = port()?,
            "local_ip" => self.local = self.address(value, option)?,
            "remote_ip" => self.remote = self.address(value, option)?,
            "ip_version" => {
                let version = IpVersion::named(value).ok_or_else(bad)?;
                if version != self.version {
                    let message = format!("the script is for {value} only");
                    return Err(Problem::unsupported(option.span.clone(), message));
                }
            }
            other if WITHOUT_EFFECT.contains(&other) => {}
            other => {
                let message = format!("unsupported option --{other}");
                return Err(Problem::unsupported(option.span.clone(), message));
            }
        }
        Ok(())
    }

    fn address(&self, text: &str, option: &Setting) -> Result<IpAddr, Problem> {
        let bad = || Problem::syntax(option.span.clone(), format!("invalid IP address {text:?}"));
        let address: IpAddr = text.split('/').next().unwrap_or(text).parse().map_err(|_| bad())?;
        if address.is_ipv6() != (self.version == IpVersion::V6) {
            let message = "the script's addresses have another IP version";
            return Err(Problem::unsupported(option.span.clone(), message));
        }
        Ok(address)
    }

    /// The address of `bind` calls.
    pub fn local_end(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.bind_port)
    }

    /// The address of `connect` calls.
    pub fn remote_end(&self) -> SocketAddr {
        SocketAddr::new(self.remote, self.connect_port)
    }

    /// Whether packets are IPv6.
    pub fn v6(&self) -> bool {
        self.local.is_ipv6()
    }

    /// The settings of the stack: those of Linux as the suites' `defaults.sh` leaves it.
    pub fn config(&self) -> Config {
        let mut config = Config::new([self.local]);
        config.mtu = self.mtu;
        // The link segments super-segments, as with Linux: PSH is set on the last segment.
        config.max_packet = 65_535;
        config.tcp.receive_buffer = 15 << 20;
        config.tcp.send_buffer = 4 << 20;
        config.tcp.syn_retries = 5;
        config.tcp.ecn = Ecn::Off;
        config.tcp.slow_start_after_idle = false;
        config.tcp.black_hole_timeouts = None;
        config.tcp.mtu_probing = MtuProbing::Off;
        config
    }
}
