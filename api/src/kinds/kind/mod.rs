//! A kind as one value: its names, its place in the API, and the few hooks in which it differs from a plain kind
//! (upstream: the package of a kind below `pkg/registry`, with `strategy.go` and `storage.go`).

pub(crate) mod strategy;

use super::rules::naming;
use crate::kinds::pods::gates::Gated;
use crate::kinds::rules::tree::{Errors, Fields, Node, Validate, ValidateChange, Warn};
use crate::object::Object;
use crate::resource::{GroupVersionKind, SelectableField, Subresource, Text, Verb};
use crate::strategy::{STATUS_METADATA, WriteContext, content_changed};
use crate::table::cell::Cell;

/// The kinds of one API group.
pub(crate) struct Group {
    /// `""` for the core group.
    pub(crate) name: &'static str,
    /// Versions by preference, each with its kinds by plural.
    pub(crate) versions: &'static [(&'static str, &'static [Kind])],
}

/// Everything that is known of a kind beside its schema. What is not said is as [`Kind::namespaced`] and
/// [`Kind::cluster`] have it.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// `pods`.
    pub(crate) plural: &'static str,
    /// `pod`, if not the kind in lower case.
    pub(crate) singular: Option<&'static str>,
    /// `Pod`.
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) verbs: &'static [Verb],
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) subresources: &'static [Sub],
    /// Whether changes of the spec are counted.
    pub(crate) has_generation: bool,
    /// Where objects lie in the store, if not below the plural.
    pub(crate) prefix: Option<&'static str>,
    /// The group in which objects are stored, if another one.
    pub(crate) storage_group: Option<&'static str>,
    /// The version in which objects are stored, if another one.
    pub(crate) storage_version: Option<&'static str>,
    /// The version that the hash in discovery is made of, if not the stored one.
    pub(crate) hash_version: Option<&'static str>,
    pub(crate) fields: &'static [Field],
    pub(crate) deprecation: Option<&'static str>,
    /// What a row shows in the columns of `table/columns.txt`; name and age if nothing.
    pub(crate) cells: &'static [Cell],

    /// Fills in defaults.
    pub(crate) default: fn(&mut Object),
    /// Fills in the parts of `status` that are shown even before anybody has written them.
    pub(crate) fill_status: Option<fn(&mut Fields)>,
    /// Fields that are dropped before anything else is prepared.
    pub(crate) gated: &'static [Gated],
    /// Whether pods may name their `PodGroup`, since there are some.
    pub(crate) has_groups: bool,
    /// Prepares a new object.
    pub(crate) prepare_create: fn(&WriteContext<'_>, &mut Object),
    /// Prepares a replacement: new, old.
    pub(crate) prepare_update: fn(&WriteContext<'_>, &mut Object, &Object),
    pub(crate) prepare_status: fn(&WriteContext<'_>, &mut Object, &Object),
    /// Rules for the object alone: on create, and on update unless `update_skips_rules`.
    pub(crate) validate: Validate,
    /// Rules that hold on create only.
    pub(crate) validate_new: Validate,
    /// Rules that compare with the old object: new, old.
    pub(crate) validate_change: ValidateChange,
    pub(crate) validate_status: ValidateChange,
    /// Rules for a change through a subresource of that name that writes the object itself; answers whether it knows
    /// the subresource.
    pub(crate) validate_subresource: fn(&str, &Node<'_, '_>, &Node<'_, '_>, &mut Errors) -> bool,
    /// Why a name is not allowed; the flag says that random characters will follow.
    pub(crate) validate_name: fn(&str, bool) -> Vec<String>,
    pub(crate) update_skips_rules: bool,
    pub(crate) validation_may_take_long: bool,
    /// Texts for the client: new, old.
    pub(crate) warn: Warn,
    /// What is told of a new object whether or not it is taken.
    pub(crate) warn_prepared: fn(&Node<'_, '_>, &mut Vec<String>),
    /// Texts on a write to `/status`.
    pub(crate) warn_status: fn(&Node<'_, '_>, &mut Vec<String>),
    /// The fields of the metadata that a write to `/status` may change.
    pub(crate) status_metadata: &'static [&'static str],
    /// Whether it is recorded who owns fields of the spec.
    pub(crate) tracks_spec: bool,
    /// How often upstream's update rules repeat the checks of metadata: of the whole, and of the change.
    pub(crate) rechecks: (usize, usize),
    pub(crate) is_new_generation: fn(&Object, &Object) -> bool,
    /// Annotations that stand for fields which the version does not have.
    pub(crate) fields_as_annotations: &'static [&'static str],
    pub(crate) create_on_update: bool,
    pub(crate) unconditional_update: bool,
    /// Whether dependents are kept when nobody says what becomes of them.
    pub(crate) orphans: bool,
    pub(crate) silent_deletion_warning: Option<&'static str>,
    pub(crate) delete_returns_object: bool,
    /// Whether upstream deletes it in a way of its own, with other words for preconditions that fail.
    pub(crate) own_delete: bool,
    /// Whether objects are forgotten after a while (`--event-ttl`), and nothing waits for them.
    pub(crate) expires: bool,
    pub(crate) keeps_status_on_create: bool,
    pub(crate) grace_period: fn(&Object, Option<i64>) -> Option<i64>,
    pub(crate) begin_deletion: fn(&WriteContext<'_>, &mut Object),
    pub(crate) holds_deletion: fn(&Object) -> bool,
}

impl Kind {
    /// A kind in namespaces without anything special, named by a DNS subdomain.
    pub(crate) const fn namespaced(plural: &'static str, kind: &'static str) -> Self {
        Self {
            plural,
            singular: None,
            kind,
            namespaced: true,
            verbs: &Verb::STORED,
            short_names: &[],
            categories: &[],
            subresources: &[],
            has_generation: false,
            prefix: None,
            storage_group: None,
            storage_version: None,
            hash_version: None,
            fields: &[],
            deprecation: None,
            cells: &[],
            default: |_| {},
            fill_status: None,
            gated: &[],
            has_groups: false,
            prepare_create: |_, _| {},
            prepare_update: |_, _, _| {},
            prepare_status: |_, _, _| {},
            validate: |_, _| {},
            validate_new: |_, _| {},
            validate_change: |_, _, _| {},
            validate_status: |_, _, _| {},
            validate_subresource: |_, _, _, _| false,
            validate_name: naming::subdomain_name,
            update_skips_rules: false,
            validation_may_take_long: false,
            warn: |_, _, _| {},
            warn_prepared: |_, _| {},
            warn_status: |_, _| {},
            status_metadata: &STATUS_METADATA,
            tracks_spec: true,
            rechecks: (0, 1),
            is_new_generation: content_changed,
            fields_as_annotations: &[],
            create_on_update: false,
            unconditional_update: true,
            orphans: false,
            silent_deletion_warning: None,
            delete_returns_object: false,
            own_delete: false,
            expires: false,
            keeps_status_on_create: false,
            grace_period: |_, _| None,
            begin_deletion: |_, _| {},
            holds_deletion: |_| false,
        }
    }

    /// As [`Kind::namespaced`], outside namespaces.
    pub(crate) const fn cluster(plural: &'static str, kind: &'static str) -> Self {
        Self { namespaced: false, ..Self::namespaced(plural, kind) }
    }

    /// Answered when created, never stored.
    pub(crate) const fn review(self) -> Self {
        Self { verbs: &[Verb::Create], ..self }
    }

    /// The same kind in a version that is stored as another one of its group.
    pub(crate) const fn stored_in(self, version: &'static str) -> Self {
        Self { storage_version: Some(version), ..self }
    }
}

/// A subresource, as discovery shows it.
pub(crate) struct Sub {
    name: &'static str,
    /// Group, version and kind of its bodies where they are not the resource's.
    of: Option<(&'static str, &'static str, &'static str)>,
    verbs: &'static [&'static str],
}

impl Sub {
    /// What is created by it is not read.
    pub(crate) const CREATE: &'static [&'static str] = &["create"];
    /// What is a part of the object.
    pub(crate) const CHANGE: &'static [&'static str] = &["get", "patch", "update"];
    /// What is a connection.
    pub(crate) const CONNECT: &'static [&'static str] = &["create", "get"];
    pub(crate) const SCALE: Self = Self::of("scale", ("autoscaling", "v1", "Scale"), Self::CHANGE);
    pub(crate) const STATUS: Self = Self::own("status", Self::CHANGE);

    /// Its bodies are of the resource's own kind.
    pub(crate) const fn own(name: &'static str, verbs: &'static [&'static str]) -> Self {
        Self { name, of: None, verbs }
    }

    /// Its bodies are of another group, version and kind.
    pub(crate) const fn of(
        name: &'static str,
        kind: (&'static str, &'static str, &'static str),
        verbs: &'static [&'static str],
    ) -> Self {
        Self { name, of: Some(kind), verbs }
    }

    /// Requests are passed on (`NodeProxyOptions`, ...).
    pub(crate) const fn proxy(options: &'static str) -> Self {
        Self::of("proxy", ("", "v1", options), &["create", "delete", "get", "patch", "update"])
    }

    pub(crate) fn subresource(&self) -> Subresource {
        Subresource {
            name: self.name.into(),
            kind: self.of.map(|(group, version, kind)| GroupVersionKind {
                group: group.into(),
                version: version.into(),
                kind: kind.into(),
            }),
            verbs: self.verbs.iter().map(|verb| Text::Borrowed(*verb)).collect(),
        }
    }
}

/// A field selector.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    name: &'static str,
    /// The path of its value in the stored version.
    path: &'static str,
    /// What an absent value selects as.
    absent: &'static str,
}

/// A field that is selected by its path.
pub(crate) const fn field(name: &'static str) -> Field {
    Field { name, path: name, absent: "" }
}

impl Field {
    /// Its value is elsewhere.
    pub(crate) const fn at(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    /// An absent value selects as this.
    pub(crate) const fn or(self, absent: &'static str) -> Self {
        Self { absent, ..self }
    }

    pub(crate) fn selectable(&self) -> SelectableField {
        let path = self.path.split('.').map(Text::Borrowed).collect();
        SelectableField { name: Text::Borrowed(self.name), path, absent: Text::Borrowed(self.absent) }
    }
}
