//! Real clients under `lastack run`, against real servers: exit status and output must be those on the kernel.
//!
//! The clients are the lines of `clients.txt`. They run on a host that is two hops from the servers; each line is played
//! on the kernel and under lastack. A client that is not installed is skipped, and so is one that fails on the kernel of
//! this machine for lack of rights. `UPDATE_DOCS=1 cargo test -p lastack-cli --test clients` writes `docs/clients.md`.

#[path = "../requirements/mod.rs"]
mod requirements;

use requirements::{have, require_root};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LASTACK: &str = env!("CARGO_BIN_EXE_lastack");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/clients.md");
/// A python with aioquic, which Debian does not have: `.ci/run` installs it there.
const HTTP3: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/http3/bin/python3");
/// Seconds that one client may take.
const LIMIT: &str = "25";
/// Clients that run at once.
const AT_ONCE: usize = 6;
/// 200 connections at once.
const ASYNCIO: &str = r#"
import asyncio, os
async def get(i):
    r, w = await asyncio.open_connection(os.environ["S"], 80)
    w.write(b"GET /%d HTTP/1.0\r\n\r\n" % i)
    data = await r.read()
    w.close()
    return int(data.split()[-1])
async def main():
    print(sum(await asyncio.gather(*[get(i % 40 + 1) for i in range(200)])))
asyncio.run(main())
"#;

/// A line of `clients.txt`.
struct Client {
    name: &'static str,
    command: &'static str,
}

/// What one run of a client gave.
#[derive(Clone, Debug)]
struct Seen {
    status: Option<i32>,
    said: String,
    /// What it wrote to standard error.
    errors: String,
}

impl PartialEq for Seen {
    /// Errors may name processes, times and addresses; clients whose errors are compared write them to standard output.
    fn eq(&self, other: &Self) -> bool {
        (self.status, &self.said) == (other.status, &other.said)
    }
}

/// The network: a host, a router, and the servers.
struct Lab {
    name: String,
    servers: Option<Child>,
    place: tempfile::TempDir,
}

