//! Content negotiation: how a client wants its answer, and what its body is. Upstream: `handlers/negotiation`.

use api::codec::protobuf;
use api::status::Details;
use api::{ApiError, Resource};
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};

use crate::request::headers as header;
use crate::request::query::Query;

/// How an answer is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

/// What an answer is made into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object or list itself.
    #[default]
    Object,
    Table(MetaVersion),
    PartialMetadata(MetaVersion),
    PartialMetadataList(MetaVersion),
}

/// A version of `meta.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetaVersion {
    V1,
    V1Beta1,
}

impl MetaVersion {
    /// `meta.k8s.io/v1`.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// What the client accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) encoding: Encoding,
    pub(crate) shape: Shape,
    pub(crate) pretty: bool,
}

impl Encoding {
    /// The `Content-Type` of an answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => protobuf::MEDIA_TYPE,
        }
    }

    /// The `Content-Type` of a watch.
    pub(crate) fn stream_type(self) -> &'static str {
        match self {
            Self::Protobuf => protobuf::STREAM_MEDIA_TYPE,
            _ => self.content_type(),
        }
    }
}

/// Which encodings there are of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    All,
    /// Objects of CRDs have no protobuf messages.
    WithoutProtobuf,
}

impl Offer {
    /// What there is of objects of the resource.
    pub(crate) fn of(row: &Resource) -> Self {
        if row.schema().node().definition.is_none() { Self::WithoutProtobuf } else { Self::All }
    }

    fn representations(self) -> &'static str {
        match self {
            Self::All => "application/json, application/yaml, application/vnd.kubernetes.protobuf",
            Self::WithoutProtobuf => "application/json, application/yaml",
        }
    }
}

impl Accept {
    /// Picks the best clause that can be served.
    pub(crate) fn for_object(headers: &HeaderMap, pretty: bool, offer: Offer) -> Result<Self, ApiError> {
        Self::pick(headers, pretty, false, offer)
    }

    /// As [`Self::for_object`], for watch streams.
    pub(crate) fn for_watch(headers: &HeaderMap, offer: Offer) -> Result<Self, ApiError> {
        Self::pick(headers, false, true, offer)
    }

    /// For answers that have no other shape (discovery, status).
    pub(crate) fn encoding_of(headers: &HeaderMap, pretty: bool) -> Self {
        Self::pick(headers, pretty, false, Offer::All)
            .map(|accept| Self { shape: Shape::Object, ..accept })
            .unwrap_or_default()
    }

    fn pick(headers: &HeaderMap, pretty: bool, watch: bool, offer: Offer) -> Result<Self, ApiError> {
        let header = header::shown(headers, ACCEPT);
        if header.trim().is_empty() {
            return Ok(Self { pretty, ..Self::default() });
        }
        let mut unknown_shape = false;
        for clause in sorted_by_quality(&header) {
            let Some((encoding, parameters)) = encoding_of(&clause) else { continue };
            if encoding == Encoding::Protobuf && offer == Offer::WithoutProtobuf {
                continue;
            }
            match shape_of(&parameters) {
                // Tables have no protobuf message.
                Some(Shape::Table(_)) if encoding == Encoding::Protobuf => unknown_shape = true,
                Some(shape) => return Ok(Self { encoding, shape, pretty: pretty || parameters.pretty }),
                None => unknown_shape = true,
            }
        }
        Err(not_acceptable(unknown_shape, watch, offer))
    }
}

fn not_acceptable(unknown_shape: bool, watch: bool, offer: Offer) -> ApiError {
    let representations = offer.representations();
    if unknown_shape {
        return ApiError::not_acceptable(format!("only the following media types are accepted: {representations}"));
    }
    let streams =
        if watch { ", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch" } else { "" };
    ApiError::not_acceptable(format!("406: Not Acceptable\n\nAvailable representations: {representations}{streams}"))
        .with_details(Details::default())
}

#[derive(Default)]
struct Parameters {
    target: Option<(String, String, String)>,
    pretty: bool,
}

/// The clauses of a header, the most wanted first.
pub(crate) fn sorted_by_quality(header: &str) -> Vec<String> {
    let mut clauses: Vec<(f32, String)> = header
        .split(',')
        .map(|clause| {
            let quality = clause.split(';').find_map(|p| p.trim().strip_prefix("q=")).and_then(|q| q.parse().ok());
            (quality.unwrap_or(1.0), clause.trim().to_owned())
        })
        .collect();
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    clauses.into_iter().map(|(_, clause)| clause).collect()
}

fn encoding_of(clause: &str) -> Option<(Encoding, Parameters)> {
    let mut parts = clause.split(';').map(str::trim);
    let encoding = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/json" | "*/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        protobuf::MEDIA_TYPE => Encoding::Protobuf,
        _ => return None,
    };
    let (mut kind, mut group, mut version, mut pretty) = (None, "", "", false);
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("as", value)) => kind = Some(value),
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            Some(("pretty", value)) => pretty = value != "0" && value != "false",
            _ => {}
        }
    }
    let target = kind.map(|kind| (kind.to_owned(), group.to_owned(), version.to_owned()));
    Some((encoding, Parameters { target, pretty }))
}

