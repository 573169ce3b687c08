"""What will be submitted: a JobSpec and a placement become a Plan. Pure; nothing is written here."""
