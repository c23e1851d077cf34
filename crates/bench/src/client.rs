//! The client, on the kernel's sockets: takes orders on its standard input, and replies on its standard output.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use crate::process;
use crate::server::{self, cubic};
use crate::work::{DATAGRAM, Order, Outcome, Reply, Request, Work, port};

/// After this time without progress a measurement has failed.
const PATIENCE: Duration = Duration::from_secs(3);
/// After this time without a datagram the rest is lost.
const SILENCE: Duration = Duration::from_millis(300);

/// Executes orders until the input ends.
pub fn run() -> Result<()> {
    let mut kept = Vec::new();
    reply(&Reply::Ready)?;
    for line in io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        reply(&match execute(order, &mut kept) {
            Ok(outcome) => Reply::Done(outcome),
            Err(error) => Reply::Failed(format!("{error:#}")),
        })?;
    }
    Ok(())
}

fn reply(reply: &Reply) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, reply)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

fn execute(order: Order, kept: &mut Vec<TcpStream>) -> Result<Outcome> {
    process::pin(std::process::id(), order.cpu)?;
    let time = Duration::from_millis(order.millis);
    match order.work {
        Work::Download { streams } => parallel(streams, || download(order)),
        Work::Upload { streams } => parallel(streams, || upload(order)),
        Work::PingPong => ping_pong(order.server, time),
        Work::Connect => {
            let address = SocketAddr::from((order.server, port::CLOSE));
            rate(time, || {
                let mut stream = connect(address)?;
                stream.shutdown(Shutdown::Write)?;
                ensure!(stream.read(&mut [0])? == 0, "data from a server that sends none");
                Ok(())
            })
        }
        Work::Refused => {
            let address = SocketAddr::from((order.server, port::CLOSED));
            rate(time, || match connect(address) {
                Err(error) if kind(&error) == Some(ErrorKind::ConnectionRefused) => Ok(()),
                Err(error) => Err(error),
                Ok(_) => bail!("a closed port has accepted"),
            })
        }
        Work::HttpKeepAlive => http_keep_alive(order.server, time),
        Work::HttpClose => rate(time, || {
            let mut stream = connect((order.server, port::HTTP).into())?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
            let mut response = Vec::with_capacity(2048);
            stream.read_to_end(&mut response)?;
            complete(&response)
        }),
        Work::UdpPingPong => udp_ping_pong(order.server, time),
        Work::UdpUp { rate } => udp_up(order, rate),
        Work::UdpDown { rate } => udp_down(order, rate),
        Work::Idle { connections } => keep(kept, connections, order.server, port::ECHO),
        Work::NeverRead { connections } => keep(kept, connections, order.server, port::FLOOD),
        Work::Release => {
            kept.clear();
            Ok(Outcome::default())
        }
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    cubic(&socket);
    socket.set_read_timeout(Some(PATIENCE))?;
    // It limits connect(2) as well.
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(&address.into())?;
    Ok(TcpStream::from(socket))
}

fn kind(error: &anyhow::Error) -> Option<ErrorKind> {
    error.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// Repeats an operation for a time.
fn rate(time: Duration, mut operation: impl FnMut() -> Result<()>) -> Result<Outcome> {
    let start = Instant::now();
    let mut amount = 0;
    while start.elapsed() < time {
        operation().with_context(|| format!("operation {amount}"))?;
        amount += 1;
    }
    Ok(Outcome { rate: amount as f64 / start.elapsed().as_secs_f64(), amount, ..Outcome::default() })
}

fn gigabits(bytes: u64, time: Duration) -> f64 {
    bytes as f64 * 8e-9 / time.as_secs_f64()
}

/// Runs a transfer on several threads, each of which returns its number of bytes and its time.
fn parallel(streams: usize, transfer: impl Fn() -> Result<(u64, Duration)> + Sync) -> Result<Outcome> {
    let start = Instant::now();
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..streams).map(|_| scope.spawn(&transfer)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a transfer has panicked")).collect()
    });
    let elapsed = start.elapsed();
    let results = results.into_iter().collect::<Result<Vec<_>>>()?;
    let rates: Vec<f64> = results.iter().map(|&(bytes, time)| gigabits(bytes, time)).collect();
    let amount = results.iter().map(|(bytes, _)| bytes).sum();
    let fastest = rates.iter().copied().fold(0.0, f64::max);
    let slowest = rates.iter().copied().fold(f64::MAX, f64::min);
    let fairness = (streams > 1).then_some(slowest / fastest);
    Ok(Outcome { rate: gigabits(amount, elapsed), amount, fairness, loss: None })
}

fn download(order: Order) -> Result<(u64, Duration)> {
    let mut stream = connect((order.server, port::SOURCE).into())?;
    let start = Instant::now();
    let request = Request { millis: order.millis, rate: 0, thorough: order.thorough };
    stream.write_all(&request.to_bytes())?;
    let received = server::receive(&mut stream, order.thorough)?;
    Ok((received.map_err(anyhow::Error::msg)?, start.elapsed()))
}

