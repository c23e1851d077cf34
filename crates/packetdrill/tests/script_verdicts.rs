//! What the runner says of scripts that do not pass: each way to be wrong is noticed.

use lastack_packetdrill::{self as script, IpVersion, Settings, Verdict};

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

/// The error of a script that continues like this, and the part that the error points at.
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
        ("> P. 2:12(10) ack 1", "SEG.SEQ is 1, expected 2"),
        ("> P. 1:10(9) ack 1", "the length is 10, expected 9"),
        ("> P. 1:12(11) ack 1", "the stack sent nothing"),
        ("> P. 1:11(10) ack 2", "SEG.ACK is 1, expected 2"),
        ("> P. 1:11(10) ack 1 win 5", "the window field is 65535, expected 5"),
        ("> P. 1:11(10) ack 1 urg 5", "the urgent pointer is 0, expected 5"),
        ("> P. 1:11(10) ack 1 <nop,nop,nop,nop>", "the options are <>"),
        ("> (ect0) P. 1:11(10) ack 1", "the ECN field"),
        ("> (tos 0x4) P. 1:11(10) ack 1", "the TOS byte is 0, expected 4"),
        ("> (ttl 9) P. 1:11(10) ack 1", "the TTL is 64, expected 9"),
        ("> udp (10)", "the protocol differs"),
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
    assert!(message.contains("read() returned: 0.030000 s too late"), "{message}");
}

#[test]
fn results_of_calls_count() {
    for (call, wrong, place) in [
        ("write(4, ..., 10) = 9", "write() returned 10, expected 9", "9"),
        ("read(3, ..., 10) = 0", "read() returned -1 ENOTCONN, expected 0", "0"),
        ("read(9, ..., 10) = -1 EAGAIN", "read() returned -1 EBADF, expected -1 EAGAIN", "-1 EAGAIN"),
        (
            "getsockopt(4, SOL_TCP, TCP_NODELAY, [1], [4]) = 0",
            "getsockopt() returned 0, expected 1",
            "+0 getsockopt",
        ),
        ("poll([{fd=4, events=POLLOUT, revents=POLLIN}], 1, 0) = 1", "revents of 4 is POLLOUT", "+0 poll"),
        ("ioctl(4, SIOCINQ, [7]) = 0", "ioctl() returned 0, expected 7", "+0 ioctl"),
        ("socket(..., SOCK_STREAM, 0) = 4", "descriptor 4 is already open", "4"),
    ] {
        let (message, at) = failure(&format!("+0 {call}"));
        assert!(message.contains(wrong) && at.starts_with(place), "{call}: {message} at {at}");
    }
}

#[test]
fn a_call_that_does_not_return_is_reported() {
    let (message, place) = failure("+0...1 read(4, ..., 10) = 10");
    assert!(message.contains("had not returned at the end") && place.contains("read(4"), "{message}");
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
    assert!(message.contains("recvmsg() returned -1 EAGAIN, expected 0"), "{message}");
}

#[test]
fn assertions_count() {
    let (message, _) = failure("+0 %{ assert tcpi_snd_cwnd == 11 }%");
    assert!(message.contains("assertion failed: assert tcpi_snd_cwnd == 11"), "{message}");
    assert!(skip(&format!("{ESTABLISHED}+0 %{{ assert tcpi_nonsense == 1 }}%")).contains("tcpi_nonsense"));
}

#[test]
fn unsupported_features_are_skipped_with_a_reason() {
    for (rest, reason) in [
        ("+0 splice(4, NULL, 5, NULL, 1, 0) = 1", "the system call splice()"),
        ("+0 setsockopt(4, SOL_SOCKET, SO_RCVLOWAT, [1], 4) = 0", "the socket option SO_RCVLOWAT"),
        (
            "+0 setsockopt(4, SOL_SOCKET, SO_RCVTIMEO, {tv_sec=1, tv_usec=0}, 16) = 0",
            "the socket option SO_RCVTIMEO",
        ),
        (
            "+0 setsockopt(4, SOL_SOCKET, SO_LINGER, {tv_sec=1}, 16) = 0",
            "only the struct {onoff=.., linger=..}",
        ),
        ("+0 send(4, ..., 10, MSG_OOB) = 10", "MSG_OOB is not supported"),
        ("+0 `sysctl -q net.ipv4.tcp_ecn=3`", "tcp_ecn"),
        ("+0 `nstat | grep x`", "unsupported command"),
        ("+0 < S 0:0(0) win 1 <mss 9,FO,nop,nop>", "Fast Open"),
        ("+0 > .5 1:1(0) ack 1", "Accurate ECN"),
        ("+0 setsockopt(4, SOL_NONSENSE, 1, [1], 4) = 0", "unknown name SOL_NONSENSE"),
    ] {
        let message = skip(&format!("{ESTABLISHED}{rest}\n"));
        assert!(message.contains(reason), "{rest}: {message}");
    }
    assert!(skip("--ip_version=ipv6\n0 < udp (1)").contains("for ipv6 only"));
}

