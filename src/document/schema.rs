//! The JSON Schema of a type, as it is for TOML: TOML has no null, so no schema speaks of it.

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// The schema of `T` for editors and other tools (draft 2020-12).
#[must_use]
pub fn published<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().with_transform(NoNull).into_generator().into_root_schema_for::<T>()
}

/// The schema of `T` without references, as the walk wants it.
pub(super) fn inlined<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.with_transform(NoNull).into_generator().into_root_schema_for::<T>().to_value()
}

/// Takes `null` out: an optional key is one that is not required. `"default": null` stays, and says that
/// the key may be left out and then has no value.
#[derive(Clone, Debug)]
struct NoNull;

impl Transform for NoNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(schema) = schema.as_object_mut() else { return };
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.retain(|word| !word.is_null());
        }
        if let Some(kinds) = schema.get_mut("type") {
            not_null_kind(kinds);
        }
        for keyword in ["anyOf", "oneOf"] {
            not_null_alternative(schema, keyword);
        }
    }
}

/// `["string", "null"]` becomes `"string"`.
fn not_null_kind(kinds: &mut Value) {
    let Value::Array(list) = kinds else { return };
    list.retain(|kind| kind != "null");
    if let [only] = list.as_slice() {
        *kinds = only.clone();
    }
}

/// `{anyOf: [X, {type: null}]}` becomes `X`, with what stood beside it.
fn not_null_alternative(schema: &mut serde_json::Map<String, Value>, keyword: &str) {
    let Some(Value::Array(list)) = schema.get_mut(keyword) else { return };
    let before = list.len();
    list.retain(|alternative| alternative.get("type").is_none_or(|kind| kind != "null"));
    if list.len() == before {
        return;
    }
    if let [Value::Object(only)] = list.as_slice() {
        let only = only.clone();
        schema.remove(keyword);
        for (key, value) in only {
            schema.entry(key).or_insert(value);
        }
    }
}
