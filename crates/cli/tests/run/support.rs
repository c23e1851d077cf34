//! What the tests share: the program, the client, and servers that end connections in every way.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};

/// Longest time that any program here may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What does not wait for a timer takes fewer seconds, on a busy machine too. The timers that it could wait for, those of an
/// attempt to connect or of a question without answer, take more, or give another result.
pub const AT_ONCE: f64 = 10.0;

/// The program under test.
pub const LASTACK: &str = env!("CARGO_BIN_EXE_lastack");

/// Both families, as this host and as the program in front of lastack name the host's loopback.
pub const FAMILIES: [(&str, &str); 2] = [("127.0.0.1", "10.0.2.2"), ("::1", "fd00::2")];

/// The program's networks in which these gateways are, also where this host has the same.
pub const NETWORKS: [&str; 4] = ["--net", "10.0.2.0/24", "--net6", "fd00::/64"];

/// What the client saw.
#[derive(Debug)]
pub struct Seen(Value);

impl Seen {
    /// How it ended for the client: `EOF`, or the name of an errno.
    pub fn end(&self) -> &str {
        self.0["end"].as_str().unwrap_or_default()
    }

    pub fn data(&self) -> &str {
        self.0["data"].as_str().unwrap_or_default()
    }

    pub fn seconds(&self) -> f64 {
        self.0["seconds"].as_f64().unwrap()
    }

    pub fn field(&self, name: &str) -> &Value {
        &self.0[name]
    }
}

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    pub seen: Option<Seen>,
    pub report: Vec<Value>,
    pub output: Output,
}

impl Ran {
    /// The only connection of the run.
    pub fn connection(&self) -> &Value {
        let mut connections = self.connections();
        let first = connections.next().unwrap_or_else(|| panic!("no connection: {self:?}"));
        assert!(connections.next().is_none(), "more than one connection: {self:?}");
        first
    }

    pub fn connections(&self) -> impl Iterator<Item = &Value> {
        self.report.iter().filter(|line| line["type"] == "connection")
    }

    pub fn summary(&self) -> &Value {
        self.report.last().filter(|line| line["type"] == "summary").expect("the last line is the summary")
    }

