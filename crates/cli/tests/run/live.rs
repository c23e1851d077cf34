//! `--live`: a table on a terminal to which the program does not write.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::support::{LASTACK, Server, closed_port, finish, require_all};

/// Runs lastack with a pseudoterminal.
fn with_terminal(kind: &str, rest: &[&str]) -> Value {
    let mut command = Command::new("python3");
    let output = finish(command.args(["-c", include_str!("live.py"), kind, LASTACK]).args(rest));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn the_table_shows_connections_as_they_live_and_end_and_the_terminal_is_restored() {
    require_all();
    let server = Server::new("127.0.0.1", 1, |mut stream: TcpStream| {
        for _ in 0..24 {
            stream.write_all(&[b'x'; 100_000]).unwrap();
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let program = "\
import socket, sys
try: socket.create_connection(('10.0.2.2', int(sys.argv[2])))
except OSError as error: print(error.strerror)
s = socket.create_connection(('10.0.2.2', int(sys.argv[1])))
while s.recv(65536): pass
print('done')";
    let (port, closed) = (server.port().to_string(), closed_port("127.0.0.1").to_string());
    let seen = with_terminal("other", &["--host-loopback", "python3", "-c", program, &port, &closed]);
    server.join();
    assert_eq!((&seen["status"], &seen["out"]), (&0.into(), &"Connection refused\ndone\n".into()), "{seen}");
    let terminal = seen["terminal"].as_str().unwrap();
    assert!(terminal.starts_with("\x1b[?1049h"), "{terminal:?}");
    assert!(terminal.ends_with("\x1b[?25h\x1b[?1049l"), "{terminal:?}");
    let tables: Vec<&str> = terminal.split("\x1b[H").collect();
    let table = tables.iter().rfind(|table| table.contains("ESTABLISHED")).expect("a connection is shown");
    let row = table.lines().find(|line| line.starts_with("ESTABLISHED")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[1], format!("10.0.2.2:{port}"), "{row}");
    assert!(row.contains("python3["), "{row}");
    // 1,000,000 bytes a second: in the column of the rate of what comes in.
    assert!(cells[5].ends_with('K') || cells[5].ends_with('M'), "{row}");
    assert!(row.contains(" us ") || row.contains(" ms "), "no round trip: {row}");
    assert!(table.contains("✗ refused by the remote"), "{table}");
    // The report is where it always is.
    assert!(seen["err"].as_str().unwrap().contains("2 TCP connections"), "{seen}");
}

#[test]
#[ignore = "needs namespaces, python3 and tools"]
fn a_terminal_of_the_program_is_not_used_and_that_is_reported() {
    require_all();
    let own = with_terminal("own", &["echo", "mine"]);
    let terminal = own["terminal"].as_str().unwrap();
    assert!(terminal.contains("the program writes to this terminal, so there is no table"), "{own}");
    assert!(terminal.ends_with("mine\r\n") && !terminal.contains("\x1b["), "{own}");
    let none = with_terminal("none", &["echo", "mine"]);
    assert_eq!((&none["status"], &none["out"]), (&0.into(), &"mine\n".into()), "{none}");
    assert!(none["err"].as_str().unwrap().contains("there is no terminal, so there is no table"), "{none}");
    let wrong = finish(Command::new(LASTACK).args(["run", "--live=/dev/null", "echo", "ran"]));
    assert_eq!((wrong.status.code(), &wrong.stdout[..]), (Some(125), &b""[..]));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("this is not a terminal"));
}
