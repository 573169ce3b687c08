"""Breaking things for up to twenty minutes, and counting afterwards: `make torture SEED=n`."""
