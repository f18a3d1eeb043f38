//! Errors and log fields in words: one line each, every cause once.

use std::error::Error;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// An error with its causes. One that repeats its cause in its own text, perhaps once more as a debugger shows it, is
/// heard up to the end of that cause only.
pub fn in_words(err: &(dyn Error + 'static)) -> String {
    let own = err.to_string();
    let Some(cause) = err.source() else { return own };
    let (first, whole) = (cause.to_string(), in_words(cause));
    match own.find(&first).filter(|_| !first.is_empty()) {
        Some(at) => format!("{}{whole}", &own[..at]),
        None => format!("{own}: {whole}"),
    }
}

/// How the fields of an event are written: `message name=value`, errors in words, and nothing that moves a terminal.
pub(crate) struct OneLine;

impl<'writer> FormatFields<'writer> for OneLine {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line { writer, begun: false, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'writer> {
    writer: Writer<'writer>,
    begun: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn put(&mut self, field: &Field, value: &str) {
        if self.result.is_ok() {
            self.result = self.write(field.name(), value);
        }
    }

    fn write(&mut self, name: &str, value: &str) -> fmt::Result {
        if std::mem::replace(&mut self.begun, true) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            write!(self.writer, "{name}=")?;
        }
        for letter in value.chars() {
            if letter.is_control() {
                write!(self.writer, "{}", letter.escape_default())?;
            } else {
                self.writer.write_char(letter)?;
            }
        }
        Ok(())
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.put(field, value);
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, &format!("\"{}\"", in_words(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("x not found")]
    struct Status;

    /// As kube's errors are.
    #[derive(Debug, thiserror::Error)]
    #[error("ApiError: {0} ({0:?})")]
    struct Repeating(#[source] Status);

    #[derive(Debug, thiserror::Error)]
    #[error("api request")]
    struct Plain(#[source] Repeating);

    #[test]
    fn every_cause_is_said_once_and_no_debugger_speaks() {
        assert_eq!(in_words(&Plain(Repeating(Status))), "api request: ApiError: x not found");
        assert_eq!(in_words(&Status), "x not found");
    }

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(OneLine)
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let err = Plain(Repeating(Status));
            tracing::warn!(key = "a\nb", error = &err as &dyn Error, count = 3, "bad\u{1b}[2J");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1);
        let expected = r#"bad\u{1b}[2J key="a\nb" error="api request: ApiError: x not found" count=3"#;
        assert!(text.trim_end().ends_with(expected), "{text}");
    }
}
