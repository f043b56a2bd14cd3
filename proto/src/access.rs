//! Who may pass, as it travels from management to proxy.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

/// An address range in CIDR form with its host bits cleared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Text that is not an address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCidr {
    /// Not `address/prefix` nor an address.
    #[error("not an address range such as 10.0.0.0/8 or 2001:db8::/32")]
    Form,
    /// A prefix length beyond the address.
    #[error("prefix length is too long for the address")]
    Prefix,
    /// Bits are set behind the prefix.
    #[error("address has bits set behind its prefix")]
    HostBits,
}

impl Cidr {
    /// A range whose host bits are already clear.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, InvalidCidr> {
        let range = Self::containing(address, prefix)?;
        if range.address == address {
            Ok(range)
        } else {
            Err(InvalidCidr::HostBits)
        }
    }

    /// The range of that prefix length in which the address lies.
    pub fn containing(address: IpAddr, prefix: u8) -> Result<Self, InvalidCidr> {
        let address = match address {
            IpAddr::V4(v4) if prefix <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return Err(InvalidCidr::Prefix),
        };
        Ok(Self { address, prefix })
    }

    /// The range of one address.
    pub const fn host(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }

    /// The first address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Number of leading bits that count.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// True when the address lies in the range; families never mix.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self::containing(address, self.prefix) == Ok(*self)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cidr({self})")
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    /// Takes `address/prefix` without host bits, or one address.
    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let Some((address, prefix)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| InvalidCidr::Form);
        };
        let address = address.parse().map_err(|_| InvalidCidr::Form)?;
        if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidCidr::Form);
        }
        Self::new(address, prefix.parse().map_err(|_| InvalidCidr::Prefix)?)
    }
}

/// A country by its two upper-case letters (ISO 3166-1 alpha-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountryCode([u8; 2]);

impl CountryCode {
    /// Takes two letters in any case.
    pub fn new(text: &str) -> Option<Self> {
        let bytes: [u8; 2] = text.as_bytes().try_into().ok()?;
        bytes
            .iter()
            .all(u8::is_ascii_alphabetic)
            .then(|| Self(bytes.map(|b| b.to_ascii_uppercase())))
    }

    /// The two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("letters are ASCII")
    }
}

/// What becomes of addresses with a bad reputation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CrowdsecMode {
    /// Nothing was said.
    #[default]
    Unset,
    /// Not asked.
    Off,
    /// Denied.
    Enforce,
    /// Noted in the access log only.
    Observe,
}

/// Rules that are checked before any scheme.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// When not empty, the client must be in one of these.
    pub allowed_cidrs: Vec<Cidr>,
    /// The client must be in none of these.
    pub blocked_cidrs: Vec<Cidr>,
    /// When not empty, the client's country must be one of these.
    pub allowed_countries: Vec<CountryCode>,
    /// The client's country must be none of these.
    pub blocked_countries: Vec<CountryCode>,
    /// What reputation does.
    pub crowdsec: CrowdsecMode,
}

impl Restrictions {
    /// True when nothing is restricted.
    pub fn is_empty(&self) -> bool {
        self.allowed_cidrs.is_empty()
            && self.blocked_cidrs.is_empty()
            && self.allowed_countries.is_empty()
            && self.blocked_countries.is_empty()
            && matches!(self.crowdsec, CrowdsecMode::Unset | CrowdsecMode::Off)
    }
}

/// The Ed25519 key with which session tokens of one service are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPublicKey(pub [u8; 32]);

/// A secret that clients send in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderAuth {
    /// Header name as configured.
    pub header: String,
    /// argon2id PHC text of the value; empty when the sender keeps it to itself.
    pub hashed_value: String,
}

/// The schemes of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authentication {
    /// Absent only in mappings without schemes.
    pub session_key: Option<SessionPublicKey>,
    /// How long a session cookie lives.
    pub max_session_age: Duration,
    /// Password scheme is on.
    pub password: bool,
    /// PIN scheme is on.
    pub pin: bool,
    /// OIDC scheme is on.
    pub oidc: bool,
    /// Header secrets, any of which opens.
    pub header_auths: Vec<HeaderAuth>,
}

impl Authentication {
    /// True when at least one scheme guards the service.
    pub fn has_schemes(&self) -> bool {
        self.password || self.pin || self.oidc || !self.header_auths.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_ranges_and_single_addresses() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::/32", "192.0.2.1/32"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        assert_eq!("192.0.2.1".parse::<Cidr>().unwrap().to_string(), "192.0.2.1/32");
    }

    #[test]
    fn refuses_host_bits_and_bad_prefixes() {
        assert_eq!("10.0.0.1/8".parse::<Cidr>(), Err(InvalidCidr::HostBits));
        assert_eq!("10.0.0.0/33".parse::<Cidr>(), Err(InvalidCidr::Prefix));
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "x/8",
            "10.0.0.0/0008",
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(InvalidCidr::Form), "{text}");
        }
    }

    #[test]
    fn families_never_mix() {
        let everything: Cidr = "::/0".parse().unwrap();

        assert!(!everything.contains("192.0.2.1".parse().unwrap()));
        assert!(everything.contains("2001:db8::1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[0-9a-f:./+-]{0,50}") {
            let _ = text.parse::<Cidr>();
            let _ = CountryCode::new(&text);
        }
    }
}
