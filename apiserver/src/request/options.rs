//! The options of requests (`CreateOptions`, `ListOptions`, ...), read from query and body and checked as upstream
//! checks them.

use api::codec::FieldValidation;
use api::field::{FieldError, Path};
use api::status::Qualified;
use api::{ApiError, Object};
use facts::quoted::quoted;
use serde_json::{Value, json};

use crate::request::query::Query;

/// Options of create, update and patch.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: String,
    pub field_validation: FieldValidation,
    /// Apply patches only.
    pub force: bool,
}

/// Which write options are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Create,
    Update,
    Patch { apply: bool },
}

impl Write {
    fn kind(self) -> &'static str {
        match self {
            Self::Create => "CreateOptions",
            Self::Update => "UpdateOptions",
            Self::Patch { .. } => "PatchOptions",
        }
    }
}

impl WriteOptions {
    /// Reads the query. `user_agent` names the field manager when the client does not.
    pub fn read(query: &Query, what: Write, user_agent: &str) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let manager = query.get("fieldManager").unwrap_or("");
        let force = query.optional_flag("force");
        match what {
            Write::Patch { apply: true } if manager.is_empty() => {
                errors.push(FieldError::required(&Path::new("fieldManager"), "is required for apply patch"));
            }
            Write::Patch { apply: false } if force.is_some() => {
                errors.push(FieldError::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
            }
            _ => {}
        }
        check_manager(manager, &mut errors);
        let dry_run = read_dry_run(query, &mut errors);
        let field_validation = read_validation(query, &mut errors);
        refuse(what.kind(), &errors)?;
        let field_manager = if manager.is_empty() { manager_of(user_agent) } else { manager.to_owned() };
        Ok(Self { dry_run, field_manager, field_validation, force: force.unwrap_or(false) })
    }

    /// As an object, for admission.
    pub fn to_value(&self, what: Write) -> Value {
        let mut options =
            json!({"kind": what.kind(), "apiVersion": "meta.k8s.io/v1", "fieldManager": self.field_manager});
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        options["fieldValidation"] = match self.field_validation {
            FieldValidation::Ignore => "Ignore",
            FieldValidation::Warn => "Warn",
            FieldValidation::Strict => "Strict",
        }
        .into();
        options
    }
}

/// The part of a user agent before its version: the default field manager.
pub(crate) fn manager_of(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or("");
    let printable: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    if printable.is_empty() { "unknown".to_owned() } else { printable }
}

fn check_manager(manager: &str, errors: &mut Vec<FieldError>) {
    let path = Path::new("fieldManager");
    if manager.len() > 128 {
        errors.push(FieldError::too_long(&path, 128));
    }
    for (at, c) in manager.chars().enumerate() {
        if c.is_control() {
            let shown = quoted(manager);
            let detail = format!("Invalid value: {shown}: invalid character U+{:04X} (at position {at})", c as u32);
            let mut error = FieldError::invalid(&path, "", "");
            error.message = detail;
            errors.push(error);
        }
    }
}

fn read_dry_run(query: &Query, errors: &mut Vec<FieldError>) -> bool {
    let values: Vec<&str> = query.all("dryRun").collect();
    if values.iter().any(|value| *value != "All") {
        errors.push(FieldError::not_supported(&Path::new("dryRun"), json!(values), &["All"]));
    }
    !values.is_empty()
}

fn read_validation(query: &Query, errors: &mut Vec<FieldError>) -> FieldValidation {
    let given = query.get("fieldValidation").unwrap_or("");
    FieldValidation::from_name(given).unwrap_or_else(|| {
        errors.push(FieldError::not_supported(&Path::new("fieldValidation"), given, &["", "Ignore", "Strict", "Warn"]));
        FieldValidation::Warn
    })
}

fn refuse(kind: &str, errors: &[FieldError]) -> Result<(), ApiError> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(Qualified { group: "meta.k8s.io", resource: kind }, "", errors))
    }
}

/// Who waits for whom on delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Foreground,
    Background,
    Orphan,
}

/// Options of deletes.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    /// The old spelling of [`Propagation::Orphan`].
    pub orphan_dependents: Option<bool>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    /// As an object, for admission.
    pub raw: Value,
}

