//! The CustomResourceDefinitions as YAML, generated from the Rust types of [`crate::api`].

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use crate::api::{DkimDomain, DkimProvider, DkimRecordSet};

/// Each file's name, such as `dkim-operator.io_dkimdomains.yaml`, with its text.
///
/// # Errors
/// [`serde_saphyr::ser::Error`] where a definition cannot be written as YAML.
pub fn files() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    all().iter().map(|crd| Ok((file_name(crd), serde_saphyr::to_string(crd)?))).collect()
}

/// The definitions.
#[must_use]
pub fn all() -> [CustomResourceDefinition; 3] {
    [DkimDomain::crd(), DkimProvider::crd(), DkimRecordSet::crd()].map(|mut crd| {
        let versions = &mut crd.spec.versions;
        let schemas = versions.iter_mut().filter_map(|v| v.schema.as_mut()?.open_api_v3_schema.as_mut());
        schemas.for_each(tidy);
        crd
    })
}

/// An optional field is one that may be left out: `null` means the same, and the API server drops it, so that rules
/// with `has()` never meet it. Formats that OpenAPI does not know are left out.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.properties.iter_mut().flatten().for_each(|(_, property)| tidy(property));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
}

fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural)
}
