//! What a report says of a connection beside its end, kept small while the connection lives.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use crate::report::{Context, Process};

/// Max bytes of the name of a process that are kept in place: what the kernel keeps (`TASK_COMM_LEN`).
const COMM: usize = 15;

/// The context of a connection that lives.
#[derive(Debug, Default)]
pub struct Attributes(RefCell<State>);

#[derive(Debug)]
enum State {
    /// It changes.
    Whole(Box<Context>),
    Packed(Packed),
}

/// What most connections have, and the rest.
#[derive(Debug, Default)]
struct Packed {
    name: Option<Rc<str>>,
    process: Option<(u32, Comm)>,
    connect: Option<Nanos>,
    rest: Option<Box<Context>>,
}

/// A duration in nanoseconds, less than those of 584 years.
#[derive(Clone, Copy, Debug)]
struct Nanos(NonZeroU64);

impl Nanos {
    fn new(duration: Duration) -> Self {
        let more = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        Self(NonZeroU64::new(more).unwrap_or(NonZeroU64::MAX))
    }

    fn get(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }
}

/// The name of a process, filled up with zeros.
type Comm = [u8; COMM];

impl Default for State {
    fn default() -> Self {
        Self::Packed(Packed::default())
    }
}

impl Attributes {
    /// The context.
    pub fn get(&self) -> Context {
        match &*self.0.borrow() {
            State::Whole(context) => (**context).clone(),
            State::Packed(packed) => packed.unpack(),
        }
    }

    /// Changes the context.
    pub fn change<T>(&self, change: impl FnOnce(&mut Context) -> T) -> T {
        let mut state = self.0.borrow_mut();
        if let State::Packed(packed) = &*state {
            *state = State::Whole(Box::new(packed.unpack()));
        }
        match &mut *state {
            State::Whole(context) => change(context),
            State::Packed(_) => unreachable!("it was unpacked"),
        }
    }

    /// Packs the context, as it will not change for a while. `name`: the name that the program has resolved, which
    /// connections share.
    pub fn pack(&self, name: Option<Rc<str>>) {
        let mut state = self.0.borrow_mut();
        if let State::Whole(context) = &mut *state {
            *state = State::Packed(Packed::new(std::mem::take(context), name));
        }
    }
}

impl Packed {
    fn new(mut context: Box<Context>, name: Option<Rc<str>>) -> Self {
        let own = context.name.take();
        let name = match (own, name) {
            (Some(own), Some(shared)) if own == *shared => Some(shared),
            (own, _) => own.map(Rc::from),
        };
        let process = context.process.take_if(|process| process.comm.len() <= COMM).map(|process| {
            let mut comm = Comm::default();
            comm[..process.comm.len()].copy_from_slice(process.comm.as_bytes());
            (process.pid, comm)
        });
        let connect = context.connect.take().map(Nanos::new);
        let rest = (*context != Context::default()).then_some(context);
        Self { name, process, connect, rest }
    }

    fn unpack(&self) -> Context {
        let mut context = self.rest.as_deref().cloned().unwrap_or_default();
        context.name = self.name.as_deref().map(str::to_owned);
        context.connect = self.connect.map(Nanos::get);
        if let Some((pid, comm)) = self.process {
            let end = comm.iter().position(|byte| *byte == 0).unwrap_or(COMM);
            let comm = String::from_utf8_lossy(&comm[..end]).into_owned();
            context.process = Some(Process { pid, comm });
        }
        context
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_context_is_the_same() {
        let process = |comm: &str| Some(Process { pid: 7, comm: comm.to_owned() });
        let usual = Context {
            name: Some("a.test".to_owned()),
            process: process("curl"),
            connect: Some(Duration::from_millis(3)),
            ..Context::default()
        };
        let rare = Context {
            inward: true,
            process: process("a name longer than the kernel keeps"),
            via: Some("socks5://proxy".to_owned()),
            injected: vec!["--inject".to_owned()],
            ..usual.clone()
        };
        let longest = Context {
            process: process("fifteen-byte-é"),
            connect: Some(Duration::ZERO),
            ..Context::default()
        };
        for context in [Context::default(), usual, rare, longest] {
            for name in [None, Some("a.test"), Some("another.test")] {
                let attributes = Attributes::default();
                attributes.change(|whole| *whole = context.clone());
                attributes.pack(name.map(Rc::from));
                assert_eq!(attributes.get(), context);
                attributes.change(|whole| whole.proxy_failed = true);
                assert_eq!(attributes.get(), Context { proxy_failed: true, ..context.clone() });
            }
        }
    }

    #[test]
    fn names_are_shared() {
        let (attributes, name) = (Attributes::default(), Rc::<str>::from("a.test"));
        attributes.change(|context| context.name = Some("a.test".to_owned()));
        attributes.pack(Some(name.clone()));
        assert_eq!(Rc::strong_count(&name), 2);
        assert!(size_of::<Attributes>() <= 64, "{}", size_of::<Attributes>());
    }
}
