# The Airflow DAG ratchet_rollback, for all pipelines: start it to return to an earlier champion.
from ratchet.upkeep import rollback

dag = rollback(__file__)
