//! The toolset contract suite.

use std::sync::Arc;

use chat_domain::testing::toolset_contract::ToolsetUnderTest;

use crate::support::TestServer;

async fn under_test() -> ToolsetUnderTest {
    let server = TestServer::new("one");
    let toolset = Arc::new(server.start());
    ToolsetUnderTest {
        toolset,
        echo: "echo".into(),
        failing: "fail".into(),
        guard: Box::new(server),
    }
}

chat_domain::toolset_contract!(under_test());
