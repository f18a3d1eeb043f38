//! From text to tokens.

use crate::source::Issue;

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Int(String),
    Uint(String),
    Float(String),
    String(String),
    Bytes(Vec<u8>),
    Ident(String),
    /// An operator, a bracket, or one of the words `true`, `false`, `null` and `in`.
    Sign(&'static str),
    End,
}

/// A token with its place, in characters from the start, and its text.
#[derive(Clone, Debug)]
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    pub(crate) offset: u32,
    pub(crate) text: String,
}

const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}",
];

/// All tokens, the end included, and what could not be read.
pub(crate) fn tokens(text: &str) -> (Vec<Lexeme>, Vec<Issue>) {
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0, issues: Vec::new() };
    let mut out = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        if start >= lexer.chars.len() {
            out.push(Lexeme { token: Token::End, offset: offset(start), text: "<EOF>".to_owned() });
            return (out, lexer.issues);
        }
        if let Some(token) = lexer.token() {
            let text = lexer.chars[start..lexer.at].iter().collect();
            out.push(Lexeme { token, offset: offset(start), text });
        }
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    issues: Vec<Issue>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn digit(&self, ahead: usize) -> bool {
        self.peek(ahead).is_some_and(|c| c.is_ascii_digit())
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek(0) {
                Some(' ' | '\t' | '\n' | '\r' | '\u{c}') => self.at += 1,
                Some('/') if self.peek(1) == Some('/') => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn token(&mut self) -> Option<Token> {
        let start = self.at;
        if let Some(token) = self.string() {
            return token;
        }
        if self.digit(0) || (self.peek(0) == Some('.') && self.digit(1)) {
            return Some(self.number());
        }
        if self.peek(0).is_some_and(|c| c.is_ascii_alphabetic() || c == '_') {
            while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                self.at += 1;
            }
            let word: String = self.chars[start..self.at].iter().collect();
            let sign = ["in", "true", "false", "null"].into_iter().find(|sign| *sign == word);
            return Some(sign.map_or(Token::Ident(word), Token::Sign));
        }
        let sign = SIGNS.iter().find(|sign| sign.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c)));
        if let Some(sign) = sign {
            self.at += sign.len();
            return Some(Token::Sign(sign));
        }
        // The start of an operator takes the next character down with it.
        let partial = matches!(self.peek(0), Some('=' | '&' | '|'));
        self.at = (self.at + 1 + usize::from(partial)).min(self.chars.len());
        self.unknown(start);
        None
    }

    fn unknown(&mut self, start: usize) {
        let text: String = self.chars[start..self.at].iter().collect();
        let text = text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
        self.issues.push(Issue {
            offset: Some(offset(start)),
            message: format!("Syntax error: token recognition error at: '{text}'"),
        });
    }

    fn number(&mut self) -> Token {
        let start = self.at;
        if self.peek(0) == Some('0')
            && matches!(self.peek(1), Some('x' | 'X'))
            && self.peek(2).is_some_and(|c| c.is_ascii_hexdigit())
        {
            self.at += 2;
            self.skip_while(|c| c.is_ascii_hexdigit());
            return self.integer(start);
        }
        self.skip_while(|c| c.is_ascii_digit());
        let mut float = false;
        if self.peek(0) == Some('.') && self.digit(1) {
            float = true;
            self.at += 1;
            self.skip_while(|c| c.is_ascii_digit());
        }
        if matches!(self.peek(0), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
            if self.digit(1 + sign) {
                float = true;
                self.at += 1 + sign;
                self.skip_while(|c| c.is_ascii_digit());
            }
        }
        if float {
            return Token::Float(self.chars[start..self.at].iter().collect());
        }
        self.integer(start)
    }

    fn integer(&mut self, start: usize) -> Token {
        let text = self.chars[start..self.at].iter().collect();
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return Token::Uint(text);
        }
        Token::Int(text)
    }

    fn skip_while(&mut self, accept: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&accept) {
            self.at += 1;
        }
    }

    /// A text or bytes, when one begins here: the outer `None` when none does, the inner when it is broken.
    fn string(&mut self) -> Option<Option<Token>> {
        let start = self.at;
        let (mut raw, mut bytes) = (false, false);
        let mut ahead = 0;
        while ahead < 2 {
            match self.peek(ahead) {
                Some('r' | 'R') if !raw => raw = true,
                Some('b' | 'B') if !bytes && !raw => bytes = true,
                _ => break,
            }
            ahead += 1;
        }
        let quote = self.peek(ahead).filter(|c| matches!(c, '"' | '\''))?;
        self.at += ahead;
        let long = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        self.at += if long { 3 } else { 1 };
        let mut content = Content { text: String::new(), bytes: Vec::new(), wants_bytes: bytes };
        loop {
            match self.peek(0) {
                None => break,
                Some('\n' | '\r') if !long => break,
                Some(c) if c == quote && (!long || (self.peek(1) == Some(quote) && self.peek(2) == Some(quote))) => {
                    self.at += if long { 3 } else { 1 };
                    return Some(Some(content.token()));
                }
                Some('\\') if !raw => {
                    if self.escape(&mut content).is_none() {
                        break;
                    }
                }
                Some(c) => {
                    self.at += 1;
                    content.push(c);
                }
            }
        }
        self.at = (self.at + 1).min(self.chars.len());
        self.unknown(start);
        Some(None)
    }

    /// An escape sequence; the place is on the backslash.
    fn escape(&mut self, content: &mut Content) -> Option<()> {
        let c = self.peek(1)?;
        let simple = match c {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '?' | '"' | '\'' | '`' => c,
            'x' | 'X' => return self.code(2, 2, 16, content),
            'u' if !content.wants_bytes => return self.code(2, 4, 16, content),
            'U' if !content.wants_bytes => return self.code(2, 8, 16, content),
            '0'..='3' => return self.code(1, 3, 8, content),
            _ => return None,
        };
        self.at += 2;
        content.push(simple);
        Some(())
    }

    fn code(&mut self, skip: usize, digits: usize, radix: u32, content: &mut Content) -> Option<()> {
        let from = self.at + skip;
        let text: String = self.chars.get(from..from + digits)?.iter().collect();
        let number = u32::from_str_radix(&text, radix).ok()?;
        if content.wants_bytes {
            content.bytes.push(u8::try_from(number).ok()?);
        } else {
            content.text.push(char::from_u32(number)?);
        }
        self.at = from + digits;
        Some(())
    }
}

struct Content {
    text: String,
    bytes: Vec<u8>,
    wants_bytes: bool,
}

impl Content {
    fn push(&mut self, c: char) {
        if self.wants_bytes {
            self.bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            self.text.push(c);
        }
    }

    fn token(self) -> Token {
        if self.wants_bytes { Token::Bytes(self.bytes) } else { Token::String(self.text) }
    }
}
