//! From text to tokens, by the rules of the YAML 1.1 scanner that Kubernetes reads with (goyaml, a port of libyaml): laxer
//! than the specification where continuation lines stand, stricter where tabs do.

use std::collections::{HashMap, VecDeque};

use super::Error;
use super::cursor::{Cursor, Mark};

/// How far behind the beginning of a key its `:` may stand, in characters.
const KEY_LENGTH: usize = 1024;
/// Flow collections within each other, and block collections.
const MAX_LEVELS: usize = 10_000;

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    StreamEnd,
    /// `%YAML 1.1`
    Version(u8, u8),
    /// `%TAG handle prefix`
    TagDirective(String, String),
    DocumentStart,
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    BlockEnd,
    FlowSequenceStart,
    FlowSequenceEnd,
    FlowMappingStart,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(String),
    Anchor(String),
    /// Handle and suffix; the handle of a verbatim tag is empty.
    Tag(String, String),
    Scalar {
        text: String,
        plain: bool,
    },
}

/// A token and the line it begins in, from zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

/// Where a key may have begun that only its `:` will show.
#[derive(Clone, Copy, Debug, Default)]
struct SimpleKey {
    possible: bool,
    required: bool,
    token: usize,
    mark: Mark,
}

/// The scanner. `keys` has one entry for each flow level, and one for block context.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    pub(super) cursor: Cursor<'a>,
    tokens: VecDeque<Token>,
    /// How many tokens were taken.
    taken: usize,
    ended: bool,
    pub(super) flow_level: usize,
    /// Of the block collection that is open; -1 outside of all.
    pub(super) indent: isize,
    indents: Vec<isize>,
    pub(super) key_allowed: bool,
    keys: Vec<SimpleKey>,
    /// Which of `keys` a token may begin.
    keys_by_token: HashMap<usize, usize>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            cursor: Cursor::new(text),
            tokens: VecDeque::new(),
            taken: 0,
            ended: false,
            flow_level: 0,
            indent: -1,
            indents: Vec::new(),
            key_allowed: true,
            keys: vec![SimpleKey::default()],
            keys_by_token: HashMap::new(),
        }
    }

    /// The next token, which stays where it is.
    pub(super) fn peek(&mut self) -> Result<&Token, Error> {
        while self.needs_more()? {
            self.fetch()?;
        }
        Ok(&self.tokens[0])
    }

    /// Takes the next token.
    pub(super) fn take(&mut self) -> Result<Token, Error> {
        self.peek()?;
        self.taken += 1;
        Ok(self.tokens.pop_front().expect("peek left a token"))
    }

    /// Whether the first token may still turn out to begin a key.
    fn needs_more(&mut self) -> Result<bool, Error> {
        if self.tokens.is_empty() {
            return Ok(true);
        }
        match self.keys_by_token.get(&self.taken) {
            Some(level) if *level < self.keys.len() => self.is_key_valid(*level),
            _ => Ok(false),
        }
    }

    /// An error at the place of the scanner.
    pub(super) fn fail<T>(&self, message: &str) -> Result<T, Error> {
        let line = self.cursor.mark.line;
        Err(Error::at(if line == 0 { 0 } else { line + 1 }, message))
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push_back(Token { kind, line: self.cursor.mark.line });
    }

    /// A token of `width` characters.
    fn push_indicator(&mut self, kind: Kind, width: usize) {
        self.push(kind);
        self.cursor.skip(width);
    }

    fn fetch(&mut self) -> Result<(), Error> {
        self.skip_to_token();
        self.unroll(self.cursor.mark.column as isize);
        let cursor = &self.cursor;
        if cursor.is_end(0) {
            return self.fetch_end();
        }
        if cursor.mark.column == 0 && cursor.is(b'%') {
            return self.fetch_directive();
        }
        if cursor.is_marker(b'-') {
            return self.fetch_marker(Kind::DocumentStart);
        }
        if cursor.is_marker(b'.') {
            return self.fetch_marker(Kind::DocumentEnd);
        }
        let (first, alone, in_flow) = (cursor.peek(0), cursor.is_blank_or_end(1), self.flow_level > 0);
        match first {
            b'[' => self.fetch_flow_start(Kind::FlowSequenceStart),
            b'{' => self.fetch_flow_start(Kind::FlowMappingStart),
            b']' => self.fetch_flow_end(Kind::FlowSequenceEnd),
            b'}' => self.fetch_flow_end(Kind::FlowMappingEnd),
            b',' => self.fetch_flow_entry(),
            b'-' if alone => self.fetch_block_entry(),
            b'?' if alone || in_flow => self.fetch_key(),
            b':' if alone || in_flow => self.fetch_value(),
            b'*' | b'&' => self.fetch_scalar(|scanner| scanner.anchor(first == b'*')),
            b'!' => self.fetch_scalar(Self::tag),
            b'|' | b'>' if !in_flow => self.fetch_block_scalar(first == b'|'),
            b'\'' | b'"' => self.fetch_scalar(|scanner| scanner.quoted(first)),
            b'|' | b'>' | b'#' | b'%' | b'@' | b'`' | b'\t' => self.fail("found character that cannot start any token"),
            _ => self.fetch_scalar(Self::plain),
        }
    }

    /// Goes over blanks, comments and line breaks. Tabs count as blanks where no key can begin.
    fn skip_to_token(&mut self) {
        loop {
            let tabs = self.flow_level > 0 || !self.key_allowed;
            while self.cursor.is(b' ') || (tabs && self.cursor.is(b'\t')) {
                self.cursor.skip(1);
            }
            self.cursor.skip_comment();
            if !self.cursor.is_break(0) {
                return;
            }
            self.cursor.skip_break();
            self.key_allowed |= self.flow_level == 0;
        }
    }

    /// Whether the key that may have begun at this level still can; an error when it had to.
    fn is_key_valid(&mut self, level: usize) -> Result<bool, Error> {
        let (key, here) = (self.keys[level], self.cursor.mark);
        if !key.possible {
            return Ok(false);
        }
        if key.mark.line == here.line && key.mark.index + KEY_LENGTH >= here.index {
            return Ok(true);
        }
        if key.required {
            return self.fail("could not find expected ':'");
        }
        self.keys[level].possible = false;
        Ok(false)
    }

    /// A key may begin here.
    fn save_key(&mut self) -> Result<(), Error> {
        if self.key_allowed {
            let mark = self.cursor.mark;
            let required = self.flow_level == 0 && self.indent == mark.column as isize;
            let token = self.taken + self.tokens.len();
            self.remove_key()?;
            let level = self.keys.len() - 1;
            self.keys[level] = SimpleKey { possible: true, required, token, mark };
            self.keys_by_token.insert(token, level);
        }
        Ok(())
    }

    /// What may have begun as a key on this level was none.
    fn remove_key(&mut self) -> Result<(), Error> {
        let level = self.keys.len() - 1;
        let key = self.keys[level];
        if key.possible && key.required {
            return self.fail("could not find expected ':'");
        }
        if key.possible {
            self.forget_key(level);
        }
        Ok(())
    }

    fn forget_key(&mut self, level: usize) {
        self.keys[level].possible = false;
        self.keys_by_token.remove(&self.keys[level].token);
    }

    /// Puts a token before the one that will be taken as `number`, or last if that is taken already.
    fn insert(&mut self, number: usize, kind: Kind, line: usize) {
        let (at, last) = (number.checked_sub(self.taken), self.tokens.len());
        self.tokens.insert(at.map_or(last, |at| at.min(last)), Token { kind, line });
    }

    /// Opens a block collection if this column is deeper than the one that is open. Its token comes before token `number`.
    fn roll(&mut self, mark: Mark, number: Option<usize>, kind: Kind) -> Result<(), Error> {
        let column = mark.column as isize;
        if self.flow_level > 0 || self.indent >= column {
            return Ok(());
        }
        self.indents.push(self.indent);
        self.indent = column;
        if self.indents.len() > MAX_LEVELS {
            return self.fail("exceeded max depth of 10000");
        }
        self.insert(number.unwrap_or(usize::MAX), kind, mark.line);
        Ok(())
    }

    /// Closes the block collections that are deeper than this column.
    fn unroll(&mut self, column: isize) {
        while self.flow_level == 0 && self.indent > column {
            self.push(Kind::BlockEnd);
            self.indent = self.indents.pop().unwrap_or(-1);
        }
    }

    /// Ends every block collection, and allows no key.
    fn leave_blocks(&mut self) -> Result<(), Error> {
        self.unroll(-1);
        self.remove_key()?;
        self.key_allowed = false;
        Ok(())
    }

    fn fetch_end(&mut self) -> Result<(), Error> {
        if self.cursor.mark.column != 0 {
            self.cursor.mark.column = 0;
            self.cursor.mark.line += 1;
        }
        if !self.ended {
            self.ended = true;
            self.leave_blocks()?;
        }
        self.push(Kind::StreamEnd);
        Ok(())
    }

    fn fetch_directive(&mut self) -> Result<(), Error> {
        self.leave_blocks()?;
        let line = self.cursor.mark.line;
        let kind = self.directive()?;
        self.tokens.push_back(Token { kind, line });
        Ok(())
    }

    fn fetch_marker(&mut self, kind: Kind) -> Result<(), Error> {
        self.leave_blocks()?;
        self.push_indicator(kind, 3);
        Ok(())
    }

    fn fetch_flow_start(&mut self, kind: Kind) -> Result<(), Error> {
        self.save_key()?;
        let token = self.taken + self.tokens.len();
        self.keys.push(SimpleKey { token, ..SimpleKey::default() });
        self.flow_level += 1;
        if self.flow_level > MAX_LEVELS {
            return self.fail("exceeded max depth of 10000");
        }
        self.key_allowed = true;
        self.push_indicator(kind, 1);
        Ok(())
    }

    fn fetch_flow_end(&mut self, kind: Kind) -> Result<(), Error> {
        self.remove_key()?;
        if self.flow_level > 0 {
            self.flow_level -= 1;
            let level = self.keys.pop().unwrap_or_default();
            // As in the reference: an empty collection can be no key, since it began at this token, too.
            self.keys_by_token.remove(&level.token);
        }
        self.key_allowed = false;
        self.push_indicator(kind, 1);
        Ok(())
    }

    fn fetch_flow_entry(&mut self) -> Result<(), Error> {
        self.remove_key()?;
        self.key_allowed = true;
        self.push_indicator(Kind::FlowEntry, 1);
        Ok(())
    }

    /// In block context: refuses what cannot begin here, and opens its collection.
    fn begin(&mut self, kind: Kind, refusal: &str) -> Result<(), Error> {
        if self.flow_level > 0 {
            return Ok(());
        }
        if !self.key_allowed {
            return self.fail(refusal);
        }
        self.roll(self.cursor.mark, None, kind)
    }

    fn fetch_block_entry(&mut self) -> Result<(), Error> {
        self.begin(Kind::BlockSequenceStart, "block sequence entries are not allowed in this context")?;
        self.remove_key()?;
        self.key_allowed = true;
        self.push_indicator(Kind::BlockEntry, 1);
        Ok(())
    }

    fn fetch_key(&mut self) -> Result<(), Error> {
        self.begin(Kind::BlockMappingStart, "mapping keys are not allowed in this context")?;
        self.remove_key()?;
        self.key_allowed = self.flow_level == 0;
        self.push_indicator(Kind::Key, 1);
        Ok(())
    }

    fn fetch_value(&mut self) -> Result<(), Error> {
        let level = self.keys.len() - 1;
        if self.is_key_valid(level)? {
            let key = self.keys[level];
            self.insert(key.token, Kind::Key, key.mark.line);
            self.roll(key.mark, Some(key.token), Kind::BlockMappingStart)?;
            self.forget_key(level);
            self.key_allowed = false;
        } else {
            self.begin(Kind::BlockMappingStart, "mapping values are not allowed in this context")?;
            self.key_allowed = self.flow_level == 0;
        }
        self.push_indicator(Kind::Value, 1);
        Ok(())
    }

    /// What may begin a key, but cannot be followed by another.
    fn fetch_scalar(&mut self, scan: impl FnOnce(&mut Self) -> Result<Kind, Error>) -> Result<(), Error> {
        self.save_key()?;
        self.key_allowed = false;
        self.fetch_scanned(scan)
    }

    fn fetch_block_scalar(&mut self, literal: bool) -> Result<(), Error> {
        self.remove_key()?;
        self.key_allowed = true;
        self.fetch_scanned(|scanner| scanner.block_scalar(literal))
    }

    fn fetch_scanned(&mut self, scan: impl FnOnce(&mut Self) -> Result<Kind, Error>) -> Result<(), Error> {
        let line = self.cursor.mark.line;
        let kind = scan(self)?;
        self.tokens.push_back(Token { kind, line });
        Ok(())
    }
}
