//! The shell lines of the suites: what they mean for the stack.

use super::error::Problem;
use super::lexer::integer;
use super::syntax::Span;
use lastack_engine::{Algorithm, Ecn, TcpConfig};
use std::time::Duration;

/// Does what a command would do to the kernel under test.
pub fn run(command: &str, span: &Span, config: &mut TcpConfig) -> Result<(), Problem> {
    // A line may go on in the next.
    let command = command.replace("\\\n", " ");
    for line in command.split(['\n', ';']).flat_map(|line| line.split("&&")) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((program, arguments)) = words.split_first() else { continue };
        let program = program.rsplit('/').next().unwrap_or(program);
        match program {
            // What it sets is what a run begins with.
            "defaults.sh" => {}
            "set_sysctls.py" | "sysctl" => {
                let joined = arguments.join(" ");
                for setting in assignments(&joined) {
                    set(setting, span, config)?;
                }
            }
            // The stack is left behind with its script.
            restore if restore.starts_with("sysctl_restore") || restore.starts_with("restore") => {}
            // Nothing is offloaded in any case.
            "ethtool" if arguments.first() == Some(&"-K") && arguments.iter().all(|word| *word != "on") => {}
            "true" | ":" | "set" => {}
            _ => {
                let message = format!("the command {line:?} has no meaning for this stack");
                return Err(Problem::unsupported(span.clone(), message));
            }
        }
    }
    Ok(())
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

/// Settings that mean nothing to a stack without offloading, pacing and a memory of its paths.
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

/// Settings of which the stack has one value only.
const FIXED: &[(&str, &str)] = &[
    ("tcp_ecn_fallback", "1"),
    ("tcp_ecn_option", "2"),
    ("tcp_dsack", "1"),
    ("tcp_frto", "2"),
    ("tcp_early_retrans", "4"),
    ("tcp_recovery", "1"),
    ("tcp_reordering", "3"),
    ("tcp_mtu_probing", "0"),
    ("tcp_base_mss", "1024"),
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

fn set((path, value): (&str, &str), span: &Span, config: &mut TcpConfig) -> Result<(), Problem> {
    let name = path.rsplit(['/', '.']).next().unwrap_or(path);
    let unsupported =
        || Problem::unsupported(span.clone(), format!("{name}={value:?} is not supported by this stack"));
    let number = || integer(value).and_then(|number| u32::try_from(number).ok()).ok_or_else(unsupported);
    let numbers = || -> Result<Vec<usize>, Problem> {
        value.split_whitespace().map(|word| word.parse().map_err(|_| unsupported())).collect()
    };
    let most = || numbers().and_then(|numbers| numbers.get(2).copied().ok_or_else(unsupported));
    match name {
        "tcp_slow_start_after_idle" => config.slow_start_after_idle = number()? != 0,
        "tcp_min_tso_segs" => config.burst_segments = number()?,
        "tcp_timestamps" => config.timestamps = number()? != 0,
        "tcp_sack" => config.sack = number()? != 0,
        "tcp_window_scaling" => config.window_scaling = number()? != 0,
        "tcp_syn_retries" => config.syn_retries = number()?,
        "tcp_synack_retries" => config.syn_ack_retries = number()?,
        "tcp_retries2" => config.retries = number()?,
        "tcp_orphan_retries" => config.orphan_retries = number()?,
        "tcp_fin_timeout" => config.fin_wait_2 = Duration::from_secs(number()?.into()),
        "tcp_rto_max_ms" => config.max_rto = Duration::from_millis(number()?.into()),
        "tcp_rto_min_us" => config.min_rto = Duration::from_micros(number()?.into()),
        "tcp_invalid_ratelimit" => config.challenge_interval = Duration::from_millis(number()?.into()),
        "tcp_abort_on_overflow" => config.abort_on_overflow = number()? != 0,
        "tcp_syncookies" if value != "1" => config.syn_cookies = number()? == 1,
        "tcp_max_tw_buckets" => config.max_time_wait = number()? as usize,
        "tcp_rmem" if numbers()?.get(1) == Some(&540_000) => config.receive_buffer = most()?,
        "tcp_wmem" if numbers()?.get(1).is_some_and(|default| *default >= 262_144) => {
            config.send_buffer = most()?;
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
        "tcp_congestion_control" => {
            config.congestion = match value {
                "cubic" => Algorithm::Cubic,
                "reno" => Algorithm::Reno,
                _ => return Err(unsupported()),
            };
        }
        _ if WITHOUT_MEANING.contains(&name) => {}
        _ if FIXED.contains(&(name, value)) => {}
        _ => return Err(unsupported()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_the_stack_does_not_have_is_refused() {
        assert!(after("sysctl net.ipv4.tcp_ecn=3").unwrap_err().contains("tcp_ecn=\"3\""));
        assert_eq!(after("sysctl net.ipv4.tcp_ecn=1").unwrap().ecn, Ecn::Request);
        assert!(after("tc qdisc add dev tun0").unwrap_err().contains("no meaning"));
        assert!(after("ethtool -K tun0 tso off gso off").is_ok());
        assert!(after("ethtool -K tun0 tso on").is_err());
    }
}
