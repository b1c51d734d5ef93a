"""Who may do what: credentials, what each kind may do, and the guard in front of every route."""
