//! The authorizer in expressions: `authorizer.group('apps').resource('deployments').namespace('x').check('create').allowed()`.

use std::fmt;
use std::sync::Arc;

use cel::{Error, Library, Opaque, Type, Value};

const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
const PATH: &str = "kubernetes.authorization.PathCheck";
const GROUP: &str = "kubernetes.authorization.GroupCheck";
const RESOURCE: &str = "kubernetes.authorization.ResourceCheck";
const DECISION: &str = "kubernetes.authorization.Decision";

/// Who answers questions of expressions.
pub trait Authority: fmt::Debug + Send + Sync {
    /// Answers, or fails when there is no answer yet.
    fn answer(&self, question: &Question) -> Result<Answer, Error>;
}

/// May somebody do something?
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Question {
    /// Namespace and name of a service account; else the user of the request is meant.
    pub service_account: Option<(String, String)>,
    pub verb: String,
    /// The path of what is no resource.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
}

/// What the authorizer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub allowed: bool,
    pub reason: String,
}

/// A question in the making, at one of its stages.
#[derive(Clone, Debug)]
struct Asking {
    stage: &'static str,
    authority: Arc<dyn Authority>,
    question: Question,
}

impl Opaque for Asking {
    fn type_name(&self) -> &str {
        self.stage
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other.downcast::<Self>().is_some_and(|other| other.stage == self.stage && other.question == self.question)
    }
}

#[derive(Debug, PartialEq)]
struct Decision(Answer);

impl Opaque for Decision {
    fn type_name(&self) -> &str {
        DECISION
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other.downcast::<Self>() == Some(self)
    }
}

/// The value of the variable `authorizer`.
pub fn authorizer(authority: &Arc<dyn Authority>) -> Value<'static> {
    Value::opaque(Asking { stage: AUTHORIZER, authority: authority.clone(), question: Question::default() })
}

/// The value of the variable `authorizer.requestResource`: a question about what the request is about, without a verb.
pub fn request_resource(authority: &Arc<dyn Authority>, question: Question) -> Value<'static> {
    Value::opaque(Asking { stage: RESOURCE, authority: authority.clone(), question })
}

/// The type of the variable `authorizer`.
pub(super) fn authorizer_type() -> Type {
    Type::opaque(AUTHORIZER)
}

/// The type of the variable `authorizer.requestResource`.
pub(super) fn request_resource_type() -> Type {
    Type::opaque(RESOURCE)
}

fn mismatch() -> Error {
    Error::new("no such overload")
}

fn asking<'v>(args: &'v [Value<'_>]) -> Result<&'v Asking, Error> {
    match args.first() {
        Some(Value::Opaque(value)) => value.downcast().ok_or_else(mismatch),
        _ => Err(mismatch()),
    }
}

/// The next stage of a question, with one more text in it.
fn next<'a>(args: &[Value<'a>], stage: &'static str, set: impl Fn(&mut Question, String)) -> Result<Value<'a>, Error> {
    let mut asking = asking(args)?.clone();
    let text = args.get(1).and_then(Value::as_str).ok_or_else(mismatch)?;
    set(&mut asking.question, text.to_owned());
    Ok(Value::opaque(Asking { stage, ..asking }))
}

fn check<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let asking = asking(args)?;
    let verb = args.get(1).and_then(Value::as_str).ok_or_else(mismatch)?;
    let question = Question { verb: verb.to_owned(), ..asking.question.clone() };
    asking.authority.answer(&question).map(|answer| Value::opaque(Decision(answer)))
}

fn decision<'a>(args: &[Value<'a>], tell: impl Fn(&Answer) -> Value<'a>) -> Result<Value<'a>, Error> {
    match args.first() {
        Some(Value::Opaque(value)) => value.downcast::<Decision>().map(|it| tell(&it.0)).ok_or_else(mismatch),
        _ => Err(mismatch()),
    }
}

/// What the authorizer and its questions can do.
pub(super) fn library() -> Library {
    let mut library = [AUTHORIZER, PATH, GROUP, RESOURCE, DECISION]
        .into_iter()
        .fold(Library::new(), |library, name| library.type_(name, Type::opaque(name)));
    library = library
        .function(&format!("authorizer_path: {AUTHORIZER}.path(string): {PATH}"), |args| {
            next(args, PATH, |question, path| question.path = Some(path))
        })
        .function(&format!("authorizer_group: {AUTHORIZER}.group(string): {GROUP}"), |args| {
            next(args, GROUP, |question, group| question.group = group)
        })
        .function(
            &format!("authorizer_serviceaccount: {AUTHORIZER}.serviceAccount(string, string): {AUTHORIZER}"),
            |args| {
                let mut asking = asking(args)?.clone();
                let (Some(namespace), Some(name)) =
                    (args.get(1).and_then(Value::as_str), args.get(2).and_then(Value::as_str))
                else {
                    return Err(mismatch());
                };
                asking.question.service_account = Some((namespace.to_owned(), name.to_owned()));
                Ok(Value::opaque(asking))
            },
        )
        .function(&format!("groupcheck_resource: {GROUP}.resource(string): {RESOURCE}"), |args| {
            next(args, RESOURCE, |question, resource| question.resource = resource)
        });
    type Set = fn(&mut Question, String);
    let parts: [(&str, Set); 5] = [
        ("subresource", |question, text| question.subresource = text),
        ("namespace", |question, text| question.namespace = text),
        ("name", |question, text| question.name = text),
        ("fieldSelector", |question, text| question.field_selector = text),
        ("labelSelector", |question, text| question.label_selector = text),
    ];
    for (name, set) in parts {
        library = library
            .function(&format!("resourcecheck_{name}: {RESOURCE}.{name}(string): {RESOURCE}"), move |args| {
                next(args, RESOURCE, set)
            });
    }
    library
        .function(&format!("pathcheck_check: {PATH}.check(string): {DECISION}"), check)
        .function(&format!("resourcecheck_check: {RESOURCE}.check(string): {DECISION}"), check)
        .function(&format!("decision_allowed: {DECISION}.allowed(): bool"), |args| {
            decision(args, |answer| Value::Bool(answer.allowed))
        })
        .function(&format!("decision_reason: {DECISION}.reason(): string"), |args| {
            decision(args, |answer| Value::text(answer.reason.clone()))
        })
        .function(&format!("decision_errored: {DECISION}.errored(): bool"), |args| {
            decision(args, |_| Value::Bool(false))
        })
        .function(&format!("decision_error: {DECISION}.error(): string"), |args| decision(args, |_| Value::text("")))
}
