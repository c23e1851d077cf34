//! Hosts, paths and what befalls packets on them.

use super::*;
use lastack_engine::{DropReason, Rule, Verdict};
use std::task::Poll;

const MS: Duration = Duration::from_millis(1);

fn two_hosts(seed: u64, plan: Plan) -> (Network, HostId, HostId) {
    let mut net = Network::new(seed);
    let [a, b] = [1, 2].map(|host| {
        let config = Config::new([IpAddr::from([192, 0, 2, host])]);
        net.add_host(&format!("host {host}"), config)
    });
    net.join(a, b, plan);
    (net, a, b)
}

fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], port))
}

fn echo_datagram(net: &mut Network, a: HostId, b: HostId) -> usize {
    let server = net.call(b, |stack| stack.udp_bind(address(2, 7))).unwrap();
    let client = net.call(a, |stack| stack.udp_bind(address(1, 9))).unwrap();
    net.call(a, |stack| stack.udp(client).unwrap().send(b"text", Some(address(2, 7)))).unwrap();
    net.run_for(1000 * MS);
    net.call(b, |stack| {
        std::iter::from_fn(|| stack.udp(server).unwrap().receive().unwrap())
            .inspect(|datagram| assert_eq!(datagram.payload, b"text"))
            .count()
    })
}

#[test]
fn a_packet_takes_its_time() {
    let (mut net, a, b) = two_hosts(1, Plan { delay: 30 * MS, ..Plan::default() });
    assert_eq!(echo_datagram(&mut net, a, b), 1);
    let packet = &net.trace().packets[0];
    let fate = Fate::Delivered { at: Instant::from_millis(30), verdict: Some(Verdict::Accepted) };
    assert_eq!((packet.sent, packet.to, packet.fate), (Instant::ZERO, Some(b), fate));
    assert_eq!(net.now(), Instant::from_millis(1000));
}

#[test]
fn copies_arrive_twice_and_damage_is_detected() {
    let (mut net, a, b) = two_hosts(1, Plan { duplicate: 1.0, ..Plan::default() });
    assert_eq!(echo_datagram(&mut net, a, b), 2);
    assert_eq!(net.trace().packets[1].kind, PacketKind::Copy);
    let (mut net, a, b) = two_hosts(2, Plan { corrupt: 1.0, ..Plan::default() });
    assert_eq!(echo_datagram(&mut net, a, b), 0);
    assert_eq!(net.trace().packets[0].kind, PacketKind::Damaged);
}

#[test]
fn a_lost_packet_is_logged_with_its_reason() {
    let (mut net, a, b) = two_hosts(1, Plan { loss: 1.0, ..Plan::default() });
    assert_eq!(echo_datagram(&mut net, a, b), 0);
    net.set_cut(a, b, true);
    assert_eq!(echo_datagram_again(&mut net, a), Fate::Lost(Loss::Cut));
    net.set_cut(a, b, false);
    net.set_plan(a, b, Plan { rate: Some(0), ..Plan::default() });
    assert_eq!(echo_datagram_again(&mut net, a), Fate::Lost(Loss::Queue));
    assert_eq!(net.trace().packets[0].fate, Fate::Lost(Loss::Chance));
    let lone = net.add_host("alone", Config::new([IpAddr::from([192, 0, 2, 3])]));
    net.call(lone, |stack| stack.tcp_connect(None, address(2, 7))).unwrap();
    assert_eq!(net.trace().packets.last().unwrap().fate, Fate::Lost(Loss::NoRoute));
}

fn echo_datagram_again(net: &mut Network, a: HostId) -> Fate {
    let client = net.call(a, |stack| stack.udp_bind(address(1, 0))).unwrap();
    net.call(a, |stack| stack.udp(client).unwrap().send(b"text", Some(address(2, 7)))).unwrap();
    net.trace().packets.last().unwrap().fate
}

#[test]
fn a_restarted_host_has_no_state() {
    let (mut net, a, b) = two_hosts(1, Plan { delay: MS, ..Plan::default() });
    net.watch(a);
    let listener = net.call(b, |stack| stack.tcp_listen(address(2, 7), 1)).unwrap();
    let client = net.call(a, |stack| stack.tcp_connect(Some(address(1, 9)), address(2, 7))).unwrap();
    net.run_for(100 * MS);
    assert_eq!(net.poll_event(a), Some(Event::Connected(client)));
    let server = net.call(b, |stack| stack.tcp_accept(listener)).unwrap();
    net.reboot(a);
    assert!(net.call(a, |stack| stack.tcp(client).is_none()));
    assert!(net.trace().open(a).is_empty());
    let sent = net.call(b, |stack| stack.tcp(server).unwrap().send(b"text"));
    assert_eq!(sent, Poll::Ready(Ok(4)));
    assert!(net.run_until_idle(Instant::from_millis(1000)));
    let ended: Vec<_> = net.trace().ends(b).collect();
    assert_eq!((ended.len(), ended[0].end.rule), (1, Rule::PeerRstExact));
}

#[test]
fn a_forged_packet_is_judged_by_its_receiver_only() {
    let (mut net, a, b) = two_hosts(1, Plan::default());
    net.forge(a, vec![0x45; 4]);
    assert_eq!(net.trace().packets[0].to, None);
    let header = lastack_wire::ip::IpHeader::new(address(1, 0).ip(), address(2, 0).ip(), TCP);
    let mut packet = Vec::new();
    header.emit(4, &mut packet);
    packet.extend([0; 4]);
    net.forge(a, packet);
    assert!(net.run_until_idle(Instant::ZERO));
    let record = net.trace().packets.last().unwrap();
    assert_eq!((record.kind, record.to), (PacketKind::Forged, Some(b)));
    let verdict = Verdict::Dropped(DropReason::Rule(Rule::DropBadChecksum));
    assert_eq!(record.fate, Fate::Delivered { at: Instant::ZERO, verdict: Some(verdict) });
}

#[test]
fn a_foreign_host_gets_its_packets_and_is_heard() {
    let mut net = Network::new(1);
    let ours = net.add_host("ours", Config::new([address(1, 0).ip()]));
    let foreign = net.add_foreign("theirs", address(2, 0).ip());
    net.join(ours, foreign, Plan { delay: MS, ..Plan::default() });
    net.call(ours, |stack| stack.tcp_connect(Some(address(1, 9)), address(2, 7))).unwrap();
    assert_eq!(net.fetch(foreign), None);
    net.run_for(MS);
    let syn = net.fetch(foreign).expect("the SYN has arrived");
    assert!(matches!(net.trace().packets[0].fate, Fate::Delivered { verdict: None, .. }));
    // Whoever it is, it plays with a stack like ours.
    let mut theirs = Stack::new(Config::new([address(2, 0).ip()]), [1; 16]);
    assert_eq!(
        theirs.handle_packet(net.now(), &syn, Received::default()),
        Verdict::Answered(Rule::RstNoListener)
    );
    let mut reset = Vec::new();
    theirs.poll_transmit(net.now(), &mut reset).expect("it refuses");
    net.relay(foreign, reset);
    let flow = FourTuple { local: address(2, 7), remote: address(1, 9) };
    net.note_state(foreign, flow, TcpState::Closed);
    net.run_for(MS);
    assert_eq!(net.trace().ends(ours).next().unwrap().end.rule, Rule::PeerRstRefused);
    assert!(!net.trace().hosts[foreign.index()].ours && net.trace().hosts[ours.index()].ours);
    assert_eq!((net.fetch(ours), net.next()), (None, None));
}
