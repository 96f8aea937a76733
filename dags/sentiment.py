# The Airflow DAG sentiment, as sentiment.yaml says. Written by `ratchet validate`; change the spec, not this file.
from ratchet.factory import pipeline

dag = pipeline(__file__)
