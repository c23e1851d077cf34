use super::*;
use alloc::vec::Vec;
use proptest::prelude::*;

const MSS: u32 = 100;

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// Ten segments of 100 bytes from 1000 on, a millisecond apart.
fn ten() -> Scoreboard {
    let mut board = Scoreboard::new(SndSeq(1000));
    (0..10).for_each(|i| board.push(100, 1, at(i), false));
    board
}

/// The segment of 100 bytes that ends there arrives, and is the newest.
fn arrival(board: &mut Scoreboard, end: u32) -> Arrived {
    let mut delivered = Delivered::default();
    board.sack(SndSeq(end - 100), SndSeq(end), MSS, &mut delivered);
    delivered.newest.unwrap()
}

#[test]
fn an_ack_inside_a_segment_leaves_the_rest() {
    let (mut board, mut delivered) = (ten(), Delivered::default());
    board.sack(SndSeq(1300), SndSeq(1500), MSS, &mut delivered);
    board.check(SndSeq(1000), SndSeq(2000));
    assert_eq!((delivered.bytes, delivered.segments, board.sacked(), board.pipe()), (200, 2, 200, 800));
    board.acknowledge(SndSeq(1120), MSS, &mut delivered);
    board.check(SndSeq(1120), SndSeq(2000));
    assert_eq!((delivered.bytes, delivered.segments, board.pipe()), (320, 4, 680));
    assert!(delivered.reordering == 500 && delivered.original);
    assert_eq!(delivered.newest.unwrap().at, at(4));
    board.acknowledge(SndSeq(1600), MSS, &mut delivered);
    assert_eq!((board.sacked(), board.is_unmarked(), board.len()), (0, true, 4));
}

/// Two segments of 50 in each piece, and the last piece shorter.
#[test]
fn sacks_count_by_whole_segments() {
    for (block, expected) in [
        ((1999, 2000), 0),
        ((1001, 1050), 0),
        ((1050, 1100), 50),
        ((1049, 1101), 50),
        ((1149, 1352), 200),
        ((1951, 2020), 20),
        ((1950, 2020), 70),
        ((2010, 2020), 0),
    ] {
        let (mut board, mut delivered) = (ten(), Delivered::default());
        board.push(20, 1, at(10), false);
        board.sack(SndSeq(block.0), SndSeq(block.1), 50, &mut delivered);
        board.check(SndSeq(1000), SndSeq(2020));
        assert_eq!((board.sacked(), delivered.bytes), (expected, expected), "{block:?}");
    }
}

#[test]
fn lost_segments_leave_the_pipe_until_retransmitted() {
    let mut board = ten();
    let newest = arrival(&mut board, 2000);
    assert_eq!(
        board.detect_losses(at(12), newest, Duration::from_millis(10)),
        Some(Duration::from_millis(6))
    );
    assert_eq!((board.lost(), board.pipe()), (300, 600));
    let first = board.first_lost().unwrap();
    assert_eq!((first.seq, first.len), (SndSeq(1000), 100), "as it was sent at first");
    board.on_retransmit(first.seq, 150, at(50), None);
    board.check(SndSeq(1000), SndSeq(2000));
    assert_eq!((board.lost(), board.pipe()), (150, 750));
    assert_eq!(board.first_lost().map(|lost| (lost.seq, lost.len)), Some((SndSeq(1150), 50)));
    assert!(board.was_resent_since(at(50)) && !board.was_resent_since(at(51)));
    board.unmark_all_lost();
    board.check(SndSeq(1000), SndSeq(2000));
    assert_eq!((board.lost(), board.count(MSS)), (0, [10, 1, 0, 2]));
}

