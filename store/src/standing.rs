//! What a migration has left to say of a store: a file beside an embedded store's, or a key in etcd.

/// Whether a store may be used, where there is something to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A migration into it has begun, and has not ended.
    Unfinished,
    /// What it has went to this place, where it has changed since.
    Moved(String),
}

const UNFINISHED: &str = "unfinished\n";
const MOVED: &str = "moved to ";

/// Places are written with at most so many bytes.
const LONGEST: usize = 1024;
/// No text of a standing is longer.
pub(crate) const LONGEST_TEXT: usize = LONGEST + 64;

impl Standing {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Unfinished => UNFINISHED.to_owned(),
            Self::Moved(place) => {
                let end = place.floor_char_boundary(LONGEST);
                format!("{MOVED}{}\n", place[..end].replace('\n', " "))
            }
        }
    }

    /// Reads a text; `None` where it is none of a standing.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if text == UNFINISHED {
            return Some(Self::Unfinished);
        }
        let place = text.strip_prefix(MOVED)?.strip_suffix('\n')?;
        (!place.contains('\n')).then(|| Self::Moved(place.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_is_read_as_it_was_written_and_nothing_else_is_one() {
        let long = "é".repeat(LONGEST);
        for standing in [Standing::Unfinished, Standing::Moved("http://a,http://b".into()), Standing::Moved("".into())]
        {
            assert_eq!(Standing::read(&standing.text()), Some(standing));
        }
        assert!(Standing::Moved(long).text().len() <= LONGEST_TEXT);
        assert_eq!(Standing::read(&Standing::Moved("a\nb".into()).text()), Some(Standing::Moved("a b".into())));
        for text in ["", "unfinished", "moved to a", "moved to a\nb\n", "\0"] {
            assert_eq!(Standing::read(text), None, "{text:?}");
        }
    }
}
