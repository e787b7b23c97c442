"""`gatewayctl`: the commands, put together."""

from __future__ import annotations

import typer

from ollama_gateway.cli import (
    audit,
    backends,
    config,
    db,
    demo,
    explain,
    health,
    init,
    keys,
    pausing,
    pull,
    serve,
    usage,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Ollama Gateway: several machines that run Ollama, as one Ollama.",
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("probe")(backends.probe)
app.command("models")(backends.models)
app.command("pull")(pull.pull)
app.command("explain")(explain.explain)
app.command("health")(health.health)
app.command("usage")(usage.usage)
app.add_typer(audit.app, name="audit", help="Look at the trail: who asked what, and how it ended.")
app.add_typer(pausing.app, name="backends", help="List the backends, take one out, bring it back.")
app.add_typer(keys.app, name="keys", help="Create, list, change and revoke API keys.")
app.add_typer(db.app, name="db", help="Prepare the PostgreSQL database, move keys into it.")
app.add_typer(config.app, name="config", help="Check and show the settings.")
