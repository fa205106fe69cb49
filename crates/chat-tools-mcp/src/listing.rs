//! What a server lists, read tool by tool.

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

/// The most tools of one server that are taken.
const MOST_TOOLS: usize = 1_024;
/// The most pages of one listing that are asked for.
const MOST_PAGES: usize = 1_024;
/// The longest name of a tool, in bytes.
const LONGEST_NAME: usize = 512;

/// A tool as its server describes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) schema: JsonObject,
    pub(crate) repeatable: bool,
}

impl Tool {
    /// The tool as agents know it, under the name that it has here.
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

/// The tools of a server, and one sentence for each thing that was left out.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) tools: Vec<Tool>,
    pub(crate) remarks: Vec<String>,
}

/// Why a server's tools are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("the request failed")]
    Request(#[source] Box<ServiceError>),
    #[error("the answer is not a list of tools")]
    NoList,
    #[error("the server took too long")]
    TimedOut,
}

/// Lists the tools page by page. Ends at a cursor that came before, at a page that brings nothing
/// new, at a number of pages and of tools, and at the deadline. What was listed until then is kept.
pub(crate) async fn list(peer: &Peer<RoleClient>, deadline: Instant) -> Result<Listing, ListError> {
    let mut pages = Pages::default();
    let mut cursor = None;
    loop {
        let page = timeout_at(deadline, request(peer, cursor.take()))
            .await
            .unwrap_or(Err(ListError::TimedOut));
        match page.and_then(|page| pages.take(&page)) {
            Ok(None) => return Ok(pages.listing),
            Ok(next) => cursor = next,
            Err(error) if pages.number == 0 => return Err(error),
            Err(error) => {
                pages.remark(format!(
                    "the pages after page {} are missing: {error}",
                    pages.number
                ));
                return Ok(pages.listing);
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
        Ok(_) => Err(ListError::NoList),
        Err(error) => Err(ListError::Request(Box::new(error))),
    }
}

/// What the pages so far brought.
#[derive(Default)]
struct Pages {
    listing: Listing,
    number: usize,
    cursors: HashSet<String>,
    /// The names of the tools.
    names: HashSet<String>,
    /// Hashes of all entries, also of those that were left out.
    entries: HashSet<u64>,
    index: usize,
}

impl Pages {
    /// Takes a page; gives the cursor of the next one.
    fn take(&mut self, page: &Value) -> Result<Option<String>, ListError> {
        let entries = page
            .get("tools")
            .and_then(Value::as_array)
            .ok_or(ListError::NoList)?;
        self.number += 1;
        let mut is_new = false;
        for entry in entries {
            let index = self.index;
            self.index += 1;
            if !self.entries.insert(fnv1a(entry.to_string().as_bytes())) {
                continue;
            }
            is_new = true;
            if self.listing.tools.len() == MOST_TOOLS {
                self.remark(format!("only the first {MOST_TOOLS} tools are taken"));
                return Ok(None);
            }
            match tool(entry) {
                Ok(tool) if self.names.insert(tool.name.clone()) => self.listing.tools.push(tool),
                Ok(tool) => {
                    self.remark(format!("the tool {:?} is listed again with another description; the first one is taken", tool.name))
                }
                Err(fault) => {
                    let name = entry.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
                    let name = name.map_or(format!("at index {index}"), |name| format!("{:?}", excerpt(name)));
                    self.remark(format!("the tool {name} is left out: {fault}"));
                }
            }
        }
        let Some(next) = page.get("nextCursor").filter(|cursor| !cursor.is_null()) else {
            return Ok(None);
        };
        let Some(next) = next.as_str() else {
            self.remark(
                "the cursor of the next page is not a text; the pages after it are missing"
                    .to_owned(),
            );
            return Ok(None);
        };
        let odd = if !self.cursors.insert(next.to_owned()) {
            "a cursor came twice"
        } else if !is_new {
            "a page brought nothing new"
        } else if self.number == MOST_PAGES {
            "there are too many pages"
        } else {
            return Ok(Some(next.to_owned()));
        };
        self.remark(format!("the listing ended at page {}: {odd}", self.number));
        Ok(None)
    }

    fn remark(&mut self, remark: String) {
        self.listing.remarks.push(remark);
    }
}

/// Reads one entry of a list; else says what is wrong with it.
fn tool(entry: &Value) -> Result<Tool, &'static str> {
    let entry = entry.as_object().ok_or("it is not an object")?;
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let name = entry
        .get("name")
        .filter(|name| !name.is_null())
        .ok_or("it has no name")?
        .as_str()
        .ok_or("its name is not a text")?;
    match name.trim().len() {
        0 => return Err("its name is empty"),
        length if length > LONGEST_NAME => return Err("its name is too long"),
        _ => {}
    }
    let schema = schema(
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

/// The schema of the arguments. None, `null` and `true` stand for a tool without parameters.
fn schema(schema: Option<&Value>) -> Option<JsonObject> {
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

    fn names(pages: &Pages) -> Vec<&str> {
        pages
            .listing
            .tools
            .iter()
            .map(|tool| tool.name.as_str())
            .collect()
    }

    #[test]
    fn a_malformed_tool_hides_only_itself() {
        let page = json!({ "tools": [
            { "name": "good", "inputSchema": { "type": "object" } },
            { "inputSchema": {} }, { "name": null }, { "name": 7 }, { "name": " " }, "tool", null,
            { "name": "list", "inputSchema": [] }, { "name": "no", "inputSchema": false },
            { "name": "bare" }, { "name": "null", "inputSchema": null }, { "name": "true", "inputSchema": true },
            { "name": "text", "inputSchema": "{\"type\":\"object\",\"title\":\"t\"}" },
            { "name": "odd", "inputSchema": {}, "description": 5, "title": "Odd", "icons": "x",
              "annotations": { "readOnlyHint": "yes", "idempotentHint": 1 }, "outputSchema": 7 },
            { "name": "listed", "annotations": [] }, { "name": "read", "annotations": { "readOnlyHint": true, "title": 5 } },
            { "name": "good", "inputSchema": { "type": "object", "title": "another" } },
        ] });
        let mut pages = Pages::default();
        assert!(pages.take(&page).unwrap().is_none());
        assert_eq!(
            names(&pages),
            [
                "good", "bare", "null", "true", "text", "odd", "listed", "read"
            ]
        );
        let empty = json!({ "type": "object", "properties": {} });
        let tools = &pages.listing.tools;
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
        let remarks = pages.listing.remarks.join("\n");
        for expected in [
            "the tool at index 1 is left out: it has no name",
            "the tool at index 3 is left out: its name is not a text",
            "the tool at index 5 is left out: it is not an object",
            "the tool \"list\" is left out: its input schema is not an object",
            "the tool \"no\" is left out",
            "the tool \"good\" is listed again",
        ] {
            assert!(
                remarks.contains(expected),
                "{expected} is missing in:\n{remarks}"
            );
        }
        assert_eq!(pages.listing.remarks.len(), 9);
    }

    #[test]
    fn paging_ends_at_a_repeated_cursor_or_a_page_without_news() {
        let page =
            |name: &str, cursor: &str| json!({ "tools": [{ "name": name }], "nextCursor": cursor });
        let mut pages = Pages::default();
        assert_eq!(
            pages.take(&page("a", "")).unwrap(),
            Some(String::new()),
            "an empty cursor is a cursor"
        );
        assert_eq!(pages.take(&page("b", "")).unwrap(), None);
        assert_eq!(
            (names(&pages), pages.listing.remarks.len()),
            (vec!["a", "b"], 1)
        );
        let mut pages = Pages::default();
        assert!(pages.take(&page("a", "1")).unwrap().is_some());
        assert!(pages.take(&page("a", "2")).unwrap().is_none());
        assert_eq!((names(&pages), pages.listing.remarks.len()), (vec!["a"], 1));
        let mut pages = Pages::default();
        assert!(
            pages
                .take(&json!({ "tools": [{ "name": "a" }], "nextCursor": 2 }))
                .unwrap()
                .is_none()
        );
        assert_eq!((names(&pages), pages.listing.remarks.len()), (vec!["a"], 1));
    }

    #[test]
    fn pages_and_tools_are_bounded() {
        let mut pages = Pages::default();
        let number = (0..).find(|number| {
            let page =
                json!({ "tools": [{ "nameless": number }], "nextCursor": number.to_string() });
            pages.take(&page).unwrap().is_none()
        });
        assert_eq!(number, Some(MOST_PAGES - 1));
        let mut pages = Pages::default();
        let tools: Vec<Value> = (0..2_000)
            .map(|number| json!({ "name": format!("t{number}") }))
            .collect();
        assert!(
            pages
                .take(&json!({ "tools": tools, "nextCursor": "1" }))
                .unwrap()
                .is_none()
        );
        assert_eq!(
            (pages.listing.tools.len(), pages.listing.remarks.len()),
            (MOST_TOOLS, 1)
        );
    }

    #[test]
    fn an_answer_without_a_list_is_an_error() {
        for page in [json!({}), json!({ "tools": {} }), json!([]), json!(null)] {
            assert!(
                matches!(Pages::default().take(&page), Err(ListError::NoList)),
                "{page}"
            );
        }
    }
}
