//! A load of short connections over loopback, to measure what a watch costs.
//!
//! `load RATE SECONDS ABORTS` makes RATE connections per second for SECONDS seconds. Each carries a request of 100
//! bytes and an answer of 1000; of ABORTS in 1000 the client closes with the last byte unread. It prints what it
//! reached.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const THREADS: u32 = 4;

fn main() {
    let numbers: Vec<u32> =
        std::env::args().skip(1).map(|word| word.parse().expect("RATE SECONDS ABORTS are numbers")).collect();
    let [rate, seconds, aborts] = numbers[..] else { panic!("usage: load RATE SECONDS ABORTS") };
    let begun = Instant::now();
    let threads: Vec<_> =
        (0..THREADS).map(|n| thread::spawn(move || pair(n, rate / THREADS, seconds, aborts))).collect();
    let made: u32 = threads.into_iter().map(|thread| thread.join().expect("a thread failed")).sum();
    let took = begun.elapsed().as_secs_f64();
    println!("{made} connections in {took:.2} s: {:.0}/s", f64::from(made) / took);
}

/// A listener and a client. Each pair has an address of its own, and so ports enough.
fn pair(n: u32, rate: u32, seconds: u32, aborts: u32) -> u32 {
    let address = (Ipv4Addr::new(127, 0, 1, n as u8 + 1), 9000);
    let listener = TcpListener::bind(address).expect("cannot listen");
    let count = rate * seconds;
    let server = thread::spawn(move || (0..count).for_each(|_| serve(&listener)));
    let begun = Instant::now();
    for k in 0..count {
        connect(address, k % 1000 < aborts);
        let due = begun + Duration::from_secs(1) * (k + 1) / rate;
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            thread::sleep(early);
        }
    }
    server.join().expect("the server failed");
    count
}

fn serve(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().expect("cannot accept");
    stream.read_exact(&mut [0; 100]).expect("no request");
    stream.write_all(&[1; 1000]).expect("cannot answer");
    // The client's FIN or RST.
    let _end = stream.read(&mut [0]);
}

fn connect(address: (Ipv4Addr, u16), abort: bool) {
    let mut stream = TcpStream::connect(address).expect("cannot connect");
    stream.write_all(&[2; 100]).expect("cannot send");
    let mut answer = [0; 1000];
    let len = if abort { 999 } else { 1000 };
    stream.read_exact(&mut answer[..len]).expect("no answer");
}
