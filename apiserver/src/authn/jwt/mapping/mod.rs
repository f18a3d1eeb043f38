//! From the claims of a token to a user: names, groups and extras by claims or expressions, and rules that claims and
//! user must keep. Pure: the signature has been checked, and nothing is asked of anybody. Upstream:
//! `authentication/cel`.

use std::sync::{Arc, LazyLock};

use api::expression::{COST_PER_EXPRESSION, environment};
use api::strategy::User;
use cel::{Bindings, Decl, Env, Field, Kind, Limits, ListKind, Object, Program, Type, Value as Cel};
use serde_json::{Value, json};

use super::super::user_value;

/// The variable of expressions about a token, and of those about the user that was made of it.
const CLAIMS: &str = "claims";
const USER: &str = "user";
/// The extra that names the token.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// How a user is made of claims.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    pub(super) username: Source,
    pub(super) groups: Option<Source>,
    pub(super) uid: Option<Source>,
    /// By key.
    pub(super) extra: Vec<(String, Expression)>,
    /// Claims and the texts that they must be.
    pub(super) required: Vec<(String, String)>,
    pub(super) claim_rules: Vec<Rule>,
    pub(super) user_rules: Vec<Rule>,
}

/// Where a part of a user comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Claim { name: String, prefix: String },
    Expression(Expression),
}

/// What must be true.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) expression: Expression,
    /// What is said when it is not.
    pub(super) message: String,
}

/// An expression that has been compiled.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    text: String,
    program: Program,
}

impl Expression {
    /// An expression about `claims`, of any type. The error is what its author is told.
    pub(super) fn of_claims(text: &str) -> Result<Self, String> {
        static ENV: LazyLock<Env> =
            LazyLock::new(|| environment().extend().declared(CLAIMS, Arc::clone(&*CLAIMS_DECL)).build());
        Self::compile(&ENV, text)
    }

    /// A condition about `user`.
    pub(super) fn of_user(text: &str) -> Result<Self, String> {
        static ENV: LazyLock<Env> =
            LazyLock::new(|| environment().extend().declared(USER, Arc::clone(&*USER_DECL)).build());
        Self::compile(&ENV, text)?.condition()
    }

    fn compile(env: &Env, text: &str) -> Result<Self, String> {
        let program = env.compile(text).map_err(|issues| format!("compilation failed: {issues}"))?;
        Ok(Self { text: text.to_owned(), program })
    }

    /// The same, if its type is that of a condition.
    pub(super) fn condition(self) -> Result<Self, String> {
        if Type::Bool.same(self.program.result_type()) { Ok(self) } else { Err("must evaluate to bool".to_owned()) }
    }

    /// Whether it looks at this claim by its name (`claims.email`).
    pub(super) fn selects(&self, claim: &str) -> bool {
        self.program.selects(CLAIMS, claim)
    }

    fn evaluate<'a>(&self, bindings: &Bindings<'a>) -> Result<Cel<'a>, String> {
        let (value, _cost) = self.program.evaluate(bindings, &Limits::cost(COST_PER_EXPRESSION));
        value.map_err(|err| format!("expression '{}' resulted in error: {err}", self.text))
    }

    fn text(&self, bindings: &Bindings<'_>, what: &str) -> Result<String, String> {
        match self.evaluate(bindings)? {
            Cel::String(text) => Ok(text.to_string()),
            _ => Err(format!("{what} claim expression must return a string")),
        }
    }

    /// A text or a list of texts; empty ones count for nothing, as upstream.
    fn texts(&self, bindings: &Bindings<'_>) -> Result<Vec<String>, String> {
        let bad = || "expression must return a string or a list of strings".to_owned();
        let mut texts = Vec::new();
        match self.evaluate(bindings)? {
            Cel::Null => {}
            Cel::String(text) => texts.push(text.to_string()),
            Cel::List(list) => {
                for item in list.iter() {
                    let item = item.map_err(|err| err.to_string())?;
                    texts.push(item.as_str().ok_or_else(bad)?.to_owned());
                }
            }
            _ => return Err(bad()),
        }
        texts.retain(|text| !text.is_empty());
        Ok(texts)
    }
}

impl Mapping {
    /// The user of a token with these claims, an object.
    pub(super) fn user(&self, claims: &Value) -> Result<User, String> {
        self.refuse_distributed(claims)?;
        let read = Cel::read(claims, &CLAIMS_DECL).map_err(|err| format!("could not read claims: {err}"))?;
        let bindings = Bindings::new().with(CLAIMS, read);
        let user = User {
            name: self.name(claims, &bindings)?,
            groups: self.groups(claims, &bindings)?,
            uid: match &self.uid {
                None => String::new(),
                Some(Source::Claim { name, .. }) => text_of(claims, name, "uid")?.to_owned(),
                Some(Source::Expression(expression)) => {
                    expression.text(&bindings, "uid").map_err(|why| format!("error evaluating uid: {why}"))?
                }
            },
            extra: self.extra(claims, &bindings)?,
        };
        self.check_required(claims)?;
        check_rules(&self.claim_rules, &bindings)
            .map_err(|why| format!("error evaluating claim validation expression: {why}"))?;
        check_user(&self.user_rules, &user)
            .map_err(|why| format!("error evaluating user info validation rule: {why}"))?;
        Ok(user)
    }

