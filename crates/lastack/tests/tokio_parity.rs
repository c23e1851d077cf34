//! Each call of `tokio::net`, compiled against both: `docs/tokio.md` is generated from this list, and lists what is missing.
//!
//! Nothing here is run: the test is that the same code compiles with either import.
#![allow(dead_code, unused_variables, clippy::let_underscore_future, reason = "it only has to compile")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// Every call: `list!` gets it as tokens, once for each of the two modules, and once for the table.
macro_rules! calls {
    ($list:ident $($module:tt)*) => { $list! { [$($module)*]
        TcpStream(s) {
            connect => TcpStream::connect("192.0.2.1:80").await,
            local_addr => s.local_addr(),
            peer_addr => s.peer_addr(),
            take_error => s.take_error(),
            poll_peek => poll_fn(|cx| s.poll_peek(cx, &mut ReadBuf::new(&mut [0; 9]))).await,
            ready => s.ready(Interest::READABLE | Interest::WRITABLE).await,
            readable => s.readable().await,
            poll_read_ready => poll_fn(|cx| s.poll_read_ready(cx)).await,
            try_read => s.try_read(&mut [0; 9]),
            try_read_vectored => s.try_read_vectored(&mut [IoSliceMut::new(&mut [0; 9])]),
            try_read_buf => s.try_read_buf(&mut Vec::<u8>::with_capacity(9)),
            writable => s.writable().await,
            poll_write_ready => poll_fn(|cx| s.poll_write_ready(cx)).await,
            try_write => s.try_write(b"data"),
            try_write_vectored => s.try_write_vectored(&[IoSlice::new(b"data")]),
            try_io => s.try_io(Interest::READABLE, || Ok(1)),
            async_io => s.async_io(Interest::READABLE, || Ok(1)).await,
            peek => s.peek(&mut [0; 9]).await,
            nodelay => s.nodelay(),
            set_nodelay => s.set_nodelay(true),
            ttl => s.ttl(),
            set_ttl => s.set_ttl(64),
            linger => s.linger(),
            set_linger => s.set_linger(Some(Duration::from_secs(1))),
            set_zero_linger => s.set_zero_linger(),
            split => s.split(),
            into_split => s.into_split(),
        }
        TcpListener(s) {
            bind => TcpListener::bind(("192.0.2.1", 80)).await,
            accept => s.accept().await.map(|(stream, peer): (TcpStream, SocketAddr)| ()),
            poll_accept => poll_fn(|cx| s.poll_accept(cx)).await,
            local_addr => s.local_addr(),
            ttl => s.ttl(),
            set_ttl => s.set_ttl(64),
        }
        TcpSocket(s) {
            new_v4 => TcpSocket::new_v4(),
            new_v6 => TcpSocket::new_v6(),
            set_keepalive => s.set_keepalive(true),
            keepalive => s.keepalive(),
            set_reuseaddr => s.set_reuseaddr(true),
            reuseaddr => s.reuseaddr(),
            set_send_buffer_size => s.set_send_buffer_size(100_000),
            send_buffer_size => s.send_buffer_size(),
            set_recv_buffer_size => s.set_recv_buffer_size(100_000),
            recv_buffer_size => s.recv_buffer_size(),
            set_zero_linger => s.set_zero_linger(),
            linger => s.linger(),
            set_nodelay => s.set_nodelay(true),
            nodelay => s.nodelay(),
            tos_v4 => s.tos_v4(),
            set_tos_v4 => s.set_tos_v4(0),
            tclass_v6 => s.tclass_v6(),
            set_tclass_v6 => s.set_tclass_v6(0),
            local_addr => s.local_addr(),
            take_error => s.take_error(),
            bind => s.bind("192.0.2.1:80".parse().unwrap()),
            connect => s.connect("192.0.2.1:80".parse().unwrap()).await.map(|stream: TcpStream| ()),
            listen => s.listen(16).map(|listener: TcpListener| ()),
        }
        UdpSocket(s) {
            bind => UdpSocket::bind("192.0.2.1:53").await,
            local_addr => s.local_addr(),
            peer_addr => s.peer_addr(),
            connect => s.connect("192.0.2.1:53").await,
            ready => s.ready(Interest::READABLE).await,
            writable => s.writable().await,
            poll_send_ready => poll_fn(|cx| s.poll_send_ready(cx)).await,
            send => s.send(b"data").await,
            poll_send => poll_fn(|cx| s.poll_send(cx, b"data")).await,
            try_send => s.try_send(b"data"),
            readable => s.readable().await,
            poll_recv_ready => poll_fn(|cx| s.poll_recv_ready(cx)).await,
            recv => s.recv(&mut [0; 9]).await,
            poll_recv => poll_fn(|cx| s.poll_recv(cx, &mut ReadBuf::new(&mut [0; 9]))).await,
            try_recv => s.try_recv(&mut [0; 9]),
            recv_buf => s.recv_buf(&mut Vec::<u8>::with_capacity(9)).await,
            try_recv_buf => s.try_recv_buf(&mut Vec::<u8>::with_capacity(9)),
            recv_buf_from => s.recv_buf_from(&mut Vec::<u8>::with_capacity(9)).await,
            try_recv_buf_from => s.try_recv_buf_from(&mut Vec::<u8>::with_capacity(9)),
            send_to => s.send_to(b"data", "192.0.2.1:53").await,
            poll_send_to => poll_fn(|cx| s.poll_send_to(cx, b"data", "192.0.2.1:53".parse().unwrap())).await,
            try_send_to => s.try_send_to(b"data", "192.0.2.1:53".parse().unwrap()),
            recv_from => s.recv_from(&mut [0; 9]).await,
            poll_recv_from => poll_fn(|cx| s.poll_recv_from(cx, &mut ReadBuf::new(&mut [0; 9]))).await,
            try_recv_from => s.try_recv_from(&mut [0; 9]),
            try_io => s.try_io(Interest::READABLE, || Ok(1)),
            async_io => s.async_io(Interest::READABLE, || Ok(1)).await,
            peek => s.peek(&mut [0; 9]).await,
            poll_peek => poll_fn(|cx| s.poll_peek(cx, &mut ReadBuf::new(&mut [0; 9]))).await,
            try_peek => s.try_peek(&mut [0; 9]),
            peek_from => s.peek_from(&mut [0; 9]).await,
            poll_peek_from => poll_fn(|cx| s.poll_peek_from(cx, &mut ReadBuf::new(&mut [0; 9]))).await,
            try_peek_from => s.try_peek_from(&mut [0; 9]),
            peek_sender => s.peek_sender().await,
            poll_peek_sender => poll_fn(|cx| s.poll_peek_sender(cx)).await,
            try_peek_sender => s.try_peek_sender(),
            broadcast => s.broadcast(),
            set_broadcast => s.set_broadcast(false),
            ttl => s.ttl(),
            set_ttl => s.set_ttl(64),
            take_error => s.take_error(),
        }
        OwnedReadHalf(s) {
            reunite => |write: OwnedWriteHalf| s.reunite(write),
            poll_peek => poll_fn(|cx| s.poll_peek(cx, &mut ReadBuf::new(&mut [0; 9]))).await,
            peek => s.peek(&mut [0; 9]).await,
            ready => s.ready(Interest::READABLE).await,
            readable => s.readable().await,
            try_read => s.try_read(&mut [0; 9]),
            try_read_buf => s.try_read_buf(&mut Vec::<u8>::with_capacity(9)),
            try_read_vectored => s.try_read_vectored(&mut [IoSliceMut::new(&mut [0; 9])]),
            peer_addr => s.peer_addr(),
            local_addr => s.local_addr(),
        }
        OwnedWriteHalf(s) {
            reunite => |read: OwnedReadHalf| s.reunite(read),
            forget => s.forget(),
            ready => s.ready(Interest::WRITABLE).await,
            writable => s.writable().await,
            try_write => s.try_write(b"data"),
            try_write_vectored => s.try_write_vectored(&[IoSlice::new(b"data")]),
            peer_addr => s.peer_addr(),
            local_addr => s.local_addr(),
        }
    } };
}

