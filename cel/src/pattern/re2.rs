//! The syntax of regular expressions that Kubernetes speaks (RE2, as Go's `regexp/syntax` reads it), written anew in the
//! syntax of the `regex` crate. What Go refuses is refused, in its words.

use std::fmt::Write as _;

/// The most that `{n,m}` may ask for.
const REPEATS: u32 = 1000;
/// Groups within groups.
const DEPTH: usize = 1000;
/// The classes that a bracket may name: `[[:alpha:]]`.
const NAMED: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// The same pattern for the `regex` crate; or why it is none.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut reader = Reader { whole: pattern, rest: pattern, out: String::with_capacity(pattern.len() + 16) };
    reader.read().map_err(|(what, text)| format!("error parsing regexp: {what}: `{text}`"))?;
    Ok(reader.out)
}

/// What is wrong, and the part of the pattern that it is wrong with.
type Wrong<'p> = (&'static str, &'p str);

struct Reader<'p> {
    whole: &'p str,
    rest: &'p str,
    out: String,
}

/// Whether a repetition may follow.
#[derive(Clone, Copy, PartialEq)]
enum Before<'p> {
    /// Nothing that could be repeated.
    Nothing,
    Something,
    /// A repetition, which began there.
    Repetition(&'p str),
}

/// A character of a class, or several.
enum Member {
    One(char),
    Class,
}

