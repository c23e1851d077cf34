//! The shell commands of the suites and their meaning for the stack.

use super::error::Problem;
use super::lexer::integer;
use super::syntax::Span;
use lastack_engine::{Algorithm, Ecn, MtuProbing, SlowStartExit, TcpConfig};
use std::time::Duration;

/// Applies a command's effect on the kernel under test to the stack's configuration.
pub fn run(command: &str, span: &Span, config: &mut TcpConfig) -> Result<(), Problem> {
    // A backslash continues a line.
    let command = command.replace("\\\n", " ");
    for line in command.split(['\n', ';']).flat_map(|line| line.split("&&")) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let foreign = || {
            let whole = command.trim();
            let part = if whole == line { String::new() } else { format!(" in {whole:?}") };
            let message = format!("unsupported command {line:?}{part}");
            Problem::unsupported(span.clone(), message)
        };
        if let Some(setting) = module_parameter(line) {
            set(setting, span, config)?;
            continue;
        }
        let words = without_redirections(line).ok_or_else(foreign)?;
        let Some((program, arguments)) = words.split_first() else { continue };
        let program = program.rsplit('/').next().unwrap_or(program);
        match program {
            // These settings are the defaults of a run.
            "defaults.sh" => {}
            "set_sysctls.py" | "sysctl" => {
                let joined = arguments.join(" ");
                for setting in assignments(&joined) {
                    set(setting, span, config)?;
                }
            }
            // The stack is discarded after its script.
            restore if restore.starts_with("sysctl_restore") || restore.starts_with("restore") => {}
            // Offloading is always off.
            "ethtool" if arguments.first() == Some(&"-K") && arguments.iter().all(|word| *word != "on") => {}
            "true" | ":" | "set" | "echo" => {}
            "exit" if arguments.first().is_none_or(|status| *status == "0") => return Ok(()),
            "false" | "exit" => {
                let message = format!("the command failed: {line:?} in {:?}", command.trim());
                return Err(Problem::mismatch(span.clone(), message));
            }
            _ => return Err(foreign()),
        }
    }
    Ok(())
}

/// `echo 3 > /sys/module/tcp_cubic/parameters/hystart_detect` as (hystart_detect, 3).
fn module_parameter(line: &str) -> Option<(&str, &str)> {
    let (value, path) = line.strip_prefix("echo ")?.split_once('>')?;
    let name = path.trim().strip_prefix("/sys/module/tcp_cubic/parameters/")?;
    Some((name, value.trim()))
}

/// The words of a line; `None` if its input or output is redirected.
fn without_redirections(line: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    let mut rest = line.split_whitespace();
    while let Some(word) = rest.next() {
        if word.contains(['|', '<', '`', '$']) || word == "&" {
            return None;
        }
        let Some((from, to)) = word.split_once('>').filter(|(from, _)| !from.contains(['"', '\''])) else {
            words.push(word);
            continue;
        };
        let to = to.strip_prefix('>').unwrap_or(to);
        let to = if to.is_empty() { rest.next()? } else { to };
        if !matches!(to, "/dev/null" | "&1" | "&2") {
            return None;
        }
        if !matches!(from, "" | "1" | "2" | "&") {
            words.push(from);
        }
    }
    Some(words)
}

/// `-q -w a="1 2" b=3` as (a, 1 2), (b, 3).
fn assignments(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if rest.starts_with('-') {
            rest = rest.split_once(' ').map_or("", |(_, rest)| rest).trim_start();
            continue;
        }
        let quoted = rest.strip_prefix(['"', '\'']);
        let (name, value) = quoted.unwrap_or(rest).split_once('=').unwrap_or((rest, ""));
        let inner = value.strip_prefix(['"', '\'']);
        let end = match (quoted.or(inner), inner.unwrap_or(value)) {
            (Some(_), value) => value.find(['"', '\'']).unwrap_or(value.len()),
            (None, value) => value.find(' ').unwrap_or(value.len()),
        };
        let (value, after) = inner.unwrap_or(value).split_at(end);
        found.push((name.trim(), value.trim()));
        rest = after.trim_start_matches(['"', '\'', ' ']);
    }
    found
}

