//! Reads, cancellations, and attempts to access other users' data.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use super::caller::Caller;
use super::sending::{LIMIT, MessageRequest};
use crate::evidence::Shown;
use crate::history::{Cancel, Intrusion, Read};

impl Caller {
    /// Sends a request. Returns `None` if the connection was lost.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<(u16, String)> {
        let mut request = self
            .client
            .request(&self.world, &mut self.rng, method, path)
            .await;
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), response.text().await?))
        };
        match timeout(LIMIT, answer).await {
            Err(_) => {
                self.unanswered(path);
                None
            }
            Ok(Err(_)) => None,
            Ok(Ok((status, body))) => {
                self.record_internal_error(status, &body);
                Some((status, body))
            }
        }
    }

    /// Reads a page of a conversation.
    pub async fn read(&mut self, conversation: Uuid) {
        let path = format!("/conversations/{conversation}/messages?limit=100&superseded=include");
        let answer = self.ask(Method::GET, &path, None).await;
        self.world
            .tally
            .answer("read", answer.as_ref().map(|(status, _)| *status));
        let Some((status @ (200 | 404), body)) = answer else {
            return;
        };
        if status == 404 {
            let (user, now) = (&self.client.user, self.world.recorder.now());
            let lost = format!("{user} requested their own {path} and got {body} (at {now:?})");
            return self
                .world
                .recorder
                .update(|history| history.lost.push(lost));
        }
        let page: Value = serde_json::from_str(&body).unwrap();
        let messages = page["messages"].as_array().cloned().unwrap_or_default();
        let user = self.client.user.clone();
        self.world.recorder.update(|history| {
            history.reads.push(Read {
                user,
                conversation,
                messages,
            })
        });
    }

    /// Requests the cancellation of a turn.
    pub async fn cancel(&mut self, turn: Uuid) {
        let answer = self
            .ask(Method::POST, &format!("/turns/{turn}/cancel"), None)
            .await;
        self.world
            .tally
            .answer("cancel", answer.as_ref().map(|(status, _)| *status));
        let Some((status @ (200 | 404), body)) = answer else {
            return;
        };
        let observed: Value = serde_json::from_str(&body).unwrap();
        let observed = if status == 200 {
            observed["status"].as_str().unwrap_or_default()
        } else {
            "unknown to the server"
        };
        let cancel = Cancel {
            user: self.client.user.clone(),
            turn,
            observed: observed.to_owned(),
        };
        self.world
            .recorder
            .update(|history| history.cancels.push(cancel));
    }

    /// Tries to access data of another user.
    pub async fn intrude(&mut self) {
        let Some((owner, conversation, turn)) = self
            .world
            .known
            .lock()
            .unwrap()
            .of_another(&self.client.user, &mut self.rng)
        else {
            return;
        };
        let text = self.text("intrude");
        let (method, path, body) = match self.rng.u8(0..8) {
            0 => (Method::GET, format!("/conversations/{conversation}"), None),
            1 => (
                Method::GET,
                format!("/conversations/{conversation}/messages"),
                None,
            ),
            2 => (
                Method::GET,
                format!("/conversations/{conversation}/tool-calls"),
                None,
            ),
            3 => (Method::GET, format!("/turns/{turn}"), None),
            4 => (Method::GET, format!("/turns/{turn}/events"), None),
            5 => (Method::POST, format!("/turns/{turn}/cancel"), None),
            6 => (Method::POST, format!("/turns/{turn}/retry"), None),
            _ => (
                Method::POST,
                "/chat".to_owned(),
                Some(json!({ "message": text, "conversation_id": conversation })),
            ),
        };
        let request = format!("{method} {path} of {owner}");
        if body.is_some() {
            let outgoing = MessageRequest {
                conversation: Some(conversation),
                retry_of: None,
                text,
                key: None,
                query: String::new(),
                streams: false,
            };
            self.send(&outgoing).await;
            return;
        }
        let answer = self.ask(method, &path, body).await;
        self.world
            .tally
            .answer("intrusion", answer.as_ref().map(|(status, _)| *status));
        // A server with other problems does not reveal the owner.
        let Some((status, body)) = answer.filter(|(status, _)| *status < 500) else {
            return;
        };
        let intrusion = Intrusion {
            user: self.client.user.clone(),
            request,
            status,
            body,
        };
        self.world
            .recorder
            .update(|history| history.intrusions.push(intrusion));
    }

    /// Returns everything that the API shows to this user.
    pub async fn all(&mut self) -> Result<Vec<Shown>, String> {
        let conversations = self
            .pages(
                "/conversations?limit=100",
                "conversations",
                "cursor",
                "next_cursor",
            )
            .await?;
        let mut shown = Vec::new();
        for conversation in conversations {
            let conversation = conversation["id"]
                .as_str()
                .and_then(|id| Uuid::try_parse(id).ok())
                .unwrap_or_default();
            let base = format!("/conversations/{conversation}");
            let messages = format!("{base}/messages?limit=200&superseded=include");
            // The newest page comes first.
            let mut pages = Vec::new();
            let mut before = None;
            loop {
                let path = before.map_or_else(
                    || messages.clone(),
                    |before: String| format!("{messages}&before={before}"),
                );
                let page = self.page(&path).await?;
                pages.push(page["messages"].as_array().cloned().unwrap_or_default());
                before = page["previous_cursor"].as_str().map(str::to_owned);
                if before.is_none() {
                    break;
                }
            }
            let messages = pages.into_iter().rev().flatten().collect();
            let tool_calls = self
                .pages(
                    &format!("{base}/tool-calls?limit=200"),
                    "tool_calls",
                    "cursor",
                    "next_cursor",
                )
                .await?;
            shown.push(Shown {
                user: self.client.user.clone(),
                conversation,
                messages,
                tool_calls,
            });
        }
        Ok(shown)
    }

    async fn pages(
        &mut self,
        path: &str,
        list: &str,
        parameter: &str,
        next: &str,
    ) -> Result<Vec<Value>, String> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let path = cursor.as_ref().map_or_else(
                || path.to_owned(),
                |cursor| format!("{path}&{parameter}={cursor}"),
            );
            let page = self.page(&path).await?;
            all.extend(page[list].as_array().cloned().unwrap_or_default());
            cursor = page[next].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    async fn page(&mut self, path: &str) -> Result<Value, String> {
        match self.ask(Method::GET, path, None).await {
            Some((200, body)) => serde_json::from_str(&body).map_err(|error| error.to_string()),
            other => Err(format!(
                "{} cannot read {path}: {other:?}",
                self.client.user
            )),
        }
    }
}
