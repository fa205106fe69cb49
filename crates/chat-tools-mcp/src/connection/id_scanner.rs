//! Finds the request ids that a JSON-RPC line answers, in lines that are too long or too broken to
//! parse.

/// Longest key or id that is kept, in bytes.
const MAX_TOKEN_BYTES: usize = 64;
/// Most answers of one batch that are remembered.
const MAX_ANSWERS: usize = 1_024;

/// A streaming scanner for one line. It needs constant memory and tolerates invalid JSON.
#[derive(Default)]
pub(super) struct IdScanner {
    /// Depth of a message's members: 1, or 2 in a batch. 0 until the first bracket.
    member_depth: usize,
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
    /// The last string or bare word among a message's members.
    token: Vec<u8>,
    key: Vec<u8>,
    id: Option<i64>,
    is_request: bool,
    is_answer: bool,
    answered_ids: Vec<i64>,
}

impl IdScanner {
    /// Scans the next bytes of the line.
    pub(super) fn scan(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.scan_byte(byte);
        }
    }

    /// Returns the ids that the scanned part of the line answers.
    pub(super) fn answered_ids(&self) -> Vec<i64> {
        let open = self.id.filter(|_| self.is_answer && !self.is_request);
        self.answered_ids.iter().copied().chain(open).collect()
    }

    fn scan_byte(&mut self, byte: u8) {
        if self.is_in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.is_in_string = false,
                _ => self.keep(byte),
            }
            return;
        }
        match byte {
            b'"' => {
                self.is_in_string = true;
                self.start_token();
            }
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => self.close(),
            b':' if self.is_at_member_depth() => {
                self.key = std::mem::take(&mut self.token);
                self.is_request |= self.key == b"method";
                self.is_answer |= self.key == b"result" || self.key == b"error";
            }
            b',' if self.is_at_member_depth() => self.end_member(),
            _ if byte.is_ascii_whitespace() => {}
            _ => self.keep(byte),
        }
    }

    fn open(&mut self, bracket: u8) {
        self.depth += 1;
        match (self.member_depth, bracket) {
            (0, b'[') => self.member_depth = 2,
            (0, _) => self.member_depth = 1,
            _ => {}
        }
    }

    fn close(&mut self) {
        if self.is_at_member_depth() {
            self.end_member();
            if self.answered_ids.len() < MAX_ANSWERS {
                self.answered_ids = self.answered_ids();
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

    fn is_at_member_depth(&self) -> bool {
        self.depth == self.member_depth && self.depth > 0
    }

    fn start_token(&mut self) {
        if self.is_at_member_depth() {
            self.token.clear();
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.is_at_member_depth() && self.token.len() < MAX_TOKEN_BYTES {
            self.token.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered_ids(line: &str) -> Vec<i64> {
        let mut id_scanner = IdScanner::default();
        id_scanner.scan(line.as_bytes());
        id_scanner.answered_ids()
    }

    #[test]
    fn ids_of_answers_are_found_at_any_position() {
        for line in [
            r#"{"jsonrpc":"2.0","id":7,"result":{"id":1,"content":["#,
            r#"{"result":{"text":"}\"{","id":1},"jsonrpc":"2.0","id":7}"#,
            r#"{ "id" : "7" , "error" : {"code": x} }"#,
            r#"{"id":7,"result":{"a":"\ud800"#,
        ] {
            assert_eq!(answered_ids(line), [7], "{line}");
        }
        assert_eq!(
            answered_ids(r#"[{"id":1,"result":{}},{"id":2,"method":"ping"},{"result":{},"id":3}]"#),
            [1, 3]
        );
    }

    #[test]
    fn requests_notifications_and_other_text_answer_nothing() {
        for line in [
            r#"{"id":7,"method":"ping","result":1}"#,
            r#"{"result":{"id":7}}"#,
            r#"{"id":"x","result":1}"#,
            "Loading: 7, ok}]",
            "",
        ] {
            assert_eq!(answered_ids(line), [0_i64; 0], "{line}");
        }
    }

    #[test]
    fn a_line_may_be_scanned_in_pieces_of_any_size() {
        let line = r#"{"result":{"text":"\\\"id\":9"},"id":7}"#;
        let mut id_scanner = IdScanner::default();
        for byte in line.bytes() {
            id_scanner.scan(&[byte]);
        }
        assert_eq!(id_scanner.answered_ids(), [7]);
    }
}