    pub fn seen(&self) -> &Seen {
        self.seen.as_ref().unwrap_or_else(|| panic!("the client said nothing: {self:?}"))
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

/// The test fails if this tool is missing.
pub fn require_tool(tool: &str) {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
    assert!(found.status.success(), "cannot run here: {tool} is missing");
}

/// The test fails if namespaces cannot be made.
pub fn require_namespaces() {
    let output = Command::new(LASTACK).args(["run", "-q", "true"]).output().unwrap();
    assert!(output.status.success(), "cannot run here: {}", String::from_utf8_lossy(&output.stderr));
}

/// What most tests need.
pub fn require_all() {
    require_tool("python3");
    require_namespaces();
}

/// A process that a test has started: it is killed if the test ends before it.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// What it writes to standard error, if that is a pipe, up to its end.
    pub fn wait_with_stderr(mut self) -> Output {
        let stderr = self.0.stderr.take().map(|mut pipe| read_all(&mut pipe)).unwrap_or_default();
        Output { status: self.0.wait().unwrap(), stdout: Vec::new(), stderr }
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Runs to the end, within the limit.
pub fn finish(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || read_all(&mut out));
    let err = std::thread::spawn(move || read_all(&mut err));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("{command:?} does not end: {}", String::from_utf8_lossy(&err.join().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).unwrap();
    all
}

/// Runs lastack with these options and program, and reads its report.
pub fn lastack<S: AsRef<OsStr>>(options: &[&str], program: &[S]) -> Ran {
    let report = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(LASTACK);
    command.args(["run", "--json", "-o"]).arg(report.path()).args(options).arg("--").args(program);
    read_report(finish(&mut command), &std::fs::read_to_string(report.path()).unwrap())
}

/// Joins what a program printed and what the report says.
pub fn read_report(output: Output, report: &str) -> Ran {
    let report = report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen = serde_json::from_slice(&output.stdout).ok().map(Seen);
    Ran { seen, report, output }
}

/// The client's command line.
pub fn client(what: &str, to: &str, port: u16, rest: &[&str]) -> Vec<String> {
    let script = include_str!("client.py");
    let mut line = vec!["python3".to_owned(), "-c".to_owned(), script.to_owned()];
    line.extend([what.to_owned(), to.to_owned(), port.to_string()]);
    line.extend(rest.iter().map(|&word| word.to_owned()));
    line
}

/// The client without lastack.
pub fn direct(what: &str, to: &str, port: u16, rest: &[&str]) -> Seen {
    let line = client(what, to, port, rest);
    let output = finish(Command::new(&line[0]).args(&line[1..]));
    let parsed = serde_json::from_slice(&output.stdout);
    Seen(parsed.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

/// The client in front of lastack, with the host's loopback open to it.
pub fn relayed(what: &str, to: &str, port: u16, rest: &[&str]) -> Ran {
    let ran = lastack(&["--host-loopback"], &client(what, to, port, rest));
    assert!(ran.seen.is_some(), "the client said nothing: {ran:?}");
    ran
}

/// A server for so many connections, one after the other. Its result is what `serve` gave for each.
pub struct Server<T> {
    pub address: SocketAddr,
    thread: JoinHandle<Vec<T>>,
}

impl<T: Send + 'static> Server<T> {
    pub fn new(host: &str, connections: usize, serve: impl Fn(TcpStream) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || (0..connections).map(|_| serve(accept(&listener))).collect());
        Self { address, thread }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn join(self) -> Vec<T> {
        self.thread.join().unwrap()
    }
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// A port at which nobody listens, with TCP or UDP, and which no socket gets that asks for any: below those that the
/// kernel gives away.
pub fn closed_port(host: &str) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 5000) as u16;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((host, port)).is_ok() && UdpSocket::bind((host, port)).is_ok() {
            return port;
        }
    }
}

/// Closes with RST.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Reads to the end: the bytes, and the kind of error or `None` for the end of the stream.
pub fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, Option<std::io::ErrorKind>) {
    let mut data = Vec::new();
    // What is read before an error stays.
    let end = stream.read_to_end(&mut data).err().map(|error| error.kind());
    (data, end)
}

/// Reads up to the client's FIN, answers, closes.
pub fn answer_after_fin(
    mut stream: TcpStream,
    pause: Duration,
    answer: &[u8],
) -> (Vec<u8>, Option<std::io::ErrorKind>) {
    let heard = read_to_end(&mut stream);
    std::thread::sleep(pause);
    stream.write_all(answer).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    heard
}

/// A port that answers no SYN: its listener accepts nobody, and its queue is full.
pub struct Silent {
    pub port: u16,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl Silent {
    pub fn new(host: &str) -> Self {
        let address: SocketAddr = (host.parse::<std::net::IpAddr>().unwrap(), 0).into();
        let listener = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let there = listener.local_addr().unwrap();
        let waiting = (0..4).map(|_| {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            // It does not matter which of them still find room.
            let _pending = socket.connect(&there);
            socket
        });
        let waiting = waiting.collect();
        std::thread::sleep(Duration::from_millis(50));
        Self { port: there.as_socket().unwrap().port(), _listener: listener, _waiting: waiting }
    }
}

/// Connects a number of times, sends 4 KiB each time and reads what comes back: 8 KiB and the end. Prints what each saw.
pub const CONNECTS: &str = r#"
import errno, json, socket, sys, time
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
seen = []
for i in range(count):
    began, n = time.time(), 0
    try:
        s = socket.create_connection((host, port), 3)
        s.settimeout(3)
        s.sendall(bytes(4096))
        s.shutdown(socket.SHUT_WR)
        while d := s.recv(65536): n += len(d)
        end = "EOF"
        s.close()
    except OSError as e:
        end = errno.errorcode.get(e.errno, "TIMEOUT") if e.errno else "TIMEOUT"
    seen.append({"end": end, "bytes": n, "seconds": time.time() - began})
print(json.dumps(seen))
"#;

/// Runs this client in front of lastack with these options; `host`: the server's as the program names it. What the client
/// saw each time, what the server got, and the run.
pub fn connect_often<T: Send + 'static>(
    options: &[&str],
    host: &str,
    server: Server<T>,
    connections: usize,
) -> (Vec<Value>, Vec<T>, Ran) {
    let (port, count) = (server.port().to_string(), connections.to_string());
    let ran = lastack(options, &["python3", "-c", CONNECTS, host, &port, &count]);
    let seen = serde_json::from_slice(&ran.output.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    // Connections that never reached it leave it waiting.
    for _ in 0..connections {
        let _filler = TcpStream::connect(server.address);
    }
    (seen, server.join(), ran)
}
