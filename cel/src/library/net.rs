//! IP addresses and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::Error;
use crate::function::Library;
use crate::types::Type;
use crate::value::{Opaque, Value};

const IP: &str = "net.IP";
const CIDR: &str = "net.CIDR";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ip(IpAddr);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Opaque for Ip {
    fn type_name(&self) -> &str {
        IP
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other.downcast::<Self>() == Some(self)
    }

    fn size(&self) -> u64 {
        bits(self.0) / 8
    }
}

impl Opaque for Cidr {
    fn type_name(&self) -> &str {
        CIDR
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other.downcast::<Self>() == Some(self)
    }

    fn size(&self) -> u64 {
        u64::from(self.prefix).div_ceil(8)
    }
}

fn bits(address: IpAddr) -> u64 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address, of which only one way of writing counts for IPv4 and none with a zone.
fn parse_ip(text: &str) -> Result<IpAddr, Error> {
    let refuse =
        |why: &str| Error::new(format!("IP Address {text:?} parse error during conversion from string: {why}"));
    let address: IpAddr = text.parse().map_err(|_| refuse(&format!("ParseAddr({text:?}): unable to parse IP")))?;
    match address {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => Err(refuse("IPv4-mapped IPv6 address is not allowed")),
        address => Ok(address),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, Error> {
    let refuse = || {
        Error::new(format!("network address parse error during conversion from string: netip.ParsePrefix({text:?})"))
    };
    let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
    let sound = !prefix.is_empty()
        && prefix.bytes().all(|byte| byte.is_ascii_digit())
        && !(prefix.len() > 1 && prefix.starts_with('0'));
    let address = parse_ip(address).map_err(|_| refuse())?;
    let prefix: u8 = prefix.parse().ok().filter(|_| sound).ok_or_else(refuse)?;
    if u64::from(prefix) > bits(address) { Err(refuse()) } else { Ok(Cidr { address, prefix }) }
}

impl Cidr {
    fn masked(self) -> Self {
        let address = match self.address {
            IpAddr::V4(four) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(four.to_bits() & mask))
            }
            IpAddr::V6(six) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & mask))
            }
        };
        Self { address, prefix: self.prefix }
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && Self { address, prefix: self.prefix }.masked().address == self.masked().address
    }

    fn contains_cidr(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.masked().address)
    }
}

fn ip_of(value: &Value<'_>) -> Result<IpAddr, Error> {
    match value {
        Value::String(text) => parse_ip(text),
        Value::Opaque(value) => value.downcast::<Ip>().map(|ip| ip.0).ok_or_else(Error::no_overload),
        _ => Err(Error::no_overload()),
    }
}

fn cidr_of(value: &Value<'_>) -> Result<Cidr, Error> {
    match value {
        Value::String(text) => parse_cidr(text),
        Value::Opaque(value) => value.downcast::<Cidr>().copied().ok_or_else(Error::no_overload),
        _ => Err(Error::no_overload()),
    }
}

fn with_ip<'a>(args: &[Value<'a>], answer: impl Fn(IpAddr) -> Value<'a>) -> Result<Value<'a>, Error> {
    args.first().ok_or_else(Error::no_overload).and_then(ip_of).map(answer)
}

fn with_cidr<'a>(args: &[Value<'a>], answer: impl Fn(Cidr) -> Value<'a>) -> Result<Value<'a>, Error> {
    args.first().ok_or_else(Error::no_overload).and_then(cidr_of).map(answer)
}

pub(super) fn library() -> Library {
    let library = Library::new()
        .type_(IP, Type::opaque(IP))
        .type_(CIDR, Type::opaque(CIDR))
        .function("string_to_ip: ip(string): net.IP", |args| with_ip(args, |ip| Value::opaque(Ip(ip))))
        .function("is_ip: isIP(string): bool", |args| match args {
            [Value::String(text)] => Ok(Value::Bool(parse_ip(text).is_ok())),
            _ => Err(Error::no_overload()),
        })
        .function("ip_is_canonical: ip.isCanonical(string): bool", |args| match args {
            [Value::String(text)] => parse_ip(text).map(|ip| Value::Bool(ip.to_string() == **text)),
            _ => Err(Error::no_overload()),
        })
        .function("ip_family: net.IP.family(): int", |args| {
            with_ip(args, |ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 }))
        })
        .function("ip_to_string: string(net.IP): string", |args| with_ip(args, |ip| Value::text(ip.to_string())));
    networks(questions(library))
}

fn questions(mut library: Library) -> Library {
    type Question = fn(IpAddr) -> bool;
    let all: [(&str, Question); 5] = [
        ("isUnspecified", |ip| ip.is_unspecified()),
        ("isLoopback", |ip| ip.is_loopback()),
        ("isLinkLocalMulticast", |ip| match ip {
            IpAddr::V4(four) => four.octets()[..3] == [224, 0, 0],
            IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
        }),
        ("isLinkLocalUnicast", link_local),
        ("isGlobalUnicast", |ip| {
            let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
            !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local(ip))
        }),
    ];
    for (name, question) in all {
        library = library.function(&format!("ip_{name}: net.IP.{name}(): bool"), move |args| {
            with_ip(args, |ip| Value::Bool(question(ip)))
        });
    }
    library
}

fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn networks(library: Library) -> Library {
    let contains_ip = |args: &[Value<'_>]| match args {
        [cidr, ip] => Ok(cidr_of(cidr)?.contains(ip_of(ip)?)),
        _ => Err(Error::no_overload()),
    };
    let contains_cidr = |args: &[Value<'_>]| match args {
        [one, two] => Ok(cidr_of(one)?.contains_cidr(cidr_of(two)?)),
        _ => Err(Error::no_overload()),
    };
    library
        .function("string_to_cidr: cidr(string): net.CIDR", |args| with_cidr(args, Value::opaque))
        .function("is_cidr: isCIDR(string): bool", |args| match args {
            [Value::String(text)] => Ok(Value::Bool(parse_cidr(text).is_ok())),
            _ => Err(Error::no_overload()),
        })
        .function("cidr_contains_ip_string: net.CIDR.containsIP(string): bool", move |args| {
            contains_ip(args).map(Value::Bool)
        })
        .function("cidr_contains_ip_ip: net.CIDR.containsIP(net.IP): bool", move |args| {
            contains_ip(args).map(Value::Bool)
        })
        .function("cidr_contains_cidr_string: net.CIDR.containsCIDR(string): bool", move |args| {
            contains_cidr(args).map(Value::Bool)
        })
        .function("cidr_contains_cidr: net.CIDR.containsCIDR(net.CIDR): bool", move |args| {
            contains_cidr(args).map(Value::Bool)
        })
        .function("cidr_ip: net.CIDR.ip(): net.IP", |args| with_cidr(args, |cidr| Value::opaque(Ip(cidr.address))))
        .function("cidr_masked: net.CIDR.masked(): net.CIDR", |args| {
            with_cidr(args, |cidr| Value::opaque(cidr.masked()))
        })
        .function("cidr_prefix_length: net.CIDR.prefixLength(): int", |args| {
            with_cidr(args, |cidr| Value::Int(cidr.prefix.into()))
        })
        .function("cidr_to_string: string(net.CIDR): string", |args| {
            with_cidr(args, |cidr| Value::text(format!("{}/{}", cidr.address, cidr.prefix)))
        })
}