/// Lost once more: in order of the time when it was sent again, whatever its number.
#[test]
fn a_retransmission_is_judged_by_its_own_time() {
    let mut board = ten();
    board.mark_all_lost(false);
    board.on_retransmit(SndSeq(1000), 100, at(50), None);
    board.on_retransmit(SndSeq(1100), 100, at(60), None);
    board.push(100, 1, at(70), false);
    let newest = arrival(&mut board, 2100);
    let wait = Duration::from_millis(30);
    assert_eq!(board.detect_losses(at(80), newest, wait), Some(Duration::from_millis(10)), "the second");
    assert_eq!((board.lost(), board.first_lost().unwrap().seq), (900, SndSeq(1000)));
    assert_eq!(board.detect_losses(at(90), newest, wait), None);
    assert_eq!(board.lost(), 1000);
    board.check(SndSeq(1000), SndSeq(2100));
}

/// Of one time, too: lower numbers may be sent again after higher ones.
#[test]
fn retransmissions_of_equal_time_are_ordered_by_sequence_number() {
    let mut board = ten();
    board.mark_all_lost(false);
    board.on_retransmit(SndSeq(1500), 200, at(50), None);
    board.on_retransmit(SndSeq(1000), 100, at(50), None);
    let mut delivered = Delivered::default();
    board.sack(SndSeq(1500), SndSeq(1600), MSS, &mut delivered);
    let newest = delivered.newest.unwrap();
    assert_eq!((newest.at, newest.resent), (at(50), true));
    board.detect_losses(at(70), newest, Duration::from_millis(20));
    assert_eq!(
        (board.lost(), board.first_lost().unwrap().seq),
        (800, SndSeq(1000)),
        "1600 was sent after it"
    );
    board.check(SndSeq(1000), SndSeq(2000));
}

/// The first bytes of a burst are missing: those beyond it were sent at the same time.
#[test]
fn a_burst_is_judged_by_its_segments() {
    let mut board = Scoreboard::new(SndSeq(0));
    board.push(1000, 10, at(0), true);
    let mut delivered = Delivered::default();
    board.sack(SndSeq(300), SndSeq(600), MSS, &mut delivered);
    let newest = delivered.newest.unwrap();
    assert_eq!(board.detect_losses(at(50), newest, Duration::from_millis(50)), None);
    assert_eq!((board.lost(), board.sacked(), board.pipe()), (300, 300, 400));
    assert_eq!(board.first_lost().map(|lost| (lost.len, lost.pushed)), Some((300, false)));
    board.check(SndSeq(0), SndSeq(1000));
}

#[test]
fn after_a_timeout_all_but_sacked_data_is_lost() {
    let (mut board, mut delivered) = (ten(), Delivered::default());
    board.sack(SndSeq(1500), SndSeq(1600), MSS, &mut delivered);
    board.mark_all_lost(false);
    assert_eq!((board.lost(), board.sacked(), board.pipe()), (900, 100, 0));
    board.mark_all_lost(true);
    assert_eq!((board.lost(), board.sacked(), board.pipe()), (1000, 0, 0));
    board.check(SndSeq(1000), SndSeq(2000));
}

#[test]
fn new_data_past_the_bound_joins_the_last_segment() {
    let mut board = ten();
    board.max_segments = 10;
    for i in 0..20 {
        board.push(10, 1, at(20 + i), i == 19);
        board.check(SndSeq(1000), SndSeq(2010 + 10 * i as u32));
    }
    assert_eq!((board.len(), board.count(MSS)[0], board.last().unwrap().len), (10, 30, 300));
    let mut delivered = Delivered::default();
    board.acknowledge(SndSeq(1950), MSS, &mut delivered);
    board.check(SndSeq(1950), SndSeq(2200));
    let newest = delivered.newest.unwrap();
    assert_eq!((newest.at, newest.timed), (at(39), false), "the time is that of the last, and no sample");
    board.acknowledge(SndSeq(2200), MSS, &mut delivered);
    assert!(board.is_empty() && board.segments.is_empty());
}

