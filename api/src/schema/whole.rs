//! The schema of the whole objects of a kind.

use std::sync::{Arc, LazyLock};

use super::{SchemaId, SchemaRef, Schemas};

/// The schema of whole objects, which a custom kind's is made when it is first asked for: a cluster has hundreds of
/// definitions, and works with the objects of few. Clones share it.
#[derive(Clone, Debug)]
pub struct Whole(Arc<LazyLock<Place, Box<dyn FnOnce() -> Place + Send>>>);

type Place = (Arc<Schemas>, SchemaId);

impl Whole {
    /// A node of an arena that is there.
    pub fn known(schemas: &Arc<Schemas>, id: SchemaId) -> Self {
        let schemas = Arc::clone(schemas);
        Self::later(move || (schemas, id))
    }

    /// A node of an arena that `make` makes.
    pub fn later(make: impl FnOnce() -> (Arc<Schemas>, SchemaId) + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(make))))
    }

    /// The schema.
    pub fn get(&self) -> SchemaRef<'_> {
        let (schemas, id) = &**self.0;
        schemas.at(*id)
    }
}
