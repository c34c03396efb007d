//! Connections: from the listening socket to the request handler.
