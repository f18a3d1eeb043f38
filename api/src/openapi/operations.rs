//! Single operations of a resource: what they take, what they answer, and in which forms.

use serde_json::{Map, Value, json};

use super::parameters::{DELETE, DELETE_COLLECTION, LIST, PATCH, WRITE};
use super::{definition_of, reference};
use crate::resource::{Resource, Verb};

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// One operation, before it is written out.
pub(super) struct Operation<'o> {
    pub(super) method: &'o str,
    /// `list`, `post`, `patch`, ...
    pub(super) action: &'o str,
    /// `read`, `create`, `replace`, ...: what its id begins with.
    pub(super) verb: &'o str,
    /// What its id ends with.
    pub(super) suffix: &'o str,
    pub(super) description: String,
    pub(super) parameters: &'o [&'o str],
    pub(super) responses: Value,
    pub(super) body: Option<Value>,
}

/// The operations of one resource. Custom resources are served in fewer forms, and described by another part of
/// upstream (`apiextensions-apiserver/pkg/controller/openapi/builder`).
#[derive(Clone, Copy)]
pub(super) struct Operations<'a> {
    row: &'a Resource,
}

impl<'a> Operations<'a> {
    pub(super) fn of(row: &'a Resource) -> Self {
        Self { row }
    }

    pub(super) fn list<'o>(self, suffix: &'o str) -> Operation<'o> {
        let row = self.row;
        let verb = if row.allows(Verb::Watch) && !row.is_custom() { "list or watch" } else { "list" };
        Operation {
            method: "get",
            action: "list",
            verb: "list",
            suffix,
            description: format!("{verb} objects of kind {}", row.kind),
            parameters: &LIST,
            responses: self.answers(&format!("{}List", definition_of(row)), &[200], true),
            body: None,
        }
    }

    /// The deprecated way to watch, by the path.
    pub(super) fn watch<'o>(self, action: &'o str, suffix: &'o str) -> Operation<'o> {
        let kind = &self.row.kind;
        let description = match action {
            "watch" => format!(
                "watch changes to an object of kind {kind}. deprecated: use the 'watch' parameter with a list operation \
                 instead, filtered to a single item with the 'fieldSelector' parameter."
            ),
            _ => format!(
                "watch individual changes to a list of {kind}. deprecated: use the 'watch' parameter with a list \
                 operation instead."
            ),
        };
        Operation {
            method: "get",
            action,
            verb: "watch",
            suffix,
            description,
            parameters: &LIST,
            responses: self.answers(&format!("{META}.WatchEvent"), &[200], true),
            body: None,
        }
    }

    pub(super) fn create<'o>(self, what: &str, own: &str, suffix: &'o str) -> Operation<'o> {
        Operation {
            method: "post",
            action: "post",
            verb: "create",
            suffix,
            description: format!("create {what}"),
            parameters: &WRITE,
            responses: self.answers(own, &[200, 201, 202], false),
            body: Some(self.body(own, true)),
        }
    }

    pub(super) fn delete_collection(self) -> Operation<'static> {
        let custom = self.row.is_custom();
        Operation {
            method: "delete",
            action: "deletecollection",
            verb: "delete",
            suffix: "",
            description: format!("delete collection of {}", self.row.kind),
            parameters: if custom { &LIST } else { &DELETE_COLLECTION },
            responses: self.answers(&format!("{META}.Status"), &[200], false),
            body: (!custom).then(|| self.body(&format!("{META}.DeleteOptions"), false)),
        }
    }

    pub(super) fn delete(self) -> Operation<'static> {
        let returned = self.row.strategy.delete_returns_object();
        let answer = if returned { definition_of(self.row) } else { format!("{META}.Status") };
        Operation {
            method: "delete",
            action: "delete",
            verb: "delete",
            suffix: "",
            description: format!("delete {}", self.one()),
            parameters: &DELETE,
            responses: self.answers(&answer, &[200, 202], false),
            body: Some(self.body(&format!("{META}.DeleteOptions"), false)),
        }
    }

    pub(super) fn read<'o>(self, what: &str, own: &str, suffix: &'o str) -> Operation<'o> {
        Operation {
            method: "get",
            action: "get",
            verb: "read",
            suffix,
            description: format!("read {what}"),
            parameters: if self.row.is_custom() { &["resourceVersion"] } else { &[] },
            responses: self.answers(own, &[200], false),
            body: None,
        }
    }

    pub(super) fn replace<'o>(self, what: &str, own: &str, suffix: &'o str) -> Operation<'o> {
        Operation {
            method: "put",
            action: "put",
            verb: "replace",
            suffix,
            description: format!("replace {what}"),
            parameters: &WRITE,
            responses: self.answers(own, &[200, 201], false),
            body: Some(self.body(own, true)),
        }
    }

    pub(super) fn patch<'o>(self, what: &str, own: &str, suffix: &'o str) -> Operation<'o> {
        let custom = self.row.is_custom();
        let mut forms =
            vec!["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];
        if !custom {
            forms.push("application/strategic-merge-patch+json");
        }
        let codes: &[u16] = if custom { &[200] } else { &[200, 201] };
        Operation {
            method: "patch",
            action: "patch",
            verb: "patch",
            suffix,
            description: format!("partially update {what}"),
            parameters: &PATCH,
            responses: self.answers(own, codes, false),
            body: Some(json!({"content": content(&forms, &format!("{META}.Patch")), "required": true})),
        }
    }

    /// `a Pod`, `an Event`, `Endpoints`.
    pub(super) fn one(self) -> String {
        match self.row.kind.as_ref() {
            kind if kind.ends_with('s') && !kind.ends_with("ss") => kind.to_owned(),
            kind if kind.starts_with(['A', 'E', 'I', 'O', 'U']) => format!("an {kind}"),
            kind => format!("a {kind}"),
        }
    }

    fn body(self, definition: &str, required: bool) -> Value {
        let forms: &[&str] = if self.row.is_custom() { &["application/json", "application/yaml"] } else { &["*/*"] };
        let mut body = json!({"content": content(forms, definition)});
        if required {
            body["required"] = true.into();
        }
        body
    }

    fn answers(self, definition: &str, codes: &[u16], watchable: bool) -> Value {
        match self.row.is_custom() {
            true => answers_in(&["application/json", "application/yaml"], definition, codes),
            false => answers(definition, codes, watchable),
        }
    }
}

/// The answers of an operation in all forms that this server speaks.
pub(super) fn answers(definition: &str, codes: &[u16], watchable: bool) -> Value {
    let mut forms = vec!["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
    if watchable {
        forms.extend(["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"]);
    }
    answers_in(&forms, definition, codes)
}

fn answers_in(forms: &[&str], definition: &str, codes: &[u16]) -> Value {
    let content = content(forms, definition);
    let mut answers = Map::new();
    for code in codes {
        let text = match code {
            200 => "OK",
            201 => "Created",
            _ => "Accepted",
        };
        answers.insert(code.to_string(), json!({"description": text, "content": content}));
    }
    answers.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    Value::Object(answers)
}

fn content(forms: &[&str], definition: &str) -> Map<String, Value> {
    let schema = json!({"schema": reference(definition)});
    forms.iter().map(|form| ((*form).to_owned(), schema.clone())).collect()
}

/// An answer that is text.
pub(super) fn text_answer() -> Value {
    let text = json!({"*/*": {"schema": {"type": "string"}}});
    json!({"200": {"description": "OK", "content": text}, "401": {"description": "Unauthorized"}})
}
