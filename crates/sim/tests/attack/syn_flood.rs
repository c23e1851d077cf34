//! A hundred thousand SYNs from hosts that do not exist (RFC 4987): T150, T151, T153, and what is left of
//! the options of those who come in between.

use crate::forge::Segment;
use crate::heap::Meter;
use crate::host::address;
use crate::world::{PORT, World};
use lastack_engine::FourTuple;
use lastack_wire::tcp::{TcpFlags, TcpOptions, Timestamps};
use std::net::SocketAddr;
use std::time::Duration;

const SYNS: u32 = 100_000;

/// The memory that the embryonic connections of a flood may use, with all tables (docs/bounds.md).
const MAX_MEMORY: usize = 8 << 20;

/// The flood within a second. Returns the most memory that the host took for it.
fn flood(world: &mut World) -> usize {
    let v6 = world.ends[1].addr.is_ipv6();
    let server = SocketAddr::new(world.ends[1].addr, PORT);
    let meter = Meter::new();
    for n in 0..SYNS {
        let source = SocketAddr::new(address(v6, 1 + (n >> 16) as u16, n as u16), 1024 + (n >> 3) as u16);
        let flow = FourTuple { local: source, remote: server };
        let timestamps = Some(Timestamps { val: n, ecr: 0 });
        let options = TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps,
            ..TcpOptions::default()
        };
        let syn = Segment { flow, flags: TcpFlags::SYN, seq: n, ack: 0, text: b"" };
        let _ = world.forge(1, &syn.with(options, 65_535));
        if n % 100 == 0 {
            world.pass(Duration::from_millis(1));
        }
    }
    meter.peak()
}

#[test]
fn a_hundred_thousand_syns_do_not_keep_a_client_out() {
    for v6 in [false, true] {
        let mut world = World::new(v6, 1, |_| {});
        let peak = flood(&mut world);
        println!("{SYNS} SYNs, cookies on: {peak} bytes");
        assert!(peak < MAX_MEMORY, "{peak}");
        assert_eq!(world.ends[1].stack.connections(), 4096, "the bound of max_embryonic");
        let counters = world.ends[1].stack.counters();
        assert_eq!(counters.tcp_cookies_sent, u64::from(SYNS) - 4096);
        // Every SYN was answered exactly once.
        assert_eq!(world.elsewhere as u64, counters.tcp_out_segments + counters.tcp_retransmitted);

        world.connect();
        world.pass(Duration::from_millis(20));
        world.accept();
        let id = world.ends[1].id.expect("it was accepted");
        let info = world.ends[1].stack.tcp(id).expect("it is held").info();
        assert!(info.snd_wnd > 65_000 && info.mss == 1428, "{info:?}");
        world.lose = true;
        for _ in 0..20 {
            world.work(0, 20_000);
            world.work(1, 20_000);
            world.pass(Duration::from_millis(10));
        }
        assert!(world.sacks > 0, "SACK survived");
        assert!(world.ends[1].stack.counters().tcp_cookies_received == 1);
        let vars = world.variables(0);
        assert!(vars.rcv_wnd > 65_535, "so did the scale of its windows: {vars:?}");
        world.part_well_amid_others();
        // After 1+2+4+8+16+32 seconds nothing is left of the flood (T151).
        world.pass(Duration::from_secs(64));
        assert_eq!(world.ends[1].stack.connections(), 0);
    }
}

/// Without cookies there is room again when the embryonic connections of the flood have timed out: a
/// client that retransmits its SYN gets in.
#[test]
fn without_cookies_the_client_waits_until_the_flood_has_timed_out() {
    for v6 in [false, true] {
        let mut world = World::new(v6, 2, |config| config.tcp.syn_cookies = false);
        let peak = flood(&mut world);
        println!("{SYNS} SYNs, cookies off: {peak} bytes");
        assert!(peak < MAX_MEMORY, "{peak}");
        assert_eq!(world.ends[1].stack.counters().tcp_listen_drops, u64::from(SYNS) - 4096);
        world.connect();
        world.pass(Duration::from_secs(60));
        assert_eq!(world.ends[1].stack.tcp_accept(world.listener), None, "kept out");
        world.pass(Duration::from_secs(10));
        world.accept();
        world.work(0, 5000);
        world.work(1, 5000);
        world.part_well_amid_others();
    }
}
