//! The Common Expression Language as Kubernetes speaks it: parse, check types, estimate and limit cost, evaluate.
//!
//! Pure: values in, value or error out; nothing here knows a Kubernetes object, a clock or a network.
//!
//! ```
//! use cel::{Bindings, Env, Limits, Type, Value};
//!
//! let env = Env::kubernetes().extend().variable("x", Type::Int).build();
//! let program = env.compile("x > 1 && [1, 2].exists(i, i == x)").expect("compiles");
//! let bindings = Bindings::new().with("x", Value::Int(2));
//! let (value, _cost) = program.evaluate(&bindings, &Limits::cost(1000));
//! assert_eq!(value, Ok(Value::Bool(true)));
//! ```
#![forbid(unsafe_code)]

mod ast;
mod base64;
mod check;
mod cost;
mod decl;
mod declarations;
mod env;
mod error;
mod escape;
mod eval;
mod function;
mod lexer;
pub mod library;
mod parser;
mod pattern;
mod source;
#[cfg(test)]
mod tests;
mod time;
mod types;
mod value;

pub use cost::{CostRange, SizeRange};
pub use decl::{Decl, Field, Kind, ListKind, MAX_REQUEST_BYTES, Object};
pub use env::{Env, EnvBuilder, Program};
pub use error::Error;
pub use escape::{escape, unescape};
pub use eval::{Bindings, Limits};
pub use function::Library;
pub use library::{Format, SemanticVersion, formats};
pub use parser::is_identifier;
pub use pattern::compile as compile_pattern;
pub use source::{Issue, Issues};
pub use time::parse_go_duration;
pub use types::{StructProvider, Type};
pub use value::{List, Map, Opaque, Text, Value};

/// A name that is shared, not copied.
pub type Name = std::sync::Arc<str>;
