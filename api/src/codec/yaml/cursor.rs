//! A place in a text, which knows its line and column.

/// A place: everything counted from zero, columns and indexes in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) index: usize,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Reads a text character by character.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    pub(super) mark: Mark,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, mark: Mark::default() }
    }

    /// The byte `ahead` of here; zero, which no text contains, behind the end.
    pub(super) fn peek(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    pub(super) fn is(&self, byte: u8) -> bool {
        self.peek(0) == byte
    }

    pub(super) fn is_end(&self, ahead: usize) -> bool {
        self.at + ahead >= self.text.len()
    }

    /// A space or a tab.
    pub(super) fn is_blank(&self, ahead: usize) -> bool {
        matches!(self.peek(ahead), b' ' | b'\t')
    }

    /// How many bytes long the line break here is; zero where there is none.
    fn line_break(&self, ahead: usize) -> usize {
        match (self.peek(ahead), self.peek(ahead + 1), self.peek(ahead + 2)) {
            (b'\r', b'\n', _) | (0xC2, 0x85, _) => 2,
            (b'\r' | b'\n', ..) => 1,
            (0xE2, 0x80, 0xA8 | 0xA9) => 3,
            _ => 0,
        }
    }

    pub(super) fn is_break(&self, ahead: usize) -> bool {
        self.line_break(ahead) > 0
    }

    pub(super) fn is_break_or_end(&self, ahead: usize) -> bool {
        self.is_end(ahead) || self.is_break(ahead)
    }

    pub(super) fn is_blank_or_end(&self, ahead: usize) -> bool {
        self.is_blank(ahead) || self.is_break_or_end(ahead)
    }

    pub(super) fn is_blank_or_break(&self) -> bool {
        self.is_blank(0) || self.is_break(0)
    }

    /// Letters, digits, `_` and `-`: what names are made of.
    pub(super) fn is_word(&self) -> bool {
        self.peek(0).is_ascii_alphanumeric() || matches!(self.peek(0), b'_' | b'-')
    }

    /// `---` or `...` at the beginning of a line.
    pub(super) fn is_document_marker(&self) -> bool {
        self.is_marker(b'-') || self.is_marker(b'.')
    }

    /// Three of these at the beginning of a line, and nothing directly behind them.
    pub(super) fn is_marker(&self, byte: u8) -> bool {
        self.mark.column == 0 && (0..3).all(|ahead| self.peek(ahead) == byte) && self.is_blank_or_end(3)
    }

    /// Goes over `count` characters; nothing happens at the end.
    pub(super) fn skip(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(passed) = self.text[self.at..].chars().next() {
                self.at += passed.len_utf8();
                self.mark.index += 1;
                self.mark.column += 1;
            }
        }
    }

    pub(super) fn skip_blanks(&mut self) {
        while self.is_blank(0) {
            self.skip(1);
        }
    }

    /// A comment, up to the end of its line.
    pub(super) fn skip_comment(&mut self) {
        if self.is(b'#') {
            while !self.is_break_or_end(0) {
                self.skip(1);
            }
        }
    }

    /// Takes a character.
    pub(super) fn read(&mut self, into: &mut String) {
        into.extend(self.text[self.at..].chars().next());
        self.skip(1);
    }

    /// Takes a line break, if there is one: as `\n`, but for those of Unicode, which stay what they are.
    pub(super) fn read_break(&mut self, into: &mut String) {
        match self.line_break(0) {
            0 => return,
            3 => into.push_str(&self.text[self.at..self.at + 3]),
            _ => into.push('\n'),
        }
        self.skip_break();
    }

    pub(super) fn skip_break(&mut self) {
        let length = self.line_break(0);
        if length > 0 {
            self.mark.index += self.text[self.at..self.at + length].chars().count();
            self.at += length;
            self.mark.line += 1;
            self.mark.column = 0;
        }
    }
}
