# The Airflow DAG intents, as intents.yaml says. Written by `ratchet validate`; change the spec, not this file.
from ratchet.factory import pipeline

dag = pipeline(__file__)
