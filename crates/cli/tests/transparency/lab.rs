//! The network in which the cells are played, and the ways to run a program in it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use super::Cell;
use super::requirements::{have, require_root};

const LASTACK: &str = env!("CARGO_BIN_EXE_lastack");

/// How the program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Kernel,
    Lastack,
    Pasta,
    Slirp,
}

impl Way {
    pub const ALL: [Self; 4] = [Self::Kernel, Self::Lastack, Self::Pasta, Self::Slirp];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Lastack => "lastack run",
            Self::Pasta => "pasta",
            Self::Slirp => "slirp4netns",
        }
    }

    pub fn is_a_peer(self) -> bool {
        matches!(self, Self::Pasta | Self::Slirp)
    }

    /// Peers are looked at when the page is written, if they are installed.
    pub fn is_asked_for(self, update: bool) -> bool {
        match self {
            Self::Kernel | Self::Lastack => true,
            Self::Pasta => update && have("pasta"),
            Self::Slirp => update && have("slirp4netns"),
        }
    }

    /// The shell's words before the program `"$@"`.
    fn line(self, options: &str) -> String {
        match self {
            Self::Kernel => "exec \"$@\"".to_owned(),
            Self::Lastack => format!("exec {LASTACK} run -q {options} -- \"$@\""),
            Self::Pasta => format!("exec pasta --config-net --runas 0:0 -q -- {ALLOW_PINGS} sh \"$@\""),
            Self::Slirp => {
                format!("{SLIRP} {ALLOW_PINGS} sh \"$@\"; code=$?; kill $child $slirp; exit $code")
            }
        }
    }
}

/// As `lastack run` does it for its own namespace.
const ALLOW_PINGS: &str =
    "sh -c 'echo 0 2147483647 2>/dev/null > /proc/sys/net/ipv4/ping_group_range; exec \"$@\"'";

/// A namespace with slirp4netns and its name server, and the words that enter it.
const SLIRP: &str = "rm -f \"$PLACE/pid\"; unshare -n sh -c 'echo $$ > \"$0\"; exec sleep 60' \"$PLACE/pid\" & child=$!; \
     while [ ! -s \"$PLACE/pid\" ]; do sleep 0.02; done; \
     slirp4netns --configure --enable-ipv6 --mtu=65520 $(cat \"$PLACE/pid\") tap0 >/dev/null 2>&1 & slirp=$!; sleep 2; \
     printf 'nameserver 10.0.2.3\\n' > \"$PLACE/inner\"; \
     nsenter -t $(cat \"$PLACE/pid\") -n unshare -m --propagation private sh -c \
     'mount --bind \"$PLACE/inner\" \"$(readlink -f /etc/resolv.conf)\"; exec \"$@\"' sh";

/// Three namespaces and the servers in the last.
pub struct Lab {
    name: String,
    servers: Vec<Child>,
    place: tempfile::TempDir,
}

/// The test fails if the network cannot be built.
pub fn require_network() {
    require_root(&["ip", "python3", "unshare", "nsenter", "mount"]);
}

impl Lab {
    pub fn new() -> Self {
        let name = format!("lastack-t{}", std::process::id());
        let place = tempfile::tempdir().unwrap();
        let output = shell(&name, &place.path().to_string_lossy(), include_str!("up.sh"), &[]);
        assert!(output.status.success(), "{output:?}");
        let scripts = [
            ("s", include_str!("server.py")),
            ("r", include_str!("neighbour.py")),
            ("h", include_str!("host.py")),
        ];
        let servers = scripts.map(|(namespace, script)| {
            let mut server = Command::new("ip")
                .args(["netns", "exec", &format!("{name}-{namespace}"), "python3", "-c", script])
                .env("PLACE", place.path())
                .env("NAME", &name)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            server
        });
        Self { name, servers: servers.into(), place }
    }

    /// What a script prints, on one line.
    pub fn play(&self, way: Way, cell: &Cell) -> String {
        // What one way has taught the host about paths is no concern of the next.
        let script = format!("{}\n{}", include_str!("prelude.py"), cell.script);
        let body = "ip -n $NAME-h route flush cache; ip -n $NAME-h -6 route flush cache; \
                    exec ip netns exec $NAME-h unshare -m --propagation private sh -c 'mount --bind \"$PLACE/resolv\" \
                    \"$(readlink -f /etc/resolv.conf)\" && { '\"$LINE\"'; }' sh \"$@\"";
        let line = way.line(cell.options);
        std::fs::write(self.resolv(), cell.resolv_conf).unwrap();
        let output = Command::new("timeout")
            .args(["-k", "1", "40", "sh", "-c", body, "sh", "python3", "-c", &script])
            .env("NAME", &self.name)
            .env("PLACE", self.place.path())
            .env("LINE", line)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = printed.trim().replace('\n', "; ").replace('|', "/");
        let error = String::from_utf8_lossy(&output.stderr);
        let end = match output.status.code() {
            Some(0) => return said,
            Some(124 | 137) => "no end within 40 s",
            _ => error.lines().last().unwrap_or("failed"),
        };
        let between = if said.is_empty() { "" } else { "; " };
        format!("{said}{between}{}", end.replace('|', "/"))
    }

    fn resolv(&self) -> PathBuf {
        self.place.path().join("resolv")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _gone = server.kill();
            let _reaped = server.wait();
        }
        shell(&self.name, "", "for n in h r s; do ip netns del $NAME-$n; done", &[]);
    }
}

fn shell(name: &str, place: &str, script: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).args(arguments).env("NAME", name).env("PLACE", place);
    command.output().unwrap()
}