fn clients() -> Vec<Client> {
    let lines = include_str!("clients.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('\t')).map(|(name, command)| Client { name, command }).collect()
}

fn shell(script: &str, environment: &[(&str, &str)]) -> Output {
    Command::new("bash").args(["-c", script]).envs(environment.iter().copied()).output().unwrap()
}

impl Lab {
    fn new() -> Self {
        let name = format!("lastack-c{}", std::process::id());
        let place = tempfile::tempdir().unwrap();
        let mut lab = Self { name, servers: None, place };
        let output = shell(include_str!("../transparency/up.sh"), &[("NAME", &lab.name)]);
        assert!(output.status.success(), "{output:?}");
        let path = lab.place.path().to_string_lossy().into_owned();
        std::fs::write(lab.place.path().join("http3.py"), include_str!("http3.py")).unwrap();
        std::fs::write(lab.place.path().join("resolv"), "nameserver 198.51.100.53\n").unwrap();
        // With names, from the servers of the transparency test.
        let names = include_str!("../transparency/server.py");
        let script = format!("python3 -c \"$NAMES\" >/dev/null & {}", include_str!("servers.sh"));
        let aioquic = if Path::new(HTTP3).exists() { HTTP3 } else { "" };
        let mut servers = Command::new("ip")
            .args([
                "netns",
                "exec",
                &format!("{}-s", lab.name),
                "unshare",
                "-pf",
                "--kill-child",
                "bash",
                "-c",
            ])
            .args([&script, "bash", &path, aioquic])
            .env("NAMES", names)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(servers.stdout.take().unwrap());
        lab.servers = Some(servers);
        let ready = out.lines().any(|line| line.is_ok_and(|line| line == "ready"));
        assert!(ready, "the servers did not start");
        lab
    }

    /// Runs a client on the host: on the kernel, or under lastack.
    fn play(&self, client: &Client, number: usize, under: bool) -> Seen {
        let place = self.place.path().to_string_lossy();
        let work = self.place.path().join(format!("work-{number}-{under}"));
        std::fs::create_dir(&work).unwrap();
        let run = if under { "\"$LASTACK\" run -q -- " } else { "" };
        // Errors of paths that the last client has met are no concern of this one.
        let script = format!(
            "ip -n $NAME-h route flush cache; exec timeout -k 1 {LIMIT} ip netns exec $NAME-h unshare -m --propagation private sh -c \
             'mount --bind \"$D/resolv\" \"$(readlink -f /etc/resolv.conf)\" && cd \"$W\" && exec {run}bash -o pipefail -c \"$COMMAND\"'"
        );
        let ssh = format!(
            "-i {place}/ssh/key -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
             -o LogLevel=ERROR"
        );
        let output = shell(
            &script,
            &[
                ("NAME", &self.name),
                ("D", &place),
                ("W", &work.to_string_lossy()),
                ("S", "198.51.100.9"),
                ("S6", "2001:db8:2::9"),
                ("SSH", &ssh),
                ("COMMAND", client.command),
                ("LASTACK", LASTACK),
                ("HTTP3", HTTP3),
                ("ASYNCIO", ASYNCIO),
                ("LC_ALL", "C"),
                ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ],
        );
        let said = String::from_utf8_lossy(&output.stdout).trim().replace(&*work.to_string_lossy(), "W");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Seen { status: output.status.code(), said: steady(&said), errors }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(servers) = &mut self.servers {
            let _gone = servers.kill();
            let _reaped = servers.wait();
        }
        shell("for n in h r s; do ip netns del $NAME-$n; done", &[("NAME", &self.name)]);
    }
}

/// Without numbers of processes and times, which differ from run to run.
fn steady(said: &str) -> String {
    let words = said.split(' ').map(|word| {
        let number = word.trim_end_matches([',', ')', ':']);
        if number.parse::<u32>().is_ok() && said.contains(" ms") && said.contains("after") {
            "N"
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ").replace('\n', "; ")
}

/// Why a client is not played here.
fn missing(client: &Client) -> bool {
    match client.name {
        "HTTP/3" => !Path::new(HTTP3).exists(),
        "nested" => false,
        tool => !have(tool),
    }
}

/// A client, and what it gave on the kernel and under lastack.
type Played = (usize, Seen, Seen);

/// Plays those of the clients that are installed and whose command contains `only`.
fn play(lab: &Lab, clients: &[Client], only: &str) -> Vec<Played> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut played = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(client) = clients.get(number) else { return played };
            if !client.command.contains(only) {
                continue;
            }
            if missing(client) {
                eprintln!("skipped: {} is missing", client.name);
                continue;
            }
            let kernel = lab.play(client, number, false);
            played.push((number, kernel, lab.play(client, number, true)));
        }
    };
    let mut played: Vec<Played> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    played.sort_by_key(|(number, ..)| *number);
    // Clients have timeouts of their own, which a busy machine exceeds: what differs is played again, one at a time.
    for (number, kernel, run) in played.iter_mut().filter(|(_, kernel, run)| kernel != run) {
        eprintln!("{}: played again, the first time gave {kernel:?} and {run:?}", clients[*number].command);
        let again = clients.len() + *number;
        *kernel = lab.play(&clients[*number], again, false);
        *run = lab.play(&clients[*number], again, true);
    }
    played
}

/// The page, and the differences.
fn judge(clients: &[Client], played: &[Played]) -> (String, String) {
    let (mut page, mut wrong) = (HEAD.to_owned(), String::new());
    for (number, kernel, run) in played {
        let Client { name, command } = clients[*number];
        if is_forbidden_here(kernel) {
            eprintln!("skipped: {name} cannot be run on this machine: {}", kernel.errors);
            continue;
        }
        if kernel != run {
            let (errors, of_run) = (&kernel.errors, &run.errors);
            writeln!(wrong, "{name}: {command}\n  kernel:  {kernel:?} {errors}\n  lastack: {run:?} {of_run}")
                .unwrap();
        }
        let status =
            |seen: &Seen| seen.status.map_or_else(|| "signal".to_owned(), |status| status.to_string());
        let command = command.replace('|', "\\|");
        let (status, of_run, said) = (status(kernel), status(run), short(&run.said));
        writeln!(page, "| {name} | `{command}` | {status} | {of_run} | {said} |").unwrap();
    }
    (page, wrong)
}

#[test]
#[ignore = "needs root, ip and the clients"]
fn real_clients_end_as_they_do_on_the_kernel() {
    require_root(&["ip", "unshare", "bash", "openssl", "curl", "git", "nginx", "ssh", "ssh-keygen"]);
    let only = std::env::var("LASTACK_CLIENTS").unwrap_or_default();
    let (begun, lab, clients) = (Instant::now(), Lab::new(), clients());
    let played = play(&lab, &clients, &only);
    let (page, wrong) = judge(&clients, &played);
    eprintln!("{} clients in {:.1} s", played.len(), begun.elapsed().as_secs_f64());
    assert!(wrong.is_empty(), "{wrong}");
    retries_meet_the_injected_reset(&lab);
    if !only.is_empty() {
        return;
    }
    assert!(played.len() >= 20, "too few clients are installed to show anything");
    assert!(begun.elapsed() < Duration::from_secs(600), "the clients take too long: {:?}", begun.elapsed());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(PAGE, page).unwrap();
    }
    let known = std::fs::read_to_string(PAGE).unwrap_or_default();
    for (number, kernel, _) in &played {
        let command = clients[*number].command.replace('|', "\\|");
        let there = is_forbidden_here(kernel) || known.contains(&command);
        assert!(there, "docs/clients.md lacks a row; UPDATE_DOCS=1: {command}");
    }
}

