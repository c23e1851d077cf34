//! Segments for which there is no connection: N1 to N12, S1 to S19.

use super::Row;

pub const NEVER: &[Row] = &[
    ("RST to a closed port", "N1 S6 R10", "< R 1000"),
    ("RST, ACK to a closed port", "N1 S6 R10", "< R. 1000 ack 5000"),
    ("SYN, RST to a closed port", "N1 S6 R10", "< SR 1000"),
    ("FIN, RST to a closed port", "N1 S6 R10", "< FR 1000"),
    ("SYN with a wrong checksum to a closed port", "N2", "< S 1000 badsum"),
    ("text with a wrong checksum to a closed port", "N2", "< P. 1000+5 ack 5000 badsum"),
    ("text with a wrong checksum in ESTABLISHED", "N2", "established; < P. 1+5 ack 1 badsum; recv"),
    ("exact RST with a wrong checksum in ESTABLISHED", "N2", "established; < R 1 badsum; error; recv"),
    ("data offset 4", "N3", "< S 1000 doff=4"),
    ("data offset 0", "N3", "< S 1000 doff=0"),
    ("data offset past the end", "N3", "< S 1000 doff=9"),
    ("fragment that is not the first", "N6", "< S 1000+20 frag=64"),
    ("first fragment alone", "N6", "< S 1000+20 frag=0+"),
    ("SYN with an MD5 signature", "N7", "< S 1000 opt=131261616161616161616161616161616161"),
    ("ACK with an MD5 signature", "N7", "< . 1000 ack 5000 opt=131261616161616161616161616161616161"),
    ("SYN with an authentication option", "N7", "< S 1000 opt=1d100100616161616161616161616161"),
    (
        "SYN with an MD5 signature to a listener",
        "N7",
        "listen 8; < S 0 mss opt=131261616161616161616161616161616161",
    ),
    ("SYN with a malformed MD5 option", "N7", "< S 1000 opt=1305616161010101"),
    ("SYN with reserved bits to a closed port", "N11", "< S 1000 reserved"),
    ("SYN with ECE and CWR to a closed port", "N11", "< SEC 1000"),
    ("SYN with an option of length 0 to a closed port", "N11", "< S 1000 opt=02000000"),
    ("SYN with an unknown option to a closed port", "N11", "< S 1000 opt=fd04beef"),
    ("SYN with reserved bits to a listener", "N11 S16", "listen 8; < S 0 mss reserved"),
    ("SYN with an option of length 0 to a listener", "N11 S57", "listen 8; < S 0 opt=02000000"),
    ("SYN with an option past the header to a listener", "N11 S57", "listen 8; < S 0 opt=fdff0000"),
    ("SYN with an unknown option to a listener", "N11", "listen 8; < S 0 mss opt=fd04beef"),
    ("an illegal option length in ESTABLISHED", "S57", "established; < P. 1+5 ack 1 opt=02000000; recv"),
];

pub const NEVER_V4: &[Row] = &[
    ("SYN to 255.255.255.255", "N4", "< S 1000 to=255.255.255.255"),
    ("SYN to 224.0.0.1", "N4", "< S 1000 to=224.0.0.1"),
    ("SYN to the broadcast address of the network", "N4", "< S 1000 to=10.9.255.255"),
    ("SYN to another host's address", "N4", "< S 1000 to=10.9.77.77"),
    ("SYN from loopback", "N5", "< S 1000 from=127.0.0.1"),
    ("SYN from 224.0.0.5", "N5", "< S 1000 from=224.0.0.5"),
    ("SYN from 255.255.255.255", "N5", "< S 1000 from=255.255.255.255"),
    ("SYN from 0.0.0.0", "N5", "< S 1000 from=0.0.0.0"),
    ("SYN from our own address", "N5", "< S 1000 from=10.9.0.1"),
    ("SYN from class E", "N5", "< S 1000 from=240.0.0.1"),
    ("SYN from far away", "S1", "< S 1000 from=198.51.100.7"),
];

pub const NEVER_V6: &[Row] = &[
    ("SYN to ff02::1", "N4", "< S 1000 to=ff02::1"),
    ("SYN to ff05::2", "N4", "< S 1000 to=ff05::2"),
    ("SYN to another host's address, IPv6", "N4", "< S 1000 to=fd09::7777"),
    ("SYN from ::1", "N5", "< S 1000 from=::1"),
    ("SYN from ff02::5", "N5", "< S 1000 from=ff02::5"),
    ("SYN from ::", "N5", "< S 1000 from=::"),
    ("SYN from our own address, IPv6", "N5", "< S 1000 from=fd09::1"),
    ("SYN from ::ffff:10.9.0.2", "N5", "< S 1000 from=::ffff:10.9.0.2"),
    ("SYN from far away, IPv6", "S1", "< S 1000 from=2001:db8::7"),
];

