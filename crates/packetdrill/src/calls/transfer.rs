//! `read`, `write` and related calls.

use super::options::{INQ, SO_ZEROCOPY};
use super::{Fd, Kind, Operation, Reply, StreamState, datagram_number, errno, number};
use crate::arguments::{self, Arguments, Control, Message};
use crate::constants;
use crate::error::Problem;
use crate::lastack::Lastack;
use lastack_engine::{ConnId, TcpState, UdpId};
use std::task::Poll;

const MSG_PEEK: i64 = 0x2;
const MSG_DONTROUTE: i64 = 0x4;
const MSG_TRUNC: i64 = 0x20;
const MSG_DONTWAIT: i64 = 0x40;
const MSG_EOR: i64 = 0x80;
const MSG_WAITALL: i64 = 0x100;
const MSG_ERRQUEUE: i64 = 0x2000;
const MSG_ZEROCOPY: i64 = 0x0400_0000;
const MSG_NOSIGNAL: i64 = 0x4000;
const MSG_MORE: i64 = 0x8000;

/// The max number of bytes moved at once.
const CHUNK: usize = 64 * 1024;

/// A pending read or write.
#[derive(Debug)]
pub struct Transfer {
    fd: i64,
    len: usize,
    flags: i64,
    moved: usize,
    /// Whether the call gives a destination.
    to: bool,
    /// The flags and control messages that `recvmsg` must return.
    expected: Option<(i64, Vec<Control>)>,
}

impl Lastack {
    pub(super) fn receive(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let transfer = transfer(arguments)?;
        if gives_null(arguments) && transfer.len > 0 {
            return Ok(Operation::errno(errno::EFAULT));
        }
        let known = MSG_PEEK | MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL | MSG_TRUNC | MSG_ERRQUEUE;
        refuse_flags(arguments, transfer.flags & !known)?;
        Ok(Operation::Receive(transfer))
    }

    pub(super) fn send(&mut self, arguments: &Arguments<'_>) -> Result<Operation, Problem> {
        let transfer = transfer(arguments)?;
        if gives_null(arguments) && transfer.len > 0 {
            return Ok(Operation::errno(errno::EFAULT));
        }
        let known = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_DONTROUTE | MSG_MORE | MSG_ZEROCOPY | MSG_EOR;
        refuse_flags(arguments, transfer.flags & !known)?;
        Ok(Operation::Send(transfer))
    }

    pub(super) fn attempt_receive(&mut self, transfer: &mut Transfer) -> Option<Reply> {
        let Some(found) = self.fds.get(&transfer.fd) else { return Some(Reply::Errno(errno::EBADF)) };
        let nonblock = found.nonblock || transfer.flags & MSG_DONTWAIT != 0;
        if transfer.flags & MSG_ERRQUEUE != 0 {
            return Some(match self.take_notice(transfer.fd) {
                Some(notice) => transfer.reply(0, MSG_ERRQUEUE, vec![notice]),
                None => Reply::Errno(errno::EAGAIN),
            });
        }
        match &found.kind {
            Kind::Stream(stream) => {
                let Some(id) = stream.connection() else { return Some(Reply::Errno(errno::ENOTCONN)) };
                let shut = stream.no_more_reads;
                self.receive_stream(transfer, id, nonblock, shut)
            }
            // A non-blocking read does not report the end.
            Kind::Datagram(None) if found.shut.reads && !nonblock => Some(transfer.reply(0, 0, Vec::new())),
            Kind::Datagram(None) if nonblock => Some(Reply::Errno(errno::EAGAIN)),
            Kind::Datagram(None) => None,
            Kind::Datagram(Some(id)) => {
                let (id, shut) = (*id, found.shut.reads);
                let received = self.receive_datagram(transfer, id, nonblock);
                received.or_else(|| shut.then(|| transfer.reply(0, 0, Vec::new())))
            }
            Kind::Epoll(_) => Some(Reply::Errno(errno::EINVAL)),
        }
    }

