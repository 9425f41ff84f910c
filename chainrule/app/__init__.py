"""The service: HTTP in front, rules in the middle, one database behind."""
