//! The server, on the kernel's sockets.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::pattern::{self, Checker};
use crate::work::{DATAGRAM, Request, port};

/// The answer to an HTTP request: 1 KiB of content.
pub const CONTENT: usize = 1024;

/// The send buffer of a server whose client does not read.
const FLOOD_BUFFER: usize = 64 * 1024;

/// Datagrams counted since the last query.
#[derive(Default)]
struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
}

/// Serves until it is killed. Prints a line once every port is open.
pub fn serve(address: Ipv4Addr) -> io::Result<()> {
    let counters = Arc::<Counters>::default();
    each(address, port::SOURCE, source)?;
    each(address, port::SINK, sink)?;
    each(address, port::ECHO, echo)?;
    each(address, port::FLOOD, flood)?;
    one_by_one(address, port::CLOSE, close)?;
    one_by_one(address, port::HTTP, http)?;
    let query = counters.clone();
    one_by_one(address, port::COUNTERS, move |mut stream| {
        let received = query.received.swap(0, Ordering::Relaxed);
        let sent = query.sent.swap(0, Ordering::Relaxed);
        stream.write_all(&[received.to_le_bytes(), sent.to_le_bytes()].concat())
    })?;
    let socket = datagram_socket(address, port::DATAGRAMS)?;
    let count = counters.clone();
    thread::spawn(move || datagrams(&socket, &count));
    let socket = datagram_socket(address, port::STREAM)?;
    thread::spawn(move || stream(&socket, &counters));
    println!("ready");
    loop {
        thread::park();
    }
}

/// A socket that holds what arrives while its thread does not run.
pub fn datagram_socket(address: Ipv4Addr, port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, port))?;
    // CAP_NET_ADMIN may exceed the limit; without it the limit is used.
    if nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(8 << 20)).is_err() {
        socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
    }
    Ok(socket)
}

fn listen(address: Ipv4Addr, port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((address, port))?;
    cubic(&listener);
    Ok(listener)
}

/// The congestion control of all measurements: paced BBR, a common default, is limited by its timers.
pub fn cubic(socket: &impl std::os::fd::AsFd) {
    let name = std::ffi::OsString::from("cubic");
    // Where it is not allowed, the report shows that by its figures for the kernel.
    let _ignored = nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::TcpCongestion, &name);
}

/// A thread for each connection.
fn each(address: Ipv4Addr, port: u16, serve: fn(TcpStream) -> io::Result<()>) -> io::Result<()> {
    let listener = listen(address, port)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    Ok(())
}

/// One thread for all connections, for work where starting threads would be most of the cost.
fn one_by_one(
    address: Ipv4Addr,
    port: u16,
    serve: impl Fn(TcpStream) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let listener = listen(address, port)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ended = serve(stream);
        }
    });
    Ok(())
}

fn request(stream: &mut TcpStream) -> io::Result<Request> {
    let mut bytes = [0; Request::LEN];
    stream.read_exact(&mut bytes)?;
    Ok(Request::from_bytes(&bytes))
}

fn source(mut stream: TcpStream) -> io::Result<()> {
    let request = request(&mut stream)?;
    send_for(&mut stream, Duration::from_millis(request.millis))?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Not closed before the client has read everything.
    stream.read(&mut [0]).map(drop)
}

/// Sends data until the time is up, and then the trailer.
pub fn send_for(stream: &mut TcpStream, time: Duration) -> io::Result<u64> {
    let end = Instant::now() + time;
    let mut sent = 0;
    while Instant::now() < end {
        sent += stream.write(pattern::at(sent))? as u64;
    }
    stream.write_all(&pattern::trailer(sent))?;
    Ok(sent)
}

fn sink(mut stream: TcpStream) -> io::Result<()> {
    let request = request(&mut stream)?;
    let verdict = match receive(&mut stream, request.thorough)? {
        Ok(length) => length.to_le_bytes().to_vec(),
        Err(wrong) => wrong.into_bytes(),
    };
    stream.write_all(&verdict)
}

/// Reads to the end of the stream: its length, or what is wrong with it.
pub fn receive(stream: &mut TcpStream, thorough: bool) -> io::Result<Result<u64, String>> {
    let mut checker = Checker::new(thorough);
    let mut buffer = vec![0; pattern::CHUNK];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(checker.finish()),
            bytes => checker.receive(&buffer[..bytes]),
        }
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            bytes => stream.write_all(&buffer[..bytes])?,
        }
    }
}

fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.read(&mut [0; 16]).map(drop)
}

fn flood(mut stream: TcpStream) -> io::Result<()> {
    // The send buffers of remote hosts are not in the memory of this one: here a thousand of them, of 2.5 MB each over
    // loopback, exceed `net.ipv4.tcp_mem`, and the kernel then slows down every connection, with or without lastack.
    socket2::SockRef::from(&stream).set_send_buffer_size(FLOOD_BUFFER)?;
    loop {
        stream.write_all(pattern::at(0))?;
    }
}

fn http(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let header = format!("HTTP/1.1 200 OK\r\ncontent-length: {CONTENT}\r\n\r\n");
    let response = [header.as_bytes(), &pattern::at(0)[..CONTENT]].concat();
    let mut buffer = [0; 1024];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..])? {
            0 => return Ok(()),
            bytes => filled += bytes,
        }
        if !buffer[..filled].ends_with(b"\r\n\r\n") {
            continue;
        }
        stream.write_all(&response)?;
        if buffer[..filled].windows(17).any(|window| window == b"connection: close") {
            return Ok(());
        }
        filled = 0;
    }
}

fn datagrams(socket: &UdpSocket, counters: &Counters) -> io::Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let (bytes, peer) = socket.recv_from(&mut buffer)?;
        if bytes == DATAGRAM {
            counters.received.fetch_add(1, Ordering::Relaxed);
        } else {
            socket.send_to(&buffer[..bytes], peer)?;
        }
    }
}

fn stream(socket: &UdpSocket, counters: &Counters) -> io::Result<()> {
    let mut bytes = [0; Request::LEN];
    loop {
        let (len, peer) = socket.recv_from(&mut bytes)?;
        if len != Request::LEN {
            continue;
        }
        let request = Request::from_bytes(&bytes);
        let sent = send_datagrams(request, |datagram| socket.send_to(datagram, peer).is_ok());
        counters.sent.fetch_add(sent, Ordering::Relaxed);
    }
}

/// Sends datagrams at the rate and for the time of the request, and returns their number. `send` returns whether
/// the datagram was sent.
pub fn send_datagrams(request: Request, send: impl Fn(&[u8]) -> bool) -> u64 {
    let start = Instant::now();
    let time = Duration::from_millis(request.millis);
    let mut datagram = pattern::at(0)[..DATAGRAM].to_vec();
    let mut sent = 0_u64;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= time {
            return sent;
        }
        if request.rate > 0 {
            let due = (elapsed.as_secs_f64() * f64::from(request.rate)) as u64;
            if sent >= due {
                thread::sleep(Duration::from_micros(500));
                continue;
            }
        }
        datagram[..8].copy_from_slice(&sent.to_le_bytes());
        sent += u64::from(send(&datagram));
    }
}