    fn receive_stream(
        &mut self,
        transfer: &mut Transfer,
        id: ConnId,
        nonblock: bool,
        shut: bool,
    ) -> Option<Reply> {
        let Some(mut tcp) = self.stack.tcp(id) else { return Some(Reply::Errno(errno::EBADF)) };
        loop {
            let wanted = transfer.len - transfer.moved;
            let n = match tcp.poll_readable() {
                Poll::Ready(Ok(n)) => n.min(wanted),
                Poll::Ready(Err(_)) if transfer.moved > 0 => 0,
                Poll::Ready(Err(error)) => return Some(Reply::Errno(number(error))),
                Poll::Pending if shut || transfer.len == 0 => 0,
                Poll::Pending if nonblock && transfer.moved == 0 => return Some(Reply::Errno(errno::EAGAIN)),
                Poll::Pending if nonblock => 0,
                Poll::Pending => return None,
            };
            if transfer.flags & MSG_PEEK == 0 {
                tcp.consume(n);
            }
            transfer.moved += n;
            let enough = transfer.flags & MSG_WAITALL == 0 || transfer.moved == transfer.len;
            if n == 0 || enough || transfer.flags & MSG_PEEK != 0 {
                // The FIN counts as a byte.
                let finished =
                    matches!(tcp.state(), TcpState::CloseWait | TcpState::LastAck | TcpState::TimeWait);
                let waits = tcp.info().unread as i64 + i64::from(finished);
                let reported = self.fds.get(&transfer.fd).is_some_and(|fd| fd.options.get(&INQ) == Some(&1));
                let inq = Control { level: INQ.0, kind: INQ.1, data: vec![(String::new(), waits)] };
                return Some(transfer.reply(
                    transfer.moved,
                    0,
                    reported.then_some(inq).into_iter().collect(),
                ));
            }
        }
    }

    fn receive_datagram(&mut self, transfer: &mut Transfer, id: UdpId, nonblock: bool) -> Option<Reply> {
        let Some(mut udp) = self.stack.udp(id) else { return Some(Reply::Errno(errno::EBADF)) };
        let found = if transfer.flags & MSG_PEEK == 0 {
            udp.receive().map(|datagram| datagram.map(|datagram| datagram.payload.len()))
        } else {
            udp.peek().map(|datagram| datagram.map(|datagram| datagram.payload.len()))
        };
        match found {
            Ok(Some(len)) => {
                let cut = len > transfer.len;
                let reported = if transfer.flags & MSG_TRUNC != 0 { len } else { len.min(transfer.len) };
                Some(transfer.reply(reported, if cut { MSG_TRUNC } else { 0 }, Vec::new()))
            }
            Ok(None) if nonblock => Some(Reply::Errno(errno::EAGAIN)),
            Ok(None) => None,
            Err(error) => Some(Reply::Errno(datagram_number(error))),
        }
    }

    pub(super) fn attempt_send(&mut self, transfer: &mut Transfer) -> Option<Reply> {
        let Some(found) = self.fds.get(&transfer.fd) else { return Some(Reply::Errno(errno::EBADF)) };
        let nonblock = found.nonblock || transfer.flags & MSG_DONTWAIT != 0;
        match &found.kind {
            Kind::Stream(stream) => match stream.state {
                StreamState::Fresh | StreamState::Listening(_) => Some(Reply::Errno(errno::EPIPE)),
                StreamState::Connecting(id) | StreamState::Connected(id) => {
                    self.send_stream(transfer, id, nonblock)
                }
            },
            Kind::Datagram(_) => Some(self.send_datagram(transfer)),
            Kind::Epoll(_) => Some(Reply::Errno(errno::EINVAL)),
        }
    }

    fn send_stream(&mut self, transfer: &mut Transfer, id: ConnId, nonblock: bool) -> Option<Reply> {
        let more = transfer.flags & MSG_MORE != 0;
        let reply = self.send_text(transfer, id, nonblock, more)?;
        let zerocopy = self.fds.get(&transfer.fd).is_some_and(|fd| fd.options.get(&SO_ZEROCOPY) == Some(&1));
        if transfer.flags & MSG_ZEROCOPY != 0 && zerocopy && transfer.moved > 0 {
            self.promise_notice(transfer.fd);
        }
        Some(reply)
    }

    fn send_text(
        &mut self,
        transfer: &mut Transfer,
        id: ConnId,
        nonblock: bool,
        more: bool,
    ) -> Option<Reply> {
        let mut tcp = self.stack.tcp(id)?;
        loop {
            let left = transfer.len - transfer.moved;
            let moved = transfer.moved as i64;
            let text = &ZEROS[..left.min(CHUNK)];
            let sent = if more {
                tcp.send_more(text)
            } else if transfer.flags & MSG_EOR != 0 && text.len() == left {
                tcp.send_record(text)
            } else {
                tcp.send(text)
            };
            match sent {
                Poll::Ready(Ok(n)) => transfer.moved += n,
                Poll::Ready(Err(_)) if moved > 0 => return Some(Reply::Value(moved)),
                Poll::Ready(Err(error)) => return Some(Reply::Errno(number(error))),
                Poll::Pending if left == 0 => return Some(Reply::Value(0)),
                Poll::Pending if nonblock && moved > 0 => return Some(Reply::Value(moved)),
                Poll::Pending if nonblock => return Some(Reply::Errno(errno::EAGAIN)),
                Poll::Pending => return None,
            }
            if transfer.moved == transfer.len {
                return Some(Reply::Value(transfer.moved as i64));
            }
        }
    }

