"""Check `storage.data_dir` before anything in it is opened: other users must not write to it.

`serve` trusts its own user and root. A command that root runs acts for the owner of the directory,
so it trusts that user as well.
"""

from __future__ import annotations

import os
import stat

import attrs

from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings
from ollama_gateway.storage.data_files import DATA_FILES, INTERRUPTED
from ollama_gateway.storage.write_access import ROOT, Trusted, faults_in, remedy


def faults_of(settings: Settings, trusted: Trusted) -> list[str]:
    """Return a line for each reason not to use the directory.

    These are the directory and each file in it that other users may write to, and a restore that
    was interrupted.
    """
    try:
        is_interrupted = (settings.storage.data_dir / INTERRUPTED).exists()
    except OSError:
        return []  # opening the stores reports it
    if is_interrupted:
        where = printable(str(settings.storage.data_dir))
        line = f"a restore of {where} was interrupted: run `gatewayctl restore` again"
        return [f"storage.data_dir: {line}"]
    return writable_by_others(settings, trusted)


def writable_by_others(settings: Settings, trusted: Trusted) -> list[str]:
    """Return a line for the directory and each file in it that other users may write to."""
    storage = settings.storage
    if storage.allow_shared_data_dir:
        return []
    try:
        found = list(faults_in(storage.data_dir, DATA_FILES, trusted))
    except OSError:
        return []  # opening the stores reports it
    return [
        f"storage.data_dir: {printable(str(path))} {fault}: {remedy(fault)}"
        for path, fault in found
    ]


def trusted_by_commands(settings: Settings) -> Trusted:
    """Return the users whose files a command trusts."""
    trusted, directory = Trusted.of_process(), settings.storage.data_dir
    try:
        owner = directory.stat().st_uid
    except OSError:
        return trusted
    is_root = os.geteuid() == ROOT
    return attrs.evolve(trusted, users=trusted.users | {owner}) if is_root else trusted


def make_private(settings: Settings, trusted: Trusted) -> str | None:
    """Make an empty directory of our own private: it was made under some umask and holds nothing.

    Returns a line for the operator if the mode was changed.
    """
    directory = settings.storage.data_dir
    try:
        status = directory.stat()
        is_ours = status.st_uid == os.geteuid() and not settings.storage.allow_shared_data_dir
        if not is_ours or trusted.fault_of(status) is None or any(directory.iterdir()):
            return None
        directory.chmod(0o700)
    except OSError:
        return None
    mode = stat.S_IMODE(status.st_mode)
    return f"storage.data_dir: was empty and open to others (mode {mode:04o}): changed to 0700"
