"""The dashboard: static files at /, which are a client of the API as any other."""

import gzip
import hashlib
import re
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from chainrule.app.api.compression import takes_gzip
from chainrule.app.api.dependencies import matches

FOLDER = Path(__file__).parent.parent / "web"
OWN_FILES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing inline, and nothing from elsewhere."""
POLICY = f"{OWN_FILES}; require-trusted-types-for 'script'"
"""And no text is ever taken for a script or for HTML."""
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
IMPORTED, IMPORT_ROOT = re.compile(r'^import .* from "([^"]+)";$', re.MULTILINE), re.compile(r"^\.\.?/")
FOREVER = "public, max-age=31536000, immutable"


def _read() -> tuple[str, dict[str, bytes]]:
    """Read the files once, so that a path names one of them or nothing; their version is the hash of all of them."""
    paths = sorted(path for path in FOLDER.rglob("*") if path.suffix in KINDS)
    files = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in paths}
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()[:12], files


def _parts(files: dict[str, bytes]) -> str:
    """Name the modules that each page is made of, `run:api.js charts.js;…`, its imports and theirs."""
    imported = {
        name: [IMPORT_ROOT.sub("", other) for other in IMPORTED.findall(content.decode())]
        for name, content in files.items()
        if name.endswith(".js")
    }
    pages = []
    for page in (name for name in imported if name.startswith("pages/")):
        needed = [page]
        for name in needed:
            needed += [other for other in imported[name] if other not in needed]
        pages.append(f"{Path(page).stem}:{' '.join(needed)}")
    return ";".join(pages)


VERSION, FILES = _read()
PAGES = " ".join(Path(name).stem for name in FILES if name.startswith("pages/"))
INDEX = FILES.pop("index.html").replace(b"{version}", VERSION.encode()).replace(b"{pages}", PAGES.encode())
INDEX = INDEX.replace(b"{parts}", _parts(FILES).encode())
PACKED = {name: gzip.compress(content, mtime=0) for name, content in (FILES | {"index.html": INDEX}).items()}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def index(
    request: Request, if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None
) -> Response:
    """The page; asked for anew each time, as it names the version of all else."""
    etag = f'"{VERSION}"'
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "ETag": etag}
    if matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return _answer(request, "index.html", INDEX, headers)


@router.get("/ui/{version}/{name:path}")
async def file(request: Request, version: str, name: str) -> Response:
    """One of its files; of another version there is none here, and the page offers to load itself anew."""
    if version != VERSION or name not in FILES:
        return Response("There is no such file.", 404, media_type="text/plain")
    return _answer(request, name, FILES[name], {"Content-Security-Policy": POLICY, "Cache-Control": FOREVER})


def _answer(request: Request, name: str, content: bytes, headers: dict[str, str]) -> Response:
    packed = takes_gzip(request.headers)
    headers = headers | {"Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if packed else {})
    return Response(PACKED[name] if packed else content, headers=headers, media_type=KINDS[Path(name).suffix])
