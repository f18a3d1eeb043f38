//! Expressions about requests: what they see, and the conditions of webhooks and policies (upstream's
//! `admission/plugin/cel` and `plugin/webhook/matchconditions`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::expression::admission::{self, Scope, Wanted};
use api::expression::authorizer::{self, Answer, Authority, Question};
use api::expression::{COST_PER_EXPRESSION, COST_TOGETHER};
use api::strategy::User;
use api::{Object, Resource};
use cel::{Bindings, Decl, Error, Limits, Map, Program, Value as Cel};
use serde_json::{Value, json};

use super::{Attributes, Namespaces, kind_of, list, text};
use crate::authn::user_value;
use crate::authz;
use crate::watch_cache::Behind;

/// How often expressions may lead to new questions for the authorizer.
const MOST_QUESTIONS: usize = 64;

/// What expressions see of a request.
pub struct Subject<'a> {
    pub object: Option<&'a Object>,
    pub old: Option<&'a Object>,
    /// As [`request`] makes it.
    pub request: &'a Value,
    pub namespace: Option<&'a Object>,
    pub params: Option<&'a Object>,
    pub answers: &'a Answers,
}

impl<'a> Subject<'a> {
    /// The variables of expressions.
    pub fn bindings(&self) -> Bindings<'a> {
        let whole =
            |object: Option<&'a Object>| object.map_or(Cel::Null, |it| Cel::Map(Map::Json(it.root(), Decl::any())));
        let namespace = self.namespace.map_or(Cel::Null, |it| Cel::Map(Map::Json(it.root(), namespace_decl())));
        let request = Cel::read(self.request, admission::request()).unwrap_or(Cel::Null);
        Bindings::new()
            .with("object", whole(self.object))
            .with("oldObject", whole(self.old))
            .with("request", request)
            .with("params", whole(self.params))
            .with("namespaceObject", namespace)
            .with("authorizer", authorizer::authorizer(&self.answers.authority()))
            .with("authorizer.requestResource", self.answers.request_resource())
    }
}

fn namespace_decl() -> &'static Decl {
    static DECL: std::sync::LazyLock<Decl> = std::sync::LazyLock::new(admission::namespace);
    &DECL
}

/// What expressions see of a request itself, whose objects are shown in the version of `row`.
pub fn request(attributes: &Attributes<'_>, row: &Resource) -> Value {
    let kind = |row: &Resource| {
        let kind = kind_of(row, attributes.subresource);
        json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
    };
    let resource = |row: &Resource| json!({"group": row.group, "version": row.version, "resource": row.plural});
    json!({
        "kind": kind(row),
        "resource": resource(row),
        "subResource": attributes.subresource,
        "requestKind": kind(attributes.requested),
        "requestResource": resource(attributes.requested),
        "requestSubResource": attributes.subresource,
        "name": attributes.name,
        "namespace": attributes.namespace_name(),
        "operation": attributes.operation.as_str(),
        "userInfo": user_value(attributes.user),
        "dryRun": attributes.dry_run,
        "options": attributes.options,
    })
}

/// The namespace that a request is about, if it is about one.
pub async fn namespace_of(attributes: &Attributes<'_>, namespaces: &Namespaces) -> Result<Option<Object>, Behind> {
    let name = attributes.namespace_name();
    if name.is_empty() || attributes.is_namespace() {
        return Ok(None);
    }
    Ok(namespaces.get(name).await?.map(|cached| cached.object()))
}

/// What the authorizer has answered to expressions, and what they want to know. Expressions cannot wait: one that asks
/// something new fails, and is worked out once more when the answer is there.
#[derive(Debug)]
pub struct Answers {
    state: Arc<Open>,
    request_resource: Question,
}

#[derive(Debug, Default)]
struct Open(Mutex<OpenState>);

#[derive(Debug, Default)]
struct OpenState {
    known: HashMap<Question, Answer>,
    asked: Vec<Question>,
}

impl Open {
    fn state(&self) -> MutexGuard<'_, OpenState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authority for Open {
    fn answer(&self, question: &Question) -> Result<Answer, Error> {
        let mut state = self.state();
        if let Some(answer) = state.known.get(question) {
            return Ok(answer.clone());
        }
        state.asked.push(question.clone());
        Err(Error::new("the authorizer has not answered yet"))
    }
}

impl Answers {
    /// Nothing asked so far.
    pub fn new(attributes: &Attributes<'_>) -> Self {
        let request_resource = Question {
            group: attributes.resource.group.to_string(),
            resource: attributes.resource.plural.to_string(),
            subresource: attributes.subresource.to_owned(),
            namespace: attributes.namespace.to_owned(),
            name: attributes.name.to_owned(),
            ..Question::default()
        };
        Self { state: Arc::default(), request_resource }
    }

    fn authority(&self) -> Arc<dyn Authority> {
        self.state.clone()
    }

    fn request_resource(&self) -> Cel<'static> {
        authorizer::request_resource(&self.authority(), self.request_resource.clone())
    }

    /// Works something out until no question is open.
    pub async fn settle<T>(&self, chain: &authz::Chain, user: &User, work: impl Fn() -> T) -> T {
        loop {
            let outcome = work();
            let open = {
                let mut state = self.state.state();
                if state.asked.is_empty() || state.known.len() >= MOST_QUESTIONS {
                    return outcome;
                }
                std::mem::take(&mut state.asked)
            };
            for question in open {
                let answer = ask(chain, user, &question).await;
                self.state.state().known.insert(question, answer);
            }
        }
    }
}

