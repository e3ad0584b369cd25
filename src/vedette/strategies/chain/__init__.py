"""The chain: what is done to messages between nodes and an exchange, around any strategy."""
