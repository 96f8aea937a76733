# The Airflow DAG ratchet_reconcile, for all pipelines: looks once a day whether champions and endpoints agree.
from ratchet.upkeep import reconcile

dag = reconcile(__file__)
