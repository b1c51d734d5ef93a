"""Authentication and authorisation: credentials, what each kind may do, and the guard in front of every route."""
