//! An address prefix.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An IPv4 or IPv6 prefix with its host bits cleared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Builds a prefix; host bits of `address` are cleared.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, InvalidCidr> {
        if prefix > width(address) {
            return Err(InvalidCidr);
        }
        Ok(Self {
            address: truncate(address, prefix),
            prefix,
        })
    }

    /// The prefix that holds exactly one address.
    pub fn host(address: IpAddr) -> Self {
        Self {
            address,
            prefix: width(address),
        }
    }

    /// Returns the first address of the prefix.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns the prefix length.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Says whether `address` lies inside; an address of the other family never does.
    pub fn contains(&self, address: IpAddr) -> bool {
        width(address) == width(self.address) && truncate(address, self.prefix) == self.address
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        Self::host(address)
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((address, prefix)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| InvalidCidr);
        };
        let address = address.parse().map_err(|_| InvalidCidr)?;
        Self::new(address, prefix.parse().map_err(|_| InvalidCidr)?)
    }
}

/// The text is no address prefix, or its length exceeds the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address prefix")]
pub struct InvalidCidr;

/// Number of bits of the address's family.
pub(crate) fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Clears everything after the first `prefix` bits.
pub(crate) fn truncate(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clears_host_bits() {
        assert_eq!("10.1.2.3/8".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn contains_only_its_family() {
        let everything = "0.0.0.0/0".parse::<Cidr>().unwrap();

        assert!(everything.contains("1.2.3.4".parse().unwrap()));
        assert!(!everything.contains("::1".parse().unwrap()));
    }

    #[test]
    fn refuses_a_long_prefix() {
        assert_eq!("10.0.0.0/33".parse::<Cidr>(), Err(InvalidCidr));
    }
}
