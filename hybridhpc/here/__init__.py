"""The embedded site's runner: a slot keeper and one supervisor process per job. Effects."""