pub const CLOSED: &[Row] = &[
    ("SYN to a closed port", "S1", "< S 1000"),
    ("SYN with options to a closed port", "S1", "< S 1000 mss sackok ws=7 ts"),
    ("SYN with TTL 3 and TOS 0xbb to a closed port", "S1", "< S 1000 ttl=3 tos=187"),
    ("SYN with text to a closed port", "S2", "< S 1000+10"),
    ("SYN, FIN to a closed port", "S3", "< SF 1000"),
    ("SYN, FIN with text to a closed port", "S3", "< SF 1000+4"),
    ("ACK to a closed port", "S4", "< . 1000 ack 5000"),
    ("ACK of 0 to a closed port", "S4", "< . 1000 ack 0"),
    ("text to a closed port", "S4 H2", "< P. 1000+5 ack 5000"),
    ("FIN, ACK to a closed port", "S4", "< F. 1000 ack 5000"),
    ("SYN, ACK to a closed port", "S4 S7", "< S. 1000 ack 5000"),
    ("SYN, FIN, ACK to a closed port", "S4", "< SF. 1000 ack 5000"),
    ("URG, ACK with window 0 to a closed port", "S4", "< U. 1000 ack 5000 urg=3 win=0"),
    ("ACK with TOS 0xbb to a closed port", "S4", "< . 1000 ack 5000 tos=187"),
    ("no flags to a closed port", "S5", "< - 1000"),
    ("text without flags to a closed port", "S5", "< - 1000+5"),
    ("FIN to a closed port", "S5", "< F 1000"),
    ("PSH with text to a closed port", "S5", "< P 1000+5"),
    ("FIN, PSH, URG to a closed port", "S5", "< FPU 1000 urg=1"),
];

pub const LISTEN: &[Row] = &[
    ("ACK to a listener", "S10", "listen 8; < . 1000 ack 5000; < S 0 mss port=1"),
    ("text to a listener", "S10 H2", "listen 8; < P. 1000+5 ack 5000; < S 0 mss port=1"),
    ("FIN, ACK to a listener", "S10", "listen 8; < F. 1000 ack 5000"),
    ("SYN, ACK to a listener", "S10 H3", "listen 8; < S. 1000 ack 5000"),
    ("SYN, FIN, ACK to a listener", "S10", "listen 8; < SF. 1000 ack 5000"),
    ("RST to a listener", "S12 R10", "listen 8; < R 1000; < S 0 mss port=1"),
    ("RST, ACK to a listener", "S12 R10", "listen 8; < R. 1000 ack 5000"),
    ("SYN, RST to a listener", "S12 R10", "listen 8; < SR 1000"),
    ("no flags to a listener", "S13", "listen 8; < - 1000"),
    ("FIN to a listener", "S13", "listen 8; < F 1000"),
    ("PSH with text to a listener", "S13", "listen 8; < P 1000+5"),
    ("SYN, FIN to a listener", "S14", "listen 8; < SF 0 mss"),
    ("SYN with text to a listener", "S15", "listen 8; < S 0+7 mss; < P. 1+7 ack 1; accept; recv"),
    ("SYN with URG to a listener", "S16", "listen 8; < SU 0 mss urg=1"),
    ("SYN with PSH to a listener", "S16", "listen 8; < SP 0 mss"),
    ("SYN without options to a listener", "S16", "listen 8; < S 0"),
    ("SYN with all options to a listener", "S16", "listen 8; < S 0 mss sackok ws=7 ts"),
    ("SYN with window scale 15 to a listener", "S16", "listen 8; < S 0 mss ws=15"),
    ("SYN with ECE and CWR to a listener", "S16 N11", "listen 8; < SEC 0 mss"),
    (
        "SYN when the accept queue is full",
        "S17",
        "listen 1; < S 0 mss port=1; < . 1 ack 1 port=1; < S 0 mss port=2; < . 1 ack 1 port=2; < S 0 mss port=3; \
         accept; < S 0 mss port=3; < . 1 ack 1 port=3; accept; accept; accept",
    ),
    (
        "final ACK when the accept queue is full",
        "S37",
        "listen 1; < S 0 mss; < S 0 mss port=1; < . 1 ack 1 port=1; < S 0 mss port=2; < . 1 ack 1 port=2; \
         < . 1 ack 1; < P. 1+5 ack 1; wait 1300; accept; < . 1 ack 1; accept; accept; < P. 1+5 ack 1; recv",
    ),
];
