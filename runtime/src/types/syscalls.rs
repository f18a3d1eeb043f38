//! What the watchman says of system calls that containers have little reason for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The pod annotation that asks for a stricter policy than the node's: `off`, `audit` or `enforce`.
pub const SYSCALL_POLICY: &str = "coracle.dev/syscall-policy";

/// What is done about watched calls; the stricter ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SyscallPolicy {
    /// Nobody watches.
    Off,
    /// Unusual ones are told, and go on.
    #[default]
    Audit,
    /// Unusual ones fail with `EPERM`.
    Enforce,
}

/// No such policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no syscall policy: off, audit or enforce")]
pub struct UnknownPolicy(String);

impl FromStr for SyscallPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        match text {
            "off" => Ok(Self::Off),
            "audit" => Ok(Self::Audit),
            "enforce" => Ok(Self::Enforce),
            _ => Err(UnknownPolicy(text.to_owned())),
        }
    }
}

impl fmt::Display for SyscallPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Off => "off",
            Self::Audit => "audit",
            Self::Enforce => "enforce",
        })
    }
}

/// What became of a watched call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SyscallVerdict {
    /// It went on: its program does such things.
    Expected,
    /// It went on, and is worth a look.
    Unusual,
    /// It failed.
    Refused,
}

impl SyscallVerdict {
    /// As a metric's label says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Unusual => "unusual",
            Self::Refused => "refused",
        }
    }
}

/// Watched calls of one container since the last report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedCalls {
    pub counts: Vec<CallCount>,
    /// Each program and call once in a container's life, and not many at a time.
    pub unusual: Vec<UnusualCall>,
}

/// How often a call was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCount {
    /// Its name, one of a short list.
    pub call: String,
    pub verdict: SyscallVerdict,
    pub count: u64,
}

/// A call that is worth a look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusualCall {
    pub call: String,
    /// The caller as it names itself, and its program's file; a container chooses both.
    pub program: String,
    /// Why it is unusual.
    pub reason: String,
    pub refused: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_policy_is_the_greater() {
        let parsed = ["off", "audit", "enforce"].map(|text| text.parse::<SyscallPolicy>().unwrap());
        assert!(parsed.is_sorted() && parsed[0] < parsed[2]);
        assert_eq!(parsed.map(|policy| policy.to_string()), ["off", "audit", "enforce"]);
        assert!("Enforce".parse::<SyscallPolicy>().is_err());
    }
}
