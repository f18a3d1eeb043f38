//! `matchConditions` of webhook authorizers: expressions about the review that the webhook would be sent. Upstream:
//! `authorization/cel`.

use std::sync::{Arc, LazyLock};

use api::expression::{COST_PER_EXPRESSION, environment};
use cel::{Bindings, Decl, Env, Field, Kind, Limits, ListKind, Object, Program, Type, Value as Cel};
use serde_json::Value;

/// Expressions that must all hold.
#[derive(Clone, Debug, Default)]
pub struct Conditions(Vec<(String, Arc<Program>)>);

impl PartialEq for Conditions {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(|(text, _)| text).eq(other.0.iter().map(|(text, _)| text))
    }
}

impl Conditions {
    /// Adds an expression; the error is what its author is told.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), String> {
        static ENV: LazyLock<Env> =
            LazyLock::new(|| environment().extend().declared("request", Arc::clone(&*REQUEST)).build());
        let program = ENV.compile(text).map_err(|issues| format!("compilation failed: {issues}"))?;
        if !Type::Bool.same(program.result_type()) {
            return Err(format!("must evaluate to bool but got {}", program.result_type()));
        }
        self.0.push((text.to_owned(), Arc::new(program)));
        Ok(())
    }

    /// Whether all hold for the `spec` of a review (v1). One that does not hold decides, whatever goes wrong with others.
    pub(crate) fn hold(&self, spec: &Value) -> Result<bool, String> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let request = Cel::read(spec, &REQUEST).map_err(|err| err.to_string())?;
        let bindings = Bindings::new().with("request", request);
        let mut wrong = Vec::new();
        for (text, program) in &self.0 {
            match program.evaluate(&bindings, &Limits::cost(COST_PER_EXPRESSION)).0 {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(err) => wrong.push(format!("expression '{}' resulted in error: {err}", text.trim())),
            }
        }
        if wrong.is_empty() { Ok(true) } else { Err(wrong.join(", ")) }
    }
}

/// The `spec` of a SubjectAccessReview.
static REQUEST: LazyLock<Arc<Decl>> = LazyLock::new(|| {
    let text = || Decl::of(Kind::String);
    let texts = || Decl::of(Kind::List { items: Arc::new(text()), kind: ListKind::Atomic });
    let fields = |names: &[&'static str]| names.iter().map(|name| (*name, text())).collect::<Vec<_>>();
    let resource = ["namespace", "verb", "group", "version", "resource", "subresource", "name"];
    let mut spec = fields(&["user", "uid"]);
    spec.push(("groups", texts()));
    spec.push(("extra", Decl::of(Kind::Map(Arc::new(texts())))));
    spec.push(("resourceAttributes", object("kubernetes.ResourceAttributes", fields(&resource))));
    spec.push(("nonResourceAttributes", object("kubernetes.NonResourceAttributes", fields(&["path", "verb"]))));
    Arc::new(object("kubernetes.SubjectAccessReviewSpec", spec))
});

fn object(name: &str, fields: Vec<(&str, Decl)>) -> Decl {
    let field = |(name, decl): (&str, Decl)| (name.to_owned(), Field { name: name.to_owned(), decl: Arc::new(decl) });
    Decl::of(Kind::Object(Arc::new(Object { name: name.into(), fields: fields.into_iter().map(field).collect() })))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_that_does_not_hold_decides() {
        let conditions = |texts: &[&str]| {
            let mut conditions = Conditions::default();
            texts.iter().for_each(|text| conditions.add(text).unwrap_or_else(|why| panic!("{text}: {why}")));
            conditions
        };
        let spec = json!({"user": "jane", "groups": ["dev"], "resourceAttributes": {"verb": "get", "namespace": "n"}});
        let (yes, no) = ("has(request.resourceAttributes) && request.user == 'jane'", "!('dev' in request.groups)");
        let wrong = "request.nonResourceAttributes.path == '/x'";
        assert_eq!(conditions(&[]).hold(&spec), Ok(true));
        assert_eq!(conditions(&[yes]).hold(&spec), Ok(true));
        assert_eq!(conditions(&[yes, no]).hold(&spec), Ok(false));
        assert_eq!(conditions(&[wrong, no]).hold(&spec), Ok(false));
        assert!(conditions(&[wrong, yes]).hold(&spec).unwrap_err().contains(wrong));
    }
}