/// Past the bound of ranges a block is noted that extends one; one that stands alone is not. What is sent again
/// counts as part of what was sent again before it.
#[test]
fn ranges_past_the_bound_are_merged() {
    let mut board = Scoreboard::new(SndSeq(0));
    board.max_ranges = 8;
    (0..100).for_each(|i| board.push(100, 1, at(i), false));
    let mut delivered = Delivered::default();
    for i in (1..80).step_by(2) {
        board.sack(SndSeq(i * 100), SndSeq(i * 100 + 100), MSS, &mut delivered);
        board.check(SndSeq(0), SndSeq(10_000));
    }
    assert_eq!((board.sacked(), board.len()), (800, 108));
    board.sack(SndSeq(200), SndSeq(300), MSS, &mut delivered);
    board.sack(SndSeq(400), SndSeq(500), MSS, &mut delivered);
    assert_eq!((board.sacked(), board.len()), (1000, 106), "these join three");
    let newest = arrival(&mut board, 10_000);
    assert_eq!(board.detect_losses(at(200), newest, Duration::from_millis(10)), None);
    assert_eq!((board.pipe(), board.sacked()), (0, 1100), "there was room for the newest");
    let mut ms = 200;
    while let Some(lost) = board.first_lost() {
        board.on_retransmit(lost.seq, lost.len, at(ms), None);
        board.check(SndSeq(0), SndSeq(10_000));
        assert!(board.len() <= 100 + 2 * 8 + 2, "{}", board.len());
        ms += 1;
    }
    assert_eq!((board.lost(), board.pipe()), (0, 8900));
    board.acknowledge(SndSeq(10_000), MSS, &mut delivered);
    assert_eq!((board.len(), board.is_unmarked()), (0, true));
}

#[test]
fn a_scoreboard_is_rebuilt_from_the_send_variables() {
    let mut board = ten();
    board.rebuild(SndSeq(1234), SndSeq(2100), at(60));
    board.check(SndSeq(1234), SndSeq(2100));
    assert_eq!((board.lost(), board.pipe()), (866, 0));
    board.rebuild(SndSeq(2100), SndSeq(2100), at(60));
    board.check(SndSeq(2100), SndSeq(2100));
}

/// Positions go on where numbers wrap.
#[test]
fn positions_do_not_wrap() {
    let mut board = Scoreboard::new(SndSeq(u32::MAX - 1000));
    let start = board.position(SndSeq(u32::MAX - 1000));
    assert!(board.position(SndSeq(u32::MAX - 5000)) < start);
    for i in 0..20u64 {
        let nxt = board.seq(board.nxt());
        board.push(1 << 29, 1, at(i), false);
        board.acknowledge(nxt + (1 << 29), MSS, &mut Delivered::default());
        board.check(nxt + (1 << 29), nxt + (1 << 29));
    }
    assert_eq!(board.una() - start, 20 << 29);
}

/// The same, byte by byte.
#[derive(Debug)]
struct Model {
    una: u32,
    bytes: Vec<Octet>,
}

/// Its state, and when it was sent again last and first.
type Octet = (SegmentState, Option<Instant>, Instant);

impl Model {
    fn count(&self, state: SegmentState) -> u32 {
        self.bytes.iter().filter(|byte| byte.0 == state).count() as u32
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(u32),
    Ack(u32),
    Sack(u32, u32),
    Resend(u32),
    Detect,
    Front(u32),
    Timeout(bool),
    Undo,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u32..40).prop_map(Step::Push),
        3 => (0u32..60).prop_map(Step::Ack),
        6 => (0u32..200, 1u32..50).prop_map(|(start, len)| Step::Sack(start, len)),
        4 => (1u32..20).prop_map(Step::Resend),
        4 => Just(Step::Detect),
        1 => (1u32..20).prop_map(Step::Front),
        1 => any::<bool>().prop_map(Step::Timeout),
        1 => Just(Step::Undo),
    ]
}

const BASE: SndSeq = SndSeq(0xffff_ff00);

impl Model {
    /// The bytes of this range of offsets.
    fn range(&mut self, from: u32, to: u32) -> &mut [Octet] {
        &mut self.bytes[(from - self.una) as usize..(to - self.una) as usize]
    }

