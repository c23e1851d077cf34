//! Which queue of a multi-queue TUN gets a packet of the kernel: a filter (eBPF) that hashes the ports.
//!
//! Without it the kernel sends a flow where its last packet came from, and removes that entry after three seconds. The hash is
//! symmetric: both directions of a flow, and the ICMP errors that quote a packet of it, have the same queue. It does not
//! depend on the addresses, so that a local port for a queue can be chosen. Fragments, and whatever has no ports, go to the
//! first queue.

/// An instruction of eBPF (linux/bpf.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the others.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Spreads ports that have the same parity, as those of Linux's clients have.
const MULTIPLIER: u32 = 0x9e37_79b1;

/// The queue, among `queues`, of the flow with these two ports.
///
/// # Panics
/// If there are no queues.
#[must_use]
pub fn queue_of(ports: [u16; 2], queues: usize) -> usize {
    let hash = u32::from(ports[0] ^ ports[1]).wrapping_mul(MULTIPLIER) >> 16;
    hash as usize % queues
}

// Classes and modes of the codes, as in linux/bpf_common.h and linux/bpf.h.
const LOAD_ABSOLUTE: u8 = 0x20;
const LOAD_INDIRECT: u8 = 0x40;
const HALF: u8 = 0x08;
const BYTE: u8 = 0x10;
const ALU64: u8 = 0x07;
const ALU32: u8 = 0x04;
const JUMP: u8 = 0x05;
const REGISTER: u8 = 0x08;
const ADD: u8 = 0x00;
const MULTIPLY: u8 = 0x20;
const AND: u8 = 0x50;
const SHIFT_LEFT: u8 = 0x60;
const SHIFT_RIGHT: u8 = 0x70;
const XOR: u8 = 0xa0;
const MOVE: u8 = 0xb0;
const ALWAYS: u8 = 0x00;
const EQUAL: u8 = 0x10;
const GREATER: u8 = 0x20;
const EXIT: u8 = 0x90;

/// What the loads return, and the program.
const R0: u8 = 0;
/// The packet, on entry.
const R1: u8 = 1;
/// Where the loads expect the packet.
const R6: u8 = 6;
/// The offset of the transport header.
const TRANSPORT: u8 = 7;
const PROTOCOL: u8 = 8;
const R9: u8 = 9;

/// Places that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    V4,
    V6,
    Transport,
    Icmp4,
    Quoted4,
    Icmp6,
    Ports,
    First,
}

#[derive(Default)]
struct Program {
    instructions: Vec<Instruction>,
    labels: Vec<(Label, usize)>,
    jumps: Vec<(usize, Label)>,
}

impl Program {
    fn add(&mut self, code: u8, destination: u8, source: u8, immediate: i32) {
        let registers = destination | source << 4;
        self.instructions.push(Instruction { code, registers, offset: 0, immediate });
    }

    fn load(&mut self, size: u8, at: i32) {
        self.add(LOAD_ABSOLUTE | size, 0, 0, at);
    }

    /// Relative to the transport header.
    fn load_transport(&mut self, size: u8, at: i32) {
        self.add(LOAD_INDIRECT | size, 0, TRANSPORT, at);
    }

    fn constant(&mut self, operation: u8, register: u8, value: i32) {
        self.add(ALU64 | operation, register, 0, value);
    }

    fn register(&mut self, operation: u8, register: u8, other: u8) {
        self.add(ALU64 | operation | REGISTER, register, other, 0);
    }

    /// Loads the length of the IPv4 header whose first byte is in R0.
    fn header_length(&mut self) {
        self.constant(AND, R0, 15);
        self.constant(SHIFT_LEFT, R0, 2);
    }

    /// Jumps where the number in a register leads, or else to `other`.
    fn branch(&mut self, register: u8, cases: &[(i32, Label)], other: Label) {
        for &(value, label) in cases {
            self.jump(EQUAL, register, value, label);
        }
        self.jump(ALWAYS, 0, 0, other);
    }

    fn jump(&mut self, condition: u8, register: u8, value: i32, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.add(JUMP | condition, register, 0, value);
    }

