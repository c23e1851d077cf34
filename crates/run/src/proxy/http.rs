//! HTTP CONNECT (RFC 9110 section 9.3.6), with the reasons that proxies give (RFC 9209, Squid).

use std::io;

use base64::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Destination, Proxy, Refused};

/// Max length of a response header in bytes.
const LONGEST: usize = 16 * 1024;

/// Asks for a tunnel, and reads the answer up to the end of its header.
pub async fn connect(proxy: &Proxy, stream: &mut TcpStream, to: &Destination) -> Result<(), Refused> {
    let lost = |error: io::Error| proxy.lost(&error);
    stream.write_all(request(proxy, to).as_bytes()).await.map_err(lost)?;
    let header = read_header(stream).await.map_err(lost)?;
    judge(proxy, &header)
}

fn request(proxy: &Proxy, to: &Destination) -> String {
    let mut text = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
    if let Some(credentials) = &proxy.credentials {
        let plain = [&credentials.user[..], b":", &credentials.password].concat();
        let encoded = base64::engine::general_purpose::STANDARD.encode(plain);
        text.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
    }
    text.push_str("\r\n");
    text
}

/// Reads the header and nothing after it: the rest belongs to the tunnel.
async fn read_header(stream: &mut TcpStream) -> io::Result<String> {
    let mut header: Vec<u8> = Vec::new();
    let mut peeked = [0; 4096];
    loop {
        let available = stream.peek(&mut peeked).await?;
        if available == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = header.len();
        header.extend(&peeked[..available]);
        let from = before.saturating_sub(3);
        let end = header[from..].windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| from + at + 4);
        let taken = end.unwrap_or(header.len()) - before;
        header.truncate(before + taken);
        stream.read_exact(&mut peeked[..taken]).await?;
        if end.is_some() {
            return Ok(String::from_utf8_lossy(&header).into_owned());
        }
        if header.len() > LONGEST {
            return Err(io::Error::other("the header of its response is longer than 16 KiB"));
        }
    }
}

/// Whether the tunnel is open.
fn judge(proxy: &Proxy, header: &str) -> Result<(), Refused> {
    let line = header.lines().next().unwrap_or_default();
    let mut words = line.splitn(3, ' ');
    let (version, code) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let Some(code) = code.parse::<u16>().ok().filter(|_| version.starts_with("HTTP/1.")) else {
        return Err(proxy.refused(libc::EHOSTUNREACH, "is not an HTTP proxy"));
    };
    if (200..300).contains(&code) {
        return Ok(());
    }
    let said = line.split_once(' ').map_or(line, |(_, said)| said);
    if let Some(errno) = reason(header) {
        return Err(proxy.reported(errno, said));
    }
    Err(match code {
        407 if proxy.credentials.is_none() => {
            proxy.refused(libc::EACCES, "requires a user and password: --via http://USER:PASSWORD@HOST:PORT")
        }
        407 => proxy.refused(libc::EACCES, "refused the user and password (407)"),
        400..=499 => proxy.refused(libc::EACCES, &format!("does not allow the connection ({said})")),
        502..=504 => proxy.reported(libc::EHOSTUNREACH, said),
        _ => proxy.refused(libc::EHOSTUNREACH, &format!("failed ({said})")),
    })
}

/// Why the destination could not be reached: `Proxy-Status: ..; error=..`, or `X-Squid-Error: ERR_.. ERRNO`.
fn reason(header: &str) -> Option<i32> {
    let value = |name: &str| {
        let fields = header.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    };
    if let Some(status) = value("proxy-status") {
        let parameters = status.split(';').map(str::trim);
        return match parameters.filter_map(|parameter| parameter.strip_prefix("error=")).next()? {
            "connection_refused" => Some(libc::ECONNREFUSED),
            "destination_ip_unroutable" => Some(libc::ENETUNREACH),
            "dns_error"
            | "dns_timeout"
            | "destination_not_found"
            | "destination_unavailable"
            | "connection_timeout"
            | "connection_terminated" => Some(libc::EHOSTUNREACH),
            _ => None,
        };
    }
    match value("x-squid-error")?.split_once(' ')?.1.parse().ok()? {
        errno @ (libc::ECONNREFUSED | libc::ENETUNREACH | libc::EHOSTUNREACH) => Some(errno),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> Proxy {
        Proxy::new("http://user:pass@127.0.0.1:1").unwrap()
    }

    #[test]
    fn the_request_names_the_destination_and_the_user() {
        let text = request(&proxy(), &Destination::Name("a.test".to_owned(), 443));
        assert_eq!(
            text,
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"
        );
        let v6 = request(&proxy(), &Destination::Address("[2001:db8::1]:80".parse().unwrap()));
        assert!(v6.starts_with("CONNECT [2001:db8::1]:80 HTTP/1.1\r\n"));
    }

    #[test]
    fn answers_are_what_the_program_would_see_without_a_proxy() {
        for (header, errno, by_proxy) in [
            ("HTTP/1.1 403 Forbidden\r\n\r\n", libc::EACCES, true),
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", libc::EACCES, true),
            ("HTTP/1.1 502 Bad Gateway\r\n\r\n", libc::EHOSTUNREACH, false),
            ("HTTP/1.1 503 X\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n", libc::ECONNREFUSED, false),
            (
                "HTTP/1.1 502 X\r\nproxy-status: p; error=connection_refused\r\n\r\n",
                libc::ECONNREFUSED,
                false,
            ),
            ("HTTP/1.1 502 X\r\nProxy-Status: p; error=dns_error\r\n\r\n", libc::EHOSTUNREACH, false),
            ("HTTP/1.1 500 X\r\n\r\n", libc::EHOSTUNREACH, true),
            ("SSH-2.0-OpenSSH\r\n\r\n", libc::EHOSTUNREACH, true),
        ] {
            let refused = judge(&proxy(), header).unwrap_err();
            assert_eq!((refused.failure.errno, refused.by_proxy), (errno, by_proxy), "{header}");
        }
        assert!(judge(&proxy(), "HTTP/1.0 200 Connection established\r\n\r\n").is_ok());
    }

    #[tokio::test]
    async fn nothing_after_the_header_is_read() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let server = async {
            for piece in ["HTTP/1.1 200 OK\r\nA: b\r", "\n\r", "\nhello"] {
                far.write_all(piece.as_bytes()).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            drop(far);
        };
        let client = async {
            let header = read_header(&mut near).await.unwrap();
            assert_eq!(header, "HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
            let mut rest = String::new();
            near.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "hello");
        };
        tokio::join!(server, client);
    }
}
