"""The interactive documentation at /docs: Swagger UI from an installed package, without a CDN."""

import gzip
import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse, Response

import chainrule
from chainrule.app.api.compression import takes_gzip
from chainrule.app.api.dependencies import matches
from chainrule.app.api.problems import kinds
from chainrule.app.api.schemas.checkpoints import Weights
from chainrule.app.api.schemas.wire import Problem
from chainrule.app.api.web import OWN_FILES

router = APIRouter(include_in_schema=False)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Chainrule API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon.svg">
</head>
<body>
<main id="docs"></main>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/docs.js"></script>
</body>
</html>
"""
SCRIPT = """"use strict";
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
"""
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="6" fill="#22577a"/>'
    '<path d="M7 10h7m-7 6h18m-7 6h7" stroke="#fff" stroke-width="3" stroke-linecap="round"/></svg>'
)
DESCRIPTION = """
Submit a network and a dataset as a run, follow its training, fetch the weights of any epoch, and ask for any
gradient of any layer.

**Try it:** open *Submit a run* below and press *Execute*: the example trains a network on exclusive or (XOR) in
less than a second. Everywhere else `latest` names the run submitted last, so that every example runs as it stands;
*Compute any quantity of backpropagation* is the one to see next.

**Notation.** Layers are numbered 1…L, the input is layer 0, rows are samples, m is their number. `W[l]` is
(n_l, n_{l-1}), `b[l]` is (n_l,), where n_l is the number of units of layer l; Z[l] = A[l-1]·W[l]ᵀ + b[l],
A[l] = g(Z[l]). Row i of `dZ` and `dA` is the gradient of sample i's own error; the mean over samples enters in `dW`
and `db`, and nowhere else.

**Errors** are `application/problem+json` (RFC 9457) with a `code`, and for wrong input a list of places:

| code | status | meaning |
|---|---|---|
"""
TAGS = [
    {"name": "datasets", "description": "Samples with class labels or numeric targets, known by their content."},
    {"name": "runs", "description": "One training of one network: submit, follow, extend, clone, cancel, delete."},
    {"name": "epochs", "description": "Cost and error of each epoch, by polling and by server-sent events."},
    {"name": "checkpoints", "description": "The weights at the end of an epoch, and what they predict."},
    {"name": "gradients", "description": "Backpropagation from the inside: every quantity, with its equation."},
    {"name": "sweeps", "description": "Many runs of one spec with some fields varied, trained together."},
    {"name": "webhooks", "description": "Who is told of changes of runs, and how that went."},
    {"name": "keys", "description": "Who may call, if the service asks for keys, and what each key may do."},
    {"name": "health", "description": "For those who operate the service."},
]


def install(app: FastAPI, *, keys: bool) -> None:
    """Give the application its OpenAPI document, made once; with `keys` it says that they are asked for."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(_document(app) | ({"security": [{"key": []}]} if keys else {}))
            for path in [path for path in made["paths"] if keys and path.startswith("/v1/health/")]:
                made["paths"][path]["get"]["security"] = []
        return made

    app.openapi = openapi  # type: ignore[method-assign]


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """The OpenAPI document; half a megabyte, and a tenth of it where the client takes gzip."""
    content = json.dumps(request.app.openapi(), ensure_ascii=False, separators=(",", ":")).encode()
    headers = {
        "Vary": "Accept-Encoding",
        "Cache-Control": "no-cache",
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    }
    if matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if takes_gzip(request.headers):
        content, headers["Content-Encoding"] = gzip.compress(content, mtime=0), "gzip"
    return Response(content, headers=headers, media_type="application/json")


@router.get("/docs")
@router.get("/docs/")
async def docs() -> Response:
    """Show the interactive documentation."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": OWN_FILES})


@router.get("/docs/docs.js")
async def script() -> Response:
    """Start Swagger UI; a file of its own, so that the page needs no inline script."""
    return Response(SCRIPT, media_type="text/javascript")


@router.get("/docs/favicon.svg")
async def icon() -> Response:
    """The icon."""
    return Response(ICON, media_type="image/svg+xml")


@router.get("/docs/swagger-ui.css")
async def style() -> Response:
    """Swagger UI's style."""
    return _asset("swagger-ui.css", "text/css")


@router.get("/docs/swagger-ui-bundle.js")
async def bundle() -> Response:
    """Swagger UI itself."""
    return _asset("swagger-ui-bundle.js", "text/javascript")


def _asset(name: str, media_type: str) -> Response:
    # Its files are all we want of the package; importing it would bring its own application.
    found = find_spec("fastapi_offline")
    assert found is not None
    assert found.submodule_search_locations
    path = Path(found.submodule_search_locations[0]) / "static" / name
    return FileResponse(path, media_type=media_type, headers={"Cache-Control": "public, max-age=86400"})


def _document(app: FastAPI) -> dict[str, Any]:
    codes = sorted({(kind.status, kind.code, (kind.__doc__ or "").splitlines()[0]) for kind in kinds()})
    rows = [f"| `{code}` | {status} | {meaning} |" for status, code, meaning in codes]
    document = get_openapi(
        title="Chainrule",
        version=chainrule.__version__,
        summary="Train networks over REST and look inside.",
        description=DESCRIPTION.strip() + "\n" + "\n".join(rows),
        routes=app.routes,
        tags=TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    schemas = document["components"]["schemas"]
    for model in (Problem, Weights):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    document["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "A key of this service, where it asks for one: `chainrule keys create` makes it.",
        }
    }
    return document
