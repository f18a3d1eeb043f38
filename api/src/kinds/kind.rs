//! A built-in kind as one row: the few hooks in which it differs from a plain kind.

use super::rules::{fill, naming, ratchet};
use crate::field::FieldError;
use crate::kinds::pods::gates::Gated;
use crate::kinds::rules::tree::{Errors, Fields, Node, Validate, ValidateChange, Warn};
use crate::object::Object;
use crate::strategy::{DefaultDeletion, MetadataRechecks, Strategy, WriteContext, content_changed};

/// Fills in defaults.
pub(crate) type Default = fn(&mut Object);
/// Prepares a new object.
pub(crate) type PrepareCreate = fn(&WriteContext<'_>, &mut Object);
/// Prepares a replacement.
pub(crate) type PrepareUpdate = fn(&WriteContext<'_>, &mut Object, &Object);

/// What a kind does; [`Hooks::PLAIN`] does nothing special.
#[derive(Clone, Copy)]
pub(crate) struct Hooks {
    pub(crate) default: Default,
    /// Fills in the parts of `status` that are shown even before anybody has written them.
    pub(crate) status: Option<fn(&mut Fields)>,
    /// Fields that are dropped before anything else is prepared.
    pub(crate) gated: &'static [Gated],
    pub(crate) prepare_create: PrepareCreate,
    pub(crate) prepare_update: PrepareUpdate,
    pub(crate) prepare_status: PrepareUpdate,
    /// Rules for the object alone: on create, and on update unless `update_skips_rules`.
    pub(crate) validate: Validate,
    /// Rules that hold on create only.
    pub(crate) validate_new: Validate,
    /// Rules that compare with the old object.
    pub(crate) validate_change: ValidateChange,
    pub(crate) validate_status: ValidateChange,
    /// Rules for a change through a subresource of that name that writes the object itself; answers whether it knows
    /// the subresource.
    pub(crate) validate_subresource: fn(&str, &Node<'_, '_>, &Node<'_, '_>, &mut Errors) -> bool,
    pub(crate) update_skips_rules: bool,
    pub(crate) validation_may_take_long: bool,
    pub(crate) warn: Warn,
    /// What is told of a new object whether or not it is taken.
    pub(crate) warn_prepared: fn(&Node<'_, '_>, &mut Vec<String>),
    /// Texts on a write to `/status`.
    pub(crate) warn_status: fn(&Node<'_, '_>, &mut Vec<String>),
    pub(crate) status_changes_metadata: bool,
    /// Whether it is recorded who owns fields of the spec.
    pub(crate) tracks_spec: bool,
    pub(crate) rechecks: MetadataRechecks,
    pub(crate) is_new_generation: fn(&Object, &Object) -> bool,
    /// Annotations that stand for fields which the version does not have.
    pub(crate) fields_as_annotations: &'static [&'static str],
    pub(crate) name: fn(&str, bool) -> Vec<String>,
    pub(crate) create_on_update: bool,
    pub(crate) unconditional_update: bool,
    pub(crate) orphans: bool,
    pub(crate) silent_deletion_warning: Option<&'static str>,
    pub(crate) delete_returns_object: bool,
    pub(crate) keeps_status_on_create: bool,
    pub(crate) grace_period: fn(&Object, Option<i64>) -> Option<i64>,
    pub(crate) begin_deletion: PrepareCreate,
    pub(crate) holds_deletion: fn(&Object) -> bool,
}

impl Hooks {
    /// A kind without anything special, named by a DNS subdomain.
    pub(crate) const PLAIN: Self = Self {
        default: |_| {},
        status: None,
        gated: &[],
        prepare_create: |_, _| {},
        prepare_update: |_, _, _| {},
        prepare_status: |_, _, _| {},
        validate: |_, _| {},
        validate_new: |_, _| {},
        validate_change: |_, _, _| {},
        validate_status: |_, _, _| {},
        validate_subresource: |_, _, _, _| false,
        update_skips_rules: false,
        validation_may_take_long: false,
        warn: |_, _, _| {},
        warn_prepared: |_, _| {},
        warn_status: |_, _| {},
        status_changes_metadata: true,
        tracks_spec: true,
        rechecks: MetadataRechecks { whole: 0, change: 1 },
        is_new_generation: content_changed,
        fields_as_annotations: &[],
        name: naming::subdomain_name,
        create_on_update: false,
        unconditional_update: true,
        orphans: false,
        silent_deletion_warning: None,
        delete_returns_object: false,
        keeps_status_on_create: false,
        grace_period: |_, _| None,
        begin_deletion: |_, _| {},
        holds_deletion: |_| false,
    };
}

impl Hooks {
    /// What the rules have against an object as it is stored.
    fn wrong_already(&self, stored: &Node<'_, '_>) -> Errors {
        let mut errors = Errors::default();
        (self.validate)(stored, &mut errors);
        errors
    }

    fn fill_status(&self, object: &mut Object) {
        if let Some(fill) = self.status {
            fill(fill::object(object.root_mut(), "status"));
        }
    }
}

impl Strategy for Hooks {
    fn default(&self, object: &mut Object) {
        (self.default)(object);
        self.fill_status(object);
    }

    fn prepare_create(&self, ctx: &WriteContext<'_>, new: &mut Object) {
        self.gated.iter().for_each(|gated| gated.drop(new, None));
        (self.prepare_create)(ctx, new);
        self.fill_status(new);
    }

    fn prepare_update(&self, ctx: &WriteContext<'_>, new: &mut Object, old: &Object) {
        self.gated.iter().for_each(|gated| gated.drop(new, Some(old)));
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
        (self.name)(name, prefix)
    }

    fn status_changes_metadata(&self) -> bool {
        self.status_changes_metadata
    }

    fn tracks_spec(&self) -> bool {
        self.tracks_spec
    }

    fn metadata_rechecks(&self) -> MetadataRechecks {
        self.rechecks
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
