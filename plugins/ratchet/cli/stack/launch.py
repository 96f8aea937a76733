"""
Become one program of the stack.

supervisord starts this file by its path. Commands and environments come from a private file, so that secrets are in no
process arguments and no value has to survive the quoting rules of supervisord's configuration.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

if __name__ == "__main__":
    _file, name = sys.argv[1:]
    program = json.loads(Path(_file).read_text())[name]
    inherited = {name: value for name, value in os.environ.items() if re.fullmatch(program["inherits"], name)}
    os.execve(program["command"][0], program["command"], {**inherited, **program["environment"]})
