//! From tokens to trees. Mistakes are worded as the reference's generated parser words them.

mod macros;

use crate::ast::{Ast, Entry, FieldInit, Id, Literal, Node};
use crate::lexer::{self, Lexeme, Token};
use crate::source::{Issue, Issues};

/// The longest text, in characters.
const MAX_LENGTH: usize = 100_000;
/// How deep brackets may be nested.
const MAX_NESTING: u32 = 250;
/// How high a tree may grow, with what macros add.
const MAX_DEPTH: u32 = 400;
/// What an expression may begin with.
const BEGINNINGS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, \
                          STRING, BYTES, IDENTIFIER}";
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether expressions can use a name for a variable or field.
pub fn is_identifier(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter)
        && name.chars().all(|c| letter(c) || c.is_ascii_digit())
        && !RESERVED.contains(&name)
        && !["true", "false", "null", "in"].contains(&name)
}

/// Binary operators by how strongly they bind: sign, function, strength.
const OPERATORS: [(&str, &str, u8); 12] = [
    ("<", "_<_", 3),
    ("<=", "_<=_", 3),
    (">", "_>_", 3),
    (">=", "_>=_", 3),
    ("==", "_==_", 3),
    ("!=", "_!=_", 3),
    ("in", "@in", 3),
    ("+", "_+_", 4),
    ("-", "_-_", 4),
    ("*", "_*_", 5),
    ("/", "_/_", 5),
    ("%", "_%_", 5),
];

/// Reads a text, in which `cel.bind` may name values.
pub(crate) fn parse(text: &str, may_bind: bool) -> Result<Ast, Issues> {
    let size = text.chars().count();
    if size > MAX_LENGTH {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {MAX_LENGTH}");
        return Err(Issues::new(text, vec![Issue { offset: None, message }]));
    }
    let (tokens, mut issues) = lexer::tokens(text);
    let mut parser = Parser { tokens, at: 0, ast: Ast::new(), issues: Vec::new(), nesting: 0, fresh: 0, may_bind };
    if let Ok(root) = parser.whole() {
        parser.ast.root = root;
    }
    issues.append(&mut parser.issues);
    if issues.is_empty() { Ok(parser.ast) } else { Err(Issues::new(text, issues)) }
}

/// Parsing cannot go on; the reason is among the issues.
struct Failed;

type Parsed<T> = Result<T, Failed>;

struct Parser {
    tokens: Vec<Lexeme>,
    at: usize,
    ast: Ast,
    issues: Vec<Issue>,
    nesting: u32,
    may_bind: bool,
    /// How many names macros have made up.
    fresh: u32,
}

impl Parser {
    fn whole(&mut self) -> Parsed<Id> {
        let root = self.expression()?;
        if self.current().token != Token::End {
            let how = if self.ahead(1).token == Token::End { "extraneous" } else { "mismatched" };
            let text = format!("{how} input '{}' expecting <EOF>", self.current().text);
            return Err(self.syntax(&text));
        }
        Ok(root)
    }

    fn current(&self) -> &Lexeme {
        &self.tokens[self.at]
    }

    fn ahead(&self, by: usize) -> &Lexeme {
        &self.tokens[(self.at + by).min(self.tokens.len() - 1)]
    }

    fn is(&self, sign: &str) -> bool {
        matches!(&self.current().token, Token::Sign(found) if *found == sign)
    }

