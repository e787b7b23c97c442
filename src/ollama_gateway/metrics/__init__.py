"""The metrics of one process: counted here by plain functions, and shown on a page.

Start in `traffic.py` and `running.py`, which define all metrics. What happens is counted when it
happens (`counted.py`); what the present is, such as the length of the line, is read when a page is
asked for (`server/readings.py`). `exposition.py` makes the page.
"""

from __future__ import annotations

from ollama_gateway.metrics.counted import Metrics

__all__ = ["Metrics"]
