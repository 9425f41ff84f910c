"""Execution: claim a run, train it in a child process, watch over it."""
