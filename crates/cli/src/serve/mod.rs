//! `lastack serve`: a peer on a TUN link with a chosen behavior, for testing clients.

mod args;
mod later;
mod output;
mod server;

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use lastack::link::PcapngWriter;
use lastack_device::{DeviceError, LinkSettings, Netlink, Tun};
use tokio::task::LocalSet;

pub use args::ServeArgs;
use server::Server;

/// The command failed.
const TROUBLE: u8 = 2;

/// Runs the command.
pub fn main(args: ServeArgs) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe.
        Err(error) if error.downcast_ref().map(io::Error::kind) == Some(io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            lastack_run::message(format_args!("lastack serve: {error:#}"));
            TROUBLE.into()
        }
    }
}

type Device = Arc<Mutex<Tun>>;
type Writer = Arc<Mutex<PcapngWriter<File>>>;

fn run(mut args: ServeArgs) -> anyhow::Result<()> {
    args.listen.sort_unstable();
    args.listen.dedup();
    ensure!(args.listen.iter().all(|port| *port > 0), "port 0 cannot be used: choose from 1 to 65535");
    let ready = args.ready_fd.map(take_descriptor).transpose()?;
    let writer = args.write.as_ref().map(|path| {
        let cannot =
            || format!("cannot write the capture to {}: choose another place for -w", path.display());
        let file = File::create(path).with_context(cannot)?;
        anyhow::Ok(Arc::new(Mutex::new(PcapngWriter::new(file, SystemTime::now()))))
    });
    let writer = writer.transpose()?;
    let device = open(&args).map_err(|error| {
        let refused = error.downcast_ref().and_then(DeviceError::errno);
        let cure = match refused {
            Some(libc::EPERM | libc::EACCES) => " (it needs root, or CAP_NET_ADMIN: try sudo)",
            _ => "",
        };
        error.context(format!("cannot make the link{cure}"))
    })?;
    let server = Server::new(args, device, writer.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = LocalSet::new().block_on(&runtime, server.serve(ready));
    drop(runtime);
    if let Some(server) = std::rc::Rc::into_inner(server) {
        server.finish();
    }
    if let Some(writer) = &writer {
        let mut writer = writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writer.flush();
        if let Some(error) = writer.error() {
            bail!(lastack_run::incomplete(writer.unwritten(), &error));
        }
    }
    result
}

/// Creates the interface, and brings up the kernel's side of it.
fn open(args: &ServeArgs) -> anyhow::Result<Device> {
    let fd = lastack_device::tun::create(&args.tun)?;
    let mut netlink = Netlink::open()?;
    let index = nix::net::if_::if_nametoindex(args.tun.as_str())?;
    let settings = LinkSettings { mtu: Some(args.mtu), no_link_local: true, ..LinkSettings::default() };
    netlink.set_up(index, &settings)?;
    for place in &args.addr {
        netlink.add_address(index, place.kernel, place.prefix)?;
        netlink.await_address(place.kernel)?;
    }
    Ok(Arc::new(Mutex::new(Tun::from_fd(fd, args.mtu as usize)?)))
}

/// A descriptor inherited from the parent process.
fn take_descriptor(number: RawFd) -> anyhow::Result<File> {
    let open = std::path::Path::new(&format!("/proc/self/fd/{number}")).exists();
    ensure!(
        number > 2 && open,
        "--ready-fd {number}: no such descriptor is open, or it is a standard stream"
    );
    // SAFETY: it is open, not one of the standard streams, and this program has not opened any yet: it was inherited,
    // and the option transfers its ownership.
    Ok(unsafe { OwnedFd::from_raw_fd(number) }.into())
}
