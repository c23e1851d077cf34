//! Remotes that do not answer, and networks that say that they cannot be reached.

use std::process::Command;

use crate::support::{
    AT_ONCE, FAMILIES, LASTACK, Ran, Silent, client, direct, finish, lastack, read_report, relayed,
    require_all, require_tool,
};

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn an_unanswered_attempt_stays_unanswered() {
    require_all();
    for (host, gateway) in FAMILIES {
        let silent = Silent::new(host);
        assert_eq!(direct("impatient", host, silent.port, &[]).end(), "TIMEOUT");
        let ran = relayed("impatient", gateway, silent.port, &[]);
        assert_eq!(ran.seen().end(), "TIMEOUT", "{ran:?}");
        assert!(ran.seen().seconds() >= 3.0);
        let connection = ran.connection();
        assert_eq!(
            (&connection["outcome"], &connection["by"], &connection["cause"]),
            (&"aborted".into(), &"nobody".into(), &"silent-drop".into()),
            "{connection}"
        );
        assert_eq!(
            (&connection["rule_code"], &connection["state"]),
            (&"S27".into(), &"SYN-SENT".into()),
            "{connection}"
        );
    }
}

/// Runs the client in a network whose routes are these, without lastack and with it.
fn in_a_network(routes: &str, what: &str, to: &str, rest: &[&str]) -> (String, Ran) {
    let report = tempfile::NamedTempFile::new().unwrap();
    let line = client(what, to, 9, rest);
    let sh = |run: &str| {
        let script = format!("ip link set lo up && {routes} && {run} \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-ec", &script, "sh"]).args(&line);
        finish(&mut command)
    };
    let without = read_report(sh("exec"), "").seen.map(|seen| seen.end().to_owned());
    let run = format!("exec {LASTACK} run --json -o {} --", report.path().display());
    let ran = read_report(sh(&run), &std::fs::read_to_string(report.path()).unwrap());
    (without.unwrap(), ran)
}

fn unreachable_as_the_host_reports(routes: &str, to: &str, errno: &str, code: &str) {
    let (without, ran) = in_a_network(routes, "read", to, &[]);
    assert_eq!(without, errno, "without lastack");
    assert_eq!(ran.seen().end(), errno, "{ran:?}");
    assert!(ran.seen().seconds() < AT_ONCE, "{ran:?}");
    let connection = ran.connection();
    assert_eq!(
        (&connection["outcome"], &connection["by"]),
        (&"unreachable".into(), &"host".into()),
        "{connection}"
    );
    assert_eq!(connection["host_errno"], code, "{connection}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_network_without_a_route_is_unreachable() {
    require_all();
    require_tool("ip");
    require_tool("unshare");
    unreachable_as_the_host_reports("true", "192.0.2.7", "ENETUNREACH", "ENETUNREACH");
    unreachable_as_the_host_reports("true", "2001:db8::7", "ENETUNREACH", "ENETUNREACH");
    let routes = "ip route add unreachable 192.0.2.0/24 && ip route add unreachable 2001:db8::/64 dev lo";
    unreachable_as_the_host_reports(routes, "192.0.2.7", "EHOSTUNREACH", "EHOSTUNREACH");
    unreachable_as_the_host_reports(routes, "2001:db8::7", "EHOSTUNREACH", "EHOSTUNREACH");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_network_that_swallows_everything_is_silent() {
    require_all();
    require_tool("ip");
    require_tool("unshare");
    // Both ends of the cable are here, and nobody behind the far one forwards anything.
    let routes = "ip link add near type veth peer name far && ip link set near arp off up && ip link set far arp off up \
                  && ip addr add 192.0.2.1/24 dev near && ip route add default dev near";
    let (without, ran) = in_a_network(routes, "impatient", "198.51.100.7", &[]);
    assert_eq!((without.as_str(), ran.seen().end()), ("TIMEOUT", "TIMEOUT"), "{ran:?}");
    assert_eq!(ran.connection()["cause"], "silent-drop");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_code_and_its_sender_come_through() {
    require_all();
    // A lastack in front of a lastack: what the outer one answers, the inner one hears as the network's word.
    for (options, to, from) in
        [("--net=10.9.0.0/24", "10.0.2.99", "10.0.2.2"), ("--net6=fd09::/64", "fd00::99", "fd00::2")]
    {
        let report = tempfile::NamedTempFile::new().unwrap();
        let path = report.path().to_str().unwrap();
        let mut inner = [LASTACK, "run", "--json", "-o", path, options, "--"].map(str::to_owned).to_vec();
        inner.extend(client("read", to, 9, &[]));
        let outer = lastack(&[], &inner);
        let ran = read_report(outer.output.clone(), &std::fs::read_to_string(path).unwrap());
        assert_eq!(ran.seen().end(), "EHOSTUNREACH", "{ran:?}");
        let connection = ran.connection();
        assert_eq!(
            (&connection["outcome"], &connection["by"]),
            (&"unreachable".into(), &"network".into()),
            "{connection}"
        );
        assert_eq!(
            (&connection["icmp"]["from"], &connection["rule_code"]),
            (&from.into(), &"I1".into()),
            "{connection}"
        );
        assert_eq!(connection["icmp"]["text"], "host unreachable", "{connection}");
    }
}
