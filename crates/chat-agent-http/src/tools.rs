//! Tools as servers accept them.
//!
//! Schemas come from tool servers and go to APIs that each take a part of JSON Schema only; one
//! that is not taken makes the whole request fail. So each is brought into a form that all take, as
//! far as its meaning survives.

use std::borrow::Cow;

use chat_domain::{RawJson, ToolSpec};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::habits::Habits;
use crate::json::{is_shallow, without_halves};
use crate::tool_names::sent_as;

/// The most tools that OpenAI takes.
const MAX_TOOLS: usize = 128;
/// The longest description that OpenAI takes, in characters.
const MAX_DESCRIPTION: usize = 1_024;

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

/// The tools that are sent. What is left out is logged, once for each.
pub fn offered<'a>(specs: &'a [ToolSpec], habits: &Habits) -> Vec<Tool<'a>> {
    let miss = |spec: &ToolSpec, why: &str| {
        if habits.is_first_miss(&spec.name) {
            tracing::warn!(
                tool = spec.name,
                why,
                "a tool is left out of the requests to the agent"
            );
        }
    };
    let mut tools = Vec::new();
    for spec in specs {
        let name = sent_as(&spec.name);
        if habits.refuses_tool(&name) {
            continue;
        }
        if tools.len() >= MAX_TOOLS {
            miss(spec, "agents take 128 tools at most");
            continue;
        }
        match accepted(&spec.input_schema) {
            Some(parameters) => tools.push(Tool::Function {
                name,
                description: shortened(&spec.description),
                parameters,
            }),
            None => miss(
                spec,
                "the schema of its arguments is not that of a JSON object",
            ),
        }
    }
    tools
}

fn shortened(description: &str) -> Cow<'_, str> {
    match description.char_indices().nth(MAX_DESCRIPTION) {
        None => Cow::Borrowed(description),
        Some(_) => Cow::Owned(
            description
                .chars()
                .take(MAX_DESCRIPTION - 1)
                .chain(['…'])
                .collect(),
        ),
    }
}

/// The schema as servers accept it, byte for byte the same if it is accepted as it is.
fn accepted(schema: &RawJson) -> Option<Cow<'_, RawValue>> {
    let json = schema.as_str();
    if !is_shallow(json) {
        return None;
    }
    let given: Value = serde_json::from_str(&without_halves(json)).ok()?;
    let wanted = object(given.clone())?;
    if wanted == given
        && let Ok(raw) = serde_json::from_str(json)
    {
        return Some(Cow::Borrowed(raw));
    }
    to_raw_value(&wanted).ok().map(Cow::Owned)
}

/// The schema of an object; `None` if it is that of something else.
fn object(schema: Value) -> Option<Value> {
    let mut schema = match schema {
        Value::Object(schema) => schema,
        // Anything at all.
        Value::Bool(_) | Value::Null => Map::new(),
        _ => return None,
    };
    inline_reference(&mut schema);
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
    for (name, is_each) in [("allOf", true), ("anyOf", false), ("oneOf", false)] {
        if let Some(Value::Array(parts)) = schema.remove(name) {
            merge(&mut schema, parts, is_each);
        }
    }
    if !schema.get("required").is_none_or(Value::is_array) {
        schema.remove("required");
    }
    tidy(&mut schema);
    Some(Value::Object(schema))
}

/// A schema that only refers to another one in it becomes that one.
fn inline_reference(schema: &mut Map<String, Value>) {
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

/// Brings alternatives into one object: all properties; required are those that each alternative
/// requires, or, where all parts hold, any.
fn merge(schema: &mut Map<String, Value>, parts: Vec<Value>, each_holds: bool) {
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
            Some(known) if each_holds => known.into_iter().chain(needs).collect(),
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

/// Mends the schemas within a schema.
fn tidy(schema: &mut Map<String, Value>) {
    for name in ["properties", "$defs", "definitions"] {
        match schema.get_mut(name) {
            Some(Value::Object(members)) => members.values_mut().for_each(tidy_value),
            Some(other) => *other = json!({}),
            None => {}
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(value @ (Value::Object(_) | Value::Null)) = schema.get_mut(name) {
            tidy_value(value);
        }
    }
    if let Some(Value::Bool(_) | Value::Array(_)) = schema.get("items") {
        schema.insert("items".to_owned(), json!({}));
    }
    for name in ["anyOf", "oneOf", "allOf", "prefixItems"] {
        if let Some(Value::Array(parts)) = schema.get_mut(name) {
            parts.iter_mut().for_each(tidy_value);
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

fn tidy_value(value: &mut Value) {
    let Value::Object(schema) = value else {
        *value = json!({});
        return;
    };
    if let Some(Value::Array(kinds)) = schema.get("type") {
        let kinds = kinds.clone();
        split(schema, kinds);
    }
    tidy(schema);
}

/// Several types become alternatives of one type each: Gemini takes no list of types.
fn split(schema: &mut Map<String, Value>, kinds: Vec<Value>) {
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
        accepted(&schema).map(|raw| serde_json::from_str(raw.get()).expect("JSON"))
    }

    fn empty() -> Option<Value> {
        Some(json!({ "type": "object", "properties": {} }))
    }

    #[test]
    fn schemas_are_made_acceptable() {
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
    fn alternatives_at_the_top_become_one_object() {
        let a = json!({ "type": "object", "properties": { "a": { "type": "string" }, "c": {} }, "required": ["a", "c"] });
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
    fn schemas_within_are_mended() {
        let given = json!({ "type": "object", "properties": {
            "list": { "type": "array" },
            "lists": { "type": "array", "items": { "type": "array" } },
            "name": { "type": ["string", "null"], "description": "A name." },
            "any": true,
        } });
        let mended = json!({ "type": "object", "properties": {
            "list": { "type": "array", "items": {} },
            "lists": { "type": "array", "items": { "type": "array", "items": {} } },
            "name": { "anyOf": [{ "type": "string" }, { "type": "null" }], "description": "A name." },
            "any": {},
        } });
        assert_eq!(sent(given), Some(mended));
    }

    #[test]
    fn a_schema_that_is_accepted_stays_byte_for_byte() {
        let schema = RawJson::from_valid(
            "{ \"type\": \"object\", \"properties\": {\"z\":{\"type\":\"array\",\"items\":{}}, \"a\":{}} }",
        );
        assert_eq!(accepted(&schema).expect("a schema").get(), schema.as_str());
    }

    #[test]
    fn descriptions_are_cut() {
        assert_eq!(shortened(&"é".repeat(1_024)).chars().count(), 1_024);
        let cut = shortened(&"é".repeat(1_025)).into_owned();
        assert!(cut.chars().count() == 1_024 && cut.ends_with('…'));
    }
}
