// Ten programs written for `tokio::net`: a server, which returns its address and continues in a task, and a client. This
// file is included below either import.

use std::io::Result;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

pub mod echo {
    use super::*;

    pub async fn serve(at: &str) -> Result<SocketAddr> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        Ok(address)
    }

    pub async fn client(server: SocketAddr) -> Result<()> {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        assert_eq!(answer, "hello");
        Ok(())
    }
}

pub mod greeter {
    use super::*;

    pub async fn serve(at: &str) -> Result<SocketAddr> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            let (stream, peer) = listener.accept().await?;
            stream.writable().await?;
            stream.try_write(format!("hello {}", peer.ip()).as_bytes())
        });
        Ok(address)
    }

    pub async fn client(server: SocketAddr) -> Result<()> {
        let mut stream = TcpStream::connect(&server).await?;
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting).await?;
        assert_eq!(greeting, format!("hello {}", stream.local_addr()?.ip()));
        Ok(())
    }
}

pub mod lines {
    use super::*;

    pub async fn serve(at: &str) -> Result<SocketAddr> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await?;
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await? > 0 {
                stream.write_all(line.to_uppercase().as_bytes()).await?;
                line.clear();
            }
            Result::Ok(())
        });
        Ok(address)
    }

    pub async fn client(server: SocketAddr) -> Result<()> {
        let mut stream = BufReader::new(TcpStream::connect(server.to_string()).await?);
        for (line, answer) in [("one\n", "ONE\n"), ("two\n", "TWO\n")] {
            stream.write_all(line.as_bytes()).await?;
            let mut got = String::new();
            stream.read_line(&mut got).await?;
            assert_eq!(got, answer);
        }
        Ok(())
    }
}

pub mod upload {
    use super::*;

    pub async fn serve(at: &str) -> Result<SocketAddr> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let read = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            stream.write_u64(read).await?;
            stream.shutdown().await
        });
        Ok(address)
    }

    pub async fn client(server: SocketAddr) -> Result<()> {
        let mut stream = TcpStream::connect((server.ip(), server.port())).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&vec![7; 1_000_000]).await?;
        stream.shutdown().await?;
        assert_eq!(stream.read_u64().await?, 1_000_000);
        Ok(())
    }
}

pub mod halves {
    use super::*;

    pub async fn serve(at: &str) -> Result<SocketAddr> {
        super::echo::serve(at).await
    }

    pub async fn client(server: SocketAddr) -> Result<()> {
        let (mut read, mut write) = TcpStream::connect(server).await?.into_split();
        let send = tokio::spawn(async move {
            for byte in 0..100_u8 {
                write.write_u8(byte).await?;
            }
            Result::Ok(write)
        });
        let mut got = [0; 100];
        read.read_exact(&mut got).await?;
        assert!(got.iter().copied().eq(0..100));
        let stream = read.reunite(send.await??).expect("they are of one stream");
        assert_eq!(stream.peer_addr()?, server);
        Ok(())
    }
}

pub mod http {
    use super::*;

    pub async fn serve(at: &str) -> Result<SocketAddr> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let mut request = String::new();
                while stream.read_line(&mut request).await? > 2 {}
                let body = request.split(' ').nth(1).unwrap_or("").to_owned();
                let answer = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await?;
            }
            Result::Ok(())
        });
        Ok(address)
    }

    pub async fn client(server: SocketAddr) -> Result<()> {
        for path in ["/a", "/longer"] {
            let mut stream = TcpStream::connect(server).await?;
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            assert!(answer.ends_with(path), "{answer}");
        }
        Ok(())
    }
}

pub mod peeker {
    use super::*;

    pub async fn serve(at: &str) -> Result<SocketAddr> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let mut first = [0; 1];
            stream.peek(&mut first).await?;
            let mut all = [0; 4];
            stream.read_exact(&mut all).await?;
            assert_eq!(first[0], all[0]);
            stream.write_all(&all).await
        });
        Ok(address)
    }

    pub async fn client(server: SocketAddr) -> Result<()> {
        let connect = TcpStream::connect(server);
        let mut stream = tokio::time::timeout(Duration::from_secs(5), connect).await??;
        stream.write_all(b"peek").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"peek");
        Ok(())
    }
}

pub mod socket_options {
    use super::*;

    pub async fn serve(at: &str) -> Result<SocketAddr> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(at.parse().expect("it is an address"))?;
        let listener = socket.listen(16)?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            stream.write_all(b"x").await?;
            stream.read_u8().await
        });
        Ok(address)
    }

    pub async fn client(server: SocketAddr) -> Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.set_keepalive(true)?;
        socket.set_nodelay(true)?;
        let mut stream = socket.connect(server).await?;
        assert!(stream.nodelay()?);
        stream.set_ttl(33)?;
        assert_eq!((stream.ttl()?, stream.read_u8().await?), (33, b'x'));
        stream.set_zero_linger()?;
        Ok(())
    }
}

pub mod datagrams {
    use super::*;

    pub async fn serve(at: &str) -> Result<SocketAddr> {
        let socket = UdpSocket::bind(at).await?;
        let address = socket.local_addr()?;
        tokio::spawn(async move {
            let mut buf = [0; 1500];
            while let Ok((len, peer)) = socket.recv_from(&mut buf).await {
                buf[..len].reverse();
                socket.send_to(&buf[..len], peer).await?;
            }
            Result::Ok(())
        });
        Ok(address)
    }

    pub async fn client(server: SocketAddr) -> Result<()> {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
        socket.send_to(b"abc", server).await?;
        let mut answer = [0; 10];
        assert_eq!(socket.recv_from(&mut answer).await?, (3, server));
        assert_eq!(&answer[..3], b"cba");
        Ok(())
    }
}

pub mod connected_datagrams {
    use super::*;

    pub async fn serve(at: &str) -> Result<SocketAddr> {
        super::datagrams::serve(at).await
    }

    pub async fn client(server: SocketAddr) -> Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        socket.connect(server).await?;
        socket.send(b"xyz").await?;
        socket.readable().await?;
        let mut answer = Vec::with_capacity(100);
        assert_eq!(socket.try_recv_buf(&mut answer)?, 3);
        assert_eq!((answer.as_slice(), socket.peer_addr()?), (&b"zyx"[..], server));
        Ok(())
    }
}
