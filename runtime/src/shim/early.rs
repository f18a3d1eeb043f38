//! What a container whose input is for one attachment only has said before that came. Whoever runs a command and attaches
//! to it (`kubectl run -i`) hears it from the beginning, however quick the command is.

/// A container that says more before anybody listens has no such listener: then nothing is kept. Less than a pipe holds,
/// so that it can be written at once.
const MOST: usize = 32 * 1024;

/// Output in its order.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Whether a piece is of standard error, and what it says.
    pieces: Vec<(bool, Vec<u8>)>,
    bytes: usize,
}

impl Early {
    /// Keeps a piece; false when it is too much, and nothing more is to be kept.
    pub(super) fn keep(&mut self, is_stderr: bool, bytes: &[u8]) -> bool {
        self.bytes += bytes.len();
        if self.bytes > MOST {
            return false;
        }
        match self.pieces.last_mut() {
            Some((last, piece)) if *last == is_stderr => piece.extend_from_slice(bytes),
            _ => self.pieces.push((is_stderr, bytes.to_vec())),
        }
        true
    }

    /// What was kept, in its order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (bool, &[u8])> {
        self.pieces.iter().map(|(is_stderr, bytes)| (*is_stderr, bytes.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_order_and_their_stream() {
        let mut early = Early::default();
        for (is_stderr, text) in [(false, "a"), (false, "b"), (true, "c"), (false, "d")] {
            assert!(early.keep(is_stderr, text.as_bytes()));
        }
        let kept: Vec<_> = early.pieces().collect();
        assert_eq!(kept, [(false, &b"ab"[..]), (true, &b"c"[..]), (false, &b"d"[..])]);
    }

    #[test]
    fn a_container_that_says_much_has_nothing_kept() {
        let mut early = Early::default();
        assert!(early.keep(false, &[b'x'; MOST]));
        assert!(!early.keep(false, b"y"));
    }
}
