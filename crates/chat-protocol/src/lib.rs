//! Wire formats of the chat API: bytes in to commands, events out to frames
