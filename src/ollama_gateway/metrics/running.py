"""The metrics of the gateway itself, its stores and its processes."""

from __future__ import annotations

from typing import Final

from ollama_gateway.metrics.definitions import (
    LAG_SECONDS,
    OPERATION_SECONDS,
    counter,
    gauge,
    histogram,
    of_process,
)

# The gateway as a whole.
READY: Final = gauge("ready", "1 while requests are admitted.", merge="max")
DEGRADED: Final = gauge(
    "degraded", "1 for what a ready gateway lacks.", "cause", most=20, merge="max"
)
BUILD: Final = gauge(
    "build_info",
    "1, with the version of the gateway and of Python.",
    "version",
    "python",
    most=4,
    merge="max",
)
LAST_RELOAD: Final = gauge(
    "config_last_reload_successful",
    "Whether the last reload put the settings in force; 1 before the first.",
    merge="min",
)
RELOADED_AT: Final = gauge(
    "config_last_reload_success_timestamp_seconds",
    "When settings were last put in force, by a start or a reload, in seconds since 1970.",
    merge="max",
)
CERTIFICATE_ENDS: Final = gauge(
    "certificate_end_timestamp_seconds",
    "When the certificate in a file ends, in seconds since 1970.",
    "certificate",
    most=100,
    merge="min",
)
KEY_ENDS: Final = gauge(
    "next_key_end_timestamp_seconds",
    "When the next of the keys in use ends, in seconds since 1970; absent if none does.",
    merge="min",
)
TRACES: Final = counter(
    "traces",
    "Requests whose spans were exported, or dropped since the collector did not take them.",
    "result",
    most=4,
)
RESTARTS: Final = counter(
    "watcher_restarts", "Watchers that crashed and were started again.", "watcher", most=200
)
LAG: Final = histogram(
    "event_loop_lag_seconds",
    "Seconds by which the event loop was late, ten times a second.",
    bounds=LAG_SECONDS,
)
LIMIT_USED: Final = gauge(
    "limit_used_ratio",
    "The used part of limits from 0.8 on, by the id of the key; only if the settings ask for it.",
    *("key_id", "limit"),
    most=1000,
    merge="max",
)
OVERFLOWS: Final = counter(
    "metric_overflows",
    "Samples of a metric that were counted under `other`, as it had all the series it may have.",
    "metric",
    most=70,
)

# The audit log and the stores.
STORE_UP: Final = gauge("store_up", "1 while a store answers.", "store", most=8, merge="min")
STORE_SECONDS: Final = histogram(
    "store_operation_seconds",
    "Seconds of a store's operations, the wait for a thread included.",
    "store",
    bounds=OPERATION_SECONDS,
    most=8,
)
STORE_ERRORS: Final = counter("store_errors", "Operations of a store that failed.", "store", most=8)
SETTLEMENTS: Final = gauge(
    "settlements_waiting", "Ended reservations that the quota store has not confirmed."
)
QUOTA_RETRIES: Final = counter(
    "quota_retries", "Batches that were sent to the quota store a second time."
)
LOOP_LATE: Final = counter(
    "loop_late_seconds",
    "Seconds that this process was late while requests waited for the quota store.",
)
ROWS_WAITING: Final = gauge("audit_rows_waiting", "Audit records that are not in the journal yet.")
ROWS_UNMOVED: Final = gauge(
    "audit_rows_unmoved", "Audit records in the journal that are not in PostgreSQL yet."
)
OLDEST_UNMOVED: Final = gauge(
    "audit_oldest_unmoved_seconds",
    "Age of the oldest audit record that is not in PostgreSQL yet; 0 if all are, or without it.",
    merge="max",
)
FLUSH_FAILURES: Final = counter(
    "audit_flush_failures", "Moves of audit records to PostgreSQL that failed."
)
JOURNAL_BYTES: Final = gauge("journal_bytes", "Size of the audit journal's files.")
DISK_FREE: Final = gauge(
    "data_disk_free_bytes", "Free bytes of the disk with the data directory.", merge="min"
)
DISK_SIZE: Final = gauge(
    "data_disk_size_bytes", "Size of the disk with the data directory.", merge="min"
)

# The processes.

PROCESSES: Final = gauge("processes", "Processes that serve clients.")
PROCESS_RESTARTS: Final = counter(
    "process_restarts", "Restarts of processes that ended.", "process", most=64
)
PROCESS_CPU: Final = of_process(
    "counter", "process_cpu_seconds", "CPU seconds, of user and system."
)
PROCESS_RESIDENT: Final = of_process("gauge", "process_resident_memory_bytes", "Resident memory.")
PROCESS_VIRTUAL: Final = of_process("gauge", "process_virtual_memory_bytes", "Virtual memory.")
PROCESS_START: Final = of_process(
    "gauge",
    "process_start_time_seconds",
    "When the process began, in seconds since 1970.",
    merge="min",
)
PROCESS_FILES: Final = of_process("gauge", "process_open_fds", "Open files and sockets.")
PROCESS_MAX_FILES: Final = of_process(
    "gauge", "process_max_fds", "Files and sockets that a process may open.", merge="min"
)
