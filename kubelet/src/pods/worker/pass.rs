//! Work that is done anew whenever something that it depends on has changed, one pass at a time.

/// Where such work stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pass {
    /// Nothing changed since the last pass.
    #[default]
    Settled,
    /// Something changed.
    Due,
    /// A pass is under way.
    Running,
    /// A pass is under way, and something changed since it began.
    Outdated,
}

impl Pass {
    /// Something changed.
    pub(super) fn ask(&mut self) {
        *self = match self {
            Self::Settled | Self::Due => Self::Due,
            Self::Running | Self::Outdated => Self::Outdated,
        };
    }

    /// A pass would do nothing.
    pub(super) fn settle(&mut self) {
        if *self == Self::Due {
            *self = Self::Settled;
        }
    }

    /// Whether a pass can begin.
    pub(super) fn is_due(self) -> bool {
        self == Self::Due
    }

    /// A pass begins.
    pub(super) fn begin(&mut self) {
        *self = Self::Running;
    }

    /// Whether a pass is under way.
    pub(super) fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Outdated)
    }

    /// A pass did all there was to do when it began.
    pub(super) fn end(&mut self) {
        *self = if *self == Self::Outdated { Self::Due } else { Self::Settled };
    }

    /// A pass ended, and there may be more to do.
    pub(super) fn end_early(&mut self) {
        *self = Self::Due;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_during_a_pass_makes_another_one_due() {
        let mut pass = Pass::default();
        assert!(!pass.is_due());
        pass.ask();
        assert!(pass.is_due());
        pass.begin();
        assert!(pass.is_running() && !pass.is_due());
        pass.ask();
        assert!(pass.is_running() && !pass.is_due());
        pass.end();
        assert!(pass.is_due());
        pass.begin();
        pass.end();
        assert_eq!(pass, Pass::Settled);
    }

    #[test]
    fn a_pass_that_fails_is_due_again() {
        let mut pass = Pass::Running;
        pass.end_early();
        assert!(pass.is_due());
    }

    #[test]
    fn what_needs_nothing_settles_unless_a_pass_is_under_way() {
        for (before, after) in
            [(Pass::Settled, Pass::Settled), (Pass::Due, Pass::Settled), (Pass::Running, Pass::Running)]
        {
            let mut pass = before;
            pass.settle();
            assert_eq!(pass, after);
        }
    }
}