/// Settings without a meaning for a stack without offloading, pacing and cached path metrics.
const WITHOUT_MEANING: &[&str] = &[
    "tcp_tso_win_divisor",
    "tcp_tso_rtt_log",
    "tcp_pacing_ss_ratio",
    "tcp_pacing_ca_ratio",
    "tcp_no_metrics_save",
    "tcp_metrics_save",
    "tcp_low_latency",
    "tcp_fack",
    "tcp_autocorking",
    "tcp_plb_enabled",
    "tcp_fastopen_blackhole_timeout_sec",
];

/// Settings for which the stack has one fixed value.
const FIXED: &[(&str, &str)] = &[
    ("tcp_ecn_fallback", "1"),
    ("tcp_ecn_option", "2"),
    ("tcp_dsack", "1"),
    ("tcp_frto", "2"),
    ("tcp_early_retrans", "4"),
    ("tcp_recovery", "1"),
    ("tcp_reordering", "3"),
    ("tcp_notsent_lowat", "4294967295"),
    ("tcp_notsent_lowat", "-1"),
    ("tcp_moderate_rcvbuf", "1"),
    ("tcp_thin_linear_timeouts", "0"),
    ("tcp_retrans_collapse", "0"),
    ("tcp_retries1", "3"),
    ("tcp_workaround_signed_windows", "0"),
    ("tcp_stdurg", "0"),
    ("tcp_shrink_window", "0"),
    ("tcp_rfc1337", "1"),
    ("tcp_comp_sack_nr", "0"),
    ("tcp_migrate_req", "0"),
    ("tcp_syncookies", "1"),
];

/// The range that Linux accepts for a setting; most settings are held in a byte.
fn range(name: &str) -> Option<(i64, i64)> {
    Some(match name {
        "tcp_slow_start_after_idle"
        | "tcp_timestamps"
        | "tcp_sack"
        | "tcp_window_scaling"
        | "tcp_synack_retries"
        | "tcp_retries1"
        | "tcp_retries2"
        | "tcp_orphan_retries"
        | "tcp_abort_on_overflow"
        | "tcp_syncookies"
        | "tcp_mtu_probing" => (0, 255),
        "tcp_min_tso_segs" => (1, 255),
        "tcp_syn_retries" => (1, 127),
        "tcp_rto_max_ms" => (1000, 120_000),
        "tcp_rto_min_us" => (1, i32::MAX.into()),
        "hystart" => (0, 1),
        "hystart_detect" => (0, 3),
        "tcp_fin_timeout" | "tcp_max_tw_buckets" => (i32::MIN.into(), i32::MAX.into()),
        "tcp_invalid_ratelimit" => (0, i32::MAX.into()),
        _ => return None,
    })
}

fn in_range(name: &str, value: &str, span: &Span) -> Result<(), Problem> {
    let Some((min, max)) = range(name) else { return Ok(()) };
    if value.is_empty() || integer(value).is_some_and(|number| (min..=max).contains(&number)) {
        return Ok(());
    }
    let message = format!("invalid value {value:?} for {name} (Linux accepts {min} to {max})");
    Err(Problem::mismatch(span.clone(), message))
}