macro_rules! compile {
    ([$($module:ident)::+] $($type:ident($socket:ident) { $($name:ident => $call:expr,)* })*) => {
        use $($module)::+::tcp::{OwnedReadHalf, OwnedWriteHalf};
        use $($module)::+::{TcpListener, TcpSocket, TcpStream, UdpSocket};
        use std::future::poll_fn;
        use std::io::{IoSlice, IoSliceMut};
        use std::net::SocketAddr;
        use std::time::Duration;
        use tokio::io::{Interest, ReadBuf};

        $($(
            const _: () = {
                #[allow(unused_mut, deprecated, reason = "some calls take the socket, and tokio has renamed some")]
                async fn call(mut $socket: $type) {
                    let _result = $call;
                }
            };
        )*)*
    };
}

macro_rules! table {
    ([] $($type:ident($socket:ident) { $($name:ident => $call:expr,)* })*) => {
        &[$((stringify!($type), &[$(stringify!($name)),*])),*]
    };
}

macro_rules! each_program {
    ($run:ident) => {
        $run!(echo greeter lines upload halves http peeker socket_options datagrams connected_datagrams)
    };
}

mod kernel {
    calls!(compile tokio::net);

    pub mod programs {
        use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
        include!("tokio_parity/programs.rs");
    }
}

mod user_space {
    calls!(compile lastack::net);

    pub mod programs {
        use lastack::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
        include!("tokio_parity/programs.rs");
    }
}

/// The programs of `programs.rs`, over the kernel's loopback.
#[tokio::test]
async fn the_programs_run_over_the_kernel() {
    macro_rules! run {
        ($($program:ident)*) => {$(
            let address = kernel::programs::$program::serve("127.0.0.1:0").await.unwrap();
            kernel::programs::$program::client(address).await.unwrap();
        )*};
    }
    each_program!(run);
}