    fn name(&self, claims: &Value, bindings: &Bindings<'_>) -> Result<String, String> {
        let name = match &self.username {
            Source::Expression(expression) => expression
                .text(bindings, "username")
                .map_err(|why| format!("error evaluating username claim expression: {why}"))?,
            Source::Claim { name, prefix } => {
                let text = text_of(claims, name, "username")?;
                // An address that its issuer has not checked could be anybody's.
                let verified = claims.get("email_verified");
                if name == "email" && verified.is_some_and(|verified| *verified != Value::Bool(true)) {
                    return Err("email not verified".to_owned());
                }
                format!("{prefix}{text}")
            }
        };
        if name.is_empty() { Err("empty username is not allowed".to_owned()) } else { Ok(name) }
    }

    fn groups(&self, claims: &Value, bindings: &Bindings<'_>) -> Result<Vec<String>, String> {
        match &self.groups {
            None => Ok(Vec::new()),
            Some(Source::Expression(expression)) => {
                expression.texts(bindings).map_err(|why| format!("error evaluating group claim expression: {why}"))
            }
            Some(Source::Claim { name, prefix }) => {
                let bad = || format!("parse groups claim {name:?}: it is no string and no list of strings");
                let groups = match claims.get(name) {
                    None | Some(Value::Null) => Vec::new(),
                    Some(Value::String(one)) => vec![one.as_str()],
                    Some(Value::Array(all)) => all.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(bad)?,
                    Some(_) => return Err(bad()),
                };
                Ok(groups.into_iter().map(|group| format!("{prefix}{group}")).collect())
            }
        }
    }

    fn extra(&self, claims: &Value, bindings: &Bindings<'_>) -> Result<Vec<(String, Vec<String>)>, String> {
        let id = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty());
        let mut extra: Vec<_> = id.map(|id| (CREDENTIAL.to_owned(), vec![format!("JTI={id}")])).into_iter().collect();
        for (key, expression) in &self.extra {
            let values = expression
                .texts(bindings)
                .map_err(|why| format!("error evaluating extra claim expression: {}: {why}", expression.text))?;
            if !values.is_empty() {
                extra.push((key.clone(), values));
            }
        }
        Ok(extra)
    }

    fn check_required(&self, claims: &Value) -> Result<(), String> {
        for (claim, wanted) in &self.required {
            match claims.get(claim) {
                None => return Err(format!("required claim {claim} not present in ID token")),
                Some(Value::String(given)) if given == wanted => {}
                Some(Value::String(given)) => {
                    return Err(format!("required claim {claim} value does not match. Got = {given}, want = {wanted}"));
                }
                Some(_) => return Err(format!("parse claim {claim}: it is no string")),
            }
        }
        Ok(())
    }

    /// Groups that lie elsewhere (OpenID Connect Core 1.0, section 5.6.2) are not fetched: a user without them could be
    /// one to whom less is forbidden.
    fn refuse_distributed(&self, claims: &Value) -> Result<(), String> {
        let Some(Source::Claim { name, .. }) = &self.groups else { return Ok(()) };
        let Some(names) = claims.get("_claim_names").filter(|_| claims.get(name).is_none()) else { return Ok(()) };
        match names {
            Value::Object(names) if !names.contains_key(name) => Ok(()),
            _ => Err(format!("could not expand distributed claims: the claim {name:?} is not fetched from elsewhere")),
        }
    }
}

fn text_of<'c>(claims: &'c Value, name: &str, what: &str) -> Result<&'c str, String> {
    let claim = claims.get(name).ok_or_else(|| format!("parse {what} claim {name:?}: claim not present"))?;
    claim.as_str().ok_or_else(|| format!("parse {what} claim {name:?}: it is no string"))
}

fn check_user(rules: &[Rule], user: &User) -> Result<(), String> {
    if rules.is_empty() {
        return Ok(());
    }
    let mut tree = user_value(user);
    // Expressions count on every field.
    for (field, empty) in [("uid", json!("")), ("groups", json!([])), ("extra", json!({}))] {
        if tree.get(field).is_none() {
            tree[field] = empty;
        }
    }
    let read = Cel::read(&tree, &USER_DECL).map_err(|err| err.to_string())?;
    check_rules(rules, &Bindings::new().with(USER, read))
}

fn check_rules(rules: &[Rule], bindings: &Bindings<'_>) -> Result<(), String> {
    for Rule { expression, message } in rules {
        match expression.evaluate(bindings)? {
            Cel::Bool(true) => {}
            Cel::Bool(false) => return Err(format!("validation expression '{}' failed: {message}", expression.text)),
            _ => return Err("validation expression must return a boolean".to_owned()),
        }
    }
    Ok(())
}

static CLAIMS_DECL: LazyLock<Arc<Decl>> =
    LazyLock::new(|| Arc::new(Decl::of(Kind::Map(Arc::new(Decl::of(Kind::Any))))));

/// `kubernetes.UserInfo`.
static USER_DECL: LazyLock<Arc<Decl>> = LazyLock::new(|| {
    let text = || Decl::of(Kind::String);
    let texts = || Decl::of(Kind::List { items: Arc::new(text()), kind: ListKind::Atomic });
    let fields =
        [("username", text()), ("uid", text()), ("groups", texts()), ("extra", Decl::of(Kind::Map(Arc::new(texts()))))];
    let field = |(name, decl): (&str, Decl)| (name.to_owned(), Field { name: name.to_owned(), decl: Arc::new(decl) });
    let object = Object { name: "kubernetes.UserInfo".into(), fields: fields.into_iter().map(field).collect() };
    Arc::new(Decl::of(Kind::Object(Arc::new(object))))
});

#[cfg(test)]
mod tests;
