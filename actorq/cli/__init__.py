"""The command line: a window onto a queue node, and the programs that run one and its workers."""
