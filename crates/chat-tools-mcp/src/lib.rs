//! Tools from MCP servers
