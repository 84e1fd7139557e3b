"""Where the Prefect server is, and whether it can be used.

The address and the key are those of Prefect's own settings: environment variables, `prefect.toml`, `.env`, or the
active profile (`prefect config set PREFECT_API_URL=...`). Importing Prefect's settings takes a second, so it is done
only where one of these files exists.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from dcpipe.types import require

DEFAULT_API = "http://127.0.0.1:4200/api"
PATIENCE_SECONDS = 5.0
MODE, MODES = "DCPIPE_PREFECT", ("auto", "require", "off")
VARIABLES = ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")
# Prefect's client waits a minute for an answer and tries seven times. These are values for someone who waits for a
# stage; what the user sets counts.
CLIENT = {"PREFECT_API_REQUEST_TIMEOUT": "5", "PREFECT_CLIENT_MAX_RETRIES": "1"}


@dataclass(frozen=True)
class Server:
    """The address of an API, and what its settings say of access: a key, or a user and a password ("user:password")."""

    url: str
    key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What requests need beside their content."""
        if self.secret:
            return {"Authorization": f"Basic {base64.b64encode(self.secret.encode()).decode()}"}
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def problem(self) -> str:
        """Why the server cannot be used, as the start of a sentence; "" if it answers a question to its database."""
        data, headers = json.dumps({"limit": 1}).encode(), {"Content-Type": "application/json", **self.headers}
        try:
            request = urllib.request.Request(f"{self.url.rstrip('/')}/flows/filter", data, headers)
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return "" if answer.status == 200 else self._sick(f"status {answer.status}")
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                return (
                    f"the Prefect server at {self.url} requires a key: set PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
                )
            return self._sick(f"status {error.code}")
        except TimeoutError:
            return self._sick(f"no answer in {PATIENCE_SECONDS:g} s")
        except (http.client.HTTPException, OSError, ValueError) as error:
            if isinstance(getattr(error, "reason", None), TimeoutError):
                return self._sick(f"no answer in {PATIENCE_SECONDS:g} s")
            return f"no Prefect server at {self.url}"

    @property
    def page(self) -> str:
        """Where a browser shows the runs."""
        return f"{self.url.rstrip('/').removesuffix('/api')}/runs"

    def _sick(self, how: str) -> str:
        return f"the Prefect server at {self.url} does not work ({how})"


def choose() -> tuple[Server | None, str]:
    """The server that this process reports to, None for none, and what to tell people of it, "" for nothing.

    Raises `DataError` for a mode that is none, and where a server is required but does not work.
    """
    mode = os.environ.get(MODE, "auto")
    require(mode in MODES, f"{MODE} is {mode!r}; use one of {', '.join(MODES)}")
    if mode == "off":
        return None, ""
    server = configured()
    problem = server.problem()
    if not problem:
        return server, f"Prefect shows the runs at {server.page}"
    require(mode != "require", f"{MODE}=require but {problem}; run `prefect server start`")
    return None, f"{problem}; running without Prefect"


def configured() -> Server:
    """The server that Prefect's settings name, or the default address of `prefect server start`."""
    values = {name: os.environ.get(name, "") for name in VARIABLES}
    if any(_sets_prefect(path) for path in _settings_files()):
        values = {name: values[name] or found for name, found in _prefect_settings().items()}
    url, key, secret = (values[name] for name in VARIABLES)
    return Server(url or DEFAULT_API, key, secret)


def _prefect_settings() -> dict[str, str]:
    """The values of `VARIABLES` in Prefect's settings. The profile is also read by itself, because Prefect does not see
    it in a process whose `pyproject.toml` moves Prefect's home."""
    from prefect.settings import get_current_settings, load_current_profile

    api = get_current_settings().api
    secrets = (None if hidden is None else hidden.get_secret_value() for hidden in (api.key, api.auth_string))
    known = (api.url, *secrets)
    profile = {setting.name: str(value) for setting, value in load_current_profile().settings.items()}
    return {name: value or profile.get(name, "") for name, value in zip(VARIABLES, known, strict=True)}


def prepare_client(server: Server) -> None:
    """Set what Prefect's client in this process reads when it is imported: the address, access, and short waits."""
    for name, value in zip(VARIABLES, (server.url, server.key, server.secret), strict=True):
        if value:
            os.environ[name] = value
    for name, value in CLIENT.items():
        os.environ.setdefault(name, value)


def _settings_files() -> list[Path]:
    """Where Prefect may be told an address. A workspace's `pyproject.toml` has `.prefect` as Prefect's home."""
    homes = [Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser(), Path(".prefect")]
    profiles = [os.environ.get("PREFECT_PROFILES_PATH"), *(home / "profiles.toml" for home in homes)]
    return [*(Path(path) for path in profiles if path), Path("prefect.toml"), Path("pyproject.toml"), Path(".env")]


def _sets_prefect(path: Path) -> bool:
    """Whether a file may say where the server is, by a `PREFECT_` variable or a table of settings of the API."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    if path.name == "pyproject.toml":
        return "[tool.prefect.api" in text
    return "PREFECT_API" in text or (path.name == "prefect.toml" and "[api" in text)
