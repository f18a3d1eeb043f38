//! The lease that a writer holds (a fencing token): a server refuses the write once somebody else holds it. Only servers and
//! clients of this house know it; others ignore the header.

use std::fmt;
use std::str::FromStr;

/// The header of a write.
pub const HELD_LEASE: &str = "coracle-held-lease";

/// A Lease of coordination.k8s.io, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// Where the Lease is.
    pub namespace: String,
    /// What it is called.
    pub name: String,
    /// Its `spec.holderIdentity`.
    pub holder: String,
}

/// A text that names no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the namespace and name of a Lease and its holder, as in kube-system/kube-scheduler=a")]
pub struct NoLease;

impl fmt::Display for HeldLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}={}", self.namespace, self.name, self.holder)
    }
}

impl FromStr for HeldLease {
    type Err = NoLease;

    fn from_str(text: &str) -> Result<Self, NoLease> {
        let (place, holder) = text.split_once('=').ok_or(NoLease)?;
        let (namespace, name) = place.split_once('/').ok_or(NoLease)?;
        if [namespace, name, holder].contains(&"") {
            return Err(NoLease);
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), holder: holder.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let lease = HeldLease { namespace: "a".into(), name: "b".into(), holder: "c=d/e".into() };
        assert_eq!(lease.to_string().parse(), Ok(lease));
        for text in ["", "a/b", "a=b", "/b=c", "a/=c", "a/b="] {
            assert_eq!(text.parse::<HeldLease>(), Err(NoLease), "{text}");
        }
    }
}
