"""Application: the rules, one file for each noun; no HTTP, no SQL."""
