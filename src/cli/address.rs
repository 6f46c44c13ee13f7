//! Where a server is, as people write it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::server::Listen;

/// The place of a server: `HOST:PORT`, `http://HOST:PORT` or `unix:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A host, by name or number, and its port.
    Tcp { host: String, port: u16 },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether only this machine can be there, so that a server of our own may stand in.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Address::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            Address::Unix(_) => true,
        }
    }

    /// Where a server that listens like this is reached from the same machine; `None` when its port is not fixed.
    pub(super) fn of(listen: &Listen) -> Option<Address> {
        match listen {
            Listen::Tcp(socket) if socket.port() == 0 => None,
            Listen::Tcp(socket) => {
                let host = match socket.ip() {
                    IpAddr::V4(any) if any.is_unspecified() => "127.0.0.1".to_owned(),
                    IpAddr::V6(any) if any.is_unspecified() => "::1".to_owned(),
                    ip => ip.to_string(),
                };
                Some(Address::Tcp { host, port: socket.port() })
            }
            Listen::Unix(path) => Some(Address::Unix(path.clone())),
        }
    }

    /// The URI that calls are sent to.
    pub(super) fn uri(&self) -> String {
        match self {
            Address::Tcp { .. } => format!("http://{self}"),
            Address::Unix(_) => "http://localhost".to_owned(),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let wrong = || {
            format!(
                "\"{text}\" is not an address; write it like 127.0.0.1:50051, unix:/run/cc-executor.sock or http://HOST:PORT"
            )
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(wrong()) } else { Ok(Address::Unix(path.into())) };
        }
        if text.starts_with("https://") {
            return Err("this client speaks no TLS; use http:// behind a proxy or a Unix socket".to_owned());
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
        let numeric = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = numeric.unwrap_or(host);
        let plain =
            numeric.map_or_else(|| !host.contains([':', '/', '@', '[', ']']), |host| host.parse::<IpAddr>().is_ok());
        match port.parse() {
            Ok(port) if plain && !host.is_empty() && port != 0 => Ok(Address::Tcp { host: host.to_owned(), port }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        for (text, address) in [
            ("127.0.0.1:50051", tcp("127.0.0.1", 50051)),
            ("http://build-1:80/", tcp("build-1", 80)),
            ("[::1]:7", tcp("::1", 7)),
            ("unix:/run/cc.sock", Address::Unix("/run/cc.sock".into())),
            ("unix:///run/cc.sock", Address::Unix("/run/cc.sock".into())),
        ] {
            assert_eq!(text.parse(), Ok(address.clone()), "{text}");
            assert_eq!(address.to_string().parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "host", "host:", "host:0", "host:70000", ":1", "unix:", "::1:5", "http://a@b:1", "[host]:1"] {
            assert!(text.parse::<Address>().unwrap_err().contains("is not an address"), "{text}");
        }
        assert!("https://host:1".parse::<Address>().unwrap_err().contains("TLS"));
    }

    #[test]
    fn only_loopback_and_sockets_are_local() {
        for (text, local) in [("127.0.0.1:1", true), ("127.8.9.1:1", true), ("localhost:1", true), ("[::1]:1", true)] {
            assert_eq!(text.parse::<Address>().unwrap().is_local(), local, "{text}");
        }
        for text in ["10.0.0.1:1", "0.0.0.0:1", "example.org:1", "localhost.example.org:1"] {
            assert!(!text.parse::<Address>().unwrap().is_local(), "{text}");
        }
        assert!(Address::Unix("/s".into()).is_local());
    }

    #[test]
    fn listening_everywhere_is_reached_by_loopback() {
        let at = |text: &str| Address::of(&Listen::Tcp(text.parse().unwrap()));
        assert_eq!(at("0.0.0.0:5"), Some(tcp("127.0.0.1", 5)));
        assert_eq!(at("[::]:5"), Some(tcp("::1", 5)));
        assert_eq!(at("10.1.1.1:5"), Some(tcp("10.1.1.1", 5)));
        assert_eq!(at("127.0.0.1:0"), None);
    }
}
