"""The tasks that the programs here share: those of `examples/index_tree.py`.

Everywhere a task is called `module:function`, so whoever submits it and whoever runs it must import
it under one name.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # as if it were installed

from index_tree import Module, find_files, index

__all__ = ["Module", "find_files", "index"]
