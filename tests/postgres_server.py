"""A PostgreSQL server of a test's own, on a socket in a folder of its own, without network."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "mmagn"


def server_binaries() -> Path | None:
    """Folder of initdb and postgres: beside what PATH finds, where pg_config points, or where Debian puts them."""
    folders = [Path(found).resolve().parent for found in (shutil.which("initdb"), shutil.which("postgres")) if found]
    if config := shutil.which("pg_config"):
        result = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(result.stdout.strip()))
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next(
        (folder for folder in folders if (folder / "initdb").is_file() and (folder / "postgres").is_file()), None
    )


def unprivileged_user() -> pwd.struct_passwd | None:
    """Who the server runs as where the tests run as root, which PostgreSQL refuses; None where they do not."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError("there is neither a user postgres nor nobody to run the server as")


@contextmanager
def postgres_server(binaries: Path) -> Iterator[str]:
    """Start a server on an empty database and give the URL of that; stop it and delete it at the end."""
    who = unprivileged_user()
    as_user = {} if who is None else {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
    folder = Path(tempfile.mkdtemp(prefix="mmagn-pg-"))  # short, for the limit on the length of a socket's path
    server = None
    try:
        if who is not None:
            os.chown(folder, who.pw_uid, who.pw_gid)
        data = folder / "data"
        initdb = [binaries / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **as_user)
        settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd=folder, **as_user
            )
        wait_until_ready(folder, server)
        yield f"postgresql://{USER}@/postgres?host={folder}"
    finally:
        if server is not None:
            server.terminate()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_ready(folder: Path, server: "subprocess.Popen[bytes]") -> None:
    import psycopg

    while True:
        try:
            psycopg.connect(host=str(folder), user=USER, dbname="postgres").close()
        except psycopg.OperationalError:
            if server.poll() is not None:
                raise
            time.sleep(0.05)
        else:
            return