/// The third connection to PostgreSQL is reset after 4 KiB: psql reports it, and the report says that it was injected.
fn retries_meet_the_injected_reset(lab: &Lab) {
    if !have("psql") {
        eprintln!("skipped: psql is missing");
        return;
    }
    let script = "ip netns exec $NAME-h \"$LASTACK\" run --inject rst:port=5432:when=3:after=4k:direction=down -- sh -c '
        for i in 1 2 3 4; do
          psql -h 198.51.100.9 -U postgres -qAtc \"select md5(g::text) from generate_series(1, 20000) g\" >/dev/null &&
            echo \"$i ok\" || echo \"$i failed: $?\"
        done'";
    let output = shell(script, &[("NAME", &lab.name), ("LASTACK", LASTACK), ("LC_ALL", "C")]);
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(said, "1 ok\n2 ok\n3 failed: 2\n4 ok\n", "{errors}");
    for wanted in [
        "server closed the connection unexpectedly",
        "connection to server was lost",
        "! fault-injected  198.51.100.9:5432",
        "--inject rst:port=5432:when=3:after=4k:direction=down: matched 4, selected 1 of them, acted once",
        "lastack: 4 TCP connections: 1 fault-injected, 3 orderly",
    ] {
        assert!(errors.contains(wanted), "{wanted}: {errors}");
    }
    eprintln!("{said}{errors}");
}

