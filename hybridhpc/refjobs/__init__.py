"""Payloads that run inside jobs, by path, on sites without hybridhpc: they import nothing of it, and it not them."""
