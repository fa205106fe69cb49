//! The demo as its users meet it: the agent talks, over real MCP, to a real task server.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod conversations;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tasks;