    fn end(&self) -> u32 {
        self.una + self.bytes.len() as u32
    }

    fn acknowledge(&mut self, board: &mut Scoreboard, len: u32) -> Delivered {
        let mut delivered = Delivered::default();
        let len = len.min(self.bytes.len() as u32);
        board.acknowledge(BASE + (self.una + len), 1, &mut delivered);
        let gone = self.bytes.drain(..len as usize);
        assert_eq!(delivered.bytes, gone.filter(|byte| byte.0 != SegmentState::Sacked).count() as u32);
        self.una += len;
        delivered
    }

    fn sack(&mut self, board: &mut Scoreboard, start: u32, len: u32) -> Delivered {
        let mut delivered = Delivered::default();
        let (from, to) = ((self.una + start).min(self.end()), (self.una + start + len).min(self.end()));
        if from < to {
            board.sack(BASE + from, BASE + to, 1, &mut delivered);
        }
        let mut new = 0;
        for byte in self.range(from, to) {
            new += u32::from(byte.0 != SegmentState::Sacked);
            *byte = (SegmentState::Sacked, None, byte.2);
        }
        assert_eq!(delivered.bytes, new);
        delivered
    }

    fn resend(&mut self, board: &mut Scoreboard, len: u32, now: Instant) {
        let first = self.bytes.iter().position(|byte| byte.0 == SegmentState::Lost);
        let lost = board.first_lost();
        assert_eq!(lost.map(|lost| lost.seq - BASE), first.map(|i| self.una + i as u32));
        let Some(lost) = lost else { return };
        let len = len.min(lost.len);
        board.on_retransmit(lost.seq, len, now, None);
        for byte in self.range(lost.seq - BASE, lost.seq - BASE + len) {
            assert_eq!(byte.0, SegmentState::Lost, "one state from end to end");
            *byte = (SegmentState::InFlight, Some(now), byte.2);
        }
    }

    fn detect(&mut self, board: &mut Scoreboard, now: Instant, newest: (Instant, u32)) {
        let wait = Duration::from_millis(5);
        let end = board.position(BASE + newest.1);
        board.detect_losses(now, Arrived { at: newest.0, end, resent: false, timed: false }, wait);
        let una = self.una;
        for (i, byte) in self.bytes.iter_mut().enumerate() {
            let at = byte.1.unwrap_or(byte.2);
            let before = (at, una + i as u32 + 1) <= newest;
            if byte.0 == SegmentState::InFlight && before && now - at >= wait {
                byte.0 = SegmentState::Lost;
            }
        }
    }

    /// Does the same to both; what has arrived of it.
    fn apply(
        &mut self,
        board: &mut Scoreboard,
        newest: Option<(Instant, u32)>,
        now: Instant,
        step: &Step,
    ) -> Delivered {
        use SegmentState::{InFlight, Lost, Sacked};
        match *step {
            Step::Push(len) => {
                board.push(len, 1, now, false);
                self.bytes.extend((0..len).map(|_| (InFlight, None, now)));
            }
            Step::Ack(len) => return self.acknowledge(board, len),
            Step::Sack(start, len) => return self.sack(board, start, len),
            Step::Resend(len) => self.resend(board, len, now),
            Step::Detect => newest.into_iter().for_each(|newest| self.detect(board, now, newest)),
            Step::Front(len) => {
                let lost = board.lost();
                board.mark_front_lost(len);
                for byte in &mut self.bytes[..(board.lost() - lost) as usize] {
                    assert_eq!(byte.0, InFlight);
                    byte.0 = Lost;
                }
            }
            Step::Timeout(forget) => {
                board.mark_all_lost(forget);
                let lost = self.bytes.iter_mut().filter(|byte| byte.0 != Sacked || forget);
                lost.for_each(|byte| byte.0 = Lost);
            }
            Step::Undo => {
                board.unmark_all_lost();
                let lost = self.bytes.iter_mut().filter(|byte| byte.0 == Lost);
                lost.for_each(|byte| byte.0 = InFlight);
            }
        }
        Delivered::default()
    }
}

