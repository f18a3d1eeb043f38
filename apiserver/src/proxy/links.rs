//! Changes the links in HTML while it passes. Everything else stays, byte by byte. Upstream:
//! `util/proxy.Transport.rewriteHTML`.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};

use super::moved::Moved;

/// Longer tags are passed on as they are; so much waits for the rest of its tag.
const LONGEST_TAG: usize = 8 * 1024;
/// Which attributes of which tags are URLs, as upstream has them.
const URLS: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements whose content is text, whatever it looks like.
const TEXTS: [&str; 8] = ["iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp"];

/// The links of one document.
pub(super) struct Links {
    moved: Moved,
    /// What the text that is being passed on ends with; empty between tags.
    until: String,
    /// The beginning of what is not there as a whole yet.
    pending: Vec<u8>,
}

/// The start of an element.
struct Tag {
    length: usize,
    name: String,
    /// Names and where their values are.
    attributes: Vec<(String, Range<usize>)>,
}

impl Links {
    pub(super) fn new(moved: Moved) -> Self {
        Self { moved, until: String::new(), pending: Vec::new() }
    }

    /// The document with its links changed.
    pub(super) fn follow<E: Send + 'static>(
        self,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> impl Stream<Item = Result<Bytes, E>> + Send + 'static {
        let state = (self, Box::pin(pieces), VecDeque::new(), false);
        stream::unfold(state, |(mut links, mut pieces, mut ready, mut is_over)| async move {
            loop {
                if let Some(piece) = ready.pop_front() {
                    return Some((piece, (links, pieces, ready, is_over)));
                }
                if is_over {
                    return None;
                }
                match pieces.next().await {
                    Some(Ok(piece)) => {
                        let changed = links.push(&piece);
                        ready.extend((!changed.is_empty()).then(|| Ok(changed.into())));
                    }
                    end => {
                        is_over = true;
                        let rest = std::mem::take(&mut links.pending);
                        ready.extend((!rest.is_empty()).then(|| Ok(rest.into())));
                        ready.extend(end);
                    }
                }
            }
        })
    }

    /// What can be passed on with this piece.
    fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(piece);
        let mut out = Vec::with_capacity(pending.len());
        let mut at = 0;
        while let Some(length) = self.step(&pending[at..], &mut out) {
            at += length;
        }
        self.pending = pending.split_off(at);
        out
    }

    /// Passes on what stands next, and says how much that was; `None` if the rest of it is missing.
    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let plain = match self.until.as_str() {
            "" => rest.iter().position(|byte| *byte == b'<').unwrap_or(rest.len()),
            _ => self.within(rest),
        };
        out.extend_from_slice(&rest[..plain]);
        match plain {
            0 if self.until.is_empty() && !rest.is_empty() => self.markup(rest, out),
            0 => None,
            plain => Some(plain),
        }
    }

    /// How much is text up to its end; what may be the beginning of that is kept back.
    fn within(&mut self, rest: &[u8]) -> usize {
        let end = self.until.as_bytes();
        let found = rest.windows(end.len()).position(|window| window.eq_ignore_ascii_case(end));
        let length = found.map_or_else(|| (rest.len() + 1).saturating_sub(end.len()), |at| at + end.len());
        if found.is_some() {
            self.until.clear();
        }
        length
    }

    fn markup(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        const COMMENT: &[u8] = b"<!--";
        if rest.starts_with(COMMENT) {
            "-->".clone_into(&mut self.until);
            out.extend_from_slice(COMMENT);
            return Some(COMMENT.len());
        }
        if COMMENT.starts_with(rest) {
            return None;
        }
        if !rest[1].is_ascii_alphabetic() {
            out.push(b'<');
            return Some(1);
        }
        match Tag::read(rest) {
            Some(tag) => {
                self.write(&tag, rest, out);
                if TEXTS.contains(&tag.name.as_str()) {
                    self.until = format!("</{}", tag.name);
                }
                Some(tag.length)
            }
            None if rest.len() >= LONGEST_TAG => {
                out.extend_from_slice(rest);
                Some(rest.len())
            }
            None => None,
        }
    }

    fn write(&self, tag: &Tag, rest: &[u8], out: &mut Vec<u8>) {
        let urls = URLS.iter().find(|(name, _)| *name == tag.name).map_or(&[][..], |(_, urls)| urls);
        let mut written = 0;
        for (_, value) in tag.attributes.iter().filter(|(name, _)| urls.contains(&name.as_str())) {
            let Ok(url) = std::str::from_utf8(&rest[value.clone()]) else { continue };
            let Some(moved) = self.moved.url(url) else { continue };
            out.extend_from_slice(&rest[written..value.start]);
            out.extend_from_slice(moved.as_bytes());
            written = value.end;
        }
        out.extend_from_slice(&rest[written..tag.length]);
    }
}

