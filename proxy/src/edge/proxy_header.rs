//! The header of the PROXY protocol, versions 1 and 2: how a load balancer says whom it speaks for.
//!
//! The parser is fed whatever has come, keeps only the bytes that hold addresses, and never looks beyond the
//! end of the header. What stands behind the addresses is skipped. It knows nothing of sockets or trust.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest line of version 1, with its end.
const MAX_LINE: usize = 107;

/// How every line begins.
const LINE_START: &[u8] = b"PROXY ";

/// How every header of version 2 begins.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Length of the fixed part of version 2.
const HEAD: usize = 16;

/// Whom a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// The client.
    Client(SocketAddr),
    /// Nobody: the load balancer speaks for itself, or does not know.
    Nobody,
}

/// What is known after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The header goes on.
    Part,
    /// The connection begins without one.
    Absent,
    /// The header has ended.
    Whole(Announced),
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// How many of them belong to the header.
    pub(super) taken: usize,
    /// What is known now.
    pub(super) found: Found,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidHeader {
    /// It begins like one and goes on otherwise.
    #[error("PROXY header does not begin as it should")]
    Signature,
    /// A line that does not end in time.
    #[error("PROXY line is longer than {MAX_LINE} bytes")]
    LongLine,
    /// A line with too few or too many words, or another end.
    #[error("PROXY line is not well formed")]
    Line,
    /// A transport that clients of ours do not use.
    #[error("PROXY header names a transport other than TCP")]
    Transport,
    /// No address of the kind that was announced.
    #[error("PROXY line has no usable address")]
    Address,
    /// No port.
    #[error("PROXY line has no usable port")]
    Port,
    /// Neither version 1 nor 2.
    #[error("PROXY header has unknown version {0}")]
    Version(u8),
    /// Neither on behalf of a client nor of itself.
    #[error("PROXY header has unknown command {0}")]
    Command(u8),
    /// Shorter than its addresses.
    #[error("PROXY header has no room for its addresses")]
    Short,
}

/// Reads one header. A new value is needed for the next.
#[derive(Debug)]
pub(super) struct HeaderParser {
    kept: [u8; MAX_LINE],
    len: usize,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Start,
    Line,
    Head,
    Addresses { family: Family, behind: usize },
    Skip { left: usize, announced: Announced },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// Length of two addresses and two ports.
    const fn len(self) -> usize {
        match self {
            Self::V4 => 12,
            Self::V6 => 36,
        }
    }
}

impl HeaderParser {
    /// Waits for the first byte of a connection.
    pub(super) fn new() -> Self {
        Self {
            kept: [0; MAX_LINE],
            len: 0,
            state: State::Start,
        }
    }

    /// Takes the bytes that come next, up to the end of the header.
    ///
    /// # Errors
    /// When they cannot be one; the connection is of no use then.
    pub(super) fn handle(&mut self, bytes: &[u8]) -> Result<Parsed, InvalidHeader> {
        let mut taken = 0;
        while let Some((&byte, rest)) = bytes.get(taken..).and_then(<[u8]>::split_first) {
            self.state = match self.state {
                State::Start => match byte {
                    b'P' => State::Line,
                    b'\r' => State::Head,
                    _ => {
                        return Ok(Parsed {
                            taken,
                            found: Found::Absent,
                        });
                    }
                },
                State::Skip { left, announced } => {
                    let here = left.min(1 + rest.len());
                    taken += here;
                    let left = left - here;
                    if left == 0 {
                        return Ok(Parsed {
                            taken,
                            found: Found::Whole(announced),
                        });
                    }
                    State::Skip { left, announced }
                }
                state => state,
            };
            if matches!(self.state, State::Skip { .. }) {
                continue;
            }
            taken += 1;
            self.keep(byte)?;
            if let State::Skip { left: 0, announced } = self.state {
                return Ok(Parsed {
                    taken,
                    found: Found::Whole(announced),
                });
            }
        }
        Ok(Parsed {
            taken,
            found: Found::Part,
        })
    }

    /// Adds a byte to those that are kept, and reads them when they are complete.
    fn keep(&mut self, byte: u8) -> Result<(), InvalidHeader> {
        let slot = self.kept.get_mut(self.len).ok_or(InvalidHeader::LongLine)?;
        *slot = byte;
        self.len += 1;
        let kept = &self.kept[..self.len];
        self.state = match self.state {
            State::Line if !begins(kept, LINE_START) => return Err(InvalidHeader::Signature),
            State::Line if byte == b'\n' => State::Skip {
                left: 0,
                announced: read_line(kept)?,
            },
            State::Line if self.len == MAX_LINE => return Err(InvalidHeader::LongLine),
            State::Head if !begins(kept, SIGNATURE) => return Err(InvalidHeader::Signature),
            State::Head => match kept.first_chunk::<HEAD>() {
                Some(head) => read_head(head)?,
                None => State::Head,
            },
            State::Addresses { family, behind } if self.len == HEAD + family.len() => State::Skip {
                left: behind,
                announced: read_addresses(family, &kept[HEAD..]).ok_or(InvalidHeader::Short)?,
            },
            state => state,
        };
        Ok(())
    }
}

