//! Converts tools to the form that servers accept.
//!
//! Each server supports only a part of JSON Schema, and an unsupported schema makes the whole
//! request fail. So each schema is converted to a form that all servers accept, as far as its
//! meaning permits.

use std::borrow::Cow;

use chat_domain::{RawJson, ToolSpec};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::json::{is_shallow, replace_lone_surrogates};
use crate::tool_names::wire_name;
use crate::unsupported::UnsupportedParts;

/// Most tools that OpenAI accepts.
const MAX_TOOLS: usize = 128;
/// Longest description that OpenAI accepts, in characters.
const MAX_DESCRIPTION_CHARS: usize = 1_024;

#[derive(Serialize)]
#[serde(tag = "type", content = "function", rename_all = "lowercase")]
pub enum Tool<'a> {
    Function {
        name: Cow<'a, str>,
        #[serde(skip_serializing_if = "str::is_empty")]
        description: Cow<'a, str>,
        parameters: Cow<'a, RawValue>,
    },
}

/// Returns the tools of a request. Each omitted tool is logged once.
pub fn request_tools<'a>(specs: &'a [ToolSpec], unsupported: &UnsupportedParts) -> Vec<Tool<'a>> {
    let log_omission = |spec: &ToolSpec, reason: &str| {
        if unsupported.should_log_omission(&spec.name) {
            tracing::warn!(
                tool = spec.name,
                reason,
                "tool omitted from requests to the agent"
            );
        }
    };
    let mut tools = Vec::new();
    for spec in specs {
        let name = wire_name(&spec.name);
        if unsupported.is_tool_unsupported(&name) {
            continue;
        }
        if tools.len() >= MAX_TOOLS {
            log_omission(spec, "a request has at most 128 tools");
            continue;
        }
        match normalize_schema(&spec.input_schema) {
            Some(parameters) => tools.push(Tool::Function {
                name,
                description: truncate(&spec.description),
                parameters,
            }),
            None => log_omission(spec, "its input schema is not that of an object"),
        }
    }
    tools
}

fn truncate(description: &str) -> Cow<'_, str> {
    match description.char_indices().nth(MAX_DESCRIPTION_CHARS) {
        None => Cow::Borrowed(description),
        Some(_) => Cow::Owned(
            description
                .chars()
                .take(MAX_DESCRIPTION_CHARS - 1)
                .chain(['…'])
                .collect(),
        ),
    }
}

/// Converts a schema to the accepted form. An accepted schema is returned byte for byte. `None` if
/// the schema is not that of an object.
fn normalize_schema(schema: &RawJson) -> Option<Cow<'_, RawValue>> {
    let json = schema.as_str();
    if !is_shallow(json) {
        return None;
    }
    let given: Value = serde_json::from_str(&replace_lone_surrogates(json)).ok()?;
    let wanted = object_schema(given.clone())?;
    if wanted == given
        && let Ok(raw) = serde_json::from_str(json)
    {
        return Some(Cow::Borrowed(raw));
    }
    to_raw_value(&wanted).ok().map(Cow::Owned)
}

/// Converts the top level to the schema of an object. `None` if it describes something else.
fn object_schema(schema: Value) -> Option<Value> {
    let mut schema = match schema {
        Value::Object(schema) => schema,
        // These schemas accept every value.
        Value::Bool(_) | Value::Null => Map::new(),
        _ => return None,
    };
    inline_ref(&mut schema);
    for name in [
        "$schema", "$id", "$comment", "not", "enum", "const", "if", "then", "else",
    ] {
        schema.remove(name);
    }
    match schema.get("type") {
        None | Some(Value::Null) => {}
        Some(Value::String(kind)) if kind == "object" => {}
        Some(Value::Array(kinds)) if kinds.iter().any(|kind| kind == "object") => {}
        Some(_) => return None,
    }
    schema.insert("type".to_owned(), "object".into());
    if !schema.get("properties").is_some_and(Value::is_object) {
        schema.insert("properties".to_owned(), json!({}));
    }
    for (name, required) in [
        ("allOf", Required::ByAnyPart),
        ("anyOf", Required::ByEveryPart),
        ("oneOf", Required::ByEveryPart),
    ] {
        if let Some(Value::Array(parts)) = schema.remove(name) {
            merge(&mut schema, parts, required);
        }
    }
    if !schema.get("required").is_none_or(Value::is_array) {
        schema.remove("required");
    }
    normalize_subschemas(&mut schema);
    Some(Value::Object(schema))
}

