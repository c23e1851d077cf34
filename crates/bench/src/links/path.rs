//! The emulated path: two TUN devices, and `Impair` between them.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Result;
use lastack::device::{Tun, tun};
use lastack_engine::{Instant as StackInstant, Transmit};
use lastack_link::{Impair, Link, Plan, complete_checksum};
use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;

use super::Cell;

/// Bits a second of the bottleneck.
const RATE: u64 = 100_000_000;
pub const MTU: usize = 1500;

/// One end of a path: a TUN device.
pub struct End {
    tun: Tun,
    /// To wait for it.
    descriptor: OwnedFd,
}

impl End {
    /// The device of this name in this thread's network namespace, which is still to be configured.
    pub fn open(name: &str) -> Result<Self> {
        let fd = tun::create(name)?;
        let descriptor = fd.as_fd().try_clone_to_owned()?;
        Ok(Self { tun: Tun::from_fd(fd, MTU)?, descriptor })
    }
}

fn plan(cell: Cell) -> Plan {
    let delay = Duration::from_millis(cell.delay);
    Plan {
        seed: cell.seed,
        delay,
        loss: cell.loss,
        reorder: cell.reorder,
        reorder_by: delay,
        rate: Some(RATE / 8),
        queue: (RATE / 8 / 20) as usize,
        ..Plan::default()
    }
}

/// Carries packets between the two ends until the process ends.
pub fn carry(near: End, far: End, cell: Cell) -> Result<()> {
    let start = Instant::now();
    let (near_fd, far_fd) = (near.descriptor, far.descriptor);
    let mut near = Impair::new(near.tun, plan(cell));
    let mut far = far.tun;
    let mut packet = Vec::new();
    let transmit = Transmit::default();
    loop {
        let now = StackInstant::since_start(start.elapsed());
        // Received packets may carry the sum of the pseudo header only.
        while near.recv(now, &mut packet).is_some() {
            complete_checksum(&mut packet);
            far.send(now, &packet, &transmit);
        }
        while far.recv(now, &mut packet).is_some() {
            segment(&packet, |piece| near.send(now, piece, &transmit));
        }
        near.flush(now);
        let due = near.poll_timeout().map(|due| due.elapsed().saturating_sub(start.elapsed()));
        let mut fds =
            [PollFd::new(near_fd.as_fd(), PollFlags::POLLIN), PollFd::new(far_fd.as_fd(), PollFlags::POLLIN)];
        nix::poll::ppoll(&mut fds, due.map(TimeSpec::from_duration), None)?;
    }
}

/// The packets of a received super-segment, with complete checksums.
fn segment(packet: &[u8], mut each: impl FnMut(&[u8])) {
    let mut piece = Vec::new();
    let mut cut = lastack_link::Cut::to_mtu(packet, MTU);
    while cut.next(&mut piece).is_some() {
        complete_checksum(&mut piece);
        each(&piece);
    }
}