/// The same code with the other import, over two hosts on a link in memory.
#[tokio::test]
async fn the_programs_run_in_user_space() {
    use lastack::{Config, Host, link, net::with_host};
    let (a, b) = link::pipe(link::Capabilities::memory(1500));
    let client = Host::spawn(Config::new([[10, 0, 0, 1].into()]), a);
    let server = Host::spawn(Config::new([[10, 0, 0, 2].into()]), b);
    macro_rules! run {
        ($($program:ident)*) => {$(
            let serve = user_space::programs::$program::serve("10.0.0.2:0");
            let address = with_host(server.clone(), serve).await.unwrap();
            with_host(client.clone(), user_space::programs::$program::client(address)).await.unwrap();
        )*};
    }
    each_program!(run);
}

const CALLS: &[(&str, &[&str])] = calls!(table);

/// The calls of tokio that are missing here, and why.
const ABSENT: &[(&str, &[&str], &str)] = &[
    (
        "every type",
        &["from_std", "into_std", "from_std_stream", "as_raw_fd", "as_fd"],
        "there is no descriptor: the socket belongs to this process",
    ),
    ("TcpStream", &["quickack", "set_quickack"], "`TcpConfig::quick_acks` sets it for a host"),
    ("TcpSocket, UdpSocket", &["device", "bind_device"], "a host has one link"),
    ("TcpSocket", &["set_reuseport", "reuseport"], "one listener per address; clone an `Arc` of it"),
    (
        "TcpSocket",
        &["set_linger", "set_tos", "tos"],
        "deprecated by tokio; `set_linger` and `set_tos_v4` are there",
    ),
    (
        "UdpSocket",
        &[
            "multicast_loop_v4",
            "set_multicast_loop_v4",
            "multicast_ttl_v4",
            "set_multicast_ttl_v4",
            "multicast_loop_v6",
            "set_multicast_loop_v6",
            "join_multicast_v4",
            "join_multicast_v6",
            "leave_multicast_v4",
            "leave_multicast_v6",
        ],
        "no multicast: `Host::intercept_udp` gets such datagrams",
    ),
    (
        "UdpSocket",
        &["tos_v4", "set_tos_v4", "tos", "set_tos", "tclass_v6", "set_tclass_v6"],
        "`try_send_segments` and `recv_datagram` have the ECN bits of each datagram",
    ),
];

fn page() -> String {
    let mut page = String::from(
        "# From `tokio::net`\n\nA program moves over by changing its imports to [`lastack::net`](crate::net) and setting the host of its sockets\n\
         once. Every call in this table compiles unchanged with either import, which the test `tokio_parity` shows.\n\n\
         | type | calls |\n|---|---|\n",
    );
    for (kind, calls) in CALLS {
        let calls: Vec<String> = calls.iter().map(|call| format!("`{call}`")).collect();
        page += &format!("| `{kind}` | {} |\n", calls.join(", "));
    }
    page += "\n## Calls that are missing\n\n| type | calls | why |\n|---|---|---|\n";
    for (kind, calls, why) in ABSENT {
        let calls: Vec<String> = calls.iter().map(|call| format!("`{call}`")).collect();
        page += &format!("| {kind} | {} | {why} |\n", calls.join(", "));
    }
    page + include_str!("tokio_parity/moved.md")
}

#[test]
fn the_page_is_the_list() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/tokio.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(
        written == page(),
        "docs/tokio.md is out of date: UPDATE_DOCS=1 cargo test -p lastack --test tokio_parity"
    );
}

/// Where the source of this version of tokio is.
fn tokio_source() -> PathBuf {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    let metadata = String::from_utf8(metadata.stdout).unwrap();
    let manifest = metadata
        .split('"')
        .find(|text| text.ends_with("Cargo.toml") && text.contains("/tokio-1."))
        .expect("tokio is among the packages");
    PathBuf::from(manifest).parent().unwrap().join("src/net")
}

/// No call of tokio is passed over: each is in the list, or among those that are missing for a reason.
#[test]
fn every_call_of_tokio_is_listed() {
    let source = tokio_source();
    for (file, kind) in [
        ("tcp/stream.rs", "TcpStream"),
        ("tcp/listener.rs", "TcpListener"),
        ("tcp/socket.rs", "TcpSocket"),
        ("udp.rs", "UdpSocket"),
        ("tcp/split_owned.rs", "OwnedReadHalf"),
    ] {
        let text = std::fs::read_to_string(source.join(file)).unwrap();
        let public = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("    pub ")?;
            let rest = ["async fn ", "const fn ", "fn "].iter().find_map(|word| rest.strip_prefix(word))?;
            rest.split(['(', '<']).next()
        });
        let listed: BTreeSet<&str> = CALLS
            .iter()
            .filter(|(of, _)| *of == kind || kind.ends_with("Half") && of.ends_with("Half"))
            .flat_map(|(_, calls)| calls.iter().copied())
            .chain(ABSENT.iter().flat_map(|(_, calls, _)| calls.iter().copied()))
            .collect();
        let missing: Vec<&str> = public.filter(|name| !listed.contains(name)).collect();
        assert!(missing.is_empty(), "{kind}: {missing:?} is neither compiled nor listed as missing");
    }
}
