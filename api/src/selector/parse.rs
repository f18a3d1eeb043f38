//! The text form of label selectors.

use super::Error;
use super::labels::{LabelSelector, Operator, Requirement, check_key};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    End,
    Comma,
    Open,
    Close,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    In,
    NotIn,
    Identifier,
}

const SPECIAL: [(&str, Token); 9] = [
    ("==", Token::DoubleEquals),
    ("!=", Token::NotEquals),
    ("=", Token::Equals),
    ("!", Token::Not),
    (",", Token::Comma),
    ("(", Token::Open),
    (")", Token::Close),
    (">", Token::Greater),
    ("<", Token::Less),
];

impl LabelSelector {
    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        let mut requirements = Vec::new();
        loop {
            match parser.peek_value() {
                (Token::Identifier | Token::Not, _) => {
                    let requirement = parser.requirement();
                    requirements
                        .push(requirement.map_err(|error| Error(format!("unable to parse requirement: {error}")))?);
                }
                (Token::End, _) => return Ok(Self::of(requirements)),
                (_, found) => {
                    return Err(Error(format!("found '{found}', expected: !, identifier, or 'end of string'")));
                }
            }
            match parser.next_value() {
                (Token::End, _) => return Ok(Self::of(requirements)),
                (Token::Comma, _) => {
                    let (token, found) = parser.peek_value();
                    if !matches!(token, Token::Identifier | Token::Not) {
                        return Err(Error(format!("found '{found}', expected: identifier after ','")));
                    }
                }
                (_, found) => return Err(Error(format!("found '{found}', expected: ',' or 'end of string'"))),
            }
        }
    }
}

fn tokens(text: &str) -> Vec<(Token, &str)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if rest.is_empty() {
            return tokens;
        }
        if let Some((symbol, token)) = SPECIAL.iter().find(|(symbol, _)| rest.starts_with(symbol)) {
            tokens.push((*token, &rest[..symbol.len()]));
            rest = &rest[symbol.len()..];
            continue;
        }
        let end = rest.find([' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '>', '<']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let token = match word {
            "in" => Token::In,
            "notin" => Token::NotIn,
            _ => Token::Identifier,
        };
        tokens.push((token, word));
        rest = after;
    }
}

struct Parser<'t> {
    tokens: Vec<(Token, &'t str)>,
    at: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> (Token, &'t str) {
        self.tokens.get(self.at).copied().unwrap_or((Token::End, ""))
    }

    fn next(&mut self) -> (Token, &'t str) {
        let token = self.peek();
        self.at += 1;
        token
    }

    /// The next token where `in` and `notin` are plain words.
    fn peek_value(&self) -> (Token, &'t str) {
        match self.peek() {
            (Token::In | Token::NotIn, word) => (Token::Identifier, word),
            other => other,
        }
    }

    fn next_value(&mut self) -> (Token, &'t str) {
        let token = self.peek_value();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let mut token = self.next_value();
        let negated = token.0 == Token::Not;
        if negated {
            token = self.next_value();
        }
        let (Token::Identifier, key) = token else {
            return Err(Error(format!("found '{}', expected: identifier", token.1)));
        };
        check_key(key)?;
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek_value().0, Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        let operator = match self.next() {
            (Token::In, _) => Operator::In,
            (Token::NotIn, _) => Operator::NotIn,
            (Token::Equals, _) => Operator::Equals,
            (Token::DoubleEquals, _) => Operator::DoubleEquals,
            (Token::NotEquals, _) => Operator::NotEquals,
            (Token::Greater, _) => Operator::GreaterThan,
            (Token::Less, _) => Operator::LessThan,
            (_, found) => return Err(Error(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt"))),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?.to_owned()],
        };
        Requirement::new(key, operator, values)
    }

    fn exact_value(&mut self) -> Result<&'t str, Error> {
        if matches!(self.peek_value().0, Token::End | Token::Comma) {
            return Ok("");
        }
        match self.next_value() {
            (Token::Identifier, value) => Ok(value),
            (_, found) => Err(Error(format!("found '{found}', expected: identifier"))),
        }
    }

    /// `(a, b)`; a missing value between commas is the empty one.
    fn values(&mut self) -> Result<Vec<String>, Error> {
        let (token, found) = self.next_value();
        if token != Token::Open {
            return Err(Error(format!("found '{found}' expected: '('")));
        }
        match self.peek_value() {
            (Token::Identifier | Token::Comma, _) => {}
            (Token::Close, _) => {
                self.at += 1;
                return Ok(Vec::new());
            }
            (_, found) => return Err(Error(format!("found '{found}', expected: ',', ')' or identifier"))),
        }
        let values = self.identifiers()?;
        let (token, found) = self.next_value();
        if token == Token::Close { Ok(values) } else { Err(Error(format!("found '{found}', expected: ')'"))) }
    }

    fn identifiers(&mut self) -> Result<Vec<String>, Error> {
        let mut values = Vec::new();
        loop {
            match self.next_value() {
                (Token::Identifier, value) => {
                    values.push(value.to_owned());
                    match self.peek_value() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, found) => return Err(Error(format!("found '{found}', expected: ',' or ')'"))),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    match self.peek_value().0 {
                        Token::Close => {
                            values.push(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            self.at += 1;
                            values.push(String::new());
                        }
                        _ => {}
                    }
                }
                (_, found) => return Err(Error(format!("found '{found}', expected: ',', or identifier"))),
            }
        }
    }
}