async fn ask(chain: &authz::Chain, user: &User, question: &Question) -> Answer {
    let user = match &question.service_account {
        Some((namespace, name)) => User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"]
                .map(str::to_owned)
                .to_vec(),
            ..User::default()
        },
        None => user.clone(),
    };
    let attributes = authz::Attributes {
        user,
        verb: question.verb.clone(),
        namespace: question.namespace.clone(),
        group: question.group.clone(),
        version: "*".to_owned(),
        resource: question.resource.clone(),
        subresource: question.subresource.clone(),
        name: question.name.clone(),
        path: question.path.clone().unwrap_or_default(),
        is_resource: question.path.is_none(),
        field_selector: question.field_selector.clone(),
        label_selector: question.label_selector.clone(),
    };
    match chain.decide(&attributes).await {
        authz::Decision::Allow(reason) => Answer { allowed: true, reason },
        authz::Decision::Deny(reason) | authz::Decision::NoOpinion(reason) => Answer { allowed: false, reason },
    }
}

/// An expression as its author wrote it, compiled. One that does not compile fails when it is needed: it should never have
/// been accepted.
#[derive(Clone, Debug)]
pub struct Expression {
    pub text: String,
    program: Result<Program, String>,
}

impl Expression {
    /// Compiles an expression.
    pub fn new(scope: &Scope, text: &str, wanted: Wanted) -> Self {
        Self { text: text.to_owned(), program: scope.compile(text, wanted) }
    }

    /// Its type, as variables are declared by it.
    pub fn type_(&self) -> cel::Type {
        self.program.as_ref().map_or(cel::Type::Dyn, |program| program.result_type().clone())
    }
}

/// Works out the expressions that belong together: variables are worked out when one of them needs them, and all share
/// a budget.
pub struct Evaluation<'a> {
    bindings: Bindings<'a>,
    variables: &'a [(String, Expression)],
    known: BTreeMap<String, Result<Cel<'a>, Error>>,
    budget: u64,
}

impl<'a> Evaluation<'a> {
    /// Of a request, with variables in the order in which they may refer to each other.
    pub fn new(subject: &Subject<'a>, variables: &'a [(String, Expression)]) -> Self {
        Self { bindings: subject.bindings(), variables, known: BTreeMap::new(), budget: COST_TOGETHER }
    }

    /// The value of an expression.
    pub fn value(&mut self, expression: &Expression) -> Result<Cel<'a>, Error> {
        self.upto(expression, self.variables.len())
    }

    /// As [`Self::value`], where only the first `count` variables are known.
    fn upto(&mut self, expression: &Expression, count: usize) -> Result<Cel<'a>, Error> {
        let program = expression.program.as_ref().map_err(|why| Error::new(why.clone()))?;
        let variables = &self.variables[..count];
        let needed = program.fields_used("variables");
        for (at, (name, variable)) in variables.iter().enumerate() {
            let wanted = needed.as_ref().is_none_or(|needed| needed.contains(&name.as_str()));
            if wanted && !self.known.contains_key(name) {
                let value = self.upto(variable, at);
                self.known.insert(name.clone(), value);
            }
        }
        self.bindings.set("variables", Cel::Map(Map::fields(self.known.clone())));
        let limit = COST_PER_EXPRESSION.min(self.budget);
        let (value, cost) = program.evaluate(&self.bindings, &Limits::cost(limit));
        let spent = cost > self.budget;
        self.budget = self.budget.saturating_sub(cost);
        if spent {
            return Err(Error::new(
                "validation failed due to running out of cost budget, no further validation rules will be run",
            ));
        }
        value
    }
}

/// `matchConditions`: all must hold for a webhook or policy to be asked.
#[derive(Clone, Debug, Default)]
pub struct MatchConditions(Vec<(String, Expression)>);

impl MatchConditions {
    /// Reads the field `matchConditions` of a webhook or of a policy's spec.
    pub fn read(tree: &Value, scope: &Scope) -> Self {
        let one = |tree: &Value| {
            let expression = Expression::new(scope, text(tree, "expression"), Wanted::Bool);
            (text(tree, "name").to_owned(), expression)
        };
        Self(list(tree, "matchConditions").map(one).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that does not hold decides, whatever goes wrong with others.
    pub fn hold(&self, evaluation: &mut Evaluation<'_>) -> Result<bool, String> {
        let mut wrong = Vec::new();
        for (_, condition) in &self.0 {
            match evaluation.value(condition) {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(err) => {
                    wrong.push(format!("expression '{}' resulted in error: {err}", condition.text.trim()));
                }
            }
        }
        match wrong.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            all => Err(format!("[{}]", all.join(", "))),
        }
    }

    /// Whether all hold for a request whose objects, new and old, are shown in the version of `row`: for webhooks, whose
    /// conditions see no parameters.
    pub async fn hold_for(
        &self,
        attributes: &Attributes<'_>,
        row: &Resource,
        (object, old): (Option<&Object>, Option<&Object>),
        chain: &authz::Chain,
        namespaces: &Namespaces,
    ) -> Result<bool, String> {
        if self.is_empty() {
            return Ok(true);
        }
        let namespace = namespace_of(attributes, namespaces).await.map_err(|err| err.to_string())?;
        let (request, answers) = (request(attributes, row), Answers::new(attributes));
        let work = || {
            let subject = Subject {
                object,
                old,
                request: &request,
                namespace: namespace.as_ref(),
                params: None,
                answers: &answers,
            };
            self.hold(&mut Evaluation::new(&subject, &[]))
        };
        answers.settle(chain, attributes.user, work).await
    }
}
