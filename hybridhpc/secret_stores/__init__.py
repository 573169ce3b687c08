"""Where values of secrets are kept on this machine. They are read when a job is sent, and kept by nobody here."""
