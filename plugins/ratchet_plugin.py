"""What Airflow loads from Ratchet: the links on its operators."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from ratchet import links


class RatchetPlugin(AirflowPlugin):
    name = "ratchet"
    operator_extra_links = list(links.ALL)
