//! The query string of a request.

use std::borrow::Cow;
use std::time::Duration;

use api::ApiError;

/// Decoded parameters, in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a query string.
    pub fn parse(query: &str) -> Self {
        let own = |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
        Self(form_urlencoded::parse(query.as_bytes()).map(own).collect())
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is given and not false, as Go's conversion reads booleans.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// An optional boolean, `None` when absent.
    pub fn optional_flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|_| self.flag(name))
    }

    /// An integer parameter; absent or empty is `None`.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| ApiError::bad_request(not_a_number(text))),
        }
    }

    /// `timeout`, in which a client wants its answer.
    pub fn timeout(&self) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.get("timeout").filter(|text| !text.is_empty()) else { return Ok(None) };
        daemon::pflag::duration(text).map(Some).map_err(|_| {
            let why = format!("time: invalid duration {text:?}");
            ApiError::bad_request(format!("invalid timeout specified in the request URL - {why}"))
        })
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Go's words for a text that is no integer, or too large a one.
fn not_a_number(text: &str) -> String {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let why = if is_number { "value out of range" } else { "invalid syntax" };
    format!("strconv.ParseInt: parsing {text:?}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_too_large_is_told_from_none() {
        assert_eq!(not_a_number("x"), "strconv.ParseInt: parsing \"x\": invalid syntax");
        assert_eq!(not_a_number("-"), "strconv.ParseInt: parsing \"-\": invalid syntax");
        let large = "99999999999999999999";
        assert_eq!(not_a_number(large), format!("strconv.ParseInt: parsing {large:?}: value out of range"));
    }
}
