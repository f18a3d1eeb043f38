//! What the API server's registry asks of a kind, answered from its fields.

use super::Kind;
use crate::field::FieldError;
use crate::kinds::rules::tree::{Errors, Fields, Node};
use crate::kinds::rules::{fill, ratchet};
use crate::object::Object;
use crate::strategy::{DefaultDeletion, MetadataRechecks, Strategy, WriteContext};

impl Kind {
    /// What the rules have against an object as it is stored.
    fn wrong_already(&self, stored: &Node<'_, '_>) -> Errors {
        let mut errors = Errors::default();
        (self.validate)(stored, &mut errors);
        errors
    }

    fn fill_status(&self, object: &mut Object) {
        if let Some(fill_status) = self.fill_status {
            fill_status(fill::object(object.root_mut(), "status"));
        }
    }
}

impl Strategy for Kind {
    fn default(&self, object: &mut Object) {
        (self.default)(object);
        self.fill_status(object);
    }

    fn prepare_create(&self, ctx: &WriteContext<'_>, new: &mut Object) {
        self.gated.iter().for_each(|gated| gated.drop(new, None, self.has_groups));
        (self.prepare_create)(ctx, new);
        self.fill_status(new);
    }

    fn prepare_update(&self, ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
        self.gated.iter().for_each(|gated| gated.drop(new, Some(old), self.has_groups));
        (self.prepare_update)(ctx, new, old);
    }

    fn prepare_status_update(&self, ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
        (self.prepare_status)(ctx, new, old);
    }

    fn validate_create(&self, _ctx: &WriteContext<'_>, new: &Object) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let new = Node::root(new.root());
        (self.validate)(&new, &mut errors);
        (self.validate_new)(&new, &mut errors);
        errors.0
    }

    fn validate_update(&self, ctx: &WriteContext<'_>, new: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let (now, then) = (Node::root(new.root()), Node::root(old.root()));
        let by_subresource =
            !ctx.subresource.is_empty() && (self.validate_subresource)(ctx.subresource, &now, &then, &mut errors);
        if !by_subresource {
            if !self.update_skips_rules {
                (self.validate)(&now, &mut errors);
            }
            (self.validate_change)(&now, &then, &mut errors);
        }
        ratchet::drop_known(errors, || self.wrong_already(&then), new.root(), old.root())
    }

    fn validate_status_update(&self, ctx: &WriteContext<'_>, new: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let (now, then) = (Node::root(new.root()), Node::root(old.root()));
        if !(self.validate_subresource)(ctx.subresource, &now, &then, &mut errors) {
            (self.validate_status)(&now, &then, &mut errors);
        }
        let known = || {
            let mut known = Errors::default();
            (self.validate_status)(&then, &then, &mut known);
            known
        };
        ratchet::drop_known(errors, known, new.root(), old.root())
    }

    fn validation_may_take_long(&self) -> bool {
        self.validation_may_take_long
    }

    fn warnings(&self, new: &Object, old: Option<&Object>) -> Vec<String> {
        let mut texts = Vec::new();
        let old = old.map(|old| Node::root(old.root()));
        (self.warn)(&Node::root(new.root()), old.as_ref(), &mut texts);
        texts
    }

    fn preparation_warnings(&self, new: &Object) -> Vec<String> {
        let mut texts = Vec::new();
        (self.warn_prepared)(&Node::root(new.root()), &mut texts);
        texts
    }

    fn status_warnings(&self, new: &Object) -> Vec<String> {
        let mut texts = Vec::new();
        (self.warn_status)(&Node::root(new.root()), &mut texts);
        texts
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        (self.validate_name)(name, prefix)
    }

    fn status_metadata(&self) -> &'static [&'static str] {
        self.status_metadata
    }

    fn tracks_spec(&self) -> bool {
        self.tracks_spec
    }

    fn metadata_rechecks(&self) -> MetadataRechecks {
        let (whole, change) = self.rechecks;
        MetadataRechecks { whole, change }
    }

    fn is_new_generation(&self, new: &Object, old: &Object) -> bool {
        (self.is_new_generation)(new, old)
    }

    fn metadata_alone(&self, metadata: &mut Fields) {
        let Some(annotations) = fill::object_at(metadata, "annotations") else { return };
        for name in self.fields_as_annotations {
            annotations.remove(*name);
        }
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }

    fn allow_create_on_update(&self) -> bool {
        self.create_on_update
    }

    fn allow_unconditional_update(&self) -> bool {
        self.unconditional_update
    }

    fn default_deletion(&self) -> DefaultDeletion {
        if self.orphans { DefaultDeletion::Orphan } else { DefaultDeletion::Background }
    }

    fn silent_deletion_warning(&self) -> Option<&'static str> {
        self.silent_deletion_warning
    }

    fn delete_returns_object(&self) -> bool {
        self.delete_returns_object
    }

    fn has_own_delete(&self) -> bool {
        self.own_delete
    }

    fn expires(&self) -> bool {
        self.expires
    }

    fn keeps_status_on_create(&self) -> bool {
        self.keeps_status_on_create
    }

    fn grace_period(&self, object: &Object, asked: Option<i64>) -> Option<i64> {
        (self.grace_period)(object, asked)
    }

    fn begin_deletion(&self, ctx: &WriteContext<'_>, object: &mut Object) {
        (self.begin_deletion)(ctx, object);
    }

    fn holds_deletion(&self, object: &Object) -> bool {
        (self.holds_deletion)(object)
    }
}
