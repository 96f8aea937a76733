"""
Become one program of the stack.

supervisord starts this file by its path. Commands and environments come from a private file, so that secrets are in no
process arguments and no value has to survive the quoting rules of supervisord's configuration.

Before that, end what the program's last process left of its group when it died, since supervisord ends a group only
with a program that it stops itself; and wait for the program that this one needs.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import sys
import time
import urllib.request
from pathlib import Path

import psutil

POLL_SECONDS = 0.5


def end_leftovers(groups_file: Path) -> None:
    """
    End the orphans of this program: a child that holds its port, workers that wait for work from nobody.

    One that has a task in flight, in a group of its own, is left to finish it and ends at a later start.

    :param groups_file: process groups of the program that may have members, one of them from now on this process's.
    """
    known = groups_file.read_text().split() if groups_file.exists() else []
    groups = {int(group) for group in known if group.isdecimal()}
    busy: set[int] = set()
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            group = os.getpgid(process.pid)
            # Numbers come again, after a restart of the machine for one; supervisord's session is nobody else's
            if group not in groups or os.getsid(process.pid) != os.getsid(0) or process.pid == os.getpid():
                continue
            if any(_leads_a_group(child.pid) for child in process.children()):
                busy.add(group)
            else:
                left.append(process)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    if left:
        psutil.wait_procs(left, timeout=5)
        print(f"Ended what the process before this one left behind: {[process.pid for process in left]}", flush=True)
    groups_file.write_text("\n".join(str(group) for group in (*busy, os.getpid())))


def _leads_a_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except OSError:
        return False


def wait_for(url: str) -> None:
    """Return when ``url`` answers 200."""
    print(f"Waiting for {url}", flush=True)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException), opener.open(url, timeout=5):
            return
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    _file, _name = sys.argv[1:]
    program = json.loads(Path(_file).read_text())[_name]
    end_leftovers(Path(_file).with_name(f"{_name}.groups"))
    if program["after"]:
        wait_for(program["after"])
    inherited = {name: value for name, value in os.environ.items() if re.fullmatch(program["inherits"], name)}
    os.execve(program["command"][0], program["command"], {**inherited, **program["environment"]})