/// Whether bytes agree with a beginning as far as both go.
fn begins(kept: &[u8], wanted: &[u8]) -> bool {
    kept.iter().zip(wanted).all(|(kept, wanted)| kept == wanted)
}

fn read_line(line: &[u8]) -> Result<Announced, InvalidHeader> {
    let line = line
        .strip_prefix(LINE_START)
        .and_then(|line| line.strip_suffix(b"\r\n"));
    let line = line.ok_or(InvalidHeader::Line)?;
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(Announced::Nobody);
    }
    let line = std::str::from_utf8(line).map_err(|_| InvalidHeader::Line)?;
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(InvalidHeader::Line);
    let family = match word()? {
        "TCP4" => Family::V4,
        "TCP6" => Family::V6,
        _ => return Err(InvalidHeader::Transport),
    };
    let client = read_ip(family, word()?)?;
    read_ip(family, word()?)?;
    let port = read_port(word()?)?;
    read_port(word()?)?;
    match words.next() {
        None => Ok(Announced::Client(SocketAddr::new(client, port))),
        Some(_) => Err(InvalidHeader::Line),
    }
}

fn read_ip(family: Family, word: &str) -> Result<IpAddr, InvalidHeader> {
    let address = match family {
        Family::V4 => word.parse().ok().map(IpAddr::V4),
        Family::V6 => word.parse().ok().map(IpAddr::V6),
    };
    address.ok_or(InvalidHeader::Address)
}

/// Decimal digits without a zero in front.
fn read_port(word: &str) -> Result<u16, InvalidHeader> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    let port = word.parse().ok().filter(|_| plain);
    port.ok_or(InvalidHeader::Port)
}

fn read_head(head: &[u8; HEAD]) -> Result<State, InvalidHeader> {
    let [.., command, transport, high, low] = *head;
    let left = usize::from(u16::from_be_bytes([high, low]));
    let nobody = State::Skip {
        left,
        announced: Announced::Nobody,
    };
    let family = match (command >> 4, command & 0x0f, transport) {
        (2, 0, _) | (2, 1, 0x00) => return Ok(nobody),
        (2, 1, 0x11) => Family::V4,
        (2, 1, 0x21) => Family::V6,
        (2, 1, _) => return Err(InvalidHeader::Transport),
        (2, command, _) => return Err(InvalidHeader::Command(command)),
        (version, _, _) => return Err(InvalidHeader::Version(version)),
    };
    let behind = left.checked_sub(family.len()).ok_or(InvalidHeader::Short)?;
    Ok(State::Addresses { family, behind })
}