/// Containers of podman whose network lastack makes, under the name slirp4netns: one asks a server of the host, and one is
/// asked at a published port. Prints that both are answered; 77: this machine does not let containers be made.
const CONTAINERS: &str = r#"
umount -l /sys/fs/cgroup 2>/dev/null; mount -t tmpfs none /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup
mkdir "$PLACE/root" "$PLACE/www"; mount --bind / "$PLACE/root"; ln -s "$LASTACK" "$PLACE/slirp4netns"; ip link set lo up
printf '[engine]\nnetwork_cmd_path = "%s"\n' "$PLACE/slirp4netns" > "$PLACE/containers.conf"
export CONTAINERS_CONF="$PLACE/containers.conf"
run() { timeout 60 podman --cgroup-manager=cgroupfs run --rm --cgroups disabled --ulimit nofile=1024:1024 --ulimit nproc=999:999 "$@"; }
try() { for i in $(seq 200); do "$@" 2>/dev/null && break; sleep 0.1; done; }
ask() { curl -sSf -o /dev/null "$1" && echo answered; }
run --network none --rootfs "$PLACE/root" true || exit 77
python3 -m http.server 8099 --bind 127.0.0.1 --directory "$PLACE/www" >/dev/null 2>&1 & server=$!
try ask http://127.0.0.1:8099/ >/dev/null
export LASTACK_OPTIONS="-v -o $PLACE/out"
run --network slirp4netns:allow_host_loopback=true --rootfs "$PLACE/root" curl -sSf -o /dev/null -w '%{http_code}\n' http://10.0.2.2:8099/
export LASTACK_OPTIONS="-v -o $PLACE/in"
id=$(run -d --network slirp4netns:port_handler=slirp4netns -p 8098:8099 --rootfs "$PLACE/root" python3 -m http.server 8099 --directory "$PLACE/www")
try ask http://127.0.0.1:8098/
podman kill "$id" >/dev/null; kill $server
try grep -q 'TCP connection' "$PLACE/out"; try grep -q 'TCP connection' "$PLACE/in"
"#;

#[test]
#[ignore = "needs root, ip and podman"]
fn podman_containers_have_the_network_of_lastack() {
    require_root(&["ip", "unshare", "curl", "python3"]);
    if !have("podman") {
        eprintln!("skipped: podman is missing");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let script = "exec unshare -nm --propagation private sh -c \"$CONTAINERS\"";
    let path = place.path().to_string_lossy();
    let output = shell(script, &[("CONTAINERS", CONTAINERS), ("PLACE", &path), ("LASTACK", LASTACK)]);
    if output.status.code() == Some(77) {
        eprintln!("skipped: containers cannot be made on this machine: {output:?}");
        return;
    }
    let report = |name: &str| std::fs::read_to_string(place.path().join(name)).unwrap_or_default();
    let (out, inward) = (report("out"), report("in"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200\nanswered\n", "{output:?} {out} {inward}");
    assert!(out.contains("10.0.2.2:8099") && out.contains("1 TCP connection: 1 orderly"), "{out}");
    assert!(inward.contains("from 127.0.0.1:") && inward.contains("orderly"), "{inward}");
}

/// Not a matter of the network: a machine that does not let containers be made.
fn is_forbidden_here(kernel: &Seen) -> bool {
    kernel.status.is_some_and(|status| (125..=127).contains(&status))
}

/// What a client printed, for the page.
fn short(said: &str) -> String {
    let word = |word: &str| match word.len() {
        64 if word.bytes().all(|byte| byte.is_ascii_hexdigit()) => "the right checksum".to_owned(),
        _ => word.replace('|', "/"),
    };
    let line: String = said.trim_end_matches(" -").split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    if line.len() <= 100 { line } else { format!("{} ..", line.chars().take(100).collect::<String>()) }
}

const HEAD: &str = "\
# Real clients

Clients of many kinds, run on the kernel and under `lastack run` against real servers two hops away (nginx, sshd, git daemon,
rsync, redis, PostgreSQL, FTP, TFTP, DNS, NTP, iperf3, HTTP/3). Status and output of both are alike in every row, or the test
that makes this page fails: `UPDATE_DOCS=1 cargo test -p lastack-cli --test clients`. `$S` is the server; at ports 9 and 83 nothing listens,
port 81 answers nothing, port 8000 resets after 5000 bytes; a router answers for 203.0.113.1 and 203.0.114.1.
Containers of podman with lastack as their network, and rootlesskit, are tested in `crates/cli/tests/run/joined.rs`.

| client | command | status on the kernel | under lastack run | output of both |
|---|---|---|---|---|
";