/// Replaces a schema that only refers to another part of itself by that part.
fn inline_ref(schema: &mut Map<String, Value>) {
    let target = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|path| path.strip_prefix('#'))
        .map(str::to_owned);
    let Some(path) = target else { return };
    let found = Value::Object(schema.clone())
        .pointer(&path)
        .and_then(Value::as_object)
        .cloned();
    schema.remove("$ref");
    for (name, value) in found.unwrap_or_default() {
        schema.entry(name).or_insert(value);
    }
}

/// Which properties a merged schema requires.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Required {
    /// Those that any part requires: all parts hold.
    ByAnyPart,
    /// Those that every part requires: one part holds.
    ByEveryPart,
}

/// Merges the parts of a schema into one object with all properties.
fn merge(schema: &mut Map<String, Value>, parts: Vec<Value>, rule: Required) {
    let definitions = Value::Object(schema.clone());
    let mut required: Option<Vec<Value>> = None;
    for part in parts {
        let Value::Object(mut part) = part else {
            continue;
        };
        if let Some(path) = part
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|path| path.strip_prefix('#'))
        {
            let found = definitions
                .pointer(path)
                .and_then(Value::as_object)
                .cloned();
            part.extend(found.unwrap_or_default());
        }
        if part.get("type").is_some_and(|kind| kind == "null") {
            continue;
        }
        if let (Some(Value::Object(all)), Some(Value::Object(some))) =
            (schema.get_mut("properties"), part.remove("properties"))
        {
            for (name, value) in some {
                all.entry(name).or_insert(value);
            }
        }
        let needs = part
            .remove("required")
            .and_then(|needs| needs.as_array().cloned())
            .unwrap_or_default();
        required = Some(match required {
            None => needs,
            Some(known) if rule == Required::ByAnyPart => known.into_iter().chain(needs).collect(),
            Some(known) => known
                .into_iter()
                .filter(|name| needs.contains(name))
                .collect(),
        });
    }
    let mut all = schema
        .get("required")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for name in required.unwrap_or_default() {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    if !all.is_empty() {
        schema.insert("required".to_owned(), all.into());
    }
}