fn set((path, value): (&str, &str), span: &Span, config: &mut TcpConfig) -> Result<(), Problem> {
    let name = path.rsplit(['/', '.']).next().unwrap_or(path);
    in_range(name, value, span)?;
    let unsupported =
        || Problem::unsupported(span.clone(), format!("{name}={value:?} is not supported by this stack"));
    let number = || integer(value).and_then(|number| u32::try_from(number).ok()).ok_or_else(unsupported);
    let numbers = || -> Result<Vec<usize>, Problem> {
        value.split_whitespace().map(|word| word.parse().map_err(|_| unsupported())).collect()
    };
    let max = || numbers().and_then(|numbers| numbers.get(2).copied().ok_or_else(unsupported));
    match name {
        "tcp_slow_start_after_idle" => config.slow_start_after_idle = number()? != 0,
        "tcp_min_tso_segs" => config.burst_segments = number()?,
        "tcp_timestamps" => config.timestamps = number()? != 0,
        "tcp_sack" => config.sack = number()? != 0,
        "tcp_window_scaling" => config.window_scaling = number()? != 0,
        "tcp_syn_retries" => config.syn_retries = number()?,
        "tcp_synack_retries" => config.syn_ack_retries = number()?,
        "tcp_retries2" => config.retries = number()?,
        "tcp_orphan_retries" => {
            // Zero means eight.
            config.orphan_retries = Some(number()?).filter(|&count| count != 0).unwrap_or(8);
        }
        "tcp_fin_timeout" => config.fin_wait_2 = Duration::from_secs(number()?.into()),
        "tcp_rto_max_ms" => config.max_rto = Duration::from_millis(number()?.into()),
        "tcp_rto_min_us" => config.min_rto = Duration::from_micros(number()?.into()),
        "tcp_invalid_ratelimit" => config.challenge_interval = Duration::from_millis(number()?.into()),
        "tcp_abort_on_overflow" => config.abort_on_overflow = number()? != 0,
        "tcp_syncookies" if value != "1" => config.syn_cookies = number()? == 1,
        "tcp_max_tw_buckets" => config.max_time_wait = number()? as usize,
        "tcp_rmem" if numbers()?.get(1) == Some(&540_000) => config.receive_buffer = max()?,
        "tcp_wmem" if numbers()?.get(1).is_some_and(|default| *default >= 262_144) => {
            config.send_buffer = max()?;
        }
        "tcp_ecn" => {
            config.ecn = match value {
                "0" => Ecn::Off,
                "1" => Ecn::Request,
                "2" => Ecn::Accept,
                // Accurate ECN.
                _ => return Err(unsupported()),
            };
        }
        "tcp_mtu_probing" => {
            (config.mtu_probing, config.black_hole_timeouts) = match number()? {
                0 => (MtuProbing::Off, None),
                1 => (MtuProbing::AfterBlackHole, TcpConfig::default().black_hole_timeouts),
                _ => (MtuProbing::Always, TcpConfig::default().black_hole_timeouts),
            };
        }
        "tcp_base_mss" => {
            config.base_mss = u16::try_from(number()?).map_err(|_| unsupported())?;
        }
        "tcp_congestion_control" | "hystart" | "hystart_detect" => {
            set_congestion(name, value, config).ok_or_else(unsupported)?;
        }
        _ if WITHOUT_MEANING.contains(&name) => {}
        _ if FIXED.contains(&(name, value)) => {}
        _ => return Err(unsupported()),
    }
    Ok(())
}

