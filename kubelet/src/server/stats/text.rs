//! Metrics as text (Prometheus exposition format, version 0.0.4).
use std::fmt::Write as _;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use jiff::Timestamp;

const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family of figures is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Type {
    Counter,
    Gauge,
}

/// A text, family by family.
#[derive(Debug, Default)]
pub(in crate::server) struct Text {
    out: String,
    family: String,
}

impl Text {
    /// Begins a family: the lines that follow are of it.
    pub(super) fn family(&mut self, name: &str, kind: Type, help: &str) {
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
        };
        name.clone_into(&mut self.family);
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A figure, with the moment it is of where that is not now.
    pub(super) fn line(&mut self, labels: &[(&str, &str)], value: f64, at: Option<Timestamp>) {
        self.out.push_str(&self.family);
        for (position, (name, value)) in labels.iter().enumerate() {
            self.out.push(if position == 0 { '{' } else { ',' });
            let _ = write!(self.out, "{name}=\"");
            self.escape(value);
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = write!(self.out, " {value}");
        if let Some(at) = at {
            let _ = write!(self.out, " {}", at.as_millisecond());
        }
        self.out.push('\n');
    }

    /// Adds a text that is one already.
    pub(super) fn append(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn escape(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                other => self.out.push(other),
            }
        }
    }

    #[cfg(test)]
    pub(super) fn as_str(&self) -> &str {
        &self.out
    }
}

impl IntoResponse for Text {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, MEDIA_TYPE)], self.out).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_collectors_read_them() {
        let mut text = Text::default();
        text.family("a_total", Type::Counter, "What a is");
        text.line(&[("b", "x\"\\\n"), ("c", "é")], 1.5, Some(Timestamp::from_millisecond(1_234).unwrap()));
        text.line(&[], 4096.0, None);
        let expected = "# HELP a_total What a is\n# TYPE a_total counter\n\
                        a_total{b=\"x\\\"\\\\\\n\",c=\"é\"} 1.5 1234\na_total 4096\n";
        assert_eq!(text.as_str(), expected);
    }
}
