"""Chainrule: a training-jobs web service whose networks you can see inside."""

__version__ = "0.1.0"
