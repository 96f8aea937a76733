from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Airflow reads its home when it is first imported.
os.environ["AIRFLOW_HOME"] = home = tempfile.mkdtemp(prefix="ratchet-airflow-")
atexit.register(shutil.rmtree, home, ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
# Tests run beside one another, and threads that wait for others on busy cores train two to three times as slowly.
os.environ.setdefault("OMP_NUM_THREADS", "1")
