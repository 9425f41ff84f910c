"""Commands about webhooks, asked of the service as all that is one's own."""

from itertools import islice
from typing import Annotated

import typer

from chainrule.app import console
from chainrule.app.cli.frame import FAILED, AsJson, Url, app, print_json, talking
from chainrule.app.client import Client, Resource

WebhookId = Annotated[str, typer.Argument(help="The webhook's id.")]

webhooks_app = typer.Typer(
    name="webhooks",
    help="Have changes of your runs posted to an address of yours, signed; add, list, try and remove such webhooks.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(webhooks_app)


@webhooks_app.command("add")
@talking
def add_webhook(
    address: Annotated[str, typer.Argument(help="Where to post to; https, unless the service allows others.")],
    event: Annotated[
        list[str] | None,
        typer.Option(help="What to be told, such as run.running; may be repeated. By default the ends of runs."),
    ] = None,
    name: Annotated[str, typer.Option(help="What you call it.")] = "",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make a webhook. Its id is printed, and the secret that messages are signed by, which is shown this once."""
    with Client(url) as client:
        made = client.add_webhook(address, events=event, name=name)
    print_json(made) if as_json else typer.echo(f"{made['id']} {made['secret']}")


@webhooks_app.command("list")
@talking
def list_webhooks(url: Url = None, as_json: AsJson = False) -> None:
    """List webhooks, the newest first; never their secrets."""
    with Client(url) as client:
        found = list(client.webhooks())
    if as_json:
        return print_json([dict(webhook) for webhook in found])
    rows = [
        (
            webhook["id"], webhook["name"] or "–", webhook["url"], " ".join(webhook["events"]),
            "enabled" if webhook["enabled"] else webhook["disabled_reason"] or "disabled",
        )
        for webhook in found
    ]  # fmt: skip
    console.table("Webhooks", ("id", "name", "address", "events", "state"), rows)


@webhooks_app.command("test")
@talking
def test_webhook(webhook_id: WebhookId, url: Url = None, as_json: AsJson = False) -> None:
    """Post a test message now. The exit status is 1 unless it was taken."""
    with Client(url) as client:
        went = client.test_webhook(webhook_id)
    print_json(went) if as_json else typer.echo(_delivery(went))
    if went["state"] != "delivered":
        raise typer.Exit(FAILED)


@webhooks_app.command("deliveries")
@talking
def deliveries(
    webhook_id: WebhookId,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show what a webhook was told and is to be told, the newest first."""
    with Client(url) as client:
        found = list(islice(client.deliveries(webhook_id), limit))
    if as_json:
        return print_json([dict(delivery) for delivery in found])
    for delivery in found:
        typer.echo(f"{delivery['created_at'][:19]}Z {delivery['run'] or '–'} {_delivery(delivery)}")
    return None


@webhooks_app.command("rotate")
@talking
def rotate_webhook(
    webhook_id: WebhookId,
    grace_s: Annotated[int, typer.Option("--grace", min=0, help="Seconds for which both secrets sign.")] = 86400,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Give a webhook a new secret, which is shown this once."""
    with Client(url) as client:
        made = client.rotate_webhook(webhook_id, grace_s=grace_s)
    print_json(made) if as_json else typer.echo(made["secret"])


@webhooks_app.command("enable")
@talking
def enable_webhook(webhook_id: WebhookId, url: Url = None, as_json: AsJson = False) -> None:
    """Enable a webhook again whose receiver said that it is gone."""
    with Client(url) as client:
        found = client.enable_webhook(webhook_id)
    print_json(found) if as_json else typer.echo(f"enabled {webhook_id}")


@webhooks_app.command("remove")
@talking
def remove_webhook(webhook_id: WebhookId, url: Url = None, as_json: AsJson = False) -> None:
    """Remove a webhook, with what it has not been told yet."""
    with Client(url) as client:
        client.delete_webhook(webhook_id)
    print_json({"removed": webhook_id}) if as_json else typer.echo(f"removed {webhook_id}")


def _delivery(delivery: Resource) -> str:
    answered = delivery["error"] or f"answered {delivery['status_code']}"
    tried = "" if delivery["state"] == "pending" and not delivery["attempts"] else f", {answered}"
    again = f", again at {delivery['next_at'][:19]}Z" if delivery["next_at"] and delivery["attempts"] else ""
    return f"{delivery['type']} {delivery['state']} ({delivery['attempts']} tried{tried}{again})"
