"""What goes over the wire: one file for each noun. Requests are strict, answers say every field."""