fn upload(order: Order) -> Result<(u64, Duration)> {
    let mut stream = connect((order.server, port::SINK).into())?;
    let start = Instant::now();
    let request = Request { millis: order.millis, rate: 0, thorough: order.thorough };
    stream.write_all(&request.to_bytes())?;
    let sent = server::send_for(&mut stream, Duration::from_millis(order.millis))?;
    stream.shutdown(Shutdown::Write)?;
    let mut verdict = Vec::new();
    stream.read_to_end(&mut verdict)?;
    ensure!(verdict == sent.to_le_bytes(), "the server: {}", String::from_utf8_lossy(&verdict));
    Ok((sent, start.elapsed()))
}

fn ping_pong(server: Ipv4Addr, time: Duration) -> Result<Outcome> {
    let mut stream = connect((server, port::ECHO).into())?;
    stream.set_nodelay(true)?;
    let mut number = 0_u8;
    rate(time, || {
        number = number.wrapping_add(1);
        stream.write_all(&[number])?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        ensure!(answer == [number], "{answer:?} came back for {number}");
        Ok(())
    })
}

fn complete(response: &[u8]) -> Result<()> {
    ensure!(response.ends_with(&crate::pattern::at(0)[..server::CONTENT]), "a wrong response");
    Ok(())
}

fn http_keep_alive(server: Ipv4Addr, time: Duration) -> Result<Outcome> {
    let mut stream = connect((server, port::HTTP).into())?;
    stream.set_nodelay(true)?;
    let mut response = [0; 2048];
    rate(time, || {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")?;
        let mut filled = 0;
        while filled < server::CONTENT + 40 {
            match stream.read(&mut response[filled..])? {
                0 => bail!("the server has closed"),
                bytes => filled += bytes,
            }
        }
        complete(&response[..filled])
    })
}

fn udp(server: Ipv4Addr, port: u16) -> Result<UdpSocket> {
    let socket = server::datagram_socket(Ipv4Addr::UNSPECIFIED, 0)?;
    socket.connect((server, port))?;
    Ok(socket)
}

fn udp_ping_pong(server: Ipv4Addr, time: Duration) -> Result<Outcome> {
    let socket = udp(server, port::DATAGRAMS)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    rate(time, || {
        socket.send(&[1])?;
        socket.recv(&mut [0; 16])?;
        Ok(())
    })
}

/// What the server has received and sent since the last query.
fn counters(server: Ipv4Addr) -> Result<(u64, u64)> {
    let mut stream = connect((server, port::COUNTERS).into())?;
    let mut bytes = [0; 16];
    stream.read_exact(&mut bytes)?;
    let number = |half: &[u8]| half.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Ok((number(&bytes[..8]), number(&bytes[8..])))
}

fn datagrams(received: u64, sent: u64, time: Duration) -> Result<Outcome> {
    ensure!(received > 0, "none of {sent} datagrams has arrived");
    let loss = Some(1.0 - received as f64 / sent.max(1) as f64);
    let rate = gigabits(received * DATAGRAM as u64, time);
    Ok(Outcome { rate, amount: received, fairness: None, loss })
}

fn udp_up(order: Order, rate: u32) -> Result<Outcome> {
    let socket = udp(order.server, port::DATAGRAMS)?;
    counters(order.server)?;
    let start = Instant::now();
    let request = Request { millis: order.millis, rate, thorough: false };
    let sent = server::send_datagrams(request, |datagram| socket.send(datagram).is_ok());
    let time = start.elapsed();
    // What is still queued at this time arrives, but does not count much: the queues are short.
    thread::sleep(SILENCE);
    datagrams(counters(order.server)?.0, sent, time)
}

fn udp_down(order: Order, rate: u32) -> Result<Outcome> {
    let socket = udp(order.server, port::STREAM)?;
    counters(order.server)?;
    let request = Request { millis: order.millis, rate, thorough: false };
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.send(&request.to_bytes())?;
    let mut buffer = [0; 2048];
    let mut received = 0;
    let mut first = None;
    let mut last = Instant::now();
    while let Ok(bytes) = socket.recv(&mut buffer) {
        ensure!(bytes == DATAGRAM, "a datagram of {bytes} bytes");
        last = Instant::now();
        if first.is_none() {
            first = Some(last);
            socket.set_read_timeout(Some(SILENCE))?;
        }
        received += 1;
    }
    let (_, sent) = counters(order.server)?;
    let time = first.map_or(Duration::ZERO, |first| last - first).max(Duration::from_millis(order.millis));
    datagrams(received, sent, time)
}

fn keep(kept: &mut Vec<TcpStream>, connections: usize, server: Ipv4Addr, port: u16) -> Result<Outcome> {
    for number in 0..connections {
        let stream = connect((server, port).into()).with_context(|| format!("connection {number}"))?;
        kept.push(stream);
    }
    Ok(Outcome { amount: connections as u64, ..Outcome::default() })
}
