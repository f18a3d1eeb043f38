//! From tokens to the nodes of the first document, by libyaml's grammar. What comes after that document is not looked at.

use std::collections::HashMap;

use super::scan::{Kind, Scanner, Token};
use super::{Error, MAX_NODES, too_deep};
use crate::codec::json::MAX_DEPTH;

const STANDARD: &str = "tag:yaml.org,2002:";

/// Where a node is in [`Document::nodes`].
pub(super) type Id = usize;

/// A node and the line it begins in, from zero.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) content: Content,
    pub(super) line: usize,
}

#[derive(Debug)]
pub(super) enum Content {
    /// `tag` is empty where there is none, `plain` is not in quotes.
    Scalar {
        text: String,
        tag: String,
        plain: bool,
    },
    Sequence(Vec<Id>),
    /// Keys and values.
    Mapping(Vec<(Id, Id)>),
    Alias {
        name: String,
        of: Id,
    },
}

/// The nodes of a document.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) nodes: Vec<Raw>,
    pub(super) root: Id,
}

/// Reads the first document; `None` in a text without any.
pub(super) fn compose(text: &str) -> Result<Option<Document>, Error> {
    let mut composer =
        Composer { scanner: Scanner::new(text), nodes: Vec::new(), anchors: HashMap::new(), tags: HashMap::new() };
    let root = composer.document()?;
    Ok(root.map(|root| Document { nodes: composer.nodes, root }))
}

struct Composer<'a> {
    scanner: Scanner<'a>,
    nodes: Vec<Raw>,
    anchors: HashMap<String, Id>,
    /// Prefixes of tags by their handles.
    tags: HashMap<String, String>,
}

/// What stands before a node's content.
#[derive(Default)]
struct Properties {
    anchor: Option<String>,
    tag: Option<String>,
    line: usize,
}

/// Where a node stands, which says what it can be.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// In block context, where a `-` begins no list that is not indented.
    Block,
    /// In block context, behind `?` or `:`.
    OfMapping,
    Flow,
}

/// A parser's error is at the token it did not expect, or else where the collection began; on the first line it has no
/// line.
fn unexpected<T>(message: &str, line: usize, context: usize) -> Result<T, Error> {
    Err(Error::at(if line == 0 { context } else { line }, message))
}

