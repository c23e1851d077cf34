//! Requests to forward ports while the run lasts, over a UNIX socket: the JSON of slirp4netns, which container tools
//! speak. Each connection carries one request and its answer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use lastack::Host;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use crate::inward::{self, Published};
use crate::report::Proto;
use crate::run::Run;
use crate::udp::published;

/// Max length of a request in bytes.
const LONGEST: usize = 4096;
/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// The socket, which is removed at the end of the run.
#[derive(Debug)]
pub struct ApiSocket {
    listener: StdListener,
    path: PathBuf,
}

impl ApiSocket {
    /// Listens. A socket that another process left behind is replaced, and no other file.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let bind =
            || StdListener::bind(path).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        let listener = match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    bail!("--api-socket: another process listens at {}: choose another path", path.display());
                }
                // Anything else is not ours to replace.
                let left = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
                if !left {
                    bail!("--api-socket: {} exists, and is no socket: choose another path", path.display());
                }
                std::fs::remove_file(path).and_then(|()| bind())
            }
            other => other,
        };
        let listener = listener.with_context(|| {
            format!(
                "--api-socket: cannot listen at {}: choose another path (107 bytes at most)",
                path.display()
            )
        })?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        // The directory may be gone.
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// A request.
#[derive(Debug, Deserialize)]
struct Request {
    execute: String,
    #[serde(default)]
    arguments: Arguments,
}

#[derive(Debug, Default, Deserialize)]
struct Arguments {
    proto: Option<String>,
    host_addr: Option<String>,
    host_port: Option<u16>,
    guest_addr: Option<String>,
    guest_port: Option<u16>,
    id: Option<u64>,
}

/// The forwarded ports.
#[derive(Debug, Default)]
struct Forwards {
    last: Cell<u64>,
    all: RefCell<BTreeMap<u64, Forward>>,
}

#[derive(Debug)]
struct Forward {
    description: Value,
    tasks: Vec<AbortHandle>,
}

/// Serves requests. Never returns.
pub async fn serve(run: Rc<Run>, host: Host, socket: ApiSocket) {
    let listener = socket.listener.try_clone().and_then(UnixListener::from_std);
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return run.report.warn(format!("--api-socket: requests cannot be received: {error}")),
    };
    let forwards = Rc::new(Forwards::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (run, host, forwards) = (run.clone(), host.clone(), forwards.clone());
                spawn_local(async move {
                    // A client that leaves or is too slow gets no answer.
                    let _left = timeout(PATIENCE, answer(&run, &host, &forwards, stream)).await;
                });
            }
            // Too few descriptors, or a client that is already gone.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn answer(run: &Rc<Run>, host: &Host, forwards: &Forwards, mut stream: UnixStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    // The request ends where its JSON does; not every client closes its direction.
    let request = loop {
        match serde_json::from_slice::<Request>(&bytes) {
            Ok(request) => break Ok(request),
            Err(error) if bytes.len() >= LONGEST || !error.is_eof() => break Err(error.to_string()),
            Err(error) => {
                if stream.read_buf(&mut bytes).await? == 0 {
                    break Err(error.to_string());
                }
            }
        }
    };
    let result = match request {
        Ok(request) => forwards.carry_out(run, host, request),
        Err(error) => Err(format!("parse error: {error}")),
    };
    let reply = match result {
        Ok(value) => json!({ "return": value }),
        Err(error) => json!({ "error": { "desc": format!("bad request: {error}") } }),
    };
    stream.write_all(reply.to_string().as_bytes()).await?;
    stream.shutdown().await
}

impl Forwards {
    fn carry_out(&self, run: &Rc<Run>, host: &Host, request: Request) -> Result<Value, String> {
        match request.execute.as_str() {
            "add_hostfwd" => {
                self.add(run, host, &request.arguments).map_err(|why| format!("add_hostfwd: {why}"))
            }
            "list_hostfwd" => {
                let all = self.all.borrow();
                let entries: Vec<&Value> = all.values().map(|forward| &forward.description).collect();
                Ok(json!({ "entries": entries }))
            }
            "remove_hostfwd" => {
                let id = request.arguments.id.ok_or("remove_hostfwd: arguments.id is missing")?;
                let removed = self.all.borrow_mut().remove(&id);
                let removed = removed.ok_or_else(|| format!("remove_hostfwd: unknown id {id}"))?;
                removed.tasks.iter().for_each(AbortHandle::abort);
                Ok(json!({}))
            }
            other => Err(format!(
                "unknown request {other:?} (expected add_hostfwd, list_hostfwd or remove_hostfwd)"
            )),
        }
    }

