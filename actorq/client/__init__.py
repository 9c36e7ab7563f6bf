"""What people hold: the verbs, handles and blocks."""
