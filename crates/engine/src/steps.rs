//! A counter of the work that a peer causes: tests show that N segments cost O(N) steps.
//! A step is one turn of a loop over state kept for a peer, or one lookup in an ordered map.

#[cfg(test)]
extern crate std;

#[cfg(test)]
std::thread_local! {
    static STEPS: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}

/// Counts a step; no cost outside of tests.
#[inline(always)]
pub(crate) fn count() {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

/// Counts the elements that an insertion or a removal moves in memory, 64 a step, and the search for the place.
#[inline(always)]
pub(crate) fn count_moved(elements: usize) {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + 1 + elements as u64 / 64));
    #[cfg(not(test))]
    let _ = elements;
}

/// The number of steps of `work` on this thread.
#[cfg(test)]
pub(crate) fn of(work: impl FnOnce()) -> u64 {
    let before = STEPS.with(core::cell::Cell::get);
    work();
    STEPS.with(core::cell::Cell::get) - before
}
