//! Finds the ids that a JSON-RPC line answers, in lines that are too long or too broken to be
//! parsed.

/// The longest key or id that is kept, in bytes.
const LONGEST_TOKEN: usize = 64;
/// The most answers of one batch that are remembered.
const MOST_ANSWERS: usize = 1_024;

/// A streaming scan of one line. It needs constant memory and tolerates invalid JSON.
#[derive(Default)]
pub(super) struct Outline {
    /// The depth at which a message's members are: 1, or 2 within a batch. 0 until the first
    /// bracket.
    members_at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The last string or bare word among a message's members.
    token: Vec<u8>,
    key: Vec<u8>,
    id: Option<i64>,
    is_request: bool,
    is_answer: bool,
    answers: Vec<i64>,
}

impl Outline {
    /// Scans the next bytes of the line.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.byte(byte);
        }
    }

    /// The ids that the line is known to answer so far.
    pub(super) fn answers(&self) -> Vec<i64> {
        let open = self.id.filter(|_| self.is_answer && !self.is_request);
        self.answers.iter().copied().chain(open).collect()
    }

    fn byte(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => self.keep(byte),
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.start_token();
            }
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => self.close(),
            b':' if self.is_among_members() => {
                self.key = std::mem::take(&mut self.token);
                self.is_request |= self.key == b"method";
                self.is_answer |= self.key == b"result" || self.key == b"error";
            }
            b',' if self.is_among_members() => self.end_member(),
            _ if byte.is_ascii_whitespace() => {}
            _ => self.keep(byte),
        }
    }

    fn open(&mut self, bracket: u8) {
        self.depth += 1;
        match (self.members_at, bracket) {
            (0, b'[') => self.members_at = 2,
            (0, _) => self.members_at = 1,
            _ => {}
        }
    }

    fn close(&mut self) {
        if self.is_among_members() {
            self.end_member();
            if self.answers.len() < MOST_ANSWERS {
                self.answers = self.answers();
            }
            (self.id, self.is_request, self.is_answer) = (None, false, false);
        }
        self.depth = self.depth.saturating_sub(1);
    }

    fn end_member(&mut self) {
        if self.key == b"id" {
            self.id = std::str::from_utf8(&self.token)
                .ok()
                .and_then(|id| id.trim().parse().ok());
        }
        self.key.clear();
        self.token.clear();
    }

    fn is_among_members(&self) -> bool {
        self.depth == self.members_at && self.depth > 0
    }

    fn start_token(&mut self) {
        if self.is_among_members() {
            self.token.clear();
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.is_among_members() && self.token.len() < LONGEST_TOKEN {
            self.token.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(line: &str) -> Vec<i64> {
        let mut outline = Outline::default();
        outline.feed(line.as_bytes());
        outline.answers()
    }

    #[test]
    fn ids_of_answers_are_found_wherever_they_are() {
        for line in [
            r#"{"jsonrpc":"2.0","id":7,"result":{"id":1,"content":["#,
            r#"{"result":{"text":"}\"{","id":1},"jsonrpc":"2.0","id":7}"#,
            r#"{ "id" : "7" , "error" : {"code": x} }"#,
            r#"{"id":7,"result":{"a":"\ud800"#,
        ] {
            assert_eq!(answers(line), [7], "{line}");
        }
        assert_eq!(
            answers(r#"[{"id":1,"result":{}},{"id":2,"method":"ping"},{"result":{},"id":3}]"#),
            [1, 3]
        );
    }

    #[test]
    fn requests_notifications_and_noise_answer_nothing() {
        for line in [
            r#"{"id":7,"method":"ping","result":1}"#,
            r#"{"result":{"id":7}}"#,
            r#"{"id":"x","result":1}"#,
            "Loading: 7, ok}]",
            "",
        ] {
            assert_eq!(answers(line), [0_i64; 0], "{line}");
        }
    }

    #[test]
    fn a_line_may_come_in_pieces_of_any_size() {
        let line = r#"{"result":{"text":"\\\"id\":9"},"id":7}"#;
        let mut outline = Outline::default();
        for byte in line.bytes() {
            outline.feed(&[byte]);
        }
        assert_eq!(outline.answers(), [7]);
    }
}