    fn add(&self, run: &Rc<Run>, host: &Host, arguments: &Arguments) -> Result<Value, String> {
        let (mut description, published, proto) = arguments.to_publish(run)?;
        let failed = |error: anyhow::Error| format!("{error:#}");
        let tasks = if proto == Proto::Udp {
            let flows = run.datagrams.borrow().upgrade().ok_or("the run is ending")?;
            let bound = inward::bind_datagrams(&[published]).map_err(failed)?.into_iter();
            bound.map(|port| spawn_local(published::serve(flows.clone(), port)).abort_handle()).collect()
        } else {
            let bound = inward::bind(&[published]).map_err(failed)?.into_iter();
            bound
                .map(|one| spawn_local(inward::publish(run.clone(), host.clone(), one)).abort_handle())
                .collect()
        };
        let id = self.last.get() + 1;
        self.last.set(id);
        description["id"] = id.into();
        self.all.borrow_mut().insert(id, Forward { description, tasks });
        Ok(json!({ "id": id }))
    }
}

impl Arguments {
    fn to_publish(&self, run: &Run) -> Result<(Value, Published, Proto), String> {
        let proto = self.proto.as_deref().ok_or("arguments.proto is missing (expected tcp or udp)")?;
        let transport = match proto {
            "tcp" | "tcp4" | "tcp6" => Proto::Tcp,
            "udp" | "udp4" | "udp6" => Proto::Udp,
            _ => return Err(format!("arguments.proto {proto:?} is not supported (expected tcp or udp)")),
        };
        let any = if proto.ends_with('6') { "::" } else { "0.0.0.0" };
        let address = |name: &str, text: &str| {
            text.parse::<IpAddr>().map_err(|_| format!("arguments.{name} {text:?} is not an address"))
        };
        // podman writes an empty address for the usual one.
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let host_addr = address("host_addr", &given(&self.host_addr).unwrap_or_else(|| any.to_owned()))?;
        let host_port = self.host_port.filter(|port| *port > 0).ok_or("arguments.host_port is missing")?;
        let guest_port = self.guest_port.filter(|port| *port > 0).ok_or("arguments.guest_port is missing")?;
        let own = run.plan.guest(host_addr.is_ipv6()).or(run.plan.guest(!host_addr.is_ipv6()));
        let own = own.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let guest_addr = match given(&self.guest_addr) {
            Some(text) => address("guest_addr", &text)?,
            None => own,
        };
        let reachable = run.plan.guest(guest_addr.is_ipv6()) == Some(guest_addr) || guest_addr.is_loopback();
        if !reachable {
            return Err(format!(
                "arguments.guest_addr {guest_addr} is not the program's address: that is {own}"
            ));
        }
        let description = json!({
            "id": 0, "proto": proto, "host_addr": host_addr.to_string(), "host_port": host_port,
            "guest_addr": guest_addr.to_string(), "guest_port": guest_port,
        });
        Ok((description, Published::port(host_addr, host_port, guest_port, transport), transport))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("api.sock");
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists());
        let open = ApiSocket::open(&path).unwrap();
        let error = ApiSocket::open(&path).unwrap_err().to_string();
        assert!(error.contains("another process listens"), "{error}");
        drop(open);
        assert!(!path.exists());
        let error = format!("{:#}", ApiSocket::open(Path::new("/nowhere/api.sock")).unwrap_err());
        assert!(error.contains("choose another path"), "{error}");
    }

    #[test]
    fn no_other_file_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let [file, link, directory] = ["file", "link", "directory"].map(|name| place.path().join(name));
        std::fs::write(&file, "kept").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::fs::create_dir(&directory).unwrap();
        for path in [&file, &link, &directory] {
            let error = ApiSocket::open(path).unwrap_err().to_string();
            assert!(error.contains("is no socket: choose another path"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "kept");
    }

    #[test]
    fn requests_are_those_of_slirp4netns() {
        let text = r#"{"execute": "add_hostfwd", "arguments": {"proto": "tcp", "host_addr": "0.0.0.0",
            "host_port": 8080, "guest_addr": "10.0.2.100", "guest_port": 80}}"#;
        let request: Request = serde_json::from_str(text).unwrap();
        assert_eq!((request.execute.as_str(), request.arguments.guest_port), ("add_hostfwd", Some(80)));
        let request: Request = serde_json::from_str(r#"{"execute": "list_hostfwd"}"#).unwrap();
        assert_eq!(request.execute, "list_hostfwd");
    }
}