    fn offset(&self) -> u32 {
        self.current().offset
    }

    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn accept(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Parsed<()> {
        if self.accept(sign) {
            return Ok(());
        }
        let found = self.current().text.clone();
        let skippable = matches!(&self.ahead(1).token, Token::Sign(next) if *next == sign);
        let text = if skippable {
            format!("extraneous input '{found}' expecting '{sign}'")
        } else if self.current().token == Token::End || sign == ")" || sign == "]" || sign == "}" {
            format!("missing '{sign}' at '{found}'")
        } else {
            format!("mismatched input '{found}' expecting '{sign}'")
        };
        Err(self.syntax(&text))
    }

    fn syntax(&mut self, text: &str) -> Failed {
        let offset = self.offset();
        self.issue(offset, format!("Syntax error: {text}"))
    }

    fn issue(&mut self, offset: u32, message: String) -> Failed {
        self.issues.push(Issue { offset: Some(offset), message });
        Failed
    }

    fn too_deep(&mut self) -> Failed {
        let message = format!("expression recursion limit exceeded: {MAX_NESTING}");
        self.issues.push(Issue { offset: None, message });
        Failed
    }

    /// Adds a node, unless the tree grows too high.
    fn add(&mut self, node: Node, offset: u32) -> Parsed<Id> {
        let id = self.ast.add(node, offset);
        if self.ast.depth(id) > MAX_DEPTH { Err(self.too_deep()) } else { Ok(id) }
    }

    fn call(&mut self, function: &str, args: Vec<Id>, offset: u32) -> Parsed<Id> {
        self.add(Node::Call { function: function.into(), target: None, args }, offset)
    }

    fn expression(&mut self) -> Parsed<Id> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.too_deep());
        }
        let condition = self.logical("||", "_||_")?;
        let offset = self.offset();
        let whole = if self.accept("?") {
            let yes = self.logical("||", "_||_")?;
            self.expect(":")?;
            let no = self.expression()?;
            self.call("_?_:_", vec![condition, yes, no], offset)?
        } else {
            condition
        };
        self.nesting -= 1;
        Ok(whole)
    }

    /// `a || b || c`, or with `&&`: a balanced tree, since the order does not matter and chains are long.
    fn logical(&mut self, sign: &str, function: &str) -> Parsed<Id> {
        let mut terms = Vec::new();
        let mut offsets = Vec::new();
        loop {
            terms.push(if sign == "||" { self.logical("&&", "_&&_")? } else { self.binary(3)? });
            offsets.push(self.offset());
            if !self.accept(sign) {
                return self.balanced(&terms, &offsets, function);
            }
        }
    }

    fn balanced(&mut self, terms: &[Id], offsets: &[u32], function: &str) -> Parsed<Id> {
        if let [one] = terms {
            return Ok(*one);
        }
        let middle = terms.len().div_ceil(2);
        let left = self.balanced(&terms[..middle], &offsets[..middle], function)?;
        let right = self.balanced(&terms[middle..], &offsets[middle..], function)?;
        self.call(function, vec![left, right], offsets[middle - 1])
    }

    fn binary(&mut self, strength: u8) -> Parsed<Id> {
        let mut left = self.unary()?;
        loop {
            let Token::Sign(sign) = self.current().token else { return Ok(left) };
            let operator = OPERATORS.iter().find(|(found, _, binds)| *found == sign && *binds >= strength);
            let Some((_, function, binds)) = operator else { return Ok(left) };
            let offset = self.offset();
            self.advance();
            let right = self.binary(binds + 1)?;
            left = self.call(function, vec![left, right], offset)?;
        }
    }

    fn unary(&mut self) -> Parsed<Id> {
        let (sign, function) = if self.is("!") {
            ("!", "!_")
        } else if self.is("-") {
            ("-", "-_")
        } else {
            return self.member();
        };
        let mut offsets = Vec::new();
        while self.is(sign) {
            offsets.push(self.offset());
            self.advance();
        }
        let number = matches!(self.current().token, Token::Int(_) | Token::Float(_));
        if sign == "-" && number {
            // The last sign belongs to the number.
            let offset = offsets.pop().unwrap_or_else(|| self.offset());
            let literal = self.number(true, offset)?;
            let operand = self.members(literal)?;
            return self.signed(operand, function, &offsets);
        }
        let operand = self.member()?;
        self.signed(operand, function, &offsets)
    }

    fn signed(&mut self, operand: Id, function: &str, offsets: &[u32]) -> Parsed<Id> {
        match offsets.first() {
            Some(offset) if offsets.len() % 2 == 1 => self.call(function, vec![operand], *offset),
            _ => Ok(operand),
        }
    }

    fn member(&mut self) -> Parsed<Id> {
        let primary = self.primary()?;
        self.members(primary)
    }

    /// What follows a value: `.field`, `.method()`, `[index]`, `Type{}`.
    fn members(&mut self, mut operand: Id) -> Parsed<Id> {
        loop {
            let offset = self.offset();
            if self.accept(".") {
                operand = self.selection(operand, offset)?;
            } else if self.accept("[") {
                let optional = self.accept("?");
                let index = self.expression()?;
                self.expect("]")?;
                let function = if optional { "_[?_]" } else { "_[_]" };
                operand = self.call(function, vec![operand, index], offset)?;
            } else if self.is("{") {
                let Some(name) = self.ast.qualified(operand) else { return Ok(operand) };
                self.advance();
                operand = self.object(&name, offset)?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn selection(&mut self, operand: Id, offset: u32) -> Parsed<Id> {
        let optional = self.accept("?");
        let Token::Ident(field) = self.current().token.clone() else {
            let end = if self.current().token == Token::End { "" } else { &self.current().text };
            let text = format!("no viable alternative at input '.{}{end}'", if optional { "?" } else { "" });
            return Err(self.syntax(&text));
        };
        self.advance();
        if optional {
            let field = self.add(Node::Literal(Literal::String(field.into())), offset)?;
            return self.call("_?._", vec![operand, field], offset);
        }
        let open = self.offset();
        if self.accept("(") {
            let args = self.list_until(")")?;
            return self.method(&field, Some(operand), args, open);
        }
        self.add(Node::Select { operand, field: field.into(), test: false }, offset)
    }

    /// A call, or what the macro of that name makes of it.
    fn method(&mut self, function: &str, target: Option<Id>, args: Vec<Id>, offset: u32) -> Parsed<Id> {
        if let Some(expanded) = self.expand(function, target, &args, offset)? {
            return Ok(expanded);
        }
        self.add(Node::Call { function: function.into(), target, args }, offset)
    }

    fn list_until(&mut self, close: &str) -> Parsed<Vec<Id>> {
        let mut list = Vec::new();
        if self.accept(close) {
            return Ok(list);
        }
        loop {
            list.push(self.expression()?);
            if !self.accept(",") {
                break;
            }
        }
        self.expect(close)?;
        Ok(list)
    }

    fn primary(&mut self) -> Parsed<Id> {
        let offset = self.offset();
        match self.current().token.clone() {
            Token::Int(_) | Token::Uint(_) | Token::Float(_) => self.number(false, offset),
            Token::String(text) => self.literal(Literal::String(text.into()), offset),
            Token::Bytes(bytes) => self.literal(Literal::Bytes(bytes.into()), offset),
            Token::Sign("true") => self.literal(Literal::Bool(true), offset),
            Token::Sign("false") => self.literal(Literal::Bool(false), offset),
            Token::Sign("null") => self.literal(Literal::Null, offset),
            Token::Sign("(") => {
                self.advance();
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => self.list(offset),
            Token::Sign("{") => self.map(offset),
            Token::Sign(".") => {
                self.advance();
                match self.current().token.clone() {
                    Token::Ident(name) => self.name(name, offset),
                    _ => Err(self.unexpected()),
                }
            }
            Token::Ident(name) => self.name(name, offset),
            Token::Sign(_) | Token::End => Err(self.unexpected()),
        }
    }

    fn unexpected(&mut self) -> Failed {
        let begins = match &self.ahead(1).token {
            Token::Sign(sign) => matches!(*sign, "[" | "{" | "(" | "." | "-" | "!" | "true" | "false" | "null"),
            Token::End => false,
            _ => true,
        };
        let how = if begins && self.current().token != Token::End { "extraneous" } else { "mismatched" };
        let text = format!("{how} input '{}' expecting {BEGINNINGS}", self.current().text);
        self.syntax(&text)
    }

    fn literal(&mut self, literal: Literal, offset: u32) -> Parsed<Id> {
        self.advance();
        self.add(Node::Literal(literal), offset)
    }

    fn name(&mut self, name: String, offset: u32) -> Parsed<Id> {
        self.advance();
        let open = self.offset();
        if self.accept("(") {
            let args = self.list_until(")")?;
            return self.method(&name, None, args, open);
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(self.issue(offset, format!("reserved identifier: {name}")));
        }
        self.add(Node::Ident(name.into()), offset)
    }

    fn number(&mut self, negative: bool, offset: u32) -> Parsed<Id> {
        let sign = if negative { "-" } else { "" };
        let integer = |text: &str| match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => i128::from_str_radix(hex, 16),
            None => text.parse::<i128>(),
        };
        let literal = match self.current().token.clone() {
            Token::Int(text) => {
                let number = integer(&text).ok().map(|number| if negative { -number } else { number });
                number.and_then(|number| i64::try_from(number).ok()).map(Literal::Int).ok_or("invalid int literal")
            }
            Token::Uint(text) => {
                integer(&text).ok().and_then(|n| u64::try_from(n).ok()).map(Literal::Uint).ok_or("invalid uint literal")
            }
            Token::Float(text) => format!("{sign}{text}")
                .parse()
                .ok()
                .filter(|number: &f64| number.is_finite())
                .map(Literal::Double)
                .ok_or("invalid double literal"),
            _ => Err("invalid literal"),
        };
        match literal {
            Ok(literal) => self.literal(literal, offset),
            Err(message) => Err(self.issue(offset, message.to_owned())),
        }
    }

    fn list(&mut self, offset: u32) -> Parsed<Id> {
        self.advance();
        let (mut elements, mut optional) = (Vec::new(), Vec::new());
        while !self.is("]") {
            if self.accept("?") {
                optional.push(elements.len());
            }
            elements.push(self.expression()?);
            if !self.accept(",") {
                break;
            }
        }
        self.expect("]")?;
        self.add(Node::List(elements, optional), offset)
    }

    fn map(&mut self, offset: u32) -> Parsed<Id> {
        self.advance();
        let mut entries = Vec::new();
        while !self.is("}") {
            let optional = self.accept("?");
            let key = self.expression()?;
            self.expect(":")?;
            let value = self.expression()?;
            entries.push(Entry { key, value, optional });
            if !self.accept(",") {
                break;
            }
        }
        self.expect("}")?;
        self.add(Node::Map(entries), offset)
    }

    fn object(&mut self, name: &str, offset: u32) -> Parsed<Id> {
        let mut fields = Vec::new();
        while !self.is("}") {
            let optional = self.accept("?");
            let Token::Ident(field) = self.current().token.clone() else {
                let text =
                    format!("mismatched input '{}' expecting {{'}}', ',', '?', IDENTIFIER}}", self.current().text);
                return Err(self.syntax(&text));
            };
            self.advance();
            let offset = self.offset();
            self.expect(":")?;
            let value = self.expression()?;
            fields.push(FieldInit { field: field.into(), value, optional, offset });
            if !self.accept(",") {
                break;
            }
        }
        self.expect("}")?;
        self.add(Node::Struct { name: name.into(), fields }, offset)
    }
}
