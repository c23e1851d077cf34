//! The descriptors of this process, shared by all flows. If they run out, the flow that has been idle for longest is
//! closed; a connection for which no room can be made waits, its SYN unanswered, until another one ends or is idle.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use slotmap::{DefaultKey, SlotMap};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::task::Waiting;

/// A connection that has been idle for less than this is not closed to make room for another.
const BUSY: Duration = Duration::from_secs(1);
/// Descriptors that no flow gets: for name servers, files, and sockets that are being closed. A quarter of all, within
/// these bounds.
const MIN_RESERVE: usize = 8;
const MAX_RESERVE: usize = 1088;
/// The part of the flows whose idle times are sorted at once, to amortize the cost of the search.
const SORTED: usize = 64;

/// The descriptors for flows.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    reserve: usize,
    /// The limit of the process, for messages.
    of_process: u64,
    used: Cell<usize>,
    /// The flows that have descriptors. One that is evicted has none any more.
    flows: RefCell<SlotMap<DefaultKey, Flow>>,
    /// Flows in the order in which they are closed, as of the last search.
    victims: RefCell<VecDeque<DefaultKey>>,
    freed: Notify,
    evictions: Cell<u64>,
}

/// The budget's record of a flow.
struct Flow {
    descriptors: u32,
    /// `None`: it cannot be closed yet.
    watched: Option<Rc<dyn Idle>>,
}

/// What can be idle.
pub trait Idle {
    /// For how long it has been.
    fn idle(&self) -> Duration;

    /// The task that closes it when it is evicted.
    fn task(&self) -> &Waiting;
}

/// What is idle for as long as a function says.
pub struct Watched<F> {
    idle: F,
    task: Waiting,
}

impl<F: Fn() -> Duration> Watched<F> {
    /// By this function.
    pub fn new(idle: F) -> Rc<Self> {
        Rc::new(Self { idle, task: Waiting::default() })
    }
}

impl<F: Fn() -> Duration> Idle for Watched<F> {
    fn idle(&self) -> Duration {
        (self.idle)()
    }

    fn task(&self) -> &Waiting {
        &self.task
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("descriptors", &self.descriptors).finish_non_exhaustive()
    }
}

/// The descriptors of one flow, returned when it is dropped.
#[derive(Debug)]
pub struct Slot {
    budget: Rc<Budget>,
    id: DefaultKey,
}

impl Budget {
    /// What the limit of this process leaves, now that everything else is open.
    pub fn of_process() -> Rc<Self> {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let open = std::fs::read_dir("/proc/self/fd").map_or(64, Iterator::count);
        let left = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(open);
        Self::new(left, limit)
    }

    fn new(left: usize, of_process: u64) -> Rc<Self> {
        let reserve = (left / 4).clamp(MIN_RESERVE, MAX_RESERVE);
        Rc::new(Self {
            limit: left.saturating_sub(reserve).max(1),
            reserve,
            of_process,
            used: Cell::default(),
            flows: RefCell::default(),
            victims: RefCell::default(),
            freed: Notify::new(),
            evictions: Cell::default(),
        })
    }

    /// Max descriptors of all flows.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Descriptors beside those of flows.
    pub fn reserve(&self) -> usize {
        self.reserve
    }

    /// Whether all are in use.
    pub fn is_full(&self) -> bool {
        self.used.get() >= self.limit
    }

    /// The limit of the process (`ulimit -n`).
    pub fn of_process_limit(&self) -> u64 {
        self.of_process
    }

    /// Flows that were closed to make room.
    pub fn evictions(&self) -> u64 {
        self.evictions.get()
    }

    /// Takes descriptors, once there are enough of them: closes the flow that has been idle for longest, or waits.
    pub async fn acquire(self: &Rc<Self>, descriptors: usize) -> Slot {
        loop {
            if let Some(slot) = self.try_acquire(descriptors) {
                return slot;
            }
            self.pause().await;
        }
    }

