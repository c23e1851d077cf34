//! What the runner says of scripts that do not pass: each way to be wrong is noticed.

use lastack_sim::script::{self, Settings, Verdict};

/// A handshake, after which the connection has descriptor 4.
const ESTABLISHED: &str = "\
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0 < S 0:0(0) win 20000 <mss 1000>
+0 > S. 0:0(0) ack 1 <mss 1460>
+.01 < . 1:1(0) ack 1 win 20000
+0 accept(3, ..., ...) = 4
";

fn verdict(source: &str) -> Verdict {
    script::run(source, &Settings::default()).verdict
}

/// What is wrong with a script that goes on like this, and the text that is pointed at.
fn failure(rest: &str) -> (String, String) {
    let source = format!("{ESTABLISHED}{rest}\n");
    match verdict(&source) {
        Verdict::Failed(problem) => (problem.message, source[problem.span].to_owned()),
        other => panic!("{rest}: {other:?}"),
    }
}

fn skip(source: &str) -> String {
    match verdict(source) {
        Verdict::Skipped(problem) => problem.message,
        other => panic!("{source}: {other:?}"),
    }
}

#[test]
fn every_field_of_a_packet_counts() {
    let write = "+0 write(4, ..., 10) = 10\n";
    for (packet, wrong) in [
        ("> . 1:11(10) ack 1", "the flags differ"),
        ("> P. 2:12(10) ack 1", "SEG.SEQ is 1, not 2"),
        ("> P. 1:10(9) ack 1", "the length is 10, not 9"),
        ("> P. 1:12(11) ack 1", "the stack sent nothing"),
        ("> P. 1:11(10) ack 2", "SEG.ACK is 1, not 2"),
        ("> P. 1:11(10) ack 1 win 5", "the window field is 65535, not 5"),
        ("> P. 1:11(10) ack 1 urg 5", "the urgent pointer is 0, not 5"),
        ("> P. 1:11(10) ack 1 <nop,nop,nop,nop>", "the options are <>"),
        ("> (ect0) P. 1:11(10) ack 1", "the ECN field"),
        ("> (tos 0x4) P. 1:11(10) ack 1", "the TOS octet is 0, not 4"),
        ("> (ttl 9) P. 1:11(10) ack 1", "the TTL is 64, not 9"),
        ("> udp (10)", "another protocol"),
    ] {
        let (message, place) = failure(&format!("{write}+0 {packet}"));
        assert!(message.contains(wrong), "{packet}: {message}");
        assert!(place.ends_with(packet), "{place}");
    }
}

#[test]
fn time_counts_both_ways() {
    let (message, _) = failure("+0 write(4, ..., 10) = 10\n+.01 > P. 1:11(10) ack 1");
    assert!(message.contains("too early"), "{message}");
    let (message, _) = failure("+.02 < P. 1:11(10) ack 1 win 9\n+0 > . 1:1(0) ack 11\n+0 > . 1:1(0) ack 11");
    assert!(message.contains("the stack sent nothing"), "{message}");
    let (message, _) =
        failure("+0...0.020 read(4, ..., 10) = 10\n+.05 < P. 1:11(10) ack 1 win 9\n+0 > . 1:1(0) ack 11");
    assert!(message.contains("read() returned: it came 0.030000 s too late"), "{message}");
}

#[test]
fn results_of_calls_count() {
    for (call, wrong, place) in [
        ("write(4, ..., 10) = 9", "write() gives 10, not 9", "9"),
        ("read(3, ..., 10) = 0", "read() gives -1 ENOTCONN, not 0", "0"),
        ("read(9, ..., 10) = -1 EAGAIN", "read() gives -1 EBADF, not -1 EAGAIN", "-1 EAGAIN"),
        ("getsockopt(4, SOL_TCP, TCP_NODELAY, [1], [4]) = 0", "getsockopt() gives 0, not 1", "+0 getsockopt"),
        ("poll([{fd=4, events=POLLOUT, revents=POLLIN}], 1, 0) = 1", "revents of 4 is POLLOUT", "+0 poll"),
        ("ioctl(4, SIOCINQ, [7]) = 0", "ioctl() gives 0, not 7", "+0 ioctl"),
        ("socket(..., SOCK_STREAM, 0) = 4", "the descriptor 4 is open already", "4"),
    ] {
        let (message, at) = failure(&format!("+0 {call}"));
        assert!(message.contains(wrong) && at.starts_with(place), "{call}: {message} at {at}");
    }
}

