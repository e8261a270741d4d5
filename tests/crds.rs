//! What the API server is taught: definitions that match the types, and explain every field.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use dkim_operator::crds;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};

#[test]
fn the_files_are_what_the_types_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for dir in ["crds", "charts/dkim-operator/files/crds"] {
        let mut found: Vec<String> = fs::read_dir(root.join(dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let expected = crds::files().unwrap();
        let names: Vec<&String> = expected.iter().map(|(name, _)| name).collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), names, "{dir}: run make crds");
        for (name, text) in &expected {
            let there = fs::read_to_string(root.join(dir).join(name)).unwrap();
            assert!(there == *text, "{dir}/{name} is not what the types say: run make crds");
        }
    }
}

#[test]
fn every_field_is_explained() {
    for crd in crds::all() {
        for version in &crd.spec.versions {
            let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            let mut fields = 0;
            explained(schema, &crd.spec.names.kind, &mut fields);
            assert!(fields > 10, "{} has only {fields} fields", crd.spec.names.kind);
        }
    }
}

fn explained(schema: &JSONSchemaProps, path: &str, fields: &mut usize) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        *fields += 1;
        let text = property.description.as_deref().unwrap_or_default();
        assert!(text.ends_with('.'), "{path} has no sentence that explains it: {text:?}");
        let format = property.format.as_deref().unwrap_or("date-time");
        assert!(["date-time", "int32", "int64"].contains(&format), "{path} has the format {format}");
        explained(property, &path, fields);
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &property.items {
            explained(items, &format!("{path}[]"), fields);
        }
    }
}
