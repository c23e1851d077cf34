//! What must hold between any two steps is tested, and the tests can fail.

extern crate std;

use crate::tcp::connection::Connection;
use crate::tcp::connection::state::State;
use crate::tcp::table::{Socket, TcpTable};
use crate::tcp::tests::pair::Pair;
use crate::{ConnId, InitialNumbers};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn sees(wound: impl FnOnce(&mut TcpTable, ConnId)) -> bool {
    let mut pair = Pair::new(false);
    let (a, _) = pair.connect();
    pair.a.stack.check();
    wound(&mut pair.a.stack.tcp, a);
    catch_unwind(AssertUnwindSafe(|| pair.a.stack.check())).is_err()
}

fn connection(table: &mut TcpTable, id: ConnId) -> &mut Connection {
    let Socket::Open(connection) = table.socket_mut(id) else { panic!("it is established") };
    connection
}

#[test]
fn broken_invariants_are_detected() {
    assert!(!sees(|_, _| {}));
    assert!(sees(|table, _| table.orphans += 1));
    assert!(sees(|table, _| table.embryonic += 1));
    assert!(sees(|table, id| table.demux.remove(id)));
    assert!(sees(|table, _| table.timers.set(1000, crate::Instant::ZERO)));
    assert!(sees(|table, id| connection(table, id).pending.ack = true));
    assert!(sees(|table, id| assert_eq!(connection(table, id).outgoing.push(b"text"), 4)));
    assert!(sees(|table, id| connection(table, id).rcv.unacked = 1));
    assert!(sees(
        |table, id| connection(table, id).settings.rare_mut().keepalive = Some(crate::Keepalive::default())
    ));
    assert!(sees(|table, id| {
        let connection = connection(table, id);
        let nxt = connection.snd.nxt;
        connection.snd.nxt = nxt + 1;
    }));
    assert!(sees(|table, id| {
        let connection = connection(table, id);
        connection.state = State::FinWait2;
        connection.has_user = false;
        table.orphans += 1;
    }));
}

#[test]
fn both_ends_agree_on_the_initial_numbers() {
    let mut pair = Pair::new(false);
    let (a, b) = pair.connect();
    let [of_a, of_b] = [pair.a.tcp(a).initial_numbers(), pair.b.tcp(b).initial_numbers()];
    assert!(of_a.ours.is_some() && of_a.peers.is_some());
    assert_eq!(of_a, InitialNumbers { ours: of_b.peers, peers: of_b.ours });
    pair.a.tcp(a).abort();
    pair.b.tcp(b).close();
    pair.run(Duration::from_secs(1));
    assert_eq!([pair.a.ended[0].numbers, pair.b.ended[0].numbers], [of_a, of_b]);
}
