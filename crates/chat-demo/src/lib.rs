//! The offline demo: an agent of rules and a task list served over MCP
