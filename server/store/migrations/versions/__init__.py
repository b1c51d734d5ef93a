"""The steps, one file each; a revision is called by its schema version."""
