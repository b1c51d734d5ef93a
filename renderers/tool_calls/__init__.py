"""Tool-call syntaxes: how models write calls, and how the text is read back, one file for each way."""
