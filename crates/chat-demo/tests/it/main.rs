//! The demo as its users see it: the agent with a real task server over MCP.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tasks;
