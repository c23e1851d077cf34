//! smoltcp: the services of its size, for the rates of small operations.

use std::os::fd::AsRawFd;

use anyhow::{Result, anyhow};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Medium, TunTapInterface};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::{INTERFACE, SERVER, configure};
use crate::work::port;

/// Sockets that listen at each port: one is used at a time, the others are closing.
const SOCKETS: usize = 8;
const BUFFER: usize = 64 * 1024;

/// Serves echo and close in this network namespace until it is killed.
pub fn serve() -> Result<()> {
    let mut device = TunTapInterface::new(INTERFACE, Medium::Ip)?;
    configure(1500)?;
    let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, Instant::now());
    let [a, b, c, d] = SERVER;
    interface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(IpAddress::v4(a, b, c, d), 24)).expect("there is room for one address");
    });
    let mut sockets = SocketSet::new(Vec::new());
    let handles: Vec<(SocketHandle, u16)> = [port::ECHO, port::CLOSE]
        .into_iter()
        .flat_map(|port| std::iter::repeat_n(port, SOCKETS))
        .map(|port| {
            let ring = || SocketBuffer::new(vec![0; BUFFER]);
            let mut socket = Socket::new(ring(), ring());
            socket.set_nagle_enabled(false);
            // The port that is closed first by the client needs no TIME-WAIT of ours.
            (sockets.add(socket), port)
        })
        .collect();
    println!("ready");
    loop {
        let now = Instant::now();
        interface.poll(now, &mut device, &mut sockets);
        let mut again = false;
        for &(handle, port) in &handles {
            again |= attend(sockets.get_mut(handle), port).map_err(|error| anyhow!(error))?;
        }
        if again {
            continue;
        }
        let delay = interface.poll_delay(now, &sockets);
        phy::wait(device.as_raw_fd(), delay)?;
    }
}

/// Does what a socket is ready for. Returns whether it has something to send then.
fn attend(socket: &mut Socket<'_>, port: u16) -> Result<bool, String> {
    if !socket.is_open() {
        socket.listen(port).map_err(|error| error.to_string())?;
        return Ok(false);
    }
    let mut again = false;
    if socket.can_recv() {
        let mut data = [0; 4096];
        let bytes = socket.recv_slice(&mut data).map_err(|error| error.to_string())?;
        if port == port::ECHO {
            socket.send_slice(&data[..bytes]).map_err(|error| error.to_string())?;
            again = true;
        }
    }
    if socket.may_send() && !socket.may_recv() && socket.state() == smoltcp::socket::tcp::State::CloseWait {
        socket.close();
        again = true;
    }
    Ok(again)
}
