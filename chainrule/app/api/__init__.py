"""Interface: HTTP in, HTTP out; one router file for each noun."""