/// The source out of source, destination and the two ports.
fn read_addresses(family: Family, bytes: &[u8]) -> Option<Announced> {
    let (address, ports) = match family {
        Family::V4 => {
            let (address, rest) = bytes.split_first_chunk::<4>()?;
            (IpAddr::V4(Ipv4Addr::from(*address)), rest.get(4..)?)
        }
        Family::V6 => {
            let (address, rest) = bytes.split_first_chunk::<16>()?;
            (IpAddr::V6(Ipv6Addr::from(*address)), rest.get(16..)?)
        }
    };
    let port = u16::from_be_bytes(*ports.first_chunk()?);
    Some(Announced::Client(SocketAddr::new(address, port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, transport: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, transport], &length, body].concat()
    }

    fn v4_body() -> Vec<u8> {
        [&[192, 0, 2, 7, 10, 0, 0, 1][..], &[0x12, 0x67, 1, 187]].concat()
    }

    fn v6_body() -> Vec<u8> {
        let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        [
            &address("2001:db8::7")[..],
            &address("::1"),
            &[0x12, 0x67, 1, 187],
        ]
        .concat()
    }

    /// Fed byte by byte and at once, with bytes behind it: both must agree.
    fn parsed(header: &[u8]) -> Result<Parsed, InvalidHeader> {
        let with_rest = [header, b"\x16\x03\x01"].concat();
        let at_once = HeaderParser::new().handle(&with_rest);
        let mut parser = HeaderParser::new();
        let mut taken = 0;
        for byte in &with_rest {
            match parser.handle(&[*byte]) {
                Ok(Parsed { taken: here, found }) => {
                    taken += here;
                    if found != Found::Part {
                        assert_eq!(at_once, Ok(Parsed { taken, found }));
                        return at_once;
                    }
                }
                Err(error) => {
                    assert_eq!(at_once, Err(error));
                    return at_once;
                }
            }
        }
        assert_eq!(
            at_once,
            Ok(Parsed {
                taken,
                found: Found::Part
            })
        );
        at_once
    }

    fn client(text: &str) -> Found {
        Found::Whole(Announced::Client(text.parse().unwrap()))
    }

    #[test]
    fn whole_headers_name_clients_and_end_where_they_end() {
        let nobody = Found::Whole(Announced::Nobody);
        let tlv = [v4_body(), vec![4, 0, 3, 1, 2, 3]].concat();
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(MAX_LINE - 16));
        for (header, expected) in [
            (
                &b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n"[..],
                client("192.0.2.7:4711"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n",
                client("[2001:db8::7]:0"),
            ),
            (b"PROXY UNKNOWN\r\n", nobody),
            (b"PROXY UNKNOWN what ever\r stands here\r\n", nobody),
            (longest.as_bytes(), nobody),
            (&v2(0x21, 0x11, &v4_body()), client("192.0.2.7:4711")),
            (&v2(0x21, 0x11, &tlv), client("192.0.2.7:4711")),
            (&v2(0x21, 0x21, &v6_body()), client("[2001:db8::7]:4711")),
            (&v2(0x20, 0x00, &[]), nobody),
            (&v2(0x20, 0x11, &v4_body()), nobody),
            (&v2(0x20, 0xff, &[9; 300]), nobody),
            (&v2(0x21, 0x00, &[1, 2, 3]), nobody),
            (
                &v2(0x21, 0x11, &vec![0; usize::from(u16::MAX)]),
                client("0.0.0.0:0"),
            ),
        ] {
            let expected = Parsed {
                taken: header.len(),
                found: expected,
            };
            assert_eq!(parsed(header), Ok(expected), "{}", header.escape_ascii());
        }
    }

    #[test]
    fn other_beginnings_are_left_alone() {
        for bytes in [
            &b"\x16\x03\x01\x02\x00"[..],
            b"GET / HTTP/1.1\r\n",
            b"\0",
            b"proxy TCP4",
        ] {
            let absent = Parsed {
                taken: 0,
                found: Found::Absent,
            };
            assert_eq!(HeaderParser::new().handle(bytes), Ok(absent));
        }
        let part = Parsed {
            taken: 0,
            found: Found::Part,
        };
        assert_eq!(HeaderParser::new().handle(b""), Ok(part));
    }

    #[test]
    fn what_is_wrong_is_named() {
        use InvalidHeader::{Address, Command, Line, LongLine, Port, Short, Signature, Transport, Version};
        let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(MAX_LINE - 15));
        for (header, expected) in [
            (&b"POST / HTTP/1.1\r\n"[..], Signature),
            (b"PROXY\tTCP4", Signature),
            (b"\r\n\r\n\0\r\nQUIT\r", Signature),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n", Line),
            (b"PROXY \r\n", Transport),
            (b"PROXY UNKNOWNS\r\n", Transport),
            (b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n", Transport),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n", Line),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n", Line),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \r\n", Line),
            (b"PROXY TCP4 192.0.2.7  10.0.0.1 1 2\r\n", Address),
            (b"PROXY TCP4 192.0.2.07 10.0.0.1 1 2\r\n", Address),
            (b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n", Address),
            (b"PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n", Address),
            (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", Address),
            (b"PROXY TCP4 192.0.2.7 x 1 2\r\n", Address),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n", Port),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n", Port),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n", Port),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 \r\n", Port),
            (b"PROXY TCP4 \xff\r\n", Line),
            (long.as_bytes(), LongLine),
            (&v2(0x11, 0x11, &v4_body()), Version(1)),
            (&v2(0x31, 0x11, &v4_body()), Version(3)),
            (&v2(0x22, 0x11, &v4_body()), Command(2)),
            (&v2(0x21, 0x12, &v4_body()), Transport),
            (&v2(0x21, 0x31, &[0; 216]), Transport),
            (&v2(0x21, 0x01, &[]), Transport),
            (&v2(0x21, 0x11, &v4_body()[..11]), Short),
            (&v2(0x21, 0x21, &v4_body()), Short),
        ] {
            assert_eq!(parsed(header), Err(expected), "{}", header.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            start in proptest::sample::select(vec![
                &b""[..],
                LINE_START,
                b"PROXY TCP4 ",
                SIGNATURE,
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0e",
            ]),
            rest in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..140),
                "[TCP46UNKOWN0-9:. \r\n]{0,60}".prop_map(String::into_bytes),
            ],
        ) {
            let _ = parsed(&[start, &rest].concat());
        }

        #[test]
        fn every_client_is_read(address: IpAddr, port: u16) {
            let client = SocketAddr::new(address, port);
            let word = if client.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {word} {address} {address} {port} 443\r\n");

            let expected = Parsed { taken: line.len(), found: Found::Whole(Announced::Client(client)) };
            prop_assert_eq!(parsed(line.as_bytes()), Ok(expected));
        }
    }
}