fn set_congestion(name: &str, value: &str, config: &mut TcpConfig) -> Option<()> {
    match (name, value) {
        ("tcp_congestion_control", "cubic") => config.congestion = Algorithm::Cubic,
        ("tcp_congestion_control", "reno") => config.congestion = Algorithm::Reno,
        ("hystart" | "hystart_detect", "0") => config.slow_start_exit = SlowStartExit::Loss,
        // Trains of ACKs, which 3 evaluates too, end slow start only where other traffic delays them.
        ("hystart", "1") | ("hystart_detect", "2" | "3") => {
            config.slow_start_exit = SlowStartExit::HyStartDelay
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn after(command: &str) -> Result<TcpConfig, String> {
        let mut config = TcpConfig::default();
        run(command, &(0..0), &mut config).map_err(|problem| problem.message)?;
        Ok(config)
    }

    #[test]
    fn settings_of_the_kernel_become_ours() {
        let config = after(
            "./defaults.sh\nsysctl -q net.ipv4.tcp_timestamps=0; ./set_sysctls.py \
             /proc/sys/net/ipv4/tcp_syn_retries=2 /proc/sys/net/ipv4/tcp_congestion_control=reno && true",
        );
        let config = config.unwrap();
        assert_eq!((config.timestamps, config.syn_retries, config.congestion), (false, 2, Algorithm::Reno));
    }

    #[test]
    fn values_may_be_quoted() {
        let three = [("a", "4096 5 6")];
        assert_eq!(assignments("-q a=\"4096 5 6\""), three);
        assert_eq!(assignments("-q -w \"a=4096 5 6\""), three);
        assert_eq!(assignments("x=1 y=2"), [("x", "1"), ("y", "2")]);
        assert_eq!(after("sysctl -w net.ipv4.tcp_wmem=\"1 300000 3000\"").unwrap().send_buffer, 3000);
    }

    #[test]
    fn values_that_linux_refuses_are_refused() {
        for (setting, range) in [
            ("tcp_retries2=4294967295", "0 to 255"),
            ("tcp_retries2=256", "0 to 255"),
            ("tcp_orphan_retries=-1", "0 to 255"),
            ("tcp_syn_retries=0", "1 to 127"),
            ("tcp_syn_retries=128", "1 to 127"),
            ("tcp_rto_max_ms=999", "1000 to 120000"),
            ("tcp_fin_timeout=2147483648", "to 2147483647"),
            ("tcp_sack=yes", "0 to 255"),
        ] {
            let problem = run(&format!("sysctl -q net.ipv4.{setting}"), &(0..0), &mut TcpConfig::default());
            let problem = problem.unwrap_err();
            assert_eq!(problem.kind, Kind::Mismatch, "{setting}");
            assert!(problem.message.contains(range), "{setting}: {}", problem.message);
        }
        assert_eq!(after("sysctl -q net.ipv4.tcp_retries2=255").unwrap().retries, 255);
        assert_eq!(after("sysctl -q net.ipv4.tcp_orphan_retries=0").unwrap().orphan_retries, 8);
    }

    #[test]
    fn the_search_for_the_path_mtu_is_switched() {
        for (value, expected) in [
            ("0", (MtuProbing::Off, None)),
            ("1", (MtuProbing::AfterBlackHole, Some(3))),
            ("2", (MtuProbing::Always, Some(3))),
        ] {
            let config = after(&format!("sysctl -q net.ipv4.tcp_mtu_probing={value}")).unwrap();
            assert_eq!((config.mtu_probing, config.black_hole_timeouts), expected);
        }
    }

    #[test]
    fn hystart_and_the_base_mss_are_set() {
        for (value, expected) in [("0", SlowStartExit::Loss), ("2", SlowStartExit::HyStartDelay)] {
            let command = format!("echo {value} > /sys/module/tcp_cubic/parameters/hystart_detect");
            assert_eq!(after(&command).unwrap().slow_start_exit, expected);
        }
        // ACK trains alone are not supported.
        assert!(after("echo 1 > /sys/module/tcp_cubic/parameters/hystart_detect").is_err());
        assert_eq!(after("sysctl -q net.ipv4.tcp_base_mss=512").unwrap().base_mss, 512);
    }

    #[test]
    fn a_line_of_the_shell_is_read_as_one() {
        assert_eq!(after("sysctl -w net.ipv4.tcp_syn_retries=2>/dev/null").unwrap().syn_retries, 2);
        for said in [">/dev/null 2>&1", "> /dev/null", ">>/dev/null", "&>/dev/null", "2> /dev/null"] {
            let config = after(&format!("sysctl -w net.ipv4.tcp_syn_retries=2 {said}"));
            assert_eq!(config.unwrap().syn_retries, 2, "{said}");
        }
        assert!(after("echo hi; sysctl net.ipv4.tcp_sack=1; exit 0; foreign").is_ok());
        for fails in ["echo hi; exit 1", "false", "exit 1; true"] {
            assert!(after(fails).unwrap_err().contains("the command failed"), "{fails}");
        }
        for foreign in
            ["echo 1 > /sys/x", "sysctl net.ipv4.tcp_sack=1 || true", "true; tc qdisc", "a | b", "echo <x"]
        {
            let message = after(foreign).unwrap_err();
            assert!(
                message.contains("unsupported command") && message.contains(foreign),
                "{foreign}: {message}"
            );
        }
    }

    #[test]
    fn unsupported_sysctls_are_refused() {
        assert!(after("sysctl net.ipv4.tcp_ecn=3").unwrap_err().contains("tcp_ecn=\"3\""));
        assert_eq!(after("sysctl net.ipv4.tcp_ecn=1").unwrap().ecn, Ecn::Request);
        assert!(after("tc qdisc add dev tun0").unwrap_err().contains("unsupported command"));
        assert!(after("ethtool -K tun0 tso off gso off").is_ok());
        assert!(after("ethtool -K tun0 tso on").is_err());
    }
}
