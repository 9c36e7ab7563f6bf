"""How one attempt runs: in the loop, in a thread, in a process."""
