//! The faults of the command line and of the file, and whether each of them can act in this run.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, ensure};

use super::{Plan, Route};
use crate::inject::{self, FaultRule, Kind};
use crate::target::Target;

/// Max bytes of a file of rules.
const MAX_FILE: u64 = 1 << 20;

/// All faults, and their seed: that of the command line takes precedence.
pub fn all(
    mut rules: Vec<FaultRule>,
    file: Option<&Path>,
    seed: Option<u64>,
) -> anyhow::Result<(Vec<FaultRule>, u64)> {
    let mut of_file = None;
    if let Some(path) = file {
        let shown = path.display();
        let text = read_file(path).with_context(|| format!("--inject-file: cannot read {shown}"))?;
        let (more, seed) = inject::read_file(&text, &shown.to_string())
            .map_err(|error| anyhow::anyhow!("--inject-file {shown}: {error}"))?;
        rules.extend(more);
        of_file = seed;
    }
    ensure!(seed.is_none() || !rules.is_empty(), "--seed is that of --inject and --inject-file: add a fault");
    Ok((rules, seed.or(of_file).unwrap_or(1)))
}

/// The rules of a file, which may be a pipe: one that does not end is no file of rules.
fn read_file(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        let why = format!("it has more than {} MiB: it is no file of rules", MAX_FILE >> 20);
        return Err(std::io::Error::other(why));
    }
    Ok(text)
}

/// Rejects faults that can never act with the other options of the run: the error names the cure.
pub fn reject_ineffective(plan: &Plan) -> anyhow::Result<()> {
    for rule in &plan.faults.0 {
        if let Some(why) = inaction(plan, rule) {
            anyhow::bail!("--inject {rule} can never act: {why}");
        }
    }
    Ok(())
}

fn inaction(plan: &Plan, rule: &FaultRule) -> Option<String> {
    if plan.policy.denies_all() {
        return Some("every destination is denied; add --allow for those that it shall hit".to_owned());
    }
    match rule.kind {
        Kind::Dns(_) => return None,
        Kind::MtuHole(size) if size >= plan.mtu as usize => {
            let mtu = plan.mtu;
            return Some(format!(
                "no packet is larger than the interface's MTU of {mtu}; choose fewer bytes"
            ));
        }
        _ => {}
    }
    let targets = &rule.select.to;
    let mut why = None;
    for target in targets {
        why = Some(unreachable(plan, rule, target)?);
    }
    why
}

/// Why no connection that faults hit leads to this destination.
fn unreachable(plan: &Plan, rule: &FaultRule, target: &Target) -> Option<String> {
    let Target::Network(address, prefix) = target else { return None };
    let family = |v6| if v6 { "IPv6" } else { "IPv4" };
    if plan.gateway(address.is_ipv6()).is_none() {
        let (other, this) = (family(!address.is_ipv6()), family(address.is_ipv6()));
        return Some(format!("the program has {other} only; leave the option for that out to hit {this}"));
    }
    // Clients of published ports may have any address.
    if !plan.published.is_empty() || plan.place.api_socket.is_some() {
        return None;
    }
    if *prefix < if address.is_ipv6() { 128 } else { 32 } {
        return None;
    }
    route(plan, rule, *address)
}

/// The same, of an address.
fn route(plan: &Plan, rule: &FaultRule, address: IpAddr) -> Option<String> {
    let port = rule.select.ports.first().map_or(0, |ports| *ports.start());
    let why = match plan.place(SocketAddr::new(address, port)) {
        Route::Remote(_) => return None,
        Route::HiddenLoopback => return loopback(plan, rule, address),
        Route::ForbiddenLoopback => {
            "it is the gateway, and leads to no host; --host-loopback lets it lead to this host's loopback"
                .to_owned()
        }
        Route::Resolver | Route::ClosedPort => {
            "it is the name server of the run; the kind dns acts on queries, such as dns=timeout".to_owned()
        }
        Route::LinkLocal => {
            "it is a link-local address, which --link-local lets the program reach".to_owned()
        }
        Route::NobodyThere => {
            "no host has that address of the program's own network; --net and --net6 choose another"
                .to_owned()
        }
    };
    Some(format!("{address}: {why}"))
}

/// The loopback of the program, whose packets do not leave its network.
fn loopback(plan: &Plan, rule: &FaultRule, address: IpAddr) -> Option<String> {
    // With --host-loopback it also stands for the real destination of connections to the gateway.
    if plan.host_loopback {
        return None;
    }
    let ports = &plan.map_localhost;
    let cure = "--map-localhost PORT maps ports of this host to it";
    if ports.is_empty() {
        return Some(format!("{address} is the program's own loopback; {cure}"));
    }
    let selected = |port: &&u16| {
        let wanted = &rule.select.ports;
        wanted.is_empty() || wanted.iter().any(|ports| ports.contains(*port))
    };
    if !ports.iter().any(|port| selected(&port)) {
        return Some(format!(
            "{address} is the program's own loopback at a port without --map-localhost; {cure}"
        ));
    }
    (!rule.acts_on_sockets()).then(|| inject::NOT_ON_SOCKETS.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_does_not_end_is_an_error() {
        let error = all(Vec::new(), Some(Path::new("/dev/zero")), None).unwrap_err();
        assert!(format!("{error:#}").contains("no file of rules"), "{error:#}");
        let error = all(Vec::new(), Some(Path::new("/nonexistent/rules")), None).unwrap_err();
        assert!(format!("{error:#}").contains("cannot read /nonexistent/rules"), "{error:#}");
    }
}
