"""Serve one release over HTTP, and keep named endpoints alive on one machine. Imports neither torch nor Airflow."""
