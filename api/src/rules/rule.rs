//! One rule: what its author wrote, and what became of it.

use std::sync::Arc;

use cel::{Decl, Program, Type};
use serde_json::{Map, Value};

use super::{VALIDATIONS, field_path};
use crate::expression;

/// A rule as written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) rule: String,
    pub(super) message: String,
    pub(super) message_expression: String,
    pub(super) reason: Option<String>,
    pub(super) field_path: String,
    pub(super) optional_old_self: Option<bool>,
}

/// A rule, compiled.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) written: Written,
    /// Absent when the rule is empty.
    pub(super) program: Option<Result<Program, String>>,
    pub(super) message: Option<Result<Program, String>>,
    /// The field that errors name, below the one that the rule stands at.
    pub(super) field_path: Option<String>,
}

impl Rule {
    /// The rules that stand at a node.
    pub(super) fn all(written: &Map<String, Value>) -> impl Iterator<Item = Written> {
        written.get(VALIDATIONS).and_then(Value::as_array).into_iter().flatten().map(Written::read)
    }

    /// Compiles a rule that stands at the node of `schema`, which expressions know as `decl`.
    pub(super) fn compile(written: Written, schema: &Map<String, Value>, decl: &Arc<Decl>) -> Self {
        let builder = expression::environment().extend().declared("self", Arc::clone(decl));
        let env = if written.optional_old_self == Some(true) {
            builder.variable("oldSelf", Type::optional(decl.type_())).build()
        } else {
            builder.declared("oldSelf", Arc::clone(decl)).build()
        };
        let compile = |text: &str, failed: &str, wanted: fn(&Type) -> bool, otherwise: &str| {
            let program = env.compile(text).map_err(|issues| format!("{failed}: {issues}"))?;
            if wanted(program.result_type()) { Ok(program) } else { Err(otherwise.to_owned()) }
        };
        let rule = !written.rule.trim().is_empty();
        let program = rule.then(|| {
            compile(&written.rule, "compilation failed", Type::is_bool, "cel expression must evaluate to a bool")
        });
        let text = |type_: &Type| matches!(type_, Type::String);
        // Nothing is said of the message of a rule that is wrong itself.
        let message = matches!(program, Some(Ok(_))) && !written.message_expression.is_empty();
        let message = message.then(|| {
            let failed = "messageExpression compilation failed";
            compile(&written.message_expression, failed, text, "messageExpression must evaluate to a string")
        });
        let field_path = Some(written.field_path.trim()).filter(|path| !path.is_empty());
        let field_path = field_path.and_then(|path| field_path::read(path, schema).ok());
        Self { program, message, field_path, written }
    }

    /// Whether the rule compares with what was there before.
    pub(super) fn uses_old(&self) -> bool {
        matches!(&self.program, Some(Ok(program)) if program.uses("oldSelf"))
    }
}

impl Written {
    fn read(value: &Value) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        Self {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: value.get("reason").and_then(Value::as_str).map(str::to_owned),
            field_path: text("fieldPath"),
            optional_old_self: value.get("optionalOldSelf").and_then(Value::as_bool),
        }
    }

    /// The rule as errors of the reference show it.
    pub(super) fn shown(&self) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        let flag = self.optional_old_self.map_or_else(|| "null".to_owned(), |flag| flag.to_string());
        format!(
            "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{flag}}}",
            quoted(&self.rule),
            quoted(&self.message),
            quoted(&self.message_expression),
            self.reason.as_deref().map_or_else(|| "null".to_owned(), quoted),
            quoted(&self.field_path),
        )
    }

    /// How errors call the rule.
    pub(super) fn name(&self) -> &str {
        if self.message.is_empty() { self.rule.trim() } else { self.message.trim() }
    }

    /// What an object that breaks the rule is told, unless an expression says more.
    pub(super) fn message(&self) -> String {
        if self.message.is_empty() { format!("failed rule: {}", self.name()) } else { self.name().to_owned() }
    }
}
