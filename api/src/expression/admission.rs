//! Expressions of admission: what they may refer to, and what they must be.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use cel::{Decl, Env, Error, Field, Issues, Kind, Library, ListKind, Object, Program, StructProvider, Type, Value};

use super::{authorizer, environment};

/// The type of the variable `variables`.
const VARIABLES: &str = "kubernetes.variables";
/// The type of the objects that are applied; those inside are called `Object.spec` and so on.
const CONFIGURATION: &str = "Object";
/// The type of the steps of a patch.
const PATCH: &str = "JSONPatch";

/// What an expression may refer to.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Whether there are parameters.
    pub params: bool,
    /// Whether objects can be built, to change the object of the request.
    pub patches: bool,
    /// What is known of the objects of requests, and of parameters.
    known: (Option<Arc<Decl>>, Option<Arc<Decl>>),
    variables: BTreeMap<String, Type>,
}

/// What an expression must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Anything,
    Bool,
    Text,
    TextOrNull,
    Configuration,
    Patch,
}

impl Scope {
    /// Declares a variable that later expressions refer to as `variables.<name>`.
    pub fn declare(&mut self, name: &str, type_: &Type) {
        self.variables.insert(name.to_owned(), type_.clone());
    }

    /// With objects and, if there are any, parameters of which this is known.
    pub(super) fn typed(object: Option<Arc<Decl>>, params: Option<Option<Arc<Decl>>>) -> Self {
        Self { params: params.is_some(), known: (object, params.flatten()), ..Self::default() }
    }

    /// The type of an expression, or what is wrong with it.
    pub(super) fn type_of(&self, text: &str) -> Result<Type, Issues> {
        self.env(Wanted::Anything).compile(text).map(|program| program.result_type().clone())
    }

    /// Compiles an expression; the error is what its author is told.
    pub fn compile(&self, text: &str, wanted: Wanted) -> Result<Program, String> {
        let program = self.env(wanted).compile(text).map_err(|issues| format!("compilation failed: {issues}"))?;
        let found = program.result_type();
        let allowed = match wanted {
            Wanted::Anything => return Ok(program),
            Wanted::Bool => vec![Type::Bool],
            Wanted::Text => vec![Type::String],
            Wanted::TextOrNull => vec![Type::String, Type::Null],
            Wanted::Configuration => vec![Type::opaque(CONFIGURATION)],
            Wanted::Patch => vec![Type::list(Type::opaque(PATCH))],
        };
        match allowed.as_slice() {
            all if all.iter().any(|one| one.same(found)) => Ok(program),
            [one] => Err(format!("must evaluate to {one} but got {found}")),
            _ => Err("must evaluate to one of [string null_type]".to_owned()),
        }
    }

    fn env(&self, wanted: Wanted) -> Env {
        static PLAIN: LazyLock<Env> = LazyLock::new(|| {
            environment()
                .extend()
                .variable("object", Type::Dyn)
                .variable("oldObject", Type::Dyn)
                .declared("request", Arc::clone(request()))
                .declared("namespaceObject", Arc::new(namespace()))
                .build()
        });
        static BASE: LazyLock<Env> = LazyLock::new(|| {
            PLAIN
                .extend()
                .library(authorizer::library())
                .variable("authorizer", authorizer::authorizer_type())
                .variable("authorizer.requestResource", authorizer::request_resource_type())
                .build()
        });
        static PATCHING: LazyLock<Env> = LazyLock::new(|| BASE.extend().library(patching()).build());
        let base = match wanted {
            // Messages cannot ask the authorizer.
            Wanted::Text => &PLAIN,
            _ if self.patches => &PATCHING,
            _ => &BASE,
        };
        let mut builder = base.extend().variable("variables", Type::opaque(VARIABLES));
        let (object, params) = &self.known;
        if let Some(object) = object {
            builder = builder.declared("object", object.clone()).declared("oldObject", object.clone());
        }
        if self.params {
            builder = match params {
                Some(params) => builder.declared("params", params.clone()),
                None => builder.variable("params", Type::Dyn),
            };
        }
        builder.structs(Arc::new(Structs(self.clone()))).build()
    }
}

/// The types that have fields here.
struct Structs(Scope);

impl StructProvider for Structs {
    fn find(&self, name: &str) -> Option<Type> {
        let configuration = name == CONFIGURATION || name.starts_with("Object.");
        let known = name == VARIABLES || (self.0.patches && (configuration || name == PATCH));
        known.then(|| Type::opaque(name))
    }

    fn field(&self, name: &str, field: &str) -> Option<Type> {
        self.find(name)?;
        match (name, field) {
            (VARIABLES, field) => self.0.variables.get(field).cloned(),
            (PATCH, "op" | "path" | "from") => Some(Type::String),
            (PATCH, "value") => Some(Type::Dyn),
            (PATCH, _) => None,
            _ => Some(Type::Dyn),
        }
    }
}

/// Functions for patches.
fn patching() -> Library {
    Library::new().function("jsonpatch_escapeKey: jsonpatch.escapeKey(string): string", |args| match args {
        [Value::String(key)] => Ok(Value::text(key.replace('~', "~0").replace('/', "~1"))),
        _ => Err(Error::new("no such overload")),
    })
}

