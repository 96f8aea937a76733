"""The embedded stack: Airflow, MLflow and the endpoint host on this machine, kept running by supervisord."""
