//! What stands beside content: directives, tags, anchors and aliases.

use super::Error;
use super::scan::{Kind, Scanner};

/// Characters that a tag may have besides letters, digits, `_`, `-` and escapes.
const OF_TAGS: &[u8] = b";/?:@&=+$,.!~*'()[]";

impl Scanner<'_> {
    /// A line that begins with `%`.
    pub(super) fn directive(&mut self) -> Result<Kind, Error> {
        self.cursor.skip(1);
        let name = self.word();
        if name.is_empty() {
            return self.fail("could not find expected directive name");
        }
        if !self.cursor.is_blank_or_end(0) {
            return self.fail("found unexpected non-alphabetical character");
        }
        let kind = match name.as_str() {
            "YAML" => self.version()?,
            "TAG" => self.tag_directive()?,
            _ => return self.fail("found unknown directive name"),
        };
        self.cursor.skip_blanks();
        self.cursor.skip_comment();
        if !self.cursor.is_break_or_end(0) {
            return self.fail("did not find expected comment or line break");
        }
        self.cursor.skip_break();
        Ok(kind)
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while self.cursor.is_word() {
            self.cursor.read(&mut word);
        }
        word
    }

    fn version(&mut self) -> Result<Kind, Error> {
        self.cursor.skip_blanks();
        let major = self.version_number()?;
        if !self.cursor.is(b'.') {
            return self.fail("did not find expected digit or '.' character");
        }
        self.cursor.skip(1);
        Ok(Kind::Version(major, self.version_number()?))
    }

    /// At most two digits.
    fn version_number(&mut self) -> Result<u8, Error> {
        let (mut value, mut length) = (0, 0);
        while self.cursor.peek(0).is_ascii_digit() {
            length += 1;
            if length > 2 {
                return self.fail("found extremely long version number");
            }
            value = value * 10 + (self.cursor.peek(0) - b'0');
            self.cursor.skip(1);
        }
        if length == 0 { self.fail("did not find expected version number") } else { Ok(value) }
    }

    fn tag_directive(&mut self) -> Result<Kind, Error> {
        self.cursor.skip_blanks();
        let handle = self.tag_handle(true)?;
        if !self.cursor.is_blank(0) {
            return self.fail("did not find expected whitespace");
        }
        self.cursor.skip_blanks();
        let prefix = self.tag_uri(None)?;
        if !self.cursor.is_blank_or_end(0) {
            return self.fail("did not find expected whitespace or line break");
        }
        Ok(Kind::TagDirective(handle, prefix))
    }

    /// `&name` or `*name`.
    pub(super) fn anchor(&mut self, alias: bool) -> Result<Kind, Error> {
        self.cursor.skip(1);
        let name = self.word();
        let ends = self.cursor.is_blank_or_end(0) || b"?:,]}%@`".contains(&self.cursor.peek(0));
        if name.is_empty() || !ends {
            return self.fail("did not find expected alphabetic or numeric character");
        }
        Ok(if alias { Kind::Alias(name) } else { Kind::Anchor(name) })
    }

    /// `!suffix`, `!handle!suffix` or `!<verbatim>`.
    pub(super) fn tag(&mut self) -> Result<Kind, Error> {
        let (handle, suffix) =
            if self.cursor.peek(1) == b'<' { (String::new(), self.verbatim()?) } else { self.short_tag()? };
        if !self.cursor.is_blank_or_end(0) {
            return self.fail("did not find expected whitespace or line break");
        }
        Ok(Kind::Tag(handle, suffix))
    }

    fn verbatim(&mut self) -> Result<String, Error> {
        self.cursor.skip(2);
        let uri = self.tag_uri(None)?;
        if !self.cursor.is(b'>') {
            return self.fail("did not find the expected '>'");
        }
        self.cursor.skip(1);
        Ok(uri)
    }

    fn short_tag(&mut self) -> Result<(String, String), Error> {
        let handle = self.tag_handle(false)?;
        if handle.len() > 1 && handle.ends_with('!') {
            return Ok((handle, self.tag_uri(None)?));
        }
        let suffix = self.tag_uri(Some(&handle))?;
        // A lone `!` is a tag of its own.
        Ok(if suffix.is_empty() { (String::new(), "!".to_owned()) } else { ("!".to_owned(), suffix) })
    }

    fn tag_handle(&mut self, directive: bool) -> Result<String, Error> {
        if !self.cursor.is(b'!') {
            return self.fail("did not find expected '!'");
        }
        let mut handle = String::new();
        self.cursor.read(&mut handle);
        handle.push_str(&self.word());
        if self.cursor.is(b'!') {
            self.cursor.read(&mut handle);
        } else if directive && handle != "!" {
            return self.fail("did not find expected '!'");
        }
        Ok(handle)
    }

    /// The rest of a tag; `head` is what was read of it.
    fn tag_uri(&mut self, head: Option<&str>) -> Result<String, Error> {
        let mut uri = head.map_or(Vec::new(), |head| head.as_bytes()[1..].to_vec());
        let mut any = head.is_some();
        loop {
            if self.cursor.is(b'%') {
                uri.push(self.escaped_octet()?);
            } else if self.cursor.is_word() || OF_TAGS.contains(&self.cursor.peek(0)) {
                uri.push(self.cursor.peek(0));
                self.cursor.skip(1);
            } else {
                break;
            }
            any = true;
        }
        if !any {
            return self.fail("did not find expected tag URI");
        }
        String::from_utf8(uri).or_else(|_| self.fail("found an incorrect leading UTF-8 octet"))
    }

    /// `%` and two digits.
    fn escaped_octet(&mut self) -> Result<u8, Error> {
        let digit = |ahead| char::from(self.cursor.peek(ahead)).to_digit(16);
        let (Some(high), Some(low)) = (digit(1), digit(2)) else {
            return self.fail("did not find URI escaped octet");
        };
        self.cursor.skip(3);
        Ok((high << 4 | low) as u8)
    }
}
