//! Parses a server's list of tools, tool by tool.

use std::collections::HashSet;

use chat_domain::{RawJson, ToolSpec, without_nul};
use rmcp::ServiceError;
use rmcp::model::{
    ClientRequest, JsonObject, ListToolsRequest, PaginatedRequestParams, ServerResult,
};
use rmcp::service::{Peer, RoleClient};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::answer::raw_json;
use crate::connection::into_raw;
use crate::hash::fnv1a;

/// Most tools of one server.
const MAX_TOOLS: usize = 1_024;
/// Most pages of one listing.
const MAX_PAGES: usize = 1_024;
/// Longest name of a tool, in bytes.
const MAX_NAME_BYTES: usize = 512;

/// A tool as its server describes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) schema: JsonObject,
    pub(crate) repeatable: bool,
}

impl Tool {
    /// Returns the tool's description for agents, under the name that agents use.
    pub(crate) fn spec(&self, name: &str) -> ToolSpec {
        let schema: RawJson = raw_json(Value::Object(self.schema.clone()).to_string());
        ToolSpec {
            name: name.to_owned(),
            description: self.description.clone(),
            input_schema: schema,
            repeatable: self.repeatable,
        }
    }
}

/// The tools of a server, and one warning for each omission.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) tools: Vec<Tool>,
    pub(crate) warnings: Vec<String>,
}

/// The reason why a server's tools are unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("the request failed")]
    Request(#[source] Box<ServiceError>),
    #[error("the answer is not a list of tools")]
    InvalidAnswer,
    #[error("the server did not answer in time")]
    TimedOut,
}

/// Lists the tools page by page. The listing ends at a repeated cursor, at a page without new
/// entries, at the page and tool limits, and at the deadline; the tools up to there are returned.
pub(crate) async fn list(peer: &Peer<RoleClient>, deadline: Instant) -> Result<Listing, ListError> {
    let mut builder = ListingBuilder::default();
    let mut cursor = None;
    loop {
        let page = timeout_at(deadline, request(peer, cursor.take()))
            .await
            .unwrap_or(Err(ListError::TimedOut));
        match page.and_then(|page| builder.add_page(&page)) {
            Ok(None) => return Ok(builder.listing),
            Ok(next) => cursor = next,
            Err(error) if builder.number == 0 => return Err(error),
            Err(error) => {
                builder.warn(format!(
                    "the pages after page {} are missing: {error}",
                    builder.number
                ));
                return Ok(builder.listing);
            }
        }
    }
}

async fn request(peer: &Peer<RoleClient>, cursor: Option<String>) -> Result<Value, ListError> {
    let params = PaginatedRequestParams::default().with_cursor(cursor);
    let request = ListToolsRequest {
        method: Default::default(),
        params: Some(params),
        extensions: Default::default(),
    };
    match peer
        .send_request(ClientRequest::ListToolsRequest(request))
        .await
    {
        Ok(ServerResult::CallToolResult(result)) => Ok(into_raw(result)),
        Ok(_) => Err(ListError::InvalidAnswer),
        Err(error) => Err(ListError::Request(Box::new(error))),
    }
}

/// Collects the tools of all pages.
#[derive(Default)]
struct ListingBuilder {
    listing: Listing,
    number: usize,
    cursors: HashSet<String>,
    /// Names of the tools.
    names: HashSet<String>,
    /// Hashes of all entries, including omitted ones.
    entries: HashSet<u64>,
    index: usize,
}