/// Converts the schemas within a schema.
fn normalize_subschemas(schema: &mut Map<String, Value>) {
    for name in ["properties", "$defs", "definitions"] {
        match schema.get_mut(name) {
            Some(Value::Object(members)) => members.values_mut().for_each(normalize_subschema),
            Some(other) => *other = json!({}),
            None => {}
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(value @ (Value::Object(_) | Value::Null)) = schema.get_mut(name) {
            normalize_subschema(value);
        }
    }
    if let Some(Value::Bool(_) | Value::Array(_)) = schema.get("items") {
        schema.insert("items".to_owned(), json!({}));
    }
    for name in ["anyOf", "oneOf", "allOf", "prefixItems"] {
        if let Some(Value::Array(parts)) = schema.get_mut(name) {
            parts.iter_mut().for_each(normalize_subschema);
        }
    }
    if schema.get("type").is_some_and(|kind| kind == "array") && !schema.contains_key("items") {
        schema.insert("items".to_owned(), json!({}));
    }
    if schema.get("type").is_some_and(|kind| kind == "object")
        && schema
            .get("required")
            .is_some_and(|required| !required.is_array())
    {
        schema.remove("required");
    }
}

fn normalize_subschema(value: &mut Value) {
    let Value::Object(schema) = value else {
        *value = json!({});
        return;
    };
    if let Some(Value::Array(kinds)) = schema.get("type") {
        let kinds = kinds.clone();
        split_type_list(schema, kinds);
    }
    normalize_subschemas(schema);
}

/// Converts a list of types to alternatives of one type each, because Gemini rejects lists of
/// types.
fn split_type_list(schema: &mut Map<String, Value>, kinds: Vec<Value>) {
    schema.remove("type");
    if let [kind] = kinds.as_slice() {
        schema.insert("type".to_owned(), kind.clone());
    } else if !schema.contains_key("anyOf") && !kinds.is_empty() {
        let about = ["description", "title", "default", "examples", "deprecated"];
        let rules: Map<String, Value> = schema
            .iter()
            .filter(|(name, _)| !about.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        schema.retain(|name, _| about.contains(&name.as_str()));
        let alternative = |kind: Value| match kind {
            kind if kind == "null" => json!({ "type": "null" }),
            kind => {
                let mut rules = rules.clone();
                rules.insert("type".to_owned(), kind);
                Value::Object(rules)
            }
        };
        schema.insert(
            "anyOf".to_owned(),
            kinds.into_iter().map(alternative).collect(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(schema: Value) -> Option<Value> {
        let schema = RawJson::from_valid(schema.to_string());
        normalize_schema(&schema).map(|raw| serde_json::from_str(raw.get()).expect("JSON"))
    }

    fn empty() -> Option<Value> {
        Some(json!({ "type": "object", "properties": {} }))
    }

    #[test]
    fn object_schemas_are_completed_and_others_rejected() {
        for nothing in [
            json!({}),
            json!(true),
            json!(null),
            json!({ "type": "object" }),
            json!({ "type": ["object", "null"] }),
            json!({ "type": "object", "properties": [] }),
            json!({ "type": "object", "properties": null, "required": null }),
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "object" }),
            json!({ "type": "object", "not": {} }),
        ] {
            assert_eq!(sent(nothing.clone()), empty(), "{nothing}");
        }
        for other in [
            json!("object"),
            json!([]),
            json!({ "type": "string" }),
            json!(7),
        ] {
            assert_eq!(sent(other.clone()), None, "{other}");
        }
    }

    #[test]
    fn top_level_alternatives_become_one_object() {
        let a = json!({
            "type": "object", "properties": { "a": { "type": "string" }, "c": {} },
            "required": ["a", "c"],
        });
        let b = json!({ "properties": { "b": { "type": "number" } }, "required": ["c"] });
        let properties = json!({ "a": { "type": "string" }, "b": { "type": "number" }, "c": {} });
        for name in ["anyOf", "oneOf"] {
            let merged = json!({ "type": "object", "properties": properties, "required": ["c"] });
            assert_eq!(
                sent(json!({ name: [a, b, { "type": "null" }] })),
                Some(merged),
                "{name}"
            );
        }
        let merged = json!({ "type": "object", "properties": properties, "required": ["a", "c"] });
        assert_eq!(sent(json!({ "allOf": [a, b] })), Some(merged));
        let referred = json!({ "$ref": "#/$defs/A", "$defs": { "A": a } });
        assert_eq!(
            sent(referred).expect("a schema")["properties"]["a"],
            json!({ "type": "string" })
        );
    }

    #[test]
    fn subschemas_are_converted() {
        let given = json!({ "type": "object", "properties": {
            "list": { "type": "array" },
            "lists": { "type": "array", "items": { "type": "array" } },
            "name": { "type": ["string", "null"], "description": "A name." },
            "any": true,
        } });
        let converted = json!({ "type": "object", "properties": {
            "list": { "type": "array", "items": {} },
            "lists": { "type": "array", "items": { "type": "array", "items": {} } },
            "name": {
                "anyOf": [{ "type": "string" }, { "type": "null" }], "description": "A name.",
            },
            "any": {},
        } });
        assert_eq!(sent(given), Some(converted));
    }

    #[test]
    fn an_accepted_schema_is_unchanged() {
        let schema = RawJson::from_valid(
            "{ \"type\": \"object\", \"properties\": {\"z\":{\"type\":\"array\",\"items\":{}}, \
            \"a\":{}} }",
        );
        assert_eq!(
            normalize_schema(&schema).expect("a schema").get(),
            schema.as_str()
        );
    }

    #[test]
    fn long_descriptions_are_truncated() {
        assert_eq!(truncate(&"é".repeat(1_024)).chars().count(), 1_024);
        let cut = truncate(&"é".repeat(1_025)).into_owned();
        assert!(cut.chars().count() == 1_024 && cut.ends_with('…'));
    }
}