impl Tag {
    /// Reads a tag, which begins with `<` and a letter; `None` if its end is not there.
    fn read(text: &[u8]) -> Option<Self> {
        let ends = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>');
        let run = |from: usize, ends: &dyn Fn(u8) -> bool| {
            text[from..].iter().position(|byte| ends(*byte)).map(|length| from + length)
        };
        let lower = |range: Range<usize>| String::from_utf8_lossy(&text[range]).to_ascii_lowercase();
        let mut at = run(1, &ends)?;
        let (name, mut attributes) = (lower(1..at), Vec::new());
        loop {
            at = run(at, &|byte| !byte.is_ascii_whitespace() && byte != b'/')?;
            if text[at] == b'>' {
                return Some(Self { length: at + 1, name, attributes });
            }
            // A sign of equality may begin a name.
            let end = run(at + 1, &|byte| ends(byte) || byte == b'=')?;
            let attribute = lower(at..end);
            at = run(end, &|byte| !byte.is_ascii_whitespace())?;
            if text[at] != b'=' {
                continue;
            }
            at = run(at + 1, &|byte| !byte.is_ascii_whitespace())?;
            let value = match text[at] {
                quote @ (b'"' | b'\'') => at + 1..run(at + 1, &|byte| byte == quote)?,
                _ => at..run(at, &|byte| byte.is_ascii_whitespace() || byte == b'>')?,
            };
            at = value.end + usize::from(value.start > 0 && matches!(text[value.start - 1], b'"' | b'\''));
            attributes.push((attribute, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links::new(Moved::new("/p", "b:80".into(), "asked"))
    }

    /// However a document is cut, it is changed to the same.
    fn check(html: &str, want: &str) {
        for size in [1, 2, 3, 5, 7, 11, html.len()] {
            let mut links = links();
            let mut got: Vec<u8> = html.as_bytes().chunks(size).flat_map(|piece| links.push(piece)).collect();
            got.extend(links.pending);
            assert_eq!(String::from_utf8(got).unwrap(), want, "{html} in pieces of {size}");
        }
    }

    #[test]
    fn links_are_changed_in_their_attributes() {
        check(r#"<a href="/x">y</a>"#, r#"<a href="/p/x">y</a>"#);
        check("<A class=c HREF = '/x?a=b&amp;c'>/y", "<A class=c HREF = '/p/x?a=b&amp;c'>/y");
        check("<img src=/x longdesc=//b:80/y alt=/z>", "<img src=/p/x longdesc=/p/y alt=/z>");
        check("<script defer src=\"/x.js\"></script><a href=/>", "<script defer src=\"/p/x.js\"></script><a href=/p/>");
        check(
            "<br/><link href='/x'/><form action=\"http://b:80/f\" >",
            "<br/><link href='/p/x'/><form action=\"/p/f\" >",
        );
    }

    #[test]
    fn everything_else_stays() {
        for html in [
            "plain /x text, 1 < 2 and <3",
            "<!-- <a href='/x'> --><!doctype html><p class='/x'>",
            "<script>let s = \"<a href='/x'>\";</SCRIPT>",
            "<style>@import '/x'; <a href=/y></style >",
            "<a href=x><a href=https://example.com/><a href><a =href='/x'>",
            "<a href='/x",
            "<a href=\"\u{e4}\">",
        ] {
            check(html, html);
        }
    }

    #[test]
    fn a_tag_that_never_ends_is_passed_on() {
        let html = format!("<a href='{}", "x".repeat(3 * LONGEST_TAG));
        let mut links = links();
        let passed: usize = html.as_bytes().chunks(1000).map(|piece| links.push(piece).len()).sum();
        assert!(passed + LONGEST_TAG > html.len() && links.pending.len() < LONGEST_TAG);
    }

    #[tokio::test]
    async fn what_is_left_is_sent_before_the_error() {
        let pieces = [Ok(Bytes::from_static(b"x<a href")), Err("cut")];
        let got: Vec<_> = links().follow(stream::iter(pieces)).collect().await;
        assert_eq!(got, [Ok(Bytes::from_static(b"x")), Ok(Bytes::from_static(b"<a href")), Err("cut")]);
    }
}
