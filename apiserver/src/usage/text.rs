//! One line of the text format of metrics: `name{label="value"} value [milliseconds]` (Prometheus exposition format,
//! version 0.0.4). Of the labels only those are read that say what a figure is about.

use std::borrow::Cow;

/// A figure.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: Cow<'a, str>,
    pub(super) pod: Cow<'a, str>,
    pub(super) container: Cow<'a, str>,
    pub(super) value: f64,
    /// When it was so, in milliseconds since the epoch, where that is said.
    pub(super) at: Option<i64>,
}

/// The name of the figure that a line tells; `None` of a comment.
pub(super) fn name(line: &str) -> Option<&str> {
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    Some(&line[..end]).filter(|name| !name.is_empty() && !name.starts_with('#'))
}

/// Reads a line; `None` if it is no figure, or none that can be counted with.
pub(super) fn series(line: &str) -> Option<Series<'_>> {
    let name = name(line)?;
    let mut series = Series { name, ..Series::default() };
    let mut rest = &line[name.len()..];
    if let Some(labels) = rest.strip_prefix('{') {
        rest = series.labels(labels)?;
    }
    let mut words = rest.split_ascii_whitespace();
    series.value = words.next()?.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)?;
    series.at = words.next().map(str::parse).transpose().ok()?;
    words.next().is_none().then_some(series)
}

impl<'a> Series<'a> {
    /// Reads labels up to the brace; what follows it.
    fn labels(&mut self, mut rest: &'a str) -> Option<&'a str> {
        loop {
            rest = rest.trim_start_matches([' ', ',']);
            if let Some(rest) = rest.strip_prefix('}') {
                return Some(rest);
            }
            let (label, after) = rest.split_once('=')?;
            let (value, after) = value(after.trim_start().strip_prefix('"')?)?;
            rest = after;
            match label.trim_end() {
                "namespace" => self.namespace = value,
                "pod" => self.pod = value,
                "container" => self.container = value,
                _ => {}
            }
        }
    }
}

/// The value of a label up to its quotation mark, and what follows.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    let (value, rest) = (&text[..end], &text[end + 1..]);
    Some((if value.contains('\\') { unescaped(value).into() } else { value.into() }, rest))
}

fn unescaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                other => out.extend(other),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_figure_is_read_with_what_it_is_about() {
        let line = r#"c_total{container="a",id="/x",namespace="n",pod="p}\"\n"} 1.5e1 1700000000123"#;
        let expected = Series {
            name: "c_total",
            namespace: "n".into(),
            pod: "p}\"\n".into(),
            container: "a".into(),
            value: 15.0,
            at: Some(1_700_000_000_123),
        };
        assert_eq!(series(line), Some(expected));
        let bare = series("node_total 7").unwrap();
        assert_eq!((bare.name, bare.value, bare.at, bare.pod.as_ref()), ("node_total", 7.0, None, ""));
        assert!(series("a{} 1").is_some() && series("a{b = \"c\" ,} 1 -5").is_some());
    }

    #[test]
    fn what_is_no_figure_is_left_out() {
        for line in [
            "",
            " ",
            "# HELP a b",
            "a",
            "a ",
            "a x",
            "a NaN",
            "a +Inf",
            "a -1",
            "a{ 1",
            "a{b} 1",
            "a{b=c} 1",
            "a{b=\"c} 1",
            "a{b=\"c\\\"} 1",
            "a 1 2 3",
            "a 1 x",
            "a 1 99999999999999999999",
        ] {
            assert_eq!(series(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC*", labels in r#"a\{[bé="\\,} ]{0,12}\}? [0-9.eE+-]{0,6}"#) {
            let _ = (series(&line), series(&labels));
        }
    }
}
