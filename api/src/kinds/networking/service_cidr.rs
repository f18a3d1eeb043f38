//! ServiceCIDRs (upstream: `pkg/registry/networking/servicecidr`; KEP-1880).

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::kinds::rules::{addresses, fill};
use crate::table::cell::Cell::{Age, Joined, Name};

pub(crate) const KIND: Kind = Kind {
    subresources: &[Sub::STATUS],
    cells: &[Name, Joined(&["spec", "cidrs"], ""), Age],
    default: fill::with_spec,
    fill_status: Some(|_| {}),
    validate,
    validate_change,
    status_metadata: &[],
    ..Kind::cluster("servicecidrs", "ServiceCIDR")
};

fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let cidrs = spec.field("cidrs");
    match cidrs.list().len() {
        0 => return errors.required(&cidrs, "at least one CIDR required"),
        1 => {}
        2 => {
            let first = |text: &str| addresses::parse_cidr(text).map(|(address, _)| address);
            if addresses::is_dual(cidrs.texts(), first) != Some(true) {
                let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                return errors.invalid(&cidrs, why);
            }
        }
        _ => return errors.invalid(&cidrs, "may only hold up to 2 values"),
    }
    for cidr in cidrs.items() {
        errors.invalid_all(&cidr, addresses::canonical_cidr(cidr.text()));
    }
}

/// What may not change in a `ServiceCIDR`.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let (new, old) = (new_spec.field("cidrs"), old_spec.field("cidrs"));
    if old.list().iter().ne(new.list().iter().take(old.list().len())) {
        errors.invalid(&new, IMMUTABLE);
    }
}