#[test]
fn a_call_that_does_not_return_is_told() {
    let (message, place) = failure("+0...1 read(4, ..., 10) = 10");
    assert!(message.contains("has not returned at the end") && place.contains("read(4"), "{message}");
    let (message, _) = failure("+0 read(4, ..., 10) = 10");
    assert!(message.contains("does not return"), "{message}");
}

#[test]
fn control_messages_count() {
    let receive = |flags: &str, control: &str| {
        format!(
            "recvmsg(4, {{msg_name(...)=..., msg_iov(1)=[{{..., 9}}], msg_flags={flags}, msg_control=[{control}]}}, {flags})"
        )
    };
    let arrives = "+0 setsockopt(4, SOL_TCP, TCP_INQ, [1], 4) = 0\n+.01 < P. 1:31(30) ack 1 win 9\n";
    let control = "{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=20}";
    let (message, _) = failure(&format!("{arrives}+0 {} = 9", receive("0", control)));
    assert!(message.contains("msg_control is") && message.contains("21"), "{message}");
    let (message, _) = failure(&format!("+0 {} = 0", receive("MSG_ERRQUEUE", control)));
    assert!(message.contains("recvmsg() gives -1 EAGAIN, not 0"), "{message}");
}

#[test]
fn assertions_count() {
    let (message, _) = failure("+0 %{ assert tcpi_snd_cwnd == 11 }%");
    assert!(message.contains("this does not hold: assert tcpi_snd_cwnd == 11"), "{message}");
    assert!(skip(&format!("{ESTABLISHED}+0 %{{ assert tcpi_nonsense == 1 }}%")).contains("tcpi_nonsense"));
}

#[test]
fn what_is_not_to_be_had_is_skipped_with_its_reason() {
    for (rest, reason) in [
        ("+0 splice(4, NULL, 5, NULL, 1, 0) = 1", "the system call splice()"),
        ("+0 setsockopt(4, SOL_SOCKET, SO_RCVBUF, [1], 4) = 0", "the socket option SO_RCVBUF"),
        ("+0 send(4, ..., 10, MSG_OOB) = 10", "MSG_OOB is not supported"),
        ("+0 `sysctl -q net.ipv4.tcp_ecn=3`", "tcp_ecn"),
        ("+0 `nstat | grep x`", "has no meaning"),
        ("+0 < S 0:0(0) win 1 <mss 9,FO,nop,nop>", "Fast Open"),
        ("+0 > .5 1:1(0) ack 1", "Accurate ECN"),
        ("+0 setsockopt(4, SOL_NONSENSE, 1, [1], 4) = 0", "the name SOL_NONSENSE"),
    ] {
        let message = skip(&format!("{ESTABLISHED}{rest}\n"));
        assert!(message.contains(reason), "{rest}: {message}");
    }
    assert!(skip("--ip_version=ipv6\n0 < udp (1)").contains("for ipv6 only"));
}

/// As for Linux: a count is cut, a datagram has its limit, and nothing is set aside for the rest.
#[test]
fn a_call_may_ask_for_more_octets_than_there_are() {
    let most = i64::MAX;
    let source = format!(
        "0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 3\n\
         +0 connect(3, ..., ...) = 0\n\
         +0 write(3, ..., {most}) = -1 EMSGSIZE (Message too long)\n\
         +0 writev(3, [{{..., {most}}}, {{..., {most}}}], 2) = -1 EMSGSIZE (Message too long)\n"
    );
    assert_eq!(verdict(&source), Verdict::Passed);
    let (message, place) = failure("+0 writev(4, [{..., -1}], 1) = 1");
    assert_eq!((message.as_str(), place.as_str()), ("a length is not negative", "-1"));
}