fn object(name: &str, fields: Vec<(&str, Decl)>) -> Decl {
    let field = |(name, decl): (&str, Decl)| (name.to_owned(), Field { name: name.to_owned(), decl: Arc::new(decl) });
    Decl::of(Kind::Object(Arc::new(Object { name: name.into(), fields: fields.into_iter().map(field).collect() })))
}

fn text() -> Decl {
    Decl::of(Kind::String)
}

fn texts() -> Decl {
    Decl::of(Kind::List { items: Arc::new(text()), kind: ListKind::Atomic })
}

fn map(values: Decl) -> Decl {
    Decl::of(Kind::Map(Arc::new(values)))
}

/// What expressions see of a request.
pub fn request() -> &'static Arc<Decl> {
    static REQUEST: LazyLock<Arc<Decl>> = LazyLock::new(|| {
        let kind =
            || object("kubernetes.GroupVersionKind", vec![("group", text()), ("version", text()), ("kind", text())]);
        let resource = || {
            object(
                "kubernetes.GroupVersionResource",
                vec![("group", text()), ("version", text()), ("resource", text())],
            )
        };
        let user = object(
            "kubernetes.UserInfo",
            vec![("username", text()), ("uid", text()), ("groups", texts()), ("extra", map(texts()))],
        );
        let options = Decl { nullable: true, ..Decl::of(Kind::Any) };
        Arc::new(object(
            "kubernetes.AdmissionRequest",
            vec![
                ("kind", kind()),
                ("resource", resource()),
                ("subResource", text()),
                ("requestKind", kind()),
                ("requestResource", resource()),
                ("requestSubResource", text()),
                ("name", text()),
                ("namespace", text()),
                ("operation", text()),
                ("userInfo", user),
                ("dryRun", Decl::of(Kind::Bool)),
                ("options", options),
            ],
        ))
    });
    &REQUEST
}

/// What expressions see of the namespace of a request.
pub fn namespace() -> Decl {
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        vec![
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", map(text())),
            ("annotations", map(text())),
            ("UID", text()),
            ("creationTimestamp", Decl::of(Kind::Timestamp)),
            ("deletionGracePeriodSeconds", Decl::of(Kind::Int)),
            ("deletionTimestamp", Decl::of(Kind::Timestamp)),
            ("generation", Decl::of(Kind::Int)),
            ("resourceVersion", text()),
            ("finalizers", texts()),
        ],
    );
    let spec = object("kubernetes.NamespaceSpec", vec![("finalizers", texts())]);
    let status = object("kubernetes.NamespaceStatus", vec![("phase", text())]);
    object("kubernetes.Namespace", vec![("metadata", metadata), ("spec", spec), ("status", status)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, wanted: Wanted) -> String {
        let mut scope = Scope { params: false, patches: true, ..Scope::default() };
        scope.declare("n", &Type::Int);
        scope.compile(text, wanted).err().unwrap_or_default()
    }

    #[test]
    fn what_is_right_compiles() {
        for (text, wanted) in [
            ("object.metadata.name == 'x' && request.operation == 'CREATE' && oldObject == null", Wanted::Bool),
            ("has(request.userInfo.groups) && 'a' in request.userInfo.groups && !request.dryRun", Wanted::Bool),
            ("namespaceObject == null || namespaceObject.metadata.labels['a'] == 'b'", Wanted::Bool),
            ("variables.n > 1", Wanted::Bool),
            ("authorizer.group('').resource('pods').namespace('x').check('get').allowed()", Wanted::Bool),
            ("authorizer.requestResource.check('custom').allowed()", Wanted::Bool),
            ("authorizer.serviceAccount('ns', 'sa').path('/healthz').check('get').reason()", Wanted::TextOrNull),
            ("Object{metadata: Object.metadata{labels: {'a': 'b'}}}", Wanted::Configuration),
            ("Object{spec: Object.spec{?replicas: optional.of(1)}}", Wanted::Configuration),
            (
                "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'x'}]",
                Wanted::Patch,
            ),
            ("null", Wanted::TextOrNull),
        ] {
            assert_eq!(refused(text, wanted), "", "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_in_upstreams_words() {
        assert_eq!(refused("1", Wanted::Bool), "must evaluate to bool but got int");
        assert_eq!(refused("1", Wanted::Configuration), "must evaluate to Object but got int");
        assert_eq!(refused("1", Wanted::TextOrNull), "must evaluate to one of [string null_type]");
        let undeclared = "compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | \
                          params.x == 1\n | ^";
        assert_eq!(refused("params.x == 1", Wanted::Bool), undeclared);
        let undefined =
            "compilation failed: ERROR: <input>:1:10: undefined field 'm'\n | variables.m > 1\n | .........^";
        assert_eq!(refused("variables.m > 1", Wanted::Bool), undefined);
        assert!(refused("string(authorizer == null)", Wanted::Text).contains("undeclared reference to 'authorizer'"));
    }
}
