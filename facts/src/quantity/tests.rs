use proptest::prelude::*;

use super::*;

fn check(text: &str, canonical: &str) {
    let quantity: Quantity = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(quantity.to_string(), canonical, "canonical form of {text}");
}

#[test]
fn canonical_forms_are_upstreams() {
    let cases = [
        ("0", "0"),
        ("0Mi", "0"),
        ("-0", "0"),
        ("1", "1"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("100000", "100k"),
        ("1.5", "1500m"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("5.", "5"),
        ("1000m", "1"),
        ("1024Ki", "1Mi"),
        ("1.5Gi", "1536Mi"),
        ("1.7Gi", "1825361100800m"),
        ("-0.1Mi", "-104857600m"),
        ("1Gi", "1Gi"),
        ("1000Mi", "1000Mi"),
        ("512", "512"),
        ("1023", "1023"),
        ("0.5Ki", "512"),
        ("0.1Ki", "102400m"),
        ("1e3", "1e3"),
        ("1e4", "10e3"),
        ("1E2", "100"),
        ("12E6", "12e6"),
        ("1E", "1E"),
        ("0.0001", "100u"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1.0000000001", "1000000001n"),
        ("-1.5Gi", "-1536Mi"),
        ("+3", "3"),
        ("007", "7"),
        ("9223372036854775807", "9223372036854775807"),
        ("16Ei", "9223372036854775807"),
        ("1000E", "1000E"),
        ("100m", "100m"),
        ("Mi", "0"),
    ];
    for (text, canonical) in cases {
        check(text, canonical);
    }
}

#[test]
fn what_is_no_quantity_is_refused_with_upstreams_words() {
    for text in ["", "one", "1 Gi", "1,5", "1.2.3", "0x10", "1Gi ", "1e1.5", "ä"] {
        assert_eq!(text.parse::<Quantity>(), Err(Error::Format), "{text}");
    }
    for text in ["1kk", "1Kb", "1mi", "1e", "1Mi5", "1ee3", "5i", "--1"] {
        let error = text.parse::<Quantity>().expect_err(text);
        assert!(matches!(error, Error::Suffix | Error::Format), "{text}: {error}");
    }
}

#[test]
fn equal_values_are_equal_whatever_their_suffix() {
    let parse = |text: &str| text.parse::<Quantity>().expect("a quantity");
    assert_eq!(parse("1000m"), parse("1"));
    assert_eq!(parse("1Ki"), parse("1024"));
    assert_eq!(parse("1e3"), parse("1k"));
    assert!(parse("1Mi") > parse("1M"));
    assert!(parse("-1") < parse("0"));
    assert!(parse("1e900000") > parse("1Ei"));
}

#[test]
fn values_round_away_from_zero() {
    let parse = |text: &str| text.parse::<Quantity>().expect("a quantity");
    assert_eq!(parse("1.1").value(), 2);
    assert_eq!(parse("-1.1").value(), -2);
    assert_eq!(parse("100m").milli_value(), 100);
    assert_eq!(parse("0.0001").milli_value(), 1);
    assert_eq!(parse("1e100").value(), i64::MAX);
}

#[test]
fn sums_keep_the_class_of_the_first() {
    let parse = |text: &str| text.parse::<Quantity>().expect("a quantity");
    assert_eq!((parse("1Gi") + parse("1024")).to_string(), "1048577Ki");
    assert_eq!((Quantity::zero() + parse("1Ki")).to_string(), "1Ki");
    assert_eq!((parse("1") - parse("300m")).to_string(), "700m");
    assert_eq!((parse("1Ki") - parse("1Ki")).to_string(), "0");
}

fn any_quantity() -> impl Strategy<Value = String> {
    let suffix =
        prop::sample::select(vec!["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "e3", "e-2"]);
    (any::<i32>(), prop::option::of(0u32..1_000_000), suffix).prop_map(|(whole, fraction, suffix)| match fraction {
        Some(fraction) => format!("{whole}.{fraction}{suffix}"),
        None => format!("{whole}{suffix}"),
    })
}

proptest! {
    #[test]
    fn the_canonical_form_has_the_same_value_and_stays(text in any_quantity()) {
        let quantity: Quantity = text.parse().expect("generated quantities are fine");
        let canonical = quantity.to_string();
        let again: Quantity = canonical.parse().expect("canonical forms are fine");
        prop_assert_eq!(again.to_string(), canonical);
        // Binary quantities of more than 1024 print rounded up to whole numbers.
        if quantity.format() == Format::BinarySi {
            prop_assert_eq!(again.value(), quantity.value());
        } else {
            prop_assert_eq!(again, quantity);
        }
    }

    #[test]
    fn order_agrees_with_milli_values(a in any::<i32>(), b in any::<i32>()) {
        let (x, y) = (Quantity::from_milli(a.into(), Format::DecimalSi), Quantity::from_milli(b.into(), Format::DecimalSi));
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        prop_assert_eq!((x + y).milli_value(), i64::from(a) + i64::from(b));
        prop_assert_eq!((x - y).milli_value(), i64::from(a) - i64::from(b));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}|[-+]?[0-9.]{0,60}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,25}") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            let _ = (quantity.to_string(), quantity.value(), quantity.milli_value(), quantity + quantity, quantity.to_f64());
        }
    }
}

#[test]
fn more_digits_than_fit_are_rounded_but_never_capped() {
    for zeros in 0..4 {
        let text = format!("{}{}", "9".repeat(36), "0".repeat(zeros));
        let quantity: Quantity = text.parse().unwrap();
        assert_eq!(quantity.to_string().parse::<Quantity>().unwrap(), quantity, "{text}");
    }
    let quantity: Quantity = "1".repeat(38).parse().unwrap();
    assert_eq!(quantity.to_string(), format!("{}200", "1".repeat(35)));
}
