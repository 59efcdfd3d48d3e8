"""Download one file: with progress, resumed after a break, verified before it gets its name."""

import errno
import http.client
import re
import shutil
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import disk_full, file_digest

BLOCK = 1 << 18
STALLED_ATTEMPTS = 3  # in a row, without a single new byte
PAUSE_SECONDS = 1.0


class UnavailableError(UserError):
    """The file cannot be had from the network now; the caller may know another way."""


@dataclass(frozen=True)
class Remote:
    """A file on a server and how to recognise it.

    Attributes:
        url: Its address.
        size: Bytes; None where nobody says.
        digest: Hex digest; ``start...end`` where only its two ends are known.
        variable: Environment variable of the folder it goes to, for messages.
        remedy: What the user can do when it cannot be had.
        algorithm: ``sha256`` or ``md5``.
    """

    url: str
    size: int | None
    digest: str
    variable: str
    remedy: str
    algorithm: str = "sha256"


def is_digest(whole: str, known: str) -> bool:
    """Whether a digest is the known one, of which there may be only ``start...end``."""
    start, cut, end = known.partition("...")
    return whole.startswith(start) and whole.endswith(end) if cut else whole == known


def verify(path: Path, remote: Remote) -> str:
    """Compare size and digest; return the digest.

    Raises:
        UserError: They differ.
    """
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        wrong = f"{path} has {size} bytes instead of {remote.size}"
        raise UserError(wrong, "delete it and fetch it again")
    found = file_digest(path, remote.algorithm)
    if not is_digest(found, remote.digest):
        raise UserError(
            f"{path} has {remote.algorithm} {found[:12]}... instead of {remote.digest[:12]}...",
            "its content is wrong, delete it and fetch it again",
        )
    return found


def download(remote: Remote, path: Path, *, timeout: float = 20.0, progress: bool = True) -> str:
    """Fetch `remote` to `path`, through `path`.part, which a later call continues.

    Args:
        remote: What to fetch.
        path: Where it goes; its folder exists.
        timeout: Seconds to wait for a connection or the next bytes.
        progress: Show a bar on stderr.

    Returns:
        The digest that was compared.

    Raises:
        UnavailableError: No network, a refusal, or a connection that keeps breaking.
        UserError: The disk is full, or the bytes are not the expected ones. Nothing is left.
    """
    from tqdm import tqdm

    part = path.with_name(path.name + ".part")
    _check_host(remote, timeout)
    _check_space(remote, path, part)
    with tqdm(
        total=remote.size, unit="B", unit_scale=True, desc=path.name, disable=not progress
    ) as bar:
        _fetch_all(remote, part, timeout, bar)
    try:
        found = verify(part, remote)
    except UserError as error:
        part.unlink()
        raise UserError(
            f"{remote.url} is not the expected file ({error.cause}); "
            f"the download was removed: {remote.remedy}"
        ) from error
    part.replace(path)
    return found


def _check_space(remote: Remote, path: Path, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    if shutil.disk_usage(path.parent).free < (remote.size or 0) - have:
        raise disk_full(path, remote.variable)


def _fetch_all(remote: Remote, part: Path, timeout: float, bar: Any) -> None:
    stalled, begun = 0, False
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _fetch_rest(remote, part, timeout, bar)
            return
        except (OSError, http.client.HTTPException) as error:
            gained = part.exists() and part.stat().st_size > before
            begun, stalled = begun or gained, 0 if gained else stalled + 1
            if not begun or stalled >= STALLED_ATTEMPTS:
                cause = f"cannot download {remote.url} ({_words(error)})"
                raise UnavailableError(cause, remote.remedy) from error
            time.sleep(PAUSE_SECONDS)


def _fetch_rest(remote: Remote, part: Path, timeout: float, bar: Any) -> None:
    """One connection: append to `part` until the server has no more."""
    offset = part.stat().st_size if part.exists() else 0
    if offset == remote.size or (offset and remote.size is None and _is_whole(part, remote)):
        return
    if remote.size is not None and offset > remote.size:
        part.unlink()
        offset = 0
    with _opened(remote, offset, timeout) as response:
        if _first_byte(response) != offset:  # the server starts over, so do we
            offset = 0
        promised = response.headers.get("Content-Length")
        size = remote.size if promised is None else offset + int(promised)
        if remote.size is not None and size != remote.size:
            cause = f"{remote.url} offers {size} bytes instead of {remote.size}"
            raise UnavailableError(cause, f"it is another file; {remote.remedy}")
        bar.n, bar.total = offset, size
        bar.refresh()
        with _writing(remote, part), part.open("ab" if offset else "wb") as file:
            while block := _read(response):
                file.write(block)
                bar.update(len(block))
    if size is not None and part.stat().st_size < size:
        raise ConnectionError("the connection broke")


def _is_whole(part: Path, remote: Remote) -> bool:
    return is_digest(file_digest(part, remote.algorithm), remote.digest)


@contextmanager
def _opened(remote: Remote, offset: int, timeout: float) -> Iterator[Any]:
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    if not _is_trusted(remote.url, remote):
        raise UserError(f"{remote.url} is neither https nor http: {remote.remedy}")
    request = urllib.request.Request(remote.url, headers=headers)
    opener = urllib.request.build_opener(_TrustedRedirects(remote))
    try:
        with opener.open(request, timeout=timeout) as response:
            yield response
    except urllib.error.HTTPError as error:
        cause = f"{remote.url} answers {error.code} {error.reason}"
        raise UnavailableError(cause, remote.remedy) from error


def _is_trusted(url: str, remote: Remote) -> bool:
    """Trust https anywhere, http only to the listed server; digests are checked in any case."""
    there, listed = urllib.parse.urlsplit(url), urllib.parse.urlsplit(remote.url)
    return there.scheme == "https" or (there.scheme == "http" and there.netloc == listed.netloc)


class _TrustedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to where a download may come from."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The request for `newurl`, if it may be made."""
        if not _is_trusted(newurl, self._remote):
            cause = f"{self._remote.url} redirects to {newurl}, which is not followed"
            raise UnavailableError(cause, self._remote.remedy)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read(response: Any) -> bytes:
    try:
        block: bytes = response.read1(BLOCK)  # what is there: a stalled rest must not hold it back
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(_words(error)) from error  # no failed write is one
    return block


@contextmanager
def _writing(remote: Remote, part: Path) -> Iterator[None]:
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise disk_full(part, remote.variable) from error
        raise UserError(
            f"cannot write {part} ({error.strerror}): set {remote.variable} to another folder"
        ) from error


def _first_byte(response: Any) -> int:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if response.status == 206 and found else 0


def _check_host(remote: Remote, timeout: float) -> None:
    """Resolve the server's name within `timeout`: the resolver itself knows no such limit."""
    host = urllib.parse.urlsplit(remote.url).hostname
    if host is None or urllib.request.getproxies():
        return
    problem: list[str] = ["its name could not be looked up in time"]

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, None)
            problem.clear()
        except OSError as error:
            problem[:] = [_words(error)]

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(timeout)
    if problem:
        raise UnavailableError(f"cannot reach {host} ({problem[0]})", remote.remedy)


def _words(error: BaseException) -> str:
    """What an exception of the network says, without its number."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _words(reason)
    return getattr(error, "strerror", None) or str(reason or error) or type(error).__name__
