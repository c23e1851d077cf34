//! TIME-WAIT: Q1 to Q14.

use super::Row;

pub const SEGMENTS: &[Row] = &[
    ("the same FIN in TIME-WAIT", "Q1", "time-wait; < F. 1 ack 2"),
    ("the same FIN twice in TIME-WAIT", "Q1", "time-wait; < F. 1 ack 2; < F. 1 ack 2"),
    ("ACK in TIME-WAIT", "Q2", "time-wait; < . 2 ack 2; < F. 1 ack 2"),
    ("old ACK in TIME-WAIT", "Q2", "time-wait; < . 2 ack 1; < F. 1 ack 2"),
    ("bogus ACK in TIME-WAIT", "Q2", "time-wait; < . 2 ack 100000; < F. 1 ack 2"),
    ("data in TIME-WAIT", "Q3", "time-wait; < P. 2+3 ack 2"),
    ("data in TIME-WAIT twice", "Q3", "time-wait; < P. 2+3 ack 2; < P. 2+3 ack 2"),
    ("data with a bogus ACK in TIME-WAIT", "Q3", "time-wait; < P. 2+3 ack 100000"),
    ("old data in TIME-WAIT", "Q3", "time-wait; < P. -5+3 ack 2"),
    ("ACK outside the window in TIME-WAIT", "Q3", "time-wait; < . -5000 ack 2"),
    ("no flags in TIME-WAIT", "Q4", "time-wait; < - 2; < F. 1 ack 2"),
    ("data without flags in TIME-WAIT", "Q4", "time-wait; < - 2+5; < F. 1 ack 2"),
    ("FIN without ACK in TIME-WAIT", "Q14", "time-wait; < F 1; < F. 1 ack 2"),
    ("SYN, ACK in TIME-WAIT", "Q12", "time-wait; < S. 102 ack 2"),
    ("RST in TIME-WAIT", "Q5 R17", "time-wait; < R 1000; < F. 1 ack 2"),
    ("close in TIME-WAIT", "Q1", "time-wait; close; < F. 1 ack 2"),
    ("data with an old TSval in TIME-WAIT", "Q3 S55", "time-wait ts; < P. 2+3 ack 2 ts=-4000"),
    ("FIN with an old TSval in TIME-WAIT", "Q1 S55", "time-wait ts; < F. 1 ack 2 ts=-4000"),
    ("ACK with an old TSval in TIME-WAIT", "Q2 S55", "time-wait ts; < . 2 ack 2 ts=-4000"),
    ("the same FIN after close and TIME-WAIT", "Q1", "orphan time-wait; < F. 1 ack 2"),
];

pub const REOPEN: &[Row] = &[
    ("SYN with a later SEQ in TIME-WAIT", "Q6 H12", "time-wait; < S 102 mss; < . 103 ack 1; accept; error"),
    ("SYN at RCV.NXT in TIME-WAIT", "Q6 Q10", "time-wait; < S 2 mss"),
    ("SYN with an older SEQ in TIME-WAIT", "Q10", "time-wait; < S -98 mss; < S -98 mss"),
    ("SYN with an older SEQ and a newer TSval", "Q7", "time-wait ts; < S -98 mss ts=100"),
    ("SYN with a later SEQ and an older TSval", "Q8", "time-wait ts; < S 102 mss ts=-1000"),
    ("SYN with a later SEQ and a newer TSval", "Q6 Q7", "time-wait ts; < S 102 mss ts=100"),
    ("SYN with a later SEQ and the same TSval", "Q6", "time-wait ts; < S 102 mss ts=0"),
    ("SYN with an older SEQ and the same TSval", "Q10", "time-wait ts; < S -98 mss ts=0"),
    ("SYN with a later SEQ without timestamps", "Q9", "time-wait ts; < S 102 mss"),
    ("SYN with an older SEQ without timestamps", "Q10", "time-wait ts; < S -98 mss"),
    ("SYN with a later SEQ, no listener", "Q11 S86", "time-wait; unlisten; < S 102 mss"),
    ("SYN with an older SEQ, no listener", "Q11 S86", "time-wait; unlisten; < S -98 mss"),
    ("SYN with data in TIME-WAIT", "Q6", "time-wait; < S 102+5 mss"),
    ("RST of the new connection in TIME-WAIT", "Q13", "time-wait; < S 102 mss; < R 103; < F. 1 ack 2"),
    ("SYN, FIN with a later SEQ in TIME-WAIT", "Q6 S14", "time-wait; < SF 102 mss; < F. 1 ack 2"),
];