    /// Waits until a flow has ended, and no longer than until another one may have become idle.
    pub async fn pause(&self) {
        tokio::select! {
            () = self.freed.notified() => {}
            () = sleep(BUSY / 4) => {}
        }
    }

    /// Takes descriptors if there are enough of them, or if idle flows can be closed.
    pub fn try_acquire(self: &Rc<Self>, descriptors: usize) -> Option<Slot> {
        // A flow that needs more than there are at all may have them all.
        let descriptors = descriptors.min(self.limit);
        while self.used.get() + descriptors > self.limit {
            if !self.evict() {
                return None;
            }
        }
        self.used.set(self.used.get() + descriptors);
        let flow = Flow { descriptors: descriptors as u32, watched: None };
        let id = self.flows.borrow_mut().insert(flow);
        Some(Slot { budget: self.clone(), id })
    }

    /// Closes the flow that has been idle for longest. Its descriptors count as free at once: the reserve covers the
    /// time until its task has closed them. `false`: none is idle.
    pub fn evict(&self) -> bool {
        loop {
            let next = self.victims.borrow_mut().pop_front();
            let Some(id) = next else {
                if !self.search() {
                    return false;
                }
                continue;
            };
            let watched = self.flows.borrow().get(id).and_then(|flow| flow.watched.clone());
            if let Some(watched) = watched.filter(|watched| watched.idle() >= BUSY) {
                self.remove(id);
                watched.task().wake();
                self.evictions.set(self.evictions.get() + 1);
                return true;
            }
        }
    }

    /// Sorts the flows that have been idle for longest. `false`: none is idle.
    fn search(&self) -> bool {
        let flows = self.flows.borrow();
        let idle = |(id, flow): (DefaultKey, &Flow)| {
            let idle = flow.watched.as_ref()?.idle();
            (idle >= BUSY).then_some((std::cmp::Reverse(idle), id))
        };
        let mut found: Vec<_> = flows.iter().filter_map(idle).collect();
        let count = found.len().div_ceil(SORTED);
        if count < found.len() {
            found.select_nth_unstable(count);
            found.truncate(count);
        }
        found.sort_unstable();
        let mut victims = self.victims.borrow_mut();
        victims.extend(found.into_iter().map(|(_, id)| id));
        !victims.is_empty()
    }

    fn remove(&self, id: DefaultKey) {
        let removed = self.flows.borrow_mut().remove(id);
        // What is watched is dropped after the borrow has ended.
        if let Some(flow) = removed {
            self.used.set(self.used.get() - flow.descriptors as usize);
            self.freed.notify_one();
        }
    }

    fn poll_evicted(&self, id: DefaultKey, cx: &mut Context<'_>) -> Poll<()> {
        let flows = self.flows.borrow();
        let Some(flow) = flows.get(id) else { return Poll::Ready(()) };
        if let Some(watched) = &flow.watched {
            watched.task().register(cx.waker());
        }
        Poll::Pending
    }
}

impl Slot {
    /// From now on the flow may be closed, by how long it has been idle.
    pub fn watch(&self, watched: Rc<dyn Idle>) {
        if let Some(flow) = self.budget.flows.borrow_mut().get_mut(self.id) {
            flow.watched = Some(watched);
        }
    }

    /// Waits until the flow, which is watched, has to be closed; its task waits. The future does not hold the slot.
    pub fn evicted(&self) -> impl Future<Output = ()> + use<> {
        let (budget, id) = (self.budget.clone(), self.id);
        poll_fn(move |cx| budget.poll_evicted(id, cx))
    }

    /// Whether it has to be closed. [`Idle::task`] is woken then.
    pub fn is_evicted(&self) -> bool {
        !self.budget.flows.borrow().contains_key(self.id)
    }

    /// Why, for the report: how long it had been `idle`, and the limit.
    pub fn reason(&self, idle: Duration) -> String {
        let idle = idle.as_secs();
        let limit = self.budget.of_process;
        format!(
            "closed after {idle} s without data, to stay within the limit of {limit} descriptors (ulimit -n)"
        )
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.budget.remove(self.id);
    }
}

