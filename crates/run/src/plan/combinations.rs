//! Options that exclude each other, or that have no effect together: each is an error with the cure.

use std::net::IpAddr;

use anyhow::{bail, ensure};
use nix::unistd::Uid;

use super::Network;
use super::files::ensure_apart;
use crate::inward::Published;
use crate::live::Terminal;
use crate::namespace::Identity;
use crate::options::Options;
use crate::proxy::Proxy;

/// Rejects them.
pub fn reject(args: &Options, via: Option<&Proxy>) -> anyhow::Result<()> {
    identity(args, Uid::effective().is_root())?;
    join(args)?;
    families(args)?;
    background(args)?;
    if let Some(proxy) = via.filter(|proxy| proxy.resolves_names()) {
        ensure!(
            args.dns.is_empty(),
            "-D has no effect with --via {proxy}, which resolves the names: leave it out, or use socks5://"
        );
    }
    let policy = &args.policy;
    ensure!(
        !policy.is_log_only() || !policy.is_empty(),
        "--log-only has nothing to log: add --allow, --deny or --offline"
    );
    if let Some(error) = policy.contradiction() {
        bail!(error);
    }
    if let Some(port) = args.map_localhost.iter().find(|port| leads_to(&args.publish, **port)) {
        bail!(
            "port {port} of the program cannot be published with -p and lead to this host with --map-localhost: choose another one for -p"
        );
    }
    for &port in &args.map_localhost {
        if let Some(rule) = policy.denies_mapped(port) {
            bail!("--deny {rule} denies port {port} that --map-localhost opens: leave one of them out");
        }
    }
    ensure_apart(&[
        ("-w", args.write.as_deref()),
        ("-o", args.output.as_deref()),
        ("--html", args.html.as_deref()),
        ("--pid", args.pid_file.as_deref()),
        ("--api-socket", args.api_socket.as_deref()),
    ])
}

fn leads_to(published: &[Published], port: u16) -> bool {
    published.iter().any(|published| published.leads_to(port))
}

/// Whose rights the program has.
fn identity(args: &Options, root: bool) -> anyhow::Result<()> {
    ensure!(
        root || args.identity != Identity::HostRoot,
        "--host-root keeps the privileges of root, and a user started lastack: run it as root, or choose --map-root, with which the program is root in its own namespaces"
    );
    if !args.command.is_empty() {
        return Ok(());
    }
    for (option, given) in [
        ("--map-root", args.identity == Identity::Root),
        ("--host-root", args.identity == Identity::HostRoot),
        ("--host-pids", args.host_pids),
        ("--kill-rest", args.kill_rest),
    ] {
        ensure!(!given, "{option} has no effect without a program to run: add COMMAND, or leave it out");
    }
    Ok(())
}

/// The program's interface.
fn join(args: &Options) -> anyhow::Result<()> {
    ensure!(
        args.interface != "lo",
        "--interface lo is the loopback of the network: choose another name, such as tap0"
    );
    Ok(())
}

/// Options of a family that the program does not have.
fn families(args: &Options) -> anyhow::Result<()> {
    for (chosen, other, network, value, v6) in
        [("-4", args.ipv4, "--net6", &args.net6, true), ("-6", args.ipv6, "--net", &args.net, false)]
    {
        ensure!(!other || value == "auto", "{network} has no effect with {chosen}: leave one of them out");
        let addresses: Vec<IpAddr> = args.bind.iter().filter_map(|named| named.parse().ok()).collect();
        let none = !addresses.is_empty() && addresses.iter().all(|address| address.is_ipv6() == v6);
        let needed = if v6 { "IPv4" } else { "IPv6" };
        ensure!(
            !other || !none,
            "--bind has no {needed} address, and {chosen} permits no other: name one of {needed}"
        );
    }
    Ok(())
}

/// What a run in the background cannot show.
fn background(args: &Options) -> anyhow::Result<()> {
    if !args.detach {
        return Ok(());
    }
    ensure!(
        args.quiet || args.output.is_some(),
        "--detach: standard error is closed in the background, and the report would be lost: write it to a file with -o FILE, or choose -q"
    );
    ensure!(
        args.live != Some(Terminal::Own),
        "--detach leaves this terminal, so --live cannot draw on it: name another one as --live=/dev/pts/N"
    );
    Ok(())
}

