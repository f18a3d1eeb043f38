//! The formats of names in expressions: `format.dns1123Label().validate('my-name')`.

use cel::Format;

use crate::names::{dns1035_label, dns1123_label, dns1123_subdomain, label_value, qualified_name, unfinished};

pub(super) const NAMES: [Format; 8] = [
    Format { name: "dns1123Label", pattern_size: 30, check: dns1123_label },
    Format { name: "dns1123Subdomain", pattern_size: 60, check: dns1123_subdomain },
    Format { name: "dns1035Label", pattern_size: 30, check: dns1035_label },
    Format { name: "qualifiedName", pattern_size: 60, check: qualified_name },
    Format { name: "dns1123LabelPrefix", pattern_size: 30, check: |text| dns1123_label(&unfinished(text, true)) },
    Format {
        name: "dns1123SubdomainPrefix",
        pattern_size: 60,
        check: |text| dns1123_subdomain(&unfinished(text, true)),
    },
    Format { name: "dns1035LabelPrefix", pattern_size: 30, check: |text| dns1035_label(&unfinished(text, true)) },
    Format { name: "labelValue", pattern_size: 40, check: label_value },
];

#[cfg(test)]
mod tests {
    use cel::{Bindings, Limits, Value};

    use super::super::environment;

    /// What a format says of a text: nothing when it is right.
    fn check(format: &str, text: &str, wrong: &[&str]) {
        let expression = format!("format.{format}().validate('{text}').orValue([])");
        let program = environment().compile(&expression).unwrap_or_else(|issues| panic!("{issues}"));
        let (said, _) = program.evaluate(&Bindings::new(), &Limits::cost(10_000));
        let wrong = Value::list(wrong.iter().map(|text| Value::text(*text)).collect());
        assert_eq!(said, Ok(wrong), "{format} of {text}");
    }

    #[test]
    fn names_are_refused_in_the_words_of_the_api() {
        check("dns1123Label", "my-name", &[]);
        check("dns1123Label", "a.b", &["must not contain dots"]);
        check("dns1123Subdomain", "a.b", &[]);
        check("labelValue", "", &[]);
        let qualified = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and \
                         end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used \
                         for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain \
                         prefix and '/' (e.g. 'example.com/MyName')";
        check("qualifiedName", "a/b/c", &[qualified]);
    }

    #[test]
    fn something_follows_a_prefix() {
        check("dns1123LabelPrefix", "web-", &[]);
        check("dns1035LabelPrefix", "web-", &[]);
        check("dns1123SubdomainPrefix", "a.web-", &[]);
        let alone = environment().compile("format.dns1123LabelPrefix().validate('-').hasValue()").unwrap();
        assert_eq!(alone.evaluate(&Bindings::new(), &Limits::cost(10_000)).0, Ok(Value::Bool(true)));
    }
}