/// The hint for a flow that was closed or refused for lack of descriptors.
pub const DESCRIPTORS_HINT: &str =
    "raise the limit of descriptors before the run: ulimit -n 4096 (a hard limit: /etc/security/limits.conf)";

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A slot whose flow has been idle for this number of seconds.
    fn idle(budget: &Rc<Budget>, seconds: u64) -> Slot {
        let slot = budget.try_acquire(1).unwrap();
        slot.watch(Watched::new(move || Duration::from_secs(seconds)));
        slot
    }

    #[test]
    fn the_flow_that_is_idle_for_longest_goes_first() {
        let budget = Budget::new(12, 20);
        assert_eq!((budget.limit(), budget.reserve()), (4, 8));
        let flows = [idle(&budget, 5), idle(&budget, 9), idle(&budget, 7), idle(&budget, 0)];
        let evicted = || flows.each_ref().map(Slot::is_evicted);
        let second = budget.try_acquire(1).unwrap();
        assert_eq!(evicted(), [false, true, false, false]);
        assert!(flows[1].reason(Duration::from_secs(9)).contains("9 s without data, to stay"));
        assert!(flows[1].reason(Duration::ZERO).contains("20 descriptors"));
        let third = budget.try_acquire(2).unwrap();
        assert_eq!(evicted(), [true, true, true, false]);
        // Busy flows stay, as do those that cannot be closed yet.
        assert!(budget.try_acquire(1).is_none());
        drop(second);
        assert!(budget.try_acquire(1).is_some());
        drop((third, flows));
        assert_eq!((budget.used.get(), budget.flows.borrow().len(), budget.evictions()), (0, 0, 3));
    }

    #[test]
    fn flows_busy_since_the_search_stay() {
        let budget = Budget::new(12, 20);
        let last = Rc::new(Cell::new(Duration::from_secs(9)));
        let flows: Vec<Slot> = (0..4).map(|_| idle(&budget, 5)).collect();
        let of_flow = last.clone();
        flows[0].watch(Watched::new(move || of_flow.get()));
        assert!(budget.search());
        last.set(Duration::ZERO);
        assert!(budget.evict() && !flows[0].is_evicted());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_waits_until_another_one_ends_or_is_idle() {
        let budget = Budget::new(9, 20);
        assert_eq!(budget.limit(), 1);
        let busy = budget.acquire(1).await;
        let begun = tokio::time::Instant::now();
        busy.watch(Watched::new(move || begun.elapsed()));
        let next = budget.acquire(1).await;
        assert!(busy.is_evicted() && begun.elapsed() >= BUSY && begun.elapsed() < BUSY * 2);
        // A flow that needs more than there are gets them all.
        let all = tokio::join!(budget.acquire(6), async { drop(next) }).0;
        assert_eq!(budget.flows.borrow()[all.id].descriptors, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_of_an_evicted_flow_is_woken() {
        let budget = Budget::new(9, 20);
        let slot = idle(&budget, 9);
        let (evicted, second) = (slot.evicted(), async {
            tokio::task::yield_now().await;
            budget.try_acquire(1)
        });
        let second = tokio::join!(evicted, second).1;
        assert!(second.is_some() && slot.is_evicted());
        drop(slot);
        assert_eq!(budget.used.get(), 1, "its descriptors were returned when it was evicted");
    }

    #[test]
    fn a_flow_takes_little_memory() {
        assert_eq!((size_of::<Flow>(), size_of::<Slot>()), (24, 16));
    }

    #[test]
    fn making_room_among_many_takes_time_in_proportion() {
        let budget = Budget::new(100_000, 100_000);
        let count = budget.limit();
        let flows: Vec<Slot> = (0..count).map(|i| idle(&budget, 10 + (i % 977) as u64)).collect();
        let begun = Instant::now();
        let more: Vec<Slot> = (0..1000).map(|_| budget.try_acquire(1).unwrap()).collect();
        assert_eq!(flows.iter().filter(|flow| flow.is_evicted()).count(), 1000);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        drop(more);
    }
}