/// As for Linux: a count is cut, a datagram has its limit, and nothing is set aside for the rest.
#[test]
fn a_call_may_ask_for_more_bytes_than_there_are() {
    let max = i64::MAX;
    let source = format!(
        "0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 3\n\
         +0 connect(3, ..., ...) = 0\n\
         +0 write(3, ..., {max}) = -1 EMSGSIZE (Message too long)\n\
         +0 writev(3, [{{..., {max}}}, {{..., {max}}}], 2) = -1 EMSGSIZE (Message too long)\n"
    );
    assert_eq!(verdict(&source), Verdict::Passed);
    let (message, place) = failure("+0 writev(4, [{..., -1}], 1) = 1");
    assert_eq!((message.as_str(), place.as_str()), ("a length must not be negative", "-1"));
}

fn syntax_error(source: &str) -> String {
    match verdict(source) {
        Verdict::Failed(problem) => problem.message,
        other => panic!("{source}: {other:?}"),
    }
}

#[test]
fn options_of_sockets_have_a_length() {
    let max = i64::MAX;
    for (call, result) in [
        ("setsockopt(4, SOL_TCP, TCP_NODELAY, [1], 3)", "-1 EINVAL"),
        ("setsockopt(4, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 4)", "-1 EINVAL"),
        ("setsockopt(4, SOL_IP, IP_TOS, [4], 1)", "0"),
        (&format!("setsockopt(4, SOL_SOCKET, SO_SNDBUF, [{max}], 4)"), "0"),
        ("getsockopt(4, SOL_SOCKET, SO_SNDBUF, [2147483646], [4])", "0"),
    ] {
        let (message, _) = failure(&format!("+0 {call} = {}", if result == "0" { "7" } else { "0" }));
        assert!(message.contains(&format!("returned {result}, expected")), "{call}: {message}");
    }
    let (message, _) = failure("+0 getsockopt(4, SOL_TCP, TCP_NODELAY, [0], [8]) = 0");
    assert_eq!(message, "getsockopt() returned 4 bytes, expected 8");
    assert!(
        skip(&format!("{ESTABLISHED}+0 getsockopt(4, SOL_TCP, TCP_NODELAY, [0], [1]) = 0"))
            .contains("smaller than an int")
    );
    let (message, _) = failure(&format!(
        "+0 setsockopt(4, SOL_SOCKET, SO_SNDBUF, [{max}], 4) = 0\n+0 getsockopt(4, SOL_SOCKET, SO_SNDBUF, [0], [4]) = 0"
    ));
    assert!(message.contains("returned 2147483646, expected 0"), "{message}");
}

#[test]
fn calls_have_their_number_of_arguments() {
    for (call, wrong) in [
        ("listen(3, 1, 2, 3) = 0", "listen() takes 2 arguments, got 4"),
        ("close() = 0", "close() takes 1 arguments, got 0"),
        ("read(4, ...) = 0", "read() takes 3 arguments, got 2"),
        ("fcntl(4) = 0", "fcntl() takes 2 to 3 arguments, got 1"),
        ("sendto(4, ..., 10, 0) = 10", "sendto() takes 6 arguments, got 4"),
        ("writev(4, [{..., 1}], 2) = 1", "writev() got a list of 1 but the count 2"),
        ("poll([{fd=4, events=0, revents=0}], 0, 0) = 0", "poll() got a list of 1 but the count 0"),
    ] {
        assert_eq!(failure(&format!("+0 {call}")).0, wrong);
        let source = format!("{ESTABLISHED}+0 {call}\n");
        assert!(matches!(script::check(&source, &Settings::default()).verdict, Verdict::Failed(_)), "{call}");
    }
}

