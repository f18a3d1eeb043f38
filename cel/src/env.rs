//! Environments: what expressions may refer to (cel-go: `cel.Env`, `cel.Program`). Programs: expressions ready to be
//! worked out.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use crate::Name;
use crate::ast::{Id, Literal, Node};
use crate::check::{self, Checked, Resolved};
use crate::cost::{self, CostRange};
use crate::decl::Decl;
use crate::declarations::Declarations;
use crate::error::Error;
use crate::eval::{self, Bindings, Limits};
use crate::function::Library;
use crate::library;
use crate::parser;
use crate::source::Issues;
use crate::types::{StructProvider, Type};
use crate::value::Value;

/// What expressions may refer to. Cheap to clone.
#[derive(Clone, Default)]
pub struct Env {
    declared: Declarations,
    may_bind: bool,
}

impl Env {
    /// The standard functions and nothing else.
    pub fn standard() -> EnvBuilder {
        EnvBuilder { env: Self::default(), libraries: Vec::new() }.library(library::standard())
    }

    /// Everything that Kubernetes offers to all expressions, apart from what hosts bring along.
    pub fn kubernetes() -> &'static Self {
        static ENV: LazyLock<Env> =
            LazyLock::new(|| library::kubernetes().into_iter().fold(Env::standard(), EnvBuilder::library).build());
        &ENV
    }

    /// An environment with more in it.
    pub fn extend(&self) -> EnvBuilder {
        EnvBuilder { env: self.clone(), libraries: Vec::new() }
    }

    /// Reads and checks an expression.
    pub fn compile(&self, text: &str) -> Result<Program, Issues> {
        let ast = parser::parse(text, self.may_bind)?;
        let checked = check::check(ast, &self.declared, text)?;
        let variables = self.declared.variables.iter();
        let decls = variables.filter_map(|(name, (_, decl))| Some((name.clone(), decl.clone()?))).collect();
        Ok(Program { checked: Arc::new(checked), decls })
    }
}

/// An environment in the making.
pub struct EnvBuilder {
    env: Env,
    libraries: Vec<Library>,
}

impl EnvBuilder {
    /// Declares a variable.
    pub fn variable(mut self, name: &str, type_: Type) -> Self {
        self.env.declared.variables.insert(name.into(), (type_, None));
        self
    }

    /// Declares a variable whose values are JSON as `decl` says; costs are estimated by the sizes it allows.
    pub fn declared(mut self, name: &str, decl: Arc<Decl>) -> Self {
        self.env.declared.variables.insert(name.into(), (decl.type_(), Some(decl)));
        self
    }

    /// Adds functions and types.
    pub fn library(mut self, library: Library) -> Self {
        self.libraries.push(library);
        self
    }

    /// Lets expressions name values: `cel.bind(name, value, expression)`.
    pub fn bind_macro(mut self) -> Self {
        self.env.may_bind = true;
        self
    }

    /// Lets expressions build objects of these types.
    pub fn structs(mut self, structs: Arc<dyn StructProvider>) -> Self {
        self.env.declared.structs = Some(structs);
        self
    }

    /// The environment.
    pub fn build(self) -> Env {
        let mut env = self.env;
        if self.libraries.is_empty() {
            return env;
        }
        let mut all = Library { functions: (*env.declared.functions).clone(), types: Vec::new() };
        self.libraries.iter().for_each(|library| all.merge(library));
        let mut types = (*env.declared.types).clone();
        types.extend(all.types.iter().cloned());
        (env.declared.functions, env.declared.types) = (Arc::new(all.functions), Arc::new(types));
        env
    }
}

/// An expression that is ready to be worked out. Cheap to clone.
#[derive(Clone)]
pub struct Program {
    checked: Arc<Checked>,
    decls: HashMap<Name, Arc<Decl>>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program({})", self.result_type())
    }
}

impl Program {
    /// The type of its values.
    pub fn result_type(&self) -> &Type {
        &self.checked.types[self.checked.ast.root.0 as usize]
    }

    /// Whether it mentions the variable.
    pub fn uses(&self, variable: &str) -> bool {
        let is = |resolved: &Resolved| matches!(resolved, Resolved::Variable(name) if &**name == variable);
        self.checked.resolved.iter().any(is)
    }

    /// The fields of the variable that it mentions (`variables.a`); `None` when it uses the variable otherwise too.
    pub fn fields_used(&self, variable: &str) -> Option<Vec<&str>> {
        let selected = self.selected(variable);
        let count = u32::try_from(self.checked.ast.len()).ok()?;
        let uses = (0..count).filter(|at| self.is_variable(Id(*at), variable)).count();
        (uses == selected.len()).then(|| selected.into_values().collect())
    }

    /// Whether it mentions this field of the variable (`claims.email`, `has(claims.email)`, `claims.?email`).
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        self.selected(variable).into_values().any(|selected| selected == field)
    }

    fn is_variable(&self, id: Id, variable: &str) -> bool {
        matches!(&self.checked.resolved[id.0 as usize], Resolved::Variable(name) if &**name == variable)
    }

    /// The fields of the variable that are selected, by the operand. Macros leave their arguments behind, so that a name
    /// may be the operand of two nodes.
    fn selected(&self, variable: &str) -> BTreeMap<Id, &str> {
        let ast = &self.checked.ast;
        let of_variable = |id: &Id| self.is_variable(*id, variable).then_some(*id);
        let selected = ast.nodes().filter_map(|node| match node {
            Node::Select { operand, field, .. } => Some((of_variable(operand)?, &**field)),
            Node::Call { function, args, .. } if &**function == "_?._" => {
                match args.get(1).map(|field| ast.node(*field)) {
                    Some(Node::Literal(Literal::String(field))) => Some((of_variable(args.first()?)?, &**field)),
                    _ => None,
                }
            }
            _ => None,
        });
        selected.collect()
    }

    /// The least and the most that it can cost, by the sizes that declarations allow.
    pub fn cost_estimate(&self) -> CostRange {
        cost::estimate(&self.checked, &self.decls)
    }

    /// Works it out; also tells what that cost, however it ended.
    pub fn evaluate<'a>(&self, bindings: &Bindings<'a>, limits: &Limits<'_>) -> (Result<Value<'a>, Error>, u64) {
        eval::evaluate(&self.checked, bindings, limits)
    }
}
