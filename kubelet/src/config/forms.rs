//! How values of settings are written, on the command line and in the file.
use std::collections::BTreeMap;
use std::time::Duration;

use daemon::CipherSuite;
use k8s_openapi::api::core::v1::Taint;
use serde::{Deserialize, Deserializer};

/// A name and a value.
pub(crate) type Pair = (String, String);

/// Empty texts and zeros are as nothing, as Go's are.
pub(super) fn given<'de, T: serde::de::DeserializeOwned, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(input)?;
    if value.is_null() || value == "" || value == 0 {
        return Ok(None);
    }
    serde_json::from_value(value).map(Some).map_err(serde::de::Error::custom)
}

pub(super) fn parsed<'de, T: std::str::FromStr<Err = String>, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<T>, D::Error> {
    let text: Option<String> = given(input)?;
    text.map(|text| text.parse().map_err(|why| serde::de::Error::custom(format!("{text:?} {why}")))).transpose()
}

/// A length of time; none at all is the default.
pub(super) fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    let text: Option<String> = given(input)?;
    let time = text.map(|text| daemon::pflag::duration(&text)).transpose().map_err(serde::de::Error::custom)?;
    Ok(time.filter(|time| !time.is_zero()))
}

pub(super) fn pairs<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Pair>, D::Error> {
    BTreeMap::deserialize(input).map(BTreeMap::into_iter).map(Iterator::collect)
}

/// Pairs, an empty list of which says something else than none.
pub(super) fn given_pairs<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<Pair>>, D::Error> {
    let map: Option<BTreeMap<String, String>> = Option::deserialize(input)?;
    Ok(map.map(|map| map.into_iter().collect()))
}

pub(super) fn suites<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<CipherSuite>, D::Error> {
    let wrong = |name: &str, why| serde::de::Error::custom(format!("tlsCipherSuites: {name:?} {why}"));
    let names = Vec::<String>::deserialize(input)?;
    names.iter().map(|name| name.parse().map_err(|why: String| wrong(name, why))).collect()
}

pub(crate) fn pair(text: &str) -> Result<Pair, String> {
    split(text, '=')
}

pub(super) fn threshold(text: &str) -> Result<Pair, String> {
    split(text, '<')
}

fn split(text: &str, sign: char) -> Result<Pair, String> {
    let (key, value) = text.split_once(sign).ok_or_else(|| format!("not of the form key{sign}value"))?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn taint(text: &str) -> Result<Taint, String> {
    let wrong = || "not of the form key=value:effect".to_owned();
    let (rest, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(wrong());
    }
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    let value = (!value.is_empty()).then(|| value.to_owned());
    Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
}