proptest! {
    /// Whatever happens in whatever order: the scoreboard says of each byte what a list of bytes says.
    #[test]
    fn a_scoreboard_is_a_list_of_bytes(steps in prop::collection::vec((step(), 0u64..4), 1..120)) {
        use SegmentState::{Lost, Sacked};
        let mut board = Scoreboard::new(BASE);
        let mut model = Model { una: 0, bytes: Vec::new() };
        let (mut now, mut newest) = (at(10), None);
        for (step, ms) in &steps {
            now += Duration::from_millis(*ms);
            if let Some(arrived) = model.apply(&mut board, newest, now, step).newest {
                let arrived = (arrived.at, arrived.end.wrapping_sub(board.position(BASE)) as u32);
                newest = newest.max(Some(arrived));
            }
            let una = BASE + model.una;
            board.check(una, una + model.bytes.len() as u32);
            let counted = (board.sacked(), board.lost());
            prop_assert_eq!(counted, (model.count(Sacked), model.count(Lost)), "after {:?}", step);
        }
    }
}

/// A flight of `n` segments, and what `work` costs of it in steps for each of `acks` segments from the peer.
fn steps_of(n: u32, acks: u64, work: impl FnOnce(&mut Scoreboard)) -> u64 {
    let mut board = Scoreboard::new(SndSeq(0));
    board.max_segments = usize::MAX;
    (0..n).for_each(|i| board.push(100, 1, at(u64::from(i) / 100), false));
    let steps = steps::of(|| work(&mut board));
    steps / acks
}

/// Steps that one segment of a peer may cost, whatever is in flight.
const MAX_STEPS: u64 = 100;

#[test]
fn steps_of_hostile_acks_do_not_grow_with_the_flight() {
    let mut delivered = Delivered::default();
    for n in [1000, 10_000, 47_000] {
        let end = n * 100;
        let detect = |board: &mut Scoreboard, ms: u64| {
            let newest = Arrived { at: at(1000), end: board.nxt(), resent: false, timed: true };
            board.detect_losses(at(1000 + ms), newest, Duration::from_millis(100));
        };
        let wide = steps_of(n, 4000, |board| {
            for i in 0..4000 {
                for (from, to) in [(100, end), (100, end - 100), (200, end), (300, end - 100 * (i % 3))] {
                    board.sack(SndSeq(from), SndSeq(to), MSS, &mut delivered);
                }
                detect(board, 0);
            }
        });
        let holes = steps_of(n, u64::from(n / 8), |board| {
            for i in 0..n / 8 {
                for k in 0..4 {
                    let start = (i * 8 + k * 2 + 1) * 100;
                    board.sack(SndSeq(start), SndSeq(start + 100), MSS, &mut delivered);
                }
                detect(board, u64::from(i));
                if let Some(lost) = board.first_lost() {
                    board.on_retransmit(lost.seq, lost.len, at(1000 + u64::from(i)), None);
                }
            }
        });
        let partial = steps_of(n, u64::from(n * 4), |board| {
            (1..n * 4).for_each(|i| board.acknowledge(SndSeq(i * 25), MSS, &mut delivered));
        });
        // Half is SACKed in single segments, the rest is lost; then each ACK undoes that and shows it again.
        let undone = steps_of(n, u64::from(4000 + n / 2), |board| {
            for i in (1..n).step_by(2) {
                board.sack(SndSeq(i * 100), SndSeq(i * 100 + 100), MSS, &mut delivered);
            }
            for i in 0..4000 {
                detect(board, 500);
                board.unmark_all_lost();
                board.acknowledge(SndSeq(i + 1), MSS, &mut delivered);
            }
        });
        let steps = [wide, holes, partial, undone];
        assert!(steps.into_iter().all(|steps| steps <= MAX_STEPS), "{n} segments in flight: {steps:?}");
    }
}
