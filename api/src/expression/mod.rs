//! What expressions anywhere in the API may use beside the language's own libraries.

pub mod admission;
pub mod authorizer;
mod formats;
mod quantity;
pub mod type_check;

use std::sync::{Arc, LazyLock};

use cel::{Decl, Env, EnvBuilder, Field, Kind, Object, Program, Type};

/// What one expression may cost when it is worked out.
pub const COST_PER_EXPRESSION: u64 = 1_000_000;

/// What all expressions that belong together may cost: those of an object's rules, or of an admission policy.
pub const COST_TOGETHER: u64 = 10_000_000;

/// The environment of all expressions; extend it by variables.
pub fn environment() -> &'static Env {
    static ENV: LazyLock<Env> = LazyLock::new(|| {
        let libraries = [quantity::library(), cel::formats(&formats::NAMES)];
        libraries.into_iter().fold(Env::kubernetes().extend(), EnvBuilder::library).build()
    });
    &ENV
}

/// Compiles a selector of devices, which says of `device` whether it is wanted; the error is what its author is told.
pub fn compile_device_selector(text: &str) -> Result<Program, String> {
    static ENV: LazyLock<Env> = LazyLock::new(|| {
        let by_domain = || Decl::of(Kind::Map(Arc::new(Decl::of(Kind::Map(Arc::new(Decl::of(Kind::Any)))))));
        let fields = [
            ("driver", Decl::of(Kind::String)),
            ("attributes", by_domain()),
            ("capacity", by_domain()),
            ("allowMultipleAllocations", Decl::of(Kind::Bool)),
        ];
        let field =
            |(name, decl): (&str, Decl)| (name.to_owned(), Field { name: name.to_owned(), decl: Arc::new(decl) });
        let device = Object { name: "DRADevice".into(), fields: fields.into_iter().map(field).collect() };
        environment()
            .extend()
            .bind_macro()
            .declared("device", Arc::new(Decl::of(Kind::Object(Arc::new(device)))))
            .build()
    });
    let program = ENV.compile(text).map_err(|issues| format!("compilation failed: {issues}"))?;
    match program.result_type() {
        Type::Bool | Type::Dyn => Ok(program),
        other => Err(format!("must evaluate to bool or the unknown type, not {other}")),
    }
}
