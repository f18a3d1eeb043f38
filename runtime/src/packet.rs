//! Frames of a link, as they are on the wire: for protocols that the kernel speaks for its own addresses only.

use std::io;
use std::os::fd::OwnedFd;

use crate::sys;

/// A socket that receives all frames of an ethertype on the link with this index in this thread's network namespace, and
/// sends whole frames there. It waits for nothing. Needs `CAP_NET_RAW`.
pub fn socket(index: u32, ethertype: u16) -> io::Result<OwnedFd> {
    sys::packet::socket(index, ethertype)
}