    fn label(&mut self, label: Label) {
        self.labels.push((label, self.instructions.len()));
    }

    fn finish(mut self) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            let target = self.labels.iter().find(|(known, _)| *known == label).map(|(_, target)| *target);
            let target = target.expect("every label is in the program");
            // The program has a few dozen instructions.
            self.instructions[at].offset = target as i16 - at as i16 - 1;
        }
        self.instructions
    }
}

/// The filter. A packet that is too short ends it with 0, the first queue.
pub(super) fn program() -> Vec<Instruction> {
    let mut p = Program::default();
    p.register(MOVE, R6, R1);
    p.load(BYTE, 0);
    p.constant(SHIFT_RIGHT, R0, 4);
    p.branch(R0, &[(4, Label::V4), (6, Label::V6)], Label::First);

    p.label(Label::V4);
    p.load(HALF, 6);
    // A fragment: more of them, or an offset.
    p.constant(AND, R0, 0x3fff);
    p.jump(GREATER, R0, 0, Label::First);
    p.load(BYTE, 9);
    p.register(MOVE, PROTOCOL, R0);
    p.load(BYTE, 0);
    p.header_length();
    p.register(MOVE, TRANSPORT, R0);
    p.jump(ALWAYS, 0, 0, Label::Transport);

    p.label(Label::V6);
    p.load(BYTE, 6);
    p.register(MOVE, PROTOCOL, R0);
    p.constant(MOVE, TRANSPORT, 40);

    p.label(Label::Transport);
    let protocols = [
        (libc::IPPROTO_TCP, Label::Ports),
        (libc::IPPROTO_UDP, Label::Ports),
        (libc::IPPROTO_ICMP, Label::Icmp4),
        (libc::IPPROTO_ICMPV6, Label::Icmp6),
    ];
    p.branch(PROTOCOL, &protocols, Label::First);

    // Destination unreachable, time exceeded, parameter problem: they quote a packet.
    p.label(Label::Icmp4);
    p.load_transport(BYTE, 0);
    p.branch(R0, &[3, 11, 12].map(|kind| (kind, Label::Quoted4)), Label::First);

    p.label(Label::Quoted4);
    p.load_transport(BYTE, 8);
    p.header_length();
    p.constant(ADD, R0, 8);
    p.register(ADD, TRANSPORT, R0);
    p.jump(ALWAYS, 0, 0, Label::Ports);

    // The same and packet too big: types 1 to 4.
    p.label(Label::Icmp6);
    p.load_transport(BYTE, 0);
    p.jump(EQUAL, R0, 0, Label::First);
    p.jump(GREATER, R0, 4, Label::First);
    p.constant(ADD, TRANSPORT, 8 + 40);

    p.label(Label::Ports);
    p.load_transport(HALF, 0);
    p.register(MOVE, R9, R0);
    p.load_transport(HALF, 2);
    p.register(XOR, R0, R9);
    p.add(ALU32 | MULTIPLY, R0, 0, MULTIPLIER.cast_signed());
    p.add(ALU32 | SHIFT_RIGHT, R0, 0, 16);
    p.add(JUMP | EXIT, 0, 0, 0);

    p.label(Label::First);
    p.constant(MOVE, R0, 0);
    p.add(JUMP | EXIT, 0, 0, 0);
    p.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_symmetric_and_spreads_ports_of_the_same_parity() {
        for queues in [1, 2, 3, 8] {
            let mut counts = vec![0; queues];
            for port in (32_768..60_000).step_by(2) {
                let queue = queue_of([port, 80], queues);
                assert_eq!(queue, queue_of([80, port], queues));
                counts[queue] += 1;
            }
            let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(max - min <= max / 10, "{counts:?}");
        }
    }

    #[test]
    fn every_jump_stays_within_the_program() {
        let program = program();
        for (at, instruction) in program.iter().enumerate() {
            let target = at as i64 + 1 + i64::from(instruction.offset);
            assert!((0..program.len() as i64 + 1).contains(&target), "{at}: {instruction:?}");
        }
        assert!(program.len() < 4096, "the limit of unprivileged filters");
    }
}
