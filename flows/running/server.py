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

DEFAULT_API = "http://127.0.0.1:4200/api"
PATIENCE_SECONDS = 5.0
# Prefect's client waits a minute for an answer and tries seven times. These are values for someone who waits for a
# stage; what the user sets counts.
CLIENT = {"PREFECT_API_REQUEST_TIMEOUT": "5", "PREFECT_CLIENT_MAX_RETRIES": "1"}


@dataclass(frozen=True)
class Server:
    """The API's address, and the headers that its settings require."""

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)  # they may contain a key

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

    def _sick(self, how: str) -> str:
        return f"the Prefect server at {self.url} does not work ({how})"


def configured() -> Server:
    """The server that Prefect's settings name, or the default address of `prefect server start`."""
    url = os.environ.get("PREFECT_API_URL")
    key, secret = os.environ.get("PREFECT_API_KEY"), os.environ.get("PREFECT_API_AUTH_STRING")
    if any(_sets_prefect(path) for path in _settings_files()):
        from prefect.settings import get_current_settings

        settings = get_current_settings().api
        url = url or settings.url
        key = key or (settings.key.get_secret_value() if settings.key else None)
        secret = secret or (settings.auth_string.get_secret_value() if settings.auth_string else None)
    headers = {}
    if secret:
        headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    elif key:
        headers["Authorization"] = f"Bearer {key}"
    return Server(url or DEFAULT_API, headers)


def prepare_client(server: Server) -> None:
    """Set what Prefect's client in this process reads when it is imported: the address, and short waits."""
    os.environ["PREFECT_API_URL"] = server.url
    for name, value in CLIENT.items():
        os.environ.setdefault(name, value)


def _settings_files() -> list[Path]:
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    return [profiles, Path("prefect.toml"), Path("pyproject.toml"), Path(".env")]


def _sets_prefect(path: Path) -> bool:
    """Whether a file may set something for Prefect. The word is in a `pyproject.toml` with `[tool.prefect]`, and in any
    other file that sets a `PREFECT_` variable."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return (
        "[tool.prefect" in text if path.name == "pyproject.toml" else "PREFECT_" in text or path.name == "prefect.toml"
    )