impl Composer<'_> {
    fn kind(&mut self) -> Result<&Kind, Error> {
        Ok(&self.scanner.peek()?.kind)
    }

    fn line(&mut self) -> Result<usize, Error> {
        Ok(self.scanner.peek()?.line)
    }

    fn document(&mut self) -> Result<Option<Id>, Error> {
        let explicit = matches!(self.kind()?, Kind::Version(..) | Kind::TagDirective(..) | Kind::DocumentStart);
        if *self.kind()? == Kind::StreamEnd {
            return Ok(None);
        }
        self.directives()?;
        if explicit {
            let line = self.line()?;
            if *self.kind()? != Kind::DocumentStart {
                return unexpected("did not find expected <document start>", line, 0);
            }
            self.scanner.take()?;
        }
        let root = if explicit && self.is_document_empty()? { self.empty(0)? } else { self.node(Place::Block, 0)? };
        // What follows must be a token, if only of another document.
        self.scanner.peek()?;
        Ok(Some(root))
    }

    fn is_document_empty(&mut self) -> Result<bool, Error> {
        Ok(matches!(
            self.kind()?,
            Kind::Version(..) | Kind::TagDirective(..) | Kind::DocumentStart | Kind::DocumentEnd | Kind::StreamEnd
        ))
    }

    fn directives(&mut self) -> Result<(), Error> {
        let mut versions = 0;
        while matches!(self.kind()?, Kind::Version(..) | Kind::TagDirective(..)) {
            let Token { kind, line } = self.scanner.take()?;
            match kind {
                Kind::Version(..) if versions > 0 => return unexpected("found duplicate %YAML directive", line, 0),
                Kind::Version(1, 1) => versions += 1,
                Kind::TagDirective(handle, prefix) => {
                    if self.tags.insert(handle, prefix).is_some() {
                        return unexpected("found duplicate %TAG directive", line, 0);
                    }
                }
                _ => return unexpected("found incompatible YAML document", line, 0),
            }
        }
        for (handle, prefix) in [("!", "!"), ("!!", STANDARD)] {
            self.tags.entry(handle.to_owned()).or_insert_with(|| prefix.to_owned());
        }
        Ok(())
    }

    fn add(&mut self, content: Content, line: usize) -> Result<Id, Error> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Error::at(line + 1, "document contains too many nodes"));
        }
        self.nodes.push(Raw { content, line });
        Ok(self.nodes.len() - 1)
    }

    /// A null that nobody wrote.
    fn empty(&mut self, line: usize) -> Result<Id, Error> {
        self.add(Content::Scalar { text: String::new(), tag: String::new(), plain: true }, line)
    }

    fn node(&mut self, place: Place, depth: usize) -> Result<Id, Error> {
        if depth > MAX_DEPTH + 1 {
            return Err(too_deep());
        }
        if let Kind::Alias(name) = self.kind()? {
            let name = name.clone();
            let line = self.scanner.take()?.line;
            let of = self.anchors.get(&name).copied();
            let unknown = || Error::Whole(format!("unknown anchor '{name}' referenced"));
            return self.add(Content::Alias { of: of.ok_or_else(unknown)?, name }, line);
        }
        let properties = self.properties()?;
        // A node is known by its anchor before its content is read: it may contain itself.
        let id = self.empty(properties.line)?;
        if let Some(anchor) = &properties.anchor {
            self.anchors.insert(anchor.clone(), id);
        }
        self.nodes[id].content = self.content(place, properties, depth)?;
        Ok(id)
    }

    /// An anchor and a tag, in either order.
    fn properties(&mut self) -> Result<Properties, Error> {
        let mut properties = Properties { line: self.line()?, ..Properties::default() };
        let mut tag = None;
        loop {
            match self.kind()? {
                Kind::Anchor(_) if properties.anchor.is_none() => {
                    if let Kind::Anchor(name) = self.scanner.take()?.kind {
                        properties.anchor = Some(name);
                    }
                }
                Kind::Tag(..) if tag.is_none() => tag = Some(self.scanner.take()?),
                _ => break,
            }
        }
        if let Some(Token { kind: Kind::Tag(handle, suffix), line }) = tag {
            properties.tag = Some(self.resolve_tag(&handle, suffix, line, properties.line)?);
        }
        Ok(properties)
    }

    fn resolve_tag(&self, handle: &str, suffix: String, line: usize, context: usize) -> Result<String, Error> {
        if handle.is_empty() {
            return Ok(suffix);
        }
        match self.tags.get(handle) {
            Some(prefix) => Ok(format!("{prefix}{suffix}")),
            None => unexpected("found undefined tag handle", line, context),
        }
    }

    fn content(&mut self, place: Place, properties: Properties, depth: usize) -> Result<Content, Error> {
        let line = self.line()?;
        let block = place != Place::Flow;
        match self.kind()? {
            Kind::BlockEntry if place == Place::OfMapping => self.sequence_without_indent(depth),
            Kind::Scalar { .. } => Ok(self.scalar(properties.tag)?),
            Kind::FlowSequenceStart => self.flow_sequence(depth),
            Kind::FlowMappingStart => self.flow_mapping(depth),
            Kind::BlockSequenceStart if block => self.block_sequence(depth),
            Kind::BlockMappingStart if block => self.block_mapping(depth),
            _ if properties.anchor.is_some() || properties.tag.is_some() => {
                let tag = properties.tag.unwrap_or_default();
                Ok(Content::Scalar { text: String::new(), plain: tag.is_empty(), tag })
            }
            _ => unexpected("did not find expected node content", line, properties.line),
        }
    }

    fn scalar(&mut self, tag: Option<String>) -> Result<Content, Error> {
        let Kind::Scalar { text, plain } = self.scanner.take()?.kind else { unreachable!("a scalar was seen") };
        let tag = tag.unwrap_or_default();
        let plain = (plain && tag.is_empty()) || tag == "!";
        Ok(Content::Scalar { text, tag, plain })
    }

    fn block_sequence(&mut self, depth: usize) -> Result<Content, Error> {
        let begin = self.scanner.take()?.line;
        let mut items = Vec::new();
        loop {
            let Token { kind, line } = self.scanner.take()?;
            match kind {
                Kind::BlockEntry => {
                    let absent = matches!(self.kind()?, Kind::BlockEntry | Kind::BlockEnd);
                    items.push(if absent { self.empty(line)? } else { self.node(Place::Block, depth + 1)? });
                }
                Kind::BlockEnd => return Ok(Content::Sequence(items)),
                _ => return unexpected("did not find expected '-' indicator", line, begin),
            }
        }
    }

    /// A list whose `-` stand below the key that it belongs to.
    fn sequence_without_indent(&mut self, depth: usize) -> Result<Content, Error> {
        let mut items = Vec::new();
        while *self.kind()? == Kind::BlockEntry {
            let line = self.scanner.take()?.line;
            let absent = matches!(self.kind()?, Kind::BlockEntry | Kind::Key | Kind::Value | Kind::BlockEnd);
            items.push(if absent { self.empty(line)? } else { self.node(Place::Block, depth + 1)? });
        }
        Ok(Content::Sequence(items))
    }

    fn block_mapping(&mut self, depth: usize) -> Result<Content, Error> {
        let begin = self.scanner.take()?.line;
        let mut pairs = Vec::new();
        loop {
            let Token { kind, line } = self.scanner.take()?;
            match kind {
                Kind::Key => {
                    let key = self.part_of_mapping(line, depth)?;
                    let line = self.line()?;
                    let has_value = *self.kind()? == Kind::Value;
                    let value = if has_value {
                        self.scanner.take()?;
                        self.part_of_mapping(line, depth)?
                    } else {
                        self.empty(line)?
                    };
                    pairs.push((key, value));
                }
                Kind::BlockEnd => return Ok(Content::Mapping(pairs)),
                _ => return unexpected("did not find expected key", line, begin),
            }
        }
    }

    /// What stands behind a `?` or `:` of a block mapping.
    fn part_of_mapping(&mut self, line: usize, depth: usize) -> Result<Id, Error> {
        let absent = matches!(self.kind()?, Kind::Key | Kind::Value | Kind::BlockEnd);
        if absent { self.empty(line) } else { self.node(Place::OfMapping, depth + 1) }
    }

    fn flow_sequence(&mut self, depth: usize) -> Result<Content, Error> {
        let begin = self.scanner.take()?.line;
        let mut items = Vec::new();
        while self.flow_goes_on(&Kind::FlowSequenceEnd, items.is_empty(), begin, "did not find expected ',' or ']'")? {
            if *self.kind()? == Kind::Key {
                let line = self.scanner.take()?.line;
                let pair = self.single_pair(depth + 1)?;
                let id = self.add(Content::Mapping(vec![pair]), line)?;
                items.push(id);
            } else {
                items.push(self.node(Place::Flow, depth + 1)?);
            }
        }
        Ok(Content::Sequence(items))
    }

    /// Goes over what stands between two entries; answers whether there is another entry.
    fn flow_goes_on(&mut self, end: &Kind, first: bool, begin: usize, refusal: &str) -> Result<bool, Error> {
        if self.kind()? != end && !first {
            let Token { kind, line } = self.scanner.take()?;
            if kind != Kind::FlowEntry {
                return unexpected(refusal, line, begin);
            }
        }
        let goes_on = self.kind()? != end;
        if !goes_on {
            self.scanner.take()?;
        }
        Ok(goes_on)
    }

    /// A mapping of one pair, as a list in brackets may have without braces.
    fn single_pair(&mut self, depth: usize) -> Result<(Id, Id), Error> {
        let absent = matches!(self.kind()?, Kind::Value | Kind::FlowEntry | Kind::FlowSequenceEnd);
        let line = self.line()?;
        let key = if absent {
            // The reference goes over the `:`, too, and then finds no value.
            self.scanner.take()?;
            self.empty(line)?
        } else {
            self.node(Place::Flow, depth + 1)?
        };
        let value = self.flow_value(&Kind::FlowSequenceEnd, depth)?;
        Ok((key, value))
    }

    fn flow_value(&mut self, end: &Kind, depth: usize) -> Result<Id, Error> {
        if *self.kind()? == Kind::Value {
            self.scanner.take()?;
            if self.kind()? != end && *self.kind()? != Kind::FlowEntry {
                return self.node(Place::Flow, depth + 1);
            }
        }
        let line = self.line()?;
        self.empty(line)
    }

    fn flow_mapping(&mut self, depth: usize) -> Result<Content, Error> {
        let begin = self.scanner.take()?.line;
        let mut pairs = Vec::new();
        while self.flow_goes_on(&Kind::FlowMappingEnd, pairs.is_empty(), begin, "did not find expected ',' or '}'")? {
            pairs.push(self.flow_pair(depth)?);
        }
        Ok(Content::Mapping(pairs))
    }

    fn flow_pair(&mut self, depth: usize) -> Result<(Id, Id), Error> {
        if *self.kind()? != Kind::Key {
            let key = self.node(Place::Flow, depth + 1)?;
            let line = self.line()?;
            return Ok((key, self.empty(line)?));
        }
        self.scanner.take()?;
        let absent = matches!(self.kind()?, Kind::Value | Kind::FlowEntry | Kind::FlowMappingEnd);
        let line = self.line()?;
        let key = if absent { self.empty(line)? } else { self.node(Place::Flow, depth + 1)? };
        Ok((key, self.flow_value(&Kind::FlowMappingEnd, depth)?))
    }
}
