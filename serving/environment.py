"""Say what of a shell's environment a server inherits. Standard library alone: the embedded stack reads it as well."""

from __future__ import annotations

import re
from collections.abc import Mapping

# What finds programs, libraries and languages, and what steers threads and processors. A list of what may pass: no list
# of what may not knows every name that somebody gives a secret.
INHERITED = "|".join(
    (
        r"PATH|HOME|USER|LOGNAME|TMPDIR|TZ|LANG|LANGUAGE|LC_\w+|LD_LIBRARY_PATH|DYLD_\w+|PYTHON\w+|no_proxy|NO_PROXY",
        r"(?:OMP|KMP|GOMP|MKL|OPENBLAS|DNNL|ONEDNN|OPENVINO|OV|TBB|CUDA|NVIDIA|MALLOC|TOKENIZERS)_\w+",
        r"DO_NOT_TRACK|\w+_(?:DISABLE|NO)_TELEMETRY",
        r"SPT_NOENV|RATCHET_HOME|RATCHET_STACK",  # by which the embedded stack finds its processes
    )
)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """:return: the variables that a server may have: none that holds somebody's credentials."""
    return {name: value for name, value in environment.items() if re.fullmatch(INHERITED, name)}
