//! Why an expression has no value (cel-go: `types.Err`).

/// Texts and bytes do not grow beyond this.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    message: String,
    stop: Option<Stop>,
}

/// What ends the whole work, whatever the expression says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Cost,
    Interrupt,
}

impl Error {
    /// An error that `&&`, `||` and `?:` may never get to see.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), stop: None }
    }

    pub(crate) fn no_overload() -> Self {
        Self::new("no such overload")
    }

    /// The work cost more than it was allowed to.
    pub(crate) fn over_limit() -> Self {
        Self { stop: Some(Stop::Cost), ..Self::new("operation cancelled: actual cost limit exceeded") }
    }

    /// The work was interrupted from outside.
    pub(crate) fn interrupted() -> Self {
        Self { stop: Some(Stop::Interrupt), ..Self::new("operation interrupted") }
    }

    /// Whether it ends the whole work.
    pub(crate) fn is_final(&self) -> bool {
        self.stop.is_some()
    }

    /// Whether the work cost more than it was allowed to.
    pub fn is_cost_limit(&self) -> bool {
        self.stop == Some(Stop::Cost)
    }

    /// Whether the work was interrupted from outside.
    pub fn is_interrupt(&self) -> bool {
        self.stop == Some(Stop::Interrupt)
    }
}

/// Refuses to make something too large to be meant.
pub(crate) fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_BYTES { Err(Error::new("result is too large")) } else { Ok(()) }
}
