"""What there is: sites as described and as last seen. Pure; nothing is asked here."""
