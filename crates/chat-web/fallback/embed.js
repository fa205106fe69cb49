console.error('This chat server was compiled without its page: there is no <chat-panel>. `cargo xtask ui` builds the page.');
