//! The text format 0.0.4 of Prometheus, which is what Kubernetes' components answer with, made of the OpenMetrics text that
//! the library writes. Counters are typed by their whole name there, numbers are Go's, and there is no end mark.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The media type, in upstream's words.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Rewrites what the library wrote.
pub(super) fn from_openmetrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // The help comes before the type, by which its name is chosen.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            head(&mut out, (name, kind), help.take());
        } else if !line.starts_with('#') {
            sample(&mut out, line);
        }
    }
    out
}

fn head(out: &mut String, (name, kind): (&str, &str), help: Option<(&str, &str)>) {
    let (suffix, kind) = match kind {
        "counter" => ("_total", kind),
        "info" => ("_info", "gauge"),
        "unknown" => ("", "untyped"),
        _ => ("", kind),
    };
    if let Some((_, help)) = help {
        // The library ends it with a full stop.
        line(out, format_args!("# HELP {name}{suffix} {}", help.strip_suffix('.').unwrap_or(help)));
    }
    line(out, format_args!("# TYPE {name}{suffix} {kind}"));
}

/// `name{labels} value`, where the label `le` is a number, too.
fn sample(out: &mut String, text: &str) {
    let Some((series, value)) = text.rsplit_once(' ') else { return };
    let bound = series.rsplit_once("le=\"").and_then(|(before, rest)| Some((before, rest.split_once('"')?)));
    match bound.filter(|(before, _)| before.ends_with(['{', ','])) {
        Some((before, (bound, after))) => {
            line(out, format_args!("{before}le=\"{}\"{after} {}", number(bound), number(value)));
        }
        None => line(out, format_args!("{series} {}", number(value))),
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = writeln!(out, "{text}");
}

/// A number as Go's `strconv` writes it in its shortest form: `1`, `0.25`, `1e+06`.
fn number(text: &str) -> Cow<'_, str> {
    // Whole numbers of up to six digits are the same everywhere.
    if text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.into();
    }
    let Ok(value) = text.parse::<f64>() else { return text.into() };
    if !value.is_finite() {
        let infinite = if value > 0.0 { "+Inf" } else { "-Inf" };
        return if value.is_nan() { "NaN" } else { infinite }.into();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return text.into() };
    match exponent.parse::<i32>() {
        Ok(exponent) if (-4..6).contains(&exponent) || value == 0.0 => value.to_string().into(),
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs()).into()
        }
        Err(_) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn what_the_library_writes_becomes_what_go_would_write() {
        let mut registry = Registry::default();
        let counter: Family<[(&str, &str); 1], Counter> = Family::default();
        registry.register("seen", "Things seen", counter.clone());
        counter.get_or_create(&[("what", "le=\"x\" y")]).inc_by(1_234_567);
        let gauge: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default();
        registry.register("level", "The level", gauge.clone());
        gauge.set(2.0);
        let histogram = Histogram::new([0.25, 1.0, 1e6]);
        registry.register("size", "Sizes", histogram.clone());
        histogram.observe(0.5);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let want = r#"# HELP seen_total Things seen
# TYPE seen_total counter
seen_total{what="le=\"x\" y"} 1.234567e+06
# HELP level The level
# TYPE level gauge
level 2
# HELP size Sizes
# TYPE size histogram
size_sum 0.5
size_count 1
size_bucket{le="0.25"} 0
size_bucket{le="1"} 1
size_bucket{le="1e+06"} 1
size_bucket{le="+Inf"} 1
"#;
        assert_eq!(from_openmetrics(&text), want);
    }

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (text, want) in [
            ("0", "0"),
            ("0.0", "0"),
            ("1.0", "1"),
            ("-1.5", "-1.5"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("5e-7", "5e-07"),
            ("100000.0", "100000"),
            ("1000000.0", "1e+06"),
            ("1795975071.25", "1.79597507125e+09"),
            ("+Inf", "+Inf"),
            ("NaN", "NaN"),
        ] {
            assert_eq!(number(text), want, "{text}");
        }
    }
}