    fn send_datagram(&mut self, transfer: &Transfer) -> Reply {
        let to = transfer.to.then(|| self.setup.remote_end());
        let id = match self.bound_datagram(transfer.fd) {
            Ok(id) => id,
            Err(errno) => return Reply::Errno(errno),
        };
        let shut = self.fds.get(&transfer.fd).is_some_and(|found| found.shut.writes);
        let Some(mut udp) = self.stack.udp(id) else { return Reply::Errno(errno::EBADF) };
        if shut && (to.is_some() || udp.remote().is_some()) {
            return Reply::Errno(errno::EPIPE);
        }
        // A datagram cannot hold more, so the excess does not matter.
        if let Err(error) = udp.send(&ZEROS[..transfer.len.min(CHUNK)], to) {
            return Reply::Errno(datagram_number(error));
        }
        Reply::Value(transfer.len as i64)
    }

    /// The pending error of this descriptor, reported once.
    pub(super) fn take_error(&mut self, fd: i64) -> i64 {
        let Some(found) = self.fds.get(&fd) else { return 0 };
        let stream = found.connection().and_then(|id| self.stack.tcp(id)?.take_error()).map(number);
        let Some(&Fd { kind: Kind::Datagram(Some(id)), .. }) = self.fds.get(&fd) else {
            return stream.unwrap_or(0);
        };
        self.stack.udp(id).and_then(|mut udp| udp.take_error()).map_or(0, datagram_number)
    }
}

/// The data of all writes.
static ZEROS: [u8; CHUNK] = [0; CHUNK];

impl Transfer {
    fn reply(&self, moved: usize, flags: i64, control: Vec<Control>) -> Reply {
        match &self.expected {
            Some((expected, _)) if *expected != flags => {
                Reply::Wrong(moved as i64, format!("msg_flags is {flags:#x}, expected {expected:#x}"))
            }
            Some((_, expected)) if *expected != control => {
                Reply::Wrong(moved as i64, format!("msg_control is {control:?}, expected {expected:?}"))
            }
            _ => Reply::Value(moved as i64),
        }
    }
}

/// A null pointer where the buffer should be.
fn gives_null(arguments: &Arguments<'_>) -> bool {
    arguments.at(1).is_ok_and(|buffer| arguments::number(buffer) == Ok(0))
}

fn transfer(arguments: &Arguments<'_>) -> Result<Transfer, Problem> {
    let mut transfer =
        Transfer { fd: arguments.number(0)?, len: 0, flags: 0, moved: 0, to: false, expected: None };
    match arguments.name() {
        "readv" | "writev" => transfer.len = arguments::vector(arguments.at(1)?)?,
        "recvmsg" | "sendmsg" => {
            let message = Message::read(arguments.at(1)?)?;
            transfer.len = message.len;
            transfer.to = message.name;
            transfer.flags = arguments.number(2)?;
            if arguments.name() == "recvmsg" {
                transfer.expected = Some((message.flags, message.control));
            } else if !message.control.is_empty() {
                let what = "sending control messages (msg_control) is not supported";
                return Err(Problem::unsupported(arguments.span(), what));
            }
        }
        "recv" | "send" | "recvfrom" | "sendto" => {
            transfer.len = arguments.size(2)?;
            transfer.flags = arguments.number(3)?;
            transfer.to = arguments.name() == "sendto" && arguments::number(arguments.at(4)?) != Ok(0);
        }
        _ => transfer.len = arguments.size(2)?,
    }
    Ok(transfer)
}

fn refuse_flags(arguments: &Arguments<'_>, unknown: i64) -> Result<(), Problem> {
    if unknown == 0 {
        return Ok(());
    }
    let names = ["MSG_OOB", "MSG_FASTOPEN"];
    let name = names.into_iter().find(|name| constants::value(name).is_some_and(|bit| unknown & bit != 0));
    let what = name.map_or_else(|| format!("the flags {unknown:#x} are"), |name| format!("{name} is"));
    Err(Problem::unsupported(arguments.span(), format!("{what} not supported")))
}
