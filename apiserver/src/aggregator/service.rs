//! What an APIService says (upstream: `APIServiceSpec`).

use api::Object;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::priorities::Priority;

/// Without a port, this one is meant.
const PORT: u16 = 443;

/// The `spec` of an APIService.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) priority: Priority,
    /// `None` when this server serves the version itself.
    pub(super) place: Option<Place>,
}

/// Where the server of a version is, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) trust: Trust,
}

/// Which certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// What systems trust.
    System,
    /// Those that a CA of this bundle (PEM) has signed.
    Bundle(Vec<u8>),
    /// All.
    Anybody,
    /// None: the bundle cannot be read, and why.
    Nobody(String),
}

impl Spec {
    /// Reads a stored APIService, which has been validated.
    pub(super) fn read(object: &Object) -> Self {
        let number = |field: &str| object.integer(&["spec", field]).unwrap_or(0);
        Self {
            group: object.text(&["spec", "group"]).to_owned(),
            version: object.text(&["spec", "version"]).to_owned(),
            priority: Priority { group: number("groupPriorityMinimum"), version: number("versionPriority") },
            place: object.get(&["spec", "service"]).filter(|it| it.is_object()).map(|_| Place::read(object)),
        }
    }
}

impl Spec {
    /// Whether the same version is served by the same server.
    pub(super) fn is_served_alike(&self, other: &Self) -> bool {
        (&self.group, &self.version, &self.place) == (&other.group, &other.version, &other.place)
    }
}

impl Place {
    fn read(object: &Object) -> Self {
        let text = |field: &str| object.text(&["spec", "service", field]).to_owned();
        let port = object.integer(&["spec", "service", "port"]).and_then(|port| u16::try_from(port).ok());
        let (namespace, name) = (text("namespace"), text("name"));
        Self { namespace, name, port: port.unwrap_or(PORT), trust: Trust::read(object) }
    }

    /// The name that the server's certificate must have.
    pub(super) fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

impl Trust {
    fn read(object: &Object) -> Self {
        if object.get(&["spec", "insecureSkipTLSVerify"]) == Some(&Value::Bool(true)) {
            return Self::Anybody;
        }
        match object.text(&["spec", "caBundle"]) {
            "" => Self::System,
            bundle => STANDARD.decode(bundle).map_or_else(|err| Self::Nobody(err.to_string()), Self::Bundle),
        }
    }
}

/// Whether the condition `Available` is there with this status, and with this reason if one is given.
pub(super) fn is_available(object: &Object, reason: Option<&str>) -> bool {
    let found = object.condition("Available").filter(|found| found["status"] == "True");
    found.is_some_and(|found| reason.is_none_or(|reason| found["reason"] == reason))
}