impl DeleteOptions {
    /// Reads the body if there is one, else the query: a body makes the query count for nothing.
    pub fn read(query: &Query, body: Option<Object>) -> Result<Self, ApiError> {
        let tree = match body {
            Some(body) => body.into_value(),
            None => Self::from_query(query)?,
        };
        let mut errors = Vec::new();
        let text = |path: &str| tree.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let propagation = text("/propagationPolicy");
        let orphan_dependents = tree.get("orphanDependents").and_then(Value::as_bool);
        if propagation.is_some() && orphan_dependents.is_some() {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&Path::new("propagationPolicy"), json!(propagation), detail));
        }
        let policy = match propagation.as_deref() {
            None => None,
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Background") => Some(Propagation::Background),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported(&Path::new("propagationPolicy"), other, &known));
                None
            }
        };
        let dry_run = tree.get("dryRun").and_then(Value::as_array).cloned().unwrap_or_default();
        if dry_run.iter().any(|value| value != "All") {
            errors.push(FieldError::not_supported(&Path::new("dryRun"), json!(dry_run), &["All"]));
        }
        refuse("DeleteOptions", &errors)?;
        Ok(Self {
            dry_run: !dry_run.is_empty(),
            grace_period_seconds: tree.get("gracePeriodSeconds").and_then(Value::as_i64),
            propagation: policy,
            orphan_dependents,
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            raw: tree,
        })
    }

    fn from_query(query: &Query) -> Result<Value, ApiError> {
        let mut tree = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if let Some(seconds) = query.integer("gracePeriodSeconds")? {
            tree["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = query.get("propagationPolicy") {
            tree["propagationPolicy"] = policy.into();
        }
        if let Some(orphan) = query.optional_flag("orphanDependents") {
            tree["orphanDependents"] = orphan.into();
        }
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        if !dry_run.is_empty() {
            tree["dryRun"] = json!(dry_run);
        }
        Ok(tree)
    }
}

/// How a list's resourceVersion is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    NotOlderThan,
    Exact,
}

/// Options of list and watch.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// As sent; `""` and `"0"` have meanings of their own.
    pub resource_version: String,
    pub version_match: Option<Match>,
    pub limit: Option<usize>,
    pub continuation: Option<String>,
    pub timeout_seconds: Option<u64>,
    pub bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and checks the query.
    pub fn read(query: &Query, watch: bool) -> Result<Self, ApiError> {
        let text = |name: &str| query.get(name).unwrap_or("").to_owned();
        let version_match = text("resourceVersionMatch");
        let options = Self {
            resource_version: text("resourceVersion"),
            version_match: match version_match.as_str() {
                "Exact" => Some(Match::Exact),
                "NotOlderThan" => Some(Match::NotOlderThan),
                _ => None,
            },
            limit: query.integer("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0),
            continuation: query.get("continue").filter(|token| !token.is_empty()).map(str::to_owned),
            timeout_seconds: query
                .integer("timeoutSeconds")?
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|s| *s > 0),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.optional_flag("sendInitialEvents"),
        };
        refuse("ListOptions", &options.errors(&version_match, watch))?;
        Ok(options)
    }

    fn errors(&self, version_match: &str, watch: bool) -> Vec<FieldError> {
        if watch && (self.send_initial_events.is_some() || !version_match.is_empty() || self.continuation.is_some()) {
            return self.watch_errors(version_match);
        }
        let path = Path::new("resourceVersionMatch");
        let mut errors = Vec::new();
        let mut forbidden = |detail: &str| errors.push(FieldError::forbidden(&path, detail));
        if version_match.is_empty() {
            return self.list_only_errors(watch);
        }
        if self.resource_version.is_empty() {
            forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if self.continuation.is_some() {
            forbidden("resourceVersionMatch is forbidden when continue is provided");
        }
        if self.version_match.is_none() {
            errors.push(FieldError::not_supported(&path, version_match, &["Exact", "NotOlderThan", ""]));
        } else if self.version_match == Some(Match::Exact) && self.resource_version == "0" {
            forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        errors.extend(self.list_only_errors(watch));
        errors
    }

    fn list_only_errors(&self, watch: bool) -> Vec<FieldError> {
        let path = Path::new("sendInitialEvents");
        let given = !watch && self.send_initial_events.is_some();
        given.then(|| FieldError::forbidden(&path, "sendInitialEvents is forbidden for list")).into_iter().collect()
    }

    fn watch_errors(&self, version_match: &str) -> Vec<FieldError> {
        let path = Path::new("resourceVersionMatch");
        let mut errors = Vec::new();
        if self.send_initial_events.is_some() {
            if self.version_match != Some(Match::NotOlderThan) {
                let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                errors.push(FieldError::forbidden(&path, detail));
            }
        } else if !version_match.is_empty() {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(&path, detail));
        }
        if !version_match.is_empty() && self.version_match != Some(Match::NotOlderThan) {
            errors.push(FieldError::not_supported(&path, version_match, &["NotOlderThan"]));
        }
        if self.continuation.is_some() {
            errors.push(FieldError::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
        }
        errors
    }
}
