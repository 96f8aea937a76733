"""Keep named endpoints on this machine, each with one live release behind a port of its own."""
