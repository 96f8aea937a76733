import pytest

pytest.importorskip("mlflow", reason="needs the training environment")

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from training.patience import patiently

pytestmark = pytest.mark.filterwarnings("default")  # of mlflow: theirs to mend


def test_what_waiting_cannot_mend_is_not_waited_for():
    calls = []

    def refused():
        calls.append(1)
        raise MlflowException("no", error_code=PERMISSION_DENIED)

    with pytest.raises(MlflowException):
        patiently(refused, outage_seconds=600)
    assert len(calls) == 1