impl ListingBuilder {
    /// Adds a page. Returns the cursor of the next page.
    fn add_page(&mut self, page: &Value) -> Result<Option<String>, ListError> {
        let entries = page
            .get("tools")
            .and_then(Value::as_array)
            .ok_or(ListError::InvalidAnswer)?;
        self.number += 1;
        let mut is_new = false;
        for entry in entries {
            let index = self.index;
            self.index += 1;
            if !self.entries.insert(fnv1a(entry.to_string().as_bytes())) {
                continue;
            }
            is_new = true;
            if self.listing.tools.len() == MAX_TOOLS {
                self.warn(format!("only the first {MAX_TOOLS} tools are used"));
                return Ok(None);
            }
            match parse_tool(entry) {
                Ok(tool) if self.names.insert(tool.name.clone()) => self.listing.tools.push(tool),
                Ok(tool) => self.warn(format!(
                    "tool {:?} is listed twice with different descriptions; the first one is used",
                    tool.name
                )),
                Err(defect) => {
                    let name = entry
                        .get("name")
                        .and_then(Value::as_str)
                        .filter(|name| !name.is_empty());
                    let name = name.map_or(format!("at index {index}"), |name| {
                        format!("{:?}", excerpt(name))
                    });
                    self.warn(format!("tool {name} omitted: {defect}"));
                }
            }
        }
        let Some(next) = page.get("nextCursor").filter(|cursor| !cursor.is_null()) else {
            return Ok(None);
        };
        let Some(next) = next.as_str() else {
            self.warn(
                "the cursor of the next page is not a string; later pages are missing".to_owned(),
            );
            return Ok(None);
        };
        let reason = if !self.cursors.insert(next.to_owned()) {
            "a cursor is repeated"
        } else if !is_new {
            "a page has no new entries"
        } else if self.number == MAX_PAGES {
            "there are too many pages"
        } else {
            return Ok(Some(next.to_owned()));
        };
        self.warn(format!(
            "the listing ended at page {}: {reason}",
            self.number
        ));
        Ok(None)
    }

    fn warn(&mut self, warning: String) {
        self.listing.warnings.push(warning);
    }
}

/// Parses one entry of a list. The error says why it is omitted.
fn parse_tool(entry: &Value) -> Result<Tool, &'static str> {
    let entry = entry.as_object().ok_or("it is not an object")?;
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let name = entry
        .get("name")
        .filter(|name| !name.is_null())
        .ok_or("it has no name")?
        .as_str()
        .ok_or("its name is not a string")?;
    match name.trim().len() {
        0 => return Err("its name is empty"),
        length if length > MAX_NAME_BYTES => return Err("its name is too long"),
        _ => {}
    }
    let schema = parse_schema(
        entry
            .get("inputSchema")
            .or_else(|| entry.get("input_schema")),
    )
    .ok_or("its input schema is not an object")?;
    let description = text("description")
        .or_else(|| text("title"))
        .unwrap_or_default();
    let hints = entry.get("annotations");
    let says = |hint: &str| hints.and_then(|hints| hints.get(hint)) == Some(&Value::Bool(true));
    let repeatable = says("readOnlyHint") || says("idempotentHint");
    Ok(Tool {
        name: name.to_owned(),
        description: without_nul(description.to_owned()),
        schema,
        repeatable,
    })
}

/// Parses the input schema. A missing schema, `null` and `true` mean a tool without parameters.
fn parse_schema(schema: Option<&Value>) -> Option<JsonObject> {
    match schema {
        None | Some(Value::Null | Value::Bool(true)) => Some(JsonObject::from_iter([
            ("type".to_owned(), "object".into()),
            ("properties".to_owned(), JsonObject::new().into()),
        ])),
        Some(Value::Object(schema)) => Some(schema.clone()),
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        Some(_) => None,
    }
}

