//! Scalars as they are written: block, quoted and plain.

use super::Error;
use super::scan::{Kind, Scanner};

/// The line breaks and blanks between two parts of a scalar, which are folded when the second part comes.
#[derive(Debug, Default)]
struct Gap {
    /// The first line break.
    first: String,
    /// Those after it.
    more: String,
    blanks: String,
    /// A line ended, if only by an escape.
    broken: bool,
}

impl Gap {
    /// Writes what stands between the parts: one line break is a space, more are all but the first.
    fn fold(&mut self, into: &mut String) {
        if !self.broken {
            into.push_str(&self.blanks);
        } else if self.first.starts_with('\n') {
            into.push_str(if self.more.is_empty() { " " } else { &self.more });
        } else {
            into.push_str(&self.first);
            into.push_str(&self.more);
        }
        *self = Self::default();
    }
}

/// Whether a block scalar keeps the line breaks at its end.
#[derive(Clone, Copy, PartialEq)]
enum Chomping {
    Clip,
    Strip,
    Keep,
}

impl Scanner<'_> {
    /// `|` or `>` with what follows.
    pub(super) fn block_scalar(&mut self, literal: bool) -> Result<Kind, Error> {
        self.cursor.skip(1);
        let (chomping, increment) = self.block_header()?;
        let base = usize::try_from(self.indent).unwrap_or(0);
        let mut indent = increment.map_or(0, |increment| base + increment);
        let (mut text, mut first, mut more) = (String::new(), String::new(), String::new());
        self.block_breaks(&mut indent, &mut more)?;
        let mut after_blank = false;
        while self.cursor.mark.column == indent && !self.cursor.is_end(0) {
            let blank = self.cursor.is_blank(0);
            if !literal && !after_blank && !blank && first.starts_with('\n') {
                text.push_str(if more.is_empty() { " " } else { "" });
            } else {
                text.push_str(&first);
            }
            text.push_str(&more);
            first.clear();
            more.clear();
            after_blank = blank;
            while !self.cursor.is_break_or_end(0) {
                self.cursor.read(&mut text);
            }
            self.cursor.read_break(&mut first);
            self.block_breaks(&mut indent, &mut more)?;
        }
        if chomping != Chomping::Strip {
            text.push_str(&first);
        }
        if chomping == Chomping::Keep {
            text.push_str(&more);
        }
        Ok(Kind::Scalar { text, plain: false })
    }

    /// The indicators behind `|` or `>`, in either order, up to the next line.
    fn block_header(&mut self) -> Result<(Chomping, Option<usize>), Error> {
        let mut chomping = self.chomping();
        let increment = match self.cursor.peek(0) {
            b'0' => return self.fail("found an indentation indicator equal to 0"),
            digit @ b'1'..=b'9' => {
                self.cursor.skip(1);
                Some(usize::from(digit - b'0'))
            }
            _ => None,
        };
        if chomping.is_none() && increment.is_some() {
            chomping = self.chomping();
        }
        self.cursor.skip_blanks();
        self.cursor.skip_comment();
        if !self.cursor.is_break_or_end(0) {
            return self.fail("did not find expected comment or line break");
        }
        self.cursor.skip_break();
        Ok((chomping.unwrap_or(Chomping::Clip), increment))
    }

    fn chomping(&mut self) -> Option<Chomping> {
        let chomping = match self.cursor.peek(0) {
            b'+' => Chomping::Keep,
            b'-' => Chomping::Strip,
            _ => return None,
        };
        self.cursor.skip(1);
        Some(chomping)
    }

    /// Empty lines and the indentation before a line. An `indent` of zero is not known yet: the deepest of these lines.
    fn block_breaks(&mut self, indent: &mut usize, breaks: &mut String) -> Result<(), Error> {
        let mut deepest = 0;
        loop {
            while self.is_before(*indent) && self.cursor.is(b' ') {
                self.cursor.skip(1);
            }
            deepest = deepest.max(self.cursor.mark.column);
            if self.is_before(*indent) && self.cursor.is(b'\t') {
                return self.fail("found a tab character where an indentation space is expected");
            }
            if !self.cursor.is_break(0) {
                break;
            }
            self.cursor.read_break(breaks);
        }
        if *indent == 0 {
            *indent = deepest.max(usize::try_from(self.indent + 1).unwrap_or(0)).max(1);
        }
        Ok(())
    }

    fn is_before(&self, indent: usize) -> bool {
        indent == 0 || self.cursor.mark.column < indent
    }

    /// A scalar in `quote`s.
    pub(super) fn quoted(&mut self, quote: u8) -> Result<Kind, Error> {
        self.cursor.skip(1);
        let mut text = String::new();
        loop {
            if self.cursor.is_document_marker() {
                return self.fail("found unexpected document indicator");
            }
            if self.cursor.is_end(0) {
                return self.fail("found unexpected end of stream");
            }
            let mut gap = Gap { broken: self.quoted_part(quote, &mut text)?, ..Gap::default() };
            if self.cursor.is(quote) {
                self.cursor.skip(1);
                return Ok(Kind::Scalar { text, plain: false });
            }
            while self.cursor.is_blank_or_break() {
                self.gap(&mut gap);
            }
            gap.fold(&mut text);
        }
    }

    /// Takes a blank or a line break.
    fn gap(&mut self, gap: &mut Gap) {
        match (self.cursor.is_blank(0), gap.broken) {
            (true, true) => self.cursor.skip(1),
            (true, false) => self.cursor.read(&mut gap.blanks),
            (false, true) => self.cursor.read_break(&mut gap.more),
            (false, false) => {
                gap.blanks.clear();
                self.cursor.read_break(&mut gap.first);
                gap.broken = true;
            }
        }
    }

    /// A part without blanks, up to the quote that ends the scalar; answers whether an escaped line break ended it.
    fn quoted_part(&mut self, quote: u8, text: &mut String) -> Result<bool, Error> {
        while !self.cursor.is_blank_or_end(0) {
            let (first, second) = (self.cursor.peek(0), self.cursor.peek(1));
            if quote == b'\'' && (first, second) == (b'\'', b'\'') {
                text.push('\'');
                self.cursor.skip(2);
            } else if first == quote {
                break;
            } else if quote == b'"' && first == b'\\' && self.cursor.is_break(1) {
                self.cursor.skip(1);
                self.cursor.skip_break();
                return Ok(true);
            } else if quote == b'"' && first == b'\\' {
                self.escape(text)?;
            } else {
                self.cursor.read(text);
            }
        }
        Ok(false)
    }

    /// `\` and what it stands for.
    fn escape(&mut self, text: &mut String) -> Result<(), Error> {
        let digits = match self.cursor.peek(1) {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            code => match escaped(code) {
                Some(meant) => {
                    text.push(meant);
                    self.cursor.skip(2);
                    return Ok(());
                }
                None => return self.fail("found unknown escape character"),
            },
        };
        self.cursor.skip(2);
        let mut value: u32 = 0;
        for at in 0..digits {
            let Some(digit) = char::from(self.cursor.peek(at)).to_digit(16) else {
                return self.fail("did not find expected hexdecimal number");
            };
            value = value << 4 | digit;
        }
        let Some(meant) = char::from_u32(value) else {
            return self.fail("found invalid Unicode character escape code");
        };
        text.push(meant);
        self.cursor.skip(digits);
        Ok(())
    }

    /// A scalar without quotes.
    pub(super) fn plain(&mut self) -> Result<Kind, Error> {
        let (mut text, mut gap) = (String::new(), Gap::default());
        let indent = usize::try_from(self.indent + 1).unwrap_or(0);
        while !self.cursor.is_document_marker() && !self.cursor.is(b'#') {
            while !self.cursor.is_blank_or_end(0) && !self.ends_plain() {
                gap.fold(&mut text);
                self.cursor.read(&mut text);
            }
            if !self.cursor.is_blank_or_break() {
                break;
            }
            while self.cursor.is_blank_or_break() {
                if gap.broken && self.cursor.mark.column < indent && self.cursor.is(b'\t') {
                    return self.fail("found a tab character that violates indentation");
                }
                self.gap(&mut gap);
            }
            if self.flow_level == 0 && self.cursor.mark.column < indent {
                break;
            }
        }
        self.key_allowed |= gap.broken;
        Ok(Kind::Scalar { text, plain: true })
    }

    fn ends_plain(&self) -> bool {
        match self.cursor.peek(0) {
            b':' => self.cursor.is_blank_or_end(1),
            b',' | b'?' | b'[' | b']' | b'{' | b'}' => self.flow_level > 0,
            _ => false,
        }
    }
}

/// What an escape of one character stands for.
fn escaped(code: u8) -> Option<char> {
    Some(match code {
        b'0' => '\0',
        b'a' => '\x07',
        b'b' => '\x08',
        b't' | b'\t' => '\t',
        b'n' => '\n',
        b'v' => '\x0b',
        b'f' => '\x0c',
        b'r' => '\r',
        b'e' => '\x1b',
        b' ' | b'"' | b'\'' | b'\\' => char::from(code),
        b'N' => '\u{85}',
        b'_' => '\u{a0}',
        b'L' => '\u{2028}',
        b'P' => '\u{2029}',
        _ => return None,
    })
}
