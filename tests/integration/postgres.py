"""A PostgreSQL server of a test's own: in a temporary folder, on a socket there, gone afterwards.

It needs the server's binaries (Debian: `apt-get install -y postgresql`, which puts them into
/usr/lib/postgresql/VERSION/bin) and the driver of the extra [sweep]. The server refuses to be root; then it runs as
`postgres`, or as `nobody`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`, of the newest version there is."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found = [folder for folder in found if (folder / "postgres").exists()]
    if found:
        return max(found, key=lambda folder: float(folder.parent.name))
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path and shutil.which("postgres") else None


def why_not() -> str | None:
    """Why there can be no server here, None if there can."""
    if importlib.util.find_spec("psycopg") is None:
        return 'no driver of PostgreSQL: pip install "rporec_recbole[sweep]"'
    if binaries() is None:
        return "no PostgreSQL server: apt-get install -y postgresql (psql alone is not enough)"
    return None


@contextlib.contextmanager
def database() -> Iterator[str]:
    """Starts a server; inside the block its URL is good, for `postgresql://` of SQLAlchemy."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path holds about 100 characters
    user = _unprivileged()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    as_user = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    where = {"cwd": folder, "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, **as_user}
    bin_dir, data = binaries(), folder / "data"
    assert bin_dir is not None
    subprocess.run(
        [bin_dir / "initdb", "-D", data, "-U", "sweep", "-A", "trust", "--no-sync", "-E", "UTF8"],
        check=True,
        capture_output=True,
        **where,
    )
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    log = (folder / "log").open("w")
    server = subprocess.Popen([bin_dir / "postgres", "-D", data, *options], stdout=log, stderr=log, **where)
    try:
        url = f"postgresql://sweep@/postgres?host={folder}"
        _wait_for(url, server, folder / "log")
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # at once; SIGTERM would wait for the connections of this process
        server.wait(timeout=20)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> pwd.struct_passwd | None:
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("the server must not be root, and there is neither a user `postgres` nor `nobody`")


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import OperationalError

    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
                break
        except OperationalError:
            time.sleep(0.1)
    else:
        raise AssertionError(f"the server does not answer: {log.read_text()}")
    engine.dispose()
