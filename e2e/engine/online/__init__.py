"""An engine behind a server: the server's process, and the client that asks it."""