/// `None` for a shape that does not exist.
fn shape_of(parameters: &Parameters) -> Option<Shape> {
    let Some((kind, group, version)) = &parameters.target else { return Some(Shape::Object) };
    let version = match (group.as_str(), version.as_str()) {
        ("meta.k8s.io", "v1") => MetaVersion::V1,
        ("meta.k8s.io", "v1beta1") => MetaVersion::V1Beta1,
        _ => return None,
    };
    match kind.as_str() {
        "Table" => Some(Shape::Table(version)),
        "PartialObjectMetadata" => Some(Shape::PartialMetadata(version)),
        "PartialObjectMetadataList" => Some(Shape::PartialMetadataList(version)),
        _ => None,
    }
}

/// Whether JSON is laid out for people: as the query says, or else for tools that people read answers in.
pub(crate) fn is_pretty(query: &Query, headers: &HeaderMap) -> bool {
    let agent = header::shown(headers, USER_AGENT);
    let read_by_people = || ["curl", "Wget", "Mozilla/5.0"].iter().any(|tool| agent.starts_with(tool));
    query.optional_flag("pretty").unwrap_or_else(read_by_people)
}

/// The media type of a body without its parameters, in lower case; `""` when not given.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = header::shown(headers, CONTENT_TYPE);
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// As [`content_type`]; `None` when what follows the type is not well-formed, or names a parameter twice.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = header::shown(headers, CONTENT_TYPE);
    let mut rest = value.split_once(';').map_or("", |(_, parameters)| parameters).trim();
    let mut names = Vec::new();
    while !rest.is_empty() {
        let (name, tail) = rest.split_once('=')?;
        let tail = match tail.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?.1,
            None => tail.trim_start_matches(|c: char| !matches!(c, ';' | ' ')),
        };
        let name = name.trim().to_ascii_lowercase();
        if name.is_empty() || name.contains([';', ' ']) || names.contains(&name) {
            return None;
        }
        names.push(name);
        rest = match tail.trim_start() {
            "" => "",
            tail => tail.strip_prefix(';')?.trim(),
        };
    }
    Some(content_type(headers))
}

/// Whether a client can take gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let value = header::shown(headers, ACCEPT_ENCODING);
    value.split(',').any(|coding| coding.trim().split(';').next() == Some("gzip"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_bodies_have_well_formed_parameters() {
        let cases = [
            ("application/json", Some("application/json")),
            ("Application/JSON; charset=utf-8", Some("application/json")),
            ("application/json; charset=\"a;b\" ; q=1", Some("application/json")),
            ("application/json;", Some("application/json")),
            ("application/json;;", None),
            ("application/json; charset", None),
            ("application/json; a=1; a=2", None),
        ];
        for (header, want) in cases {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, header.parse().unwrap())]);
            assert_eq!(media_type(&headers).as_deref(), want, "{header}");
        }
    }

    fn check(header: &str, want: Option<(Encoding, Shape)>) {
        check_offer(Offer::All, header, want);
    }

    fn check_offer(offer: Offer, header: &str, want: Option<(Encoding, Shape)>) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, header.parse().unwrap());
        let got = Accept::for_object(&headers, false, offer).ok().map(|accept| (accept.encoding, accept.shape));
        assert_eq!(got, want, "{header}");
    }

    #[test]
    fn the_best_clause_that_can_be_served_wins() {
        check("", Some((Encoding::Json, Shape::Object)));
        check("*/*", Some((Encoding::Json, Shape::Object)));
        check("application/vnd.kubernetes.protobuf, application/json", Some((Encoding::Protobuf, Shape::Object)));
        check("application/vnd.kubernetes.protobuf;q=0.5,application/json", Some((Encoding::Json, Shape::Object)));
        check("application/vnd.kubernetes.protobuf;stream=watch", Some((Encoding::Protobuf, Shape::Object)));
        check("text/html,application/yaml;q=0.9", Some((Encoding::Yaml, Shape::Object)));
        // As in the reference, whose clients never ask in this way.
        check("text/plain, application/*;q=0.5", None);
        check("application/json;as=Table;v=v1;g=meta.k8s.io", Some((Encoding::Json, Shape::Table(MetaVersion::V1))));
        check("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Some((Encoding::Json, Shape::Object)));
        check("application/json;as=Table;v=v9;g=meta.k8s.io", None);
        check("text/html", None);
    }

    #[test]
    fn tables_and_objects_of_crds_have_no_protobuf_encoding() {
        let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
        check(table, None);
        check(&format!("{table},application/json"), Some((Encoding::Json, Shape::Object)));
        let both = "application/vnd.kubernetes.protobuf,application/json";
        check_offer(Offer::WithoutProtobuf, both, Some((Encoding::Json, Shape::Object)));
        check_offer(Offer::WithoutProtobuf, "application/vnd.kubernetes.protobuf", None);
    }
}
