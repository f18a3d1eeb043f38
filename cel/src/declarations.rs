//! What expressions may refer to, as the checker asks for it (cel-go: `checker.Env`).

use std::collections::HashMap;
use std::sync::Arc;

use crate::Name;
use crate::decl::Decl;
use crate::function::Overload;
use crate::types::{StructProvider, Type};

/// Functions, types and variables by their names.
#[derive(Clone, Default)]
pub(crate) struct Declarations {
    pub(crate) functions: Arc<HashMap<Name, Vec<Overload>>>,
    pub(crate) types: Arc<HashMap<Name, Type>>,
    pub(crate) variables: HashMap<Name, (Type, Option<Arc<Decl>>)>,
    pub(crate) structs: Option<Arc<dyn StructProvider>>,
}

impl Declarations {
    pub(crate) fn variable(&self, name: &str) -> Option<&Type> {
        self.variables.get(name).map(|(type_, _)| type_)
    }

    pub(crate) fn named_type(&self, name: &str) -> Option<Type> {
        self.types.get(name).cloned().or_else(|| self.named_struct(name))
    }

    pub(crate) fn named_struct(&self, name: &str) -> Option<Type> {
        self.structs.as_ref()?.find(name)
    }

    pub(crate) fn struct_field(&self, name: &str, field: &str) -> Option<Type> {
        self.structs.as_ref()?.field(name, field)
    }

    pub(crate) fn overloads(&self, function: &str) -> Option<&[Overload]> {
        self.functions.get(function).map(Vec::as_slice)
    }
}
