//! Says so when a configuration is stored that this server does not obey: admission policies. The objects
//! themselves are ordinary, so that charts that bring them still install.

use api::status::Qualified;
use api::{ApiError, Object};
use async_trait::async_trait;

use super::{Attributes, Operation, ValidatingAdmission, Warnings};

const GROUP: &str = "admissionregistration.k8s.io";

/// Warns whoever creates admission policies.
pub struct UnsupportedConfigurations;

#[async_trait]
impl ValidatingAdmission for UnsupportedConfigurations {
    fn name(&self) -> &'static str {
        "UnsupportedConfigurations"
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        _object: Option<&Object>,
        warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let Qualified { group, resource } = attributes.resource.qualified();
        if group == GROUP && !resource.ends_with("webhookconfigurations") && attributes.operation == Operation::Create {
            warnings.push(format!("{resource}.{group} have no effect: this server stores but does not obey them"));
        }
        Ok(())
    }
}
