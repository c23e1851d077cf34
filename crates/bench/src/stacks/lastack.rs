//! lastack's sockets for tokio, on one thread.
//!
//! Bulk data is read in place, as a relay would (`TcpStream::read_with`), or into a buffer (`AsyncRead`).

use std::io;
use std::time::{Duration, Instant};

use anyhow::Result;
use lastack::device::{Tun, tun};
use lastack::{Config, Host, Queues, TcpListener, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{INTERFACE, SERVER, configure};
use crate::pattern::{self, Checker};
use crate::work::{Request, port};

/// Where bulk data is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// In the buffers of the stack.
    InPlace,
    /// In a buffer of the server's, which it is copied into.
    Copied,
}

/// Serves in this network namespace until it is killed.
pub fn serve(reads: Reads) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let fd = tun::create(INTERFACE)?;
        configure(1500)?;
        let host = Host::spawn(Config::new([SERVER.into()]), Tun::from_fd(fd, 1500)?);
        listen(&host, reads)?;
        println!("ready");
        std::future::pending::<Result<()>>().await
    })
}

/// The same with one host per queue, each on its own thread.
pub fn serve_queues(queues: usize) -> Result<()> {
    let (queues, drivers) = Queues::open(INTERFACE, queues, &Config::new([SERVER.into()]))?;
    configure(1500)?;
    let (ready, listening) = std::sync::mpsc::channel();
    let threads = queues.hosts().iter().cloned().zip(drivers).map(|(host, driver)| {
        let ready = ready.clone();
        std::thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let driver = tokio::spawn(driver);
                listen(&host, Reads::InPlace)?;
                ready.send(())?;
                Ok(driver.await??)
            })
        })
    });
    let threads: Vec<_> = threads.collect();
    for _ in &threads {
        listening.recv()?;
    }
    println!("ready");
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a stack has panicked"))??;
    }
    Ok(())
}

fn listen(host: &Host, reads: Reads) -> io::Result<()> {
    each(host, port::SOURCE, source)?;
    match reads {
        Reads::InPlace => each(host, port::SINK, sink_in_place)?,
        Reads::Copied => each(host, port::SINK, sink)?,
    }
    each(host, port::ECHO, echo)?;
    each(host, port::CLOSE, close)
}

fn each<F>(host: &Host, port: u16, serve: fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind(host, (SERVER, port))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok(())
}

async fn request(stream: &mut TcpStream) -> io::Result<Request> {
    let mut bytes = [0; Request::LEN];
    stream.read_exact(&mut bytes).await?;
    Ok(Request::from_bytes(&bytes))
}

async fn source(mut stream: TcpStream) -> io::Result<()> {
    let request = request(&mut stream).await?;
    let end = Instant::now() + Duration::from_millis(request.millis);
    let mut sent = 0;
    while Instant::now() < end {
        sent += stream.write(pattern::at(sent)).await? as u64;
    }
    stream.write_all(&pattern::trailer(sent)).await?;
    stream.shutdown().await?;
    stream.read(&mut [0]).await.map(drop)
}

async fn sink(mut stream: TcpStream) -> io::Result<()> {
    let request = request(&mut stream).await?;
    let mut checker = Checker::new(request.thorough);
    let mut buffer = vec![0; pattern::CHUNK];
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            bytes => checker.receive(&buffer[..bytes]),
        }
    }
    confirm(stream, &checker).await
}

async fn sink_in_place(mut stream: TcpStream) -> io::Result<()> {
    let request = request(&mut stream).await?;
    let mut checker = Checker::new(request.thorough);
    let mut receive = |parts: [&[u8]; 2]| {
        for part in parts {
            checker.receive(part);
        }
        parts[0].len() + parts[1].len()
    };
    while stream.read_with(&mut receive).await?.is_some() {}
    confirm(stream, &checker).await
}

async fn confirm(mut stream: TcpStream, checker: &Checker) -> io::Result<()> {
    let verdict = match checker.finish() {
        Ok(length) => length.to_le_bytes().to_vec(),
        Err(wrong) => wrong.into_bytes(),
    };
    stream.write_all(&verdict).await?;
    stream.close().await
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            bytes => stream.write_all(&buffer[..bytes]).await?,
        }
    }
}

async fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.read(&mut [0; 16]).await.map(drop)
}
