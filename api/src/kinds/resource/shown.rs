//! Specs of claims as error texts show them (upstream: `resource.ResourceClaimSpec`).

use crate::kinds::rules::shown::Shape::{Any, List, Number, Pointer, Struct, Text};
use crate::kinds::rules::shown::{self, Shown, Table};
use crate::kinds::rules::tree::Node;

const DEVICE_REQUEST: Table = &[
    ("DeviceClassName", "deviceClassName", Text),
    ("Selectors", "selectors", Any),
    ("AllocationMode", "allocationMode", Text),
    ("Count", "count", Number),
    ("AdminAccess", "adminAccess", Any),
    ("Tolerations", "tolerations", Any),
    ("Capacity", "capacity", Any),
];

const RESOURCE_CLAIM_SPEC: Table = &[(
    "Devices",
    "devices",
    Struct(&[
        (
            "Requests",
            "requests",
            List(&[
                ("Name", "name", Text),
                ("Exactly", "exactly", Pointer(DEVICE_REQUEST)),
                ("FirstAvailable", "firstAvailable", Any),
            ]),
        ),
        ("Constraints", "constraints", Any),
        ("Config", "config", Any),
    ]),
)];

/// A claim template's spec, whose metadata Go shows inline.
pub(crate) fn claim_template_spec(spec: &Node<'_, '_>) -> Shown {
    shown::with_metadata(spec.field("metadata").map(), Shown::of(spec.field("spec").value(), RESOURCE_CLAIM_SPEC))
}

/// A resource claim's spec.
pub(crate) fn claim_spec(spec: &Node<'_, '_>) -> Shown {
    Shown::of(spec.value(), RESOURCE_CLAIM_SPEC)
}