/// Rejects addresses of the program's network that have two meanings.
pub fn reject_shared_addresses(args: &Options, networks: &[Network]) -> anyhow::Result<()> {
    for (option, addresses) in [("--address", &args.address), ("--gateway", &args.gateway)] {
        for (at, address) in addresses.iter().enumerate() {
            let again = addresses[..at].iter().find(|other| other.is_ipv6() == address.is_ipv6());
            if let Some(other) = again {
                bail!(
                    "{option} {address}: {other} is one of the same family: name one address of each family"
                );
            }
        }
    }
    for network in networks {
        let Network { guest, gateway, dns, .. } = *network;
        ensure!(guest != gateway, "{guest}: the program and the gateway need an address each");
        for (option, address) in [("--address", guest), ("--gateway", gateway)] {
            ensure!(
                address != dns,
                "{option} {address} is the address of the name server: choose another one"
            );
        }
        for (option, addresses) in [("--host-at", &args.host_at), ("--dns-at", &args.dns_at)] {
            ensure!(
                !addresses.contains(&guest),
                "{option} {guest} is the program's own address: choose another one"
            );
        }
    }
    let servers = networks.iter().map(|network| network.dns).chain(args.dns_at.iter().copied());
    if let Some(rule) = servers.filter_map(|server| args.policy.denies_address(server)).next() {
        bail!(
            "--deny {rule} has no effect: lastack itself answers there, for the name servers of this host: deny names, as with --deny example.org, or use --offline"
        );
    }
    match args.host_at.iter().find(|address| args.dns_at.contains(address)) {
        Some(address) => {
            bail!("--host-at and --dns-at both name {address}: choose another one for one of them")
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;
    use crate::policy::Policy;

    fn fails(change: fn(&mut Options), cure: &str) {
        let error = format!("{:#}", plan(change).unwrap_err());
        assert!(error.contains(cure), "{error}");
    }

    #[test]
    fn what_cannot_work_together_names_the_cure() {
        fails(|o| o.interface = "lo".to_owned(), "choose another name");
        fails(|o| (o.ipv4, o.net6) = (true, "fd01::/64".to_owned()), "--net6 has no effect with -4");
        fails(|o| (o.ipv6, o.net) = (true, "10.9.0.0/24".to_owned()), "--net has no effect with -6");
        fails(|o| (o.ipv4, o.bind) = (true, vec!["::1".to_owned()]), "name one of IPv4");
        fails(|o| (o.ipv6, o.bind) = (true, vec!["127.0.0.1".to_owned()]), "name one of IPv6");
        fails(|o| o.detach = true, "-o FILE, or choose -q");
        fails(|o| (o.detach, o.quiet, o.live) = (true, true, Some(Terminal::Own)), "--live=/dev/pts/N");
        fails(
            |o| (o.via, o.dns) = (Some("socks5h://127.0.0.1:1".to_owned()), vec![[192, 0, 2, 53].into()]),
            "leave it out, or use socks5://",
        );
        fails(
            |o| (o.map_localhost, o.publish) = (vec![80], vec!["8080:80".parse().unwrap()]),
            "choose another one for -p",
        );
        fails(|o| (o.output, o.pid_file) = (Some("x".into()), Some("./x".into())), "the same file");
        fails(|o| o.address = vec![[10, 0, 2, 7].into(), [10, 0, 2, 8].into()], "one address of each family");
        fails(|o| o.address = vec![[10, 0, 2, 3].into()], "is the address of the name server");
        fails(|o| o.gateway = vec![[10, 0, 2, 100].into()], "need an address each");
        fails(|o| o.host_at = vec![[10, 0, 2, 100].into()], "the program's own address");
        fails(
            |o| (o.host_at, o.dns_at) = (vec![[9, 9, 9, 9].into()], vec![[9, 9, 9, 9].into()]),
            "both name",
        );
        type Change = fn(&mut Options);
        let possible: [Change; 4] = [
            |o| {
                o.map_localhost = vec![5000];
                let denied = vec!["all".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
                o.policy = Policy::new(vec![], denied, true, false);
            },
            |o| (o.detach, o.quiet) = (true, true),
            |o| {
                o.map_localhost = vec![80];
                o.publish = vec!["80:8080".parse().unwrap(), "auto".parse().unwrap()];
            },
            |o| (o.ipv4, o.bind) = (true, vec!["::1".to_owned(), "127.0.0.1".to_owned()]),
        ];
        for change in possible {
            plan(change).unwrap();
        }
    }

    #[test]
    fn rules_of_the_policy_that_cannot_act_name_the_cure() {
        fails(|o| o.policy = Policy::new(vec![], vec![], false, true), "add --allow, --deny or --offline");
        fails(
            |o| o.policy = Policy::new(vec!["all".parse().unwrap()], vec![], true, false),
            "leave one of them out",
        );
        fails(
            |o| {
                let rule = || vec!["10.0.0.1:80".parse().unwrap()];
                o.policy = Policy::new(rule(), rule(), false, false);
            },
            "--allow 10.0.0.1:80 and --deny 10.0.0.1:80 are the same destinations: leave one of them out",
        );
        fails(
            |o| {
                o.map_localhost = vec![5000];
                o.policy = Policy::new(vec![], vec!["localhost".parse().unwrap()], false, false);
            },
            "--deny localhost denies port 5000 that --map-localhost opens: leave one of them out",
        );
        fails(
            |o| {
                o.map_localhost = vec![80, 5000];
                o.policy = Policy::new(vec![], vec!["127.0.0.0/8:5000".parse().unwrap()], false, false);
            },
            "port 5000",
        );
        fails(
            |o| o.policy = Policy::new(vec![], vec!["10.0.2.3".parse().unwrap()], false, false),
            "deny names",
        );
    }

    #[test]
    fn privileges_that_nobody_has_or_uses_are_errors() {
        let mut options = Options::new(["true"]);
        options.identity = Identity::HostRoot;
        assert!(identity(&options, true).is_ok());
        assert!(identity(&options, false).unwrap_err().to_string().contains("choose --map-root"));
        options.command.clear();
        assert!(identity(&options, true).unwrap_err().to_string().contains("add COMMAND"));
        options.identity = Identity::Same;
        assert!(identity(&options, false).is_ok());
    }
}
