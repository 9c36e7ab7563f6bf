"""What the rooms expect of each other, as protocols."""