fn excerpt(name: &str) -> String {
    name.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(builder: &ListingBuilder) -> Vec<&str> {
        builder
            .listing
            .tools
            .iter()
            .map(|tool| tool.name.as_str())
            .collect()
    }

    #[test]
    fn a_malformed_tool_is_omitted_alone() {
        let page = json!({ "tools": [
            { "name": "good", "inputSchema": { "type": "object" } },
            { "inputSchema": {} }, { "name": null }, { "name": 7 }, { "name": " " }, "tool", null,
            { "name": "list", "inputSchema": [] }, { "name": "no", "inputSchema": false },
            { "name": "bare" }, {
                "name": "null", "inputSchema": null,
            }, { "name": "true", "inputSchema": true },
            { "name": "text", "inputSchema": "{\"type\":\"object\",\"title\":\"t\"}" },
            { "name": "odd", "inputSchema": {}, "description": 5, "title": "Odd", "icons": "x",
              "annotations": { "readOnlyHint": "yes", "idempotentHint": 1 }, "outputSchema": 7 },
            { "name": "listed", "annotations": [] }, {
                "name": "read", "annotations": { "readOnlyHint": true, "title": 5 },
            },
            { "name": "good", "inputSchema": { "type": "object", "title": "another" } },
        ] });
        let mut builder = ListingBuilder::default();
        assert!(builder.add_page(&page).unwrap().is_none());
        assert_eq!(
            names(&builder),
            [
                "good", "bare", "null", "true", "text", "odd", "listed", "read"
            ]
        );
        let empty = json!({ "type": "object", "properties": {} });
        let tools = &builder.listing.tools;
        assert!(
            tools[1..4]
                .iter()
                .all(|tool| Value::Object(tool.schema.clone()) == empty)
        );
        assert_eq!(
            (
                tools[4].schema["title"].as_str(),
                tools[5].description.as_str()
            ),
            (Some("t"), "Odd")
        );
        assert_eq!(
            tools.iter().map(|tool| tool.repeatable).collect::<Vec<_>>(),
            [[false; 7].as_slice(), &[true]].concat()
        );
        let warnings = builder.listing.warnings.join("\n");
        for expected in [
            "tool at index 1 omitted: it has no name",
            "tool at index 3 omitted: its name is not a string",
            "tool at index 5 omitted: it is not an object",
            "tool \"list\" omitted: its input schema is not an object",
            "tool \"no\" omitted",
            "tool \"good\" is listed twice",
        ] {
            assert!(
                warnings.contains(expected),
                "{expected} is missing in:\n{warnings}"
            );
        }
        assert_eq!(builder.listing.warnings.len(), 9);
    }

    #[test]
    fn listing_ends_at_a_repeated_cursor_or_a_page_without_new_entries() {
        let page =
            |name: &str, cursor: &str| json!({ "tools": [{ "name": name }], "nextCursor": cursor });
        let mut builder = ListingBuilder::default();
        assert_eq!(
            builder.add_page(&page("a", "")).unwrap(),
            Some(String::new()),
            "an empty cursor is a cursor"
        );
        assert_eq!(builder.add_page(&page("b", "")).unwrap(), None);
        assert_eq!(
            (names(&builder), builder.listing.warnings.len()),
            (vec!["a", "b"], 1)
        );
        let mut builder = ListingBuilder::default();
        assert!(builder.add_page(&page("a", "1")).unwrap().is_some());
        assert!(builder.add_page(&page("a", "2")).unwrap().is_none());
        assert_eq!(
            (names(&builder), builder.listing.warnings.len()),
            (vec!["a"], 1)
        );
        let mut builder = ListingBuilder::default();
        assert!(
            builder
                .add_page(&json!({ "tools": [{ "name": "a" }], "nextCursor": 2 }))
                .unwrap()
                .is_none()
        );
        assert_eq!(
            (names(&builder), builder.listing.warnings.len()),
            (vec!["a"], 1)
        );
    }

    #[test]
    fn pages_and_tools_are_limited() {
        let mut builder = ListingBuilder::default();
        let number = (0..).find(|number| {
            let page =
                json!({ "tools": [{ "nameless": number }], "nextCursor": number.to_string() });
            builder.add_page(&page).unwrap().is_none()
        });
        assert_eq!(number, Some(MAX_PAGES - 1));
        let mut builder = ListingBuilder::default();
        let tools: Vec<Value> = (0..2_000)
            .map(|number| json!({ "name": format!("t{number}") }))
            .collect();
        assert!(
            builder
                .add_page(&json!({ "tools": tools, "nextCursor": "1" }))
                .unwrap()
                .is_none()
        );
        assert_eq!(
            (builder.listing.tools.len(), builder.listing.warnings.len()),
            (MAX_TOOLS, 1)
        );
    }

    #[test]
    fn an_answer_without_a_list_is_an_error() {
        for page in [json!({}), json!({ "tools": {} }), json!([]), json!(null)] {
            assert!(
                matches!(
                    ListingBuilder::default().add_page(&page),
                    Err(ListError::InvalidAnswer)
                ),
                "{page}"
            );
        }
    }
}