impl<'p> Reader<'p> {
    fn read(&mut self) -> Result<(), Wrong<'p>> {
        let mut depth = 0_usize;
        let mut before = Before::Nothing;
        while let Some(c) = self.rest.chars().next() {
            let start = self.rest;
            let mut next = Before::Something;
            match c {
                '(' => {
                    let opens = self.open()?;
                    depth += usize::from(opens);
                    if depth > DEPTH {
                        return Err(("expression nests too deeply", self.whole));
                    }
                    // Flags for what follows are nothing themselves.
                    next = if opens { Before::Nothing } else { before };
                }
                ')' => {
                    depth = depth.checked_sub(1).ok_or(("unexpected )", self.whole))?;
                    self.copy(1);
                }
                '|' => {
                    self.copy(1);
                    next = Before::Nothing;
                }
                '^' | '$' | '.' => self.copy(1),
                '[' => self.class()?,
                '*' | '+' | '?' => {
                    self.copy(1);
                    self.repeat(start, before)?;
                    next = Before::Repetition(start);
                }
                '{' => match counts(start) {
                    Some((counts, least, most)) => {
                        let end = counts.len();
                        if least > REPEATS || most.is_some_and(|most| most > REPEATS || least > most) {
                            return Err(("invalid repeat count", counts));
                        }
                        self.copy(end);
                        self.repeat(start, before)?;
                        next = Before::Repetition(start);
                    }
                    None => self.literal(c),
                },
                '\\' => self.escape_outside()?,
                _ => self.literal(c),
            }
            before = next;
        }
        if depth > 0 { Err(("missing closing )", self.whole)) } else { Ok(()) }
    }

    /// Takes so many bytes as they are.
    fn copy(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.out.push_str(taken);
        self.rest = rest;
    }

    /// Takes a character that means itself.
    fn literal(&mut self, c: char) {
        self.rest = &self.rest[c.len_utf8()..];
        self.push(c);
    }

    /// Writes a character that means itself.
    fn push(&mut self, c: char) {
        if c.is_ascii_alphanumeric() || !c.is_ascii() {
            self.out.push(c);
        } else {
            let _infallible = write!(self.out, "\\x{{{:x}}}", u32::from(c));
        }
    }

    /// The part from `start` to where the reader is.
    fn since(&self, start: &'p str) -> &'p str {
        &start[..start.len() - self.rest.len()]
    }

    /// After a repetition that began at `start` was taken.
    fn repeat(&mut self, start: &'p str, before: Before<'p>) -> Result<(), Wrong<'p>> {
        if self.rest.starts_with('?') {
            self.copy(1);
        }
        match before {
            Before::Something => Ok(()),
            Before::Repetition(first) => Err(("invalid nested repetition operator", self.since(first))),
            Before::Nothing => Err(("missing argument to repetition operator", self.since(start))),
        }
    }

    /// Reads what begins with a parenthesis; whether it opens a group.
    fn open(&mut self) -> Result<bool, Wrong<'p>> {
        let start = self.rest;
        if !start.starts_with("(?") {
            self.copy(1);
            return Ok(true);
        }
        let named = ["(?P<", "(?<"].into_iter().find(|prefix| start.len() > prefix.len() && start.starts_with(prefix));
        if let Some(prefix) = named {
            let Some(end) = start.find('>') else { return Err(("invalid named capture", start)) };
            let name = &start[prefix.len()..end];
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(("invalid named capture", &start[..=end]));
            }
            // Nobody asks for groups by name, and here names may begin with a digit.
            self.out.push('(');
            self.rest = &start[end + 1..];
            return Ok(true);
        }
        self.rest = &start[2..];
        let (mut flags, mut is_off, mut has_flag) = (String::new(), false, false);
        while let Some(c) = self.rest.chars().next() {
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                'i' | 'm' | 's' | 'U' => {
                    has_flag = true;
                    flags.push(c);
                }
                '-' if !is_off => {
                    (is_off, has_flag) = (true, false);
                    flags.push(c);
                }
                ':' | ')' if !is_off || has_flag => {
                    if c == ':' || !flags.is_empty() {
                        let _infallible = write!(self.out, "(?{flags}{c}");
                    }
                    return Ok(c == ':');
                }
                _ => return Err(("invalid or unsupported Perl syntax", self.since(start))),
            }
        }
        Err(("missing closing )", self.whole))
    }

    fn escape_outside(&mut self) -> Result<(), Wrong<'p>> {
        let start = self.rest;
        match start[1..].chars().next() {
            Some('A' | 'z') => self.copy(2),
            Some('b') => self.replace(2, r"(?-u:\b)"),
            Some('B') => self.replace(2, r"(?-u:\B)"),
            Some('Q') => {
                let quoted = &start[2..];
                let (text, rest) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
                text.chars().for_each(|c| self.push(c));
                self.rest = rest;
            }
            _ => {
                if !self.classes()? {
                    let c = self.escaped()?;
                    self.push(c);
                }
            }
        }
        Ok(())
    }

    fn replace(&mut self, bytes: usize, by: &str) {
        self.rest = &self.rest[bytes..];
        self.out.push_str(by);
    }

    /// Takes an escape that means a class of characters: those of letters and digits are of ASCII.
    fn classes(&mut self) -> Result<bool, Wrong<'p>> {
        let start = self.rest;
        let class = match start.as_bytes().get(1) {
            Some(b'd') => "[0-9]",
            Some(b'D') => "[^0-9]",
            Some(b'w') => "[0-9A-Za-z_]",
            Some(b'W') => "[^0-9A-Za-z_]",
            Some(b's') => r"[\t\n\f\r ]",
            Some(b'S') => r"[^\t\n\f\r ]",
            Some(b'p' | b'P') => return self.unicode().map(|()| true),
            _ => return Ok(false),
        };
        self.replace(2, class);
        Ok(true)
    }

    /// Takes a class of Unicode: `\pL`, `\p{Greek}`, `\p{^Greek}`.
    fn unicode(&mut self) -> Result<(), Wrong<'p>> {
        let start = self.rest;
        let (name, end) = if start[2..].starts_with('{') {
            let Some(end) = start.find('}') else { return Err(("invalid character class range", start)) };
            (&start[3..end], end + 1)
        } else {
            let c = start[2..].chars().next().ok_or(("invalid escape sequence", start))?;
            (&start[2..2 + c.len_utf8()], 2 + c.len_utf8())
        };
        let (name, turned) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        let is_out = (start.as_bytes()[1] == b'P') != turned;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(("invalid character class range", &start[..end]));
        }
        let class = match name {
            "Any" => if is_out { r"[^\x{0}-\x{10ffff}]" } else { r"[\x{0}-\x{10ffff}]" }.to_owned(),
            name => format!("\\{}{{{name}}}", if is_out { 'P' } else { 'p' }),
        };
        if regex::Regex::new(&class).is_err() {
            return Err(("invalid character class range", &start[..end]));
        }
        self.replace(end, &class);
        Ok(())
    }

    /// Takes an escape that means one character.
    fn escaped(&mut self) -> Result<char, Wrong<'p>> {
        let start = self.rest;
        let Some(c) = start[1..].chars().next() else {
            return Err(("trailing backslash at end of expression", ""));
        };
        self.rest = &start[1 + c.len_utf8()..];
        let digit = |text: &str, radix| text.chars().next().filter(|c| c.is_digit(radix));
        let value = match c {
            'a' => Some(7),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            // One digit would mean a group again, which RE2 does not have.
            '1'..='7' if digit(self.rest, 8).is_none() => None,
            '0'..='7' => {
                let more = self.rest.bytes().take(2).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                let digits = &start[1..2 + more];
                self.rest = &start[2 + more..];
                u32::from_str_radix(digits, 8).ok()
            }
            'x' => self.hexadecimal(),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
            _ => None,
        };
        value.and_then(char::from_u32).ok_or_else(|| ("invalid escape sequence", self.since(start)))
    }

    /// What follows `\x`: two digits, or any number in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        if let Some(rest) = self.rest.strip_prefix('{') {
            let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
            let value = u32::from_str_radix(&rest[..end], 16).ok();
            let closed = rest[end..].strip_prefix('}');
            self.rest = closed.unwrap_or(&rest[end..]);
            return value.filter(|_| closed.is_some());
        }
        let digits = self.rest.bytes().take(2).take_while(u8::is_ascii_hexdigit).count();
        let value = u32::from_str_radix(&self.rest[..digits], 16).ok();
        self.rest = &self.rest[digits..];
        value.filter(|_| digits == 2)
    }

    /// Takes a class in brackets.
    fn class(&mut self) -> Result<(), Wrong<'p>> {
        let start = self.rest;
        self.copy(1);
        if self.rest.starts_with('^') {
            self.copy(1);
        }
        let mut is_first = true;
        while is_first || !self.rest.starts_with(']') {
            is_first = false;
            if self.named_class()? {
                continue;
            }
            let from = self.rest;
            match self.member(start)? {
                Member::Class => {}
                Member::One(low) => {
                    let is_range =
                        self.rest.starts_with('-') && self.rest.len() > 1 && !self.rest[1..].starts_with(']');
                    self.push(low);
                    if !is_range {
                        continue;
                    }
                    self.copy(1);
                    let high = self.one(start)?;
                    if high < low {
                        return Err(("invalid character class range", self.since(from)));
                    }
                    self.push(high);
                }
            }
        }
        self.copy(1);
        Ok(())
    }

    /// Takes `[:name:]`, if that is what comes.
    fn named_class(&mut self) -> Result<bool, Wrong<'p>> {
        let start = self.rest;
        let Some(end) = start.strip_prefix("[:").and_then(|rest| rest.find(":]")) else { return Ok(false) };
        let (name, whole) = (&start[2..2 + end], &start[..end + 4]);
        if !NAMED.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(("invalid character class range", whole));
        }
        self.copy(whole.len());
        Ok(true)
    }

    fn member(&mut self, class: &'p str) -> Result<Member, Wrong<'p>> {
        if self.rest.starts_with('\\') && self.classes()? {
            return Ok(Member::Class);
        }
        self.one(class).map(Member::One)
    }

    /// Takes one character of a class; without writing it.
    fn one(&mut self, class: &'p str) -> Result<char, Wrong<'p>> {
        match self.rest.chars().next() {
            None => Err(("missing closing ]", class)),
            Some('\\') => self.escaped(),
            Some(c) => {
                self.rest = &self.rest[c.len_utf8()..];
                Ok(c)
            }
        }
    }
}

/// `{n}`, `{n,}` or `{n,m}` at the beginning, with its numbers; none if a brace just means itself.
fn counts(text: &str) -> Option<(&str, u32, Option<u32>)> {
    let end = text.find('}')?;
    let inner = &text[1..end];
    let number = |digits: &str| {
        let sound = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let padded = digits.len() > 1 && digits.starts_with('0');
        // What is too large to be read is too large.
        (sound && !padded).then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let (least, most) = match inner.split_once(',') {
        None => (number(inner)?, Some(number(inner)?)),
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((&text[..=end], least, most))
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::translate;

    fn finds(pattern: &str, text: &str) -> bool {
        Regex::new(&translate(pattern).unwrap()).unwrap().is_match(text)
    }

    #[test]
    fn brackets_and_signs_in_a_class_mean_themselves() {
        let contour = r#"^[^()<>@,;:\\"\/[\]?={}]+$"#;
        assert!(finds(contour, "abc-def.x") && !finds(contour, "a[b") && !finds(contour, "a]b"));
        for (class, within, without) in [
            ("^[a&&b]$", "&", "c"),
            ("^[+--]$", ",", "."),
            ("^[~~x]$", "~", "y"),
            ("^[]a]$", "]", "b"),
            ("^[^]a]$", "b", "]"),
            ("^[[]$", "[", "]"),
            ("^[a-c-e]$", "-", "d"),
            (r"^[\w-]$", "-", "."),
            (r"^[\d.]$", "7", "\u{661}"),
            ("^[[:alpha:]_]$", "_", "1"),
            (r"^[\x41-\x{43}\t]$", "B", "D"),
        ] {
            assert!(finds(class, within) && !finds(class, without), "{class}");
        }
    }

    #[test]
    fn what_go_reads_is_read() {
        for (pattern, yes, no) in [
            (r"^a{,2}$", "a{,2}", "aa"),
            ("^{$", "{", "x"),
            ("^a{2,3}$", "aaa", "a"),
            ("^a{02}$", "a{02}", "aa"),
            (r"^\Qa.b*\E$", "a.b*", "axb"),
            (r"^\101$", "A", "B"),
            (r"^\pL+$", "äb", "1"),
            (r"^\p{^Greek}$", "a", "α"),
            ("(?i)^abc$", "ABC", "abd"),
            ("^(?P<first>a)(?<second>b)$", "ab", "a"),
            ("^(?i:a)b$", "Ab", "AB"),
            (r"\bfoo\b", "a foo b", "afoo"),
            ("^(?)a$", "a", "b"),
            ("^a(|b)$", "ab", "c"),
            (r"^\_\-$", "_-", "x"),
            ("^ä+$", "ää", "a"),
        ] {
            assert!(finds(pattern, yes) && !finds(pattern, no), "{pattern}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (pattern, wrong) in [
            ("(", "missing closing ): `(`"),
            ("a(b|c", "missing closing ): `a(b|c`"),
            ("a)", "unexpected ): `a)`"),
            ("[a", "missing closing ]: `[a`"),
            ("x[]a", "missing closing ]: `[]a`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("a|*", "missing argument to repetition operator: `*`"),
            ("(+?)", "missing argument to repetition operator: `+?`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a+?*", "invalid nested repetition operator: `+?*`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            (r"\y", r"invalid escape sequence: `\y`"),
            (r"(a)\1", r"invalid escape sequence: `\1`"),
            (r"\xZ", r"invalid escape sequence: `\x`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
            ("(?<=a>)", "invalid named capture: `(?<=a>`"),
            ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
            (r"\p{Foo}", r"invalid character class range: `\p{Foo}`"),
        ] {
            assert_eq!(translate(pattern), Err(format!("error parsing regexp: {wrong}")), "{pattern}");
        }
    }
}
