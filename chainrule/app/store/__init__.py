"""Persistence: the only SQL, one file for each noun."""
