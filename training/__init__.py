"""The machine-learning stages: plain functions and commands that know neither Airflow nor Ratchet's operators."""