/// What Linux says of each pair of type and protocol.
#[test]
fn a_socket_has_a_family_a_type_and_a_protocol() {
    let socket = |arguments: &str, result: &str| verdict(&format!("0 socket({arguments}) = {result}\n"));
    for (arguments, result) in [
        ("AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0", "3"),
        ("..., SOCK_DGRAM, 0", "3"),
        ("..., SOCK_STREAM, IPPROTO_UDP", "-1 EPROTONOSUPPORT"),
        ("..., SOCK_DGRAM, IPPROTO_TCP", "-1 EPROTONOSUPPORT"),
        ("..., SOCK_STREAM, 255", "-1 EPROTONOSUPPORT"),
        ("..., SOCK_STREAM, 999", "-1 EINVAL"),
        ("..., SOCK_STREAM, -1", "-1 EINVAL"),
        ("..., 11, 0", "-1 EINVAL"),
        ("..., SOCK_STREAM|64, 0", "-1 EINVAL"),
    ] {
        assert_eq!(socket(arguments, result), Verdict::Passed, "{arguments}");
    }
    for (arguments, reason) in [
        ("BOGUS, SOCK_STREAM, 0", "unknown name BOGUS"),
        ("AF_UNIX, SOCK_STREAM, 0", "the address family AF_UNIX"),
        ("AF_INET6, SOCK_STREAM, 0", "in a run over ipv4"),
        ("..., SOCK_RAW, IPPROTO_TCP", "only stream and datagram sockets"),
        ("..., SOCK_STREAM, IPPROTO_MPTCP", "multipath"),
        ("..., SOCK_DGRAM, IPPROTO_ICMP", "only TCP and UDP"),
    ] {
        let message = skip(&format!("0 socket({arguments}) = 3\n"));
        assert!(message.contains(reason), "{arguments}: {message}");
    }
}

#[test]
fn addresses_are_those_of_the_runner() {
    let bind = |address: &str| {
        verdict(&format!("0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 3\n+0 bind(3, {address}, ...) = 0\n"))
    };
    let address = |port, ip| {
        format!("{{sa_family = AF_INET, sin_port = htons({port}), sin_addr = inet_addr(\"{ip}\")}}")
    };
    assert_eq!(bind("..."), Verdict::Passed);
    assert_eq!(bind(&address(8080, "192.168.0.1")), Verdict::Passed);
    for other in [address(80, "192.168.0.1"), address(8080, "192.0.2.9"), "5".to_owned()] {
        let Verdict::Skipped(problem) = bind(&other) else { panic!("{other} is taken for the other") };
        assert!(problem.message.contains("only 192.168.0.1:8080"), "{}", problem.message);
    }
    let connect =
        format!("0 socket(..., SOCK_STREAM, 0) = 3\n+0 connect(3, {}, ...) = 0\n", address(1, "192.0.2.1"));
    assert!(skip(&connect).contains("only 192.0.2.1:8080"));
}

#[test]
fn options_are_in_their_range() {
    for option in [
        "mtu=0",
        "mtu=67",
        "mtu=65536",
        "tolerance_usecs=-1",
        "tcp_ts_tick_usecs=-1",
        "tolerance_percent=-1",
        "tolerance_percent=NaN",
    ] {
        let message = syntax_error(&format!("--{option}\n0 < udp (1)\n"));
        assert!(message.contains("invalid value") || message.contains("out of range"), "{option}: {message}");
    }
    assert_eq!(verdict("--mtu=68\n0 < udp (1)\n"), Verdict::Passed);
    for option in ["non_fatal=packet", "init_scripts=a.sh", "nonsense"] {
        assert!(skip(&format!("--{option}\n0 < udp (1)\n")).contains("unsupported option"), "{option}");
    }
}

#[test]
fn icmp_has_the_types_of_its_version() {
    assert!(syntax_error("0 < icmp nonsense\n").contains("ICMP has no type nonsense"));
    assert!(syntax_error("0 < icmp unreachable nonsense\n").contains("no code nonsense"));
    assert!(skip("0 < icmp packet_too_big mtu 1280 [0:0(0)]\n").contains("ICMP has no type packet_too_big"));
}

#[test]
fn missing_packets_are_reported_on_the_last_line() {
    let source = "0 < S 0:0(0)\n\n// that is all\n";
    let Verdict::Failed(problem) = verdict(source) else { panic!("there is no window") };
    assert_eq!(problem.line(source), 1);
    assert!(
        problem.draw("t.pkt", source, false).contains("t.pkt:1:13"),
        "{}",
        problem.draw("t.pkt", source, false)
    );
    assert!(syntax_error("0 < udp (1)\n+1e < udp (1)").contains("expected a time in seconds"));
    assert_eq!(
        syntax_error("0 < udp (1)\n+1000000000 < udp (1)"),
        "a time must be less than 1000000000 seconds"
    );
    assert_eq!(syntax_error("0 < udp (1)\n-1 < udp (1)"), "a time must not be negative");
    assert_eq!(verdict("\u{feff}0 < udp (1)\n"), Verdict::Passed);
}

#[test]
fn a_script_names_its_ip_version() {
    for version in IpVersion::ALL {
        let source = format!("// One version.\n--mss=5 --ip_version={}\n0 < udp (1)\n", version.name());
        assert_eq!(IpVersion::of_script(&source), Some(version));
        let settings = Settings { version, ..Settings::default() };
        assert_eq!(script::run(&source, &settings).verdict, Verdict::Passed);
    }
    assert_eq!(IpVersion::of_script("0 < udp (1)\n--ip_version=ipv6"), None);
}
