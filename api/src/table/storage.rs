//! Rows of storage and dynamic resources.

use super::{Printer, cell};
use crate::kinds::resource::{claim, slice};
use crate::kinds::storage::{csi_driver, csi_node, storage_class, volume_attachment, volume_attributes_class};

pub(crate) fn printer(plural: &str) -> Option<Printer> {
    Some(match plural {
        "csidrivers" => csi_driver::cells,
        "csinodes" => csi_node::cells,
        "deviceclasses" | "resourceclaimtemplates" => cell::name_and_age,
        "resourceclaims" => claim::cells,
        "resourceslices" => slice::cells,
        "storageclasses" => storage_class::cells,
        "volumeattachments" => volume_attachment::cells,
        "volumeattributesclasses" => volume_attributes_class::cells,
        _ => return None,
    })
}
