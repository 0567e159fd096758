"""What a serving proxy takes from changed files: nothing that lowers protection, nothing that needs a restart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.cli.installation import Installation, load
from proxy.cli.reload import refuse_weaker, watched_state
from proxy.errors import ConfigError

CONFIG = """\
listen: 127.0.0.1:0
state: state
server: {tls: disable}
rules: rules/
service: postgresql://pgseal@127.0.0.1/app
kms: {main: {provider: local, keyfile: kek}}
"""
RULES = """\
version: 1
tenant: {from: fixed, name: main}
tables:
  public.patients:
    columns:
      ssn: {type: text}
roles:
  app: {read: plain}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An installation's files."""
    (tmp_path / "pgseal.yaml").write_text(CONFIG)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "app.yaml").write_text(RULES)
    return tmp_path


def loaded(folder: Path, config: str = CONFIG, rules: str = RULES) -> Installation:
    (folder / "pgseal.yaml").write_text(config)
    (folder / "rules" / "app.yaml").write_text(rules)
    return load(folder / "pgseal.yaml")


def test_refuse_weaker_same_files_are_taken(folder: Path) -> None:
    """A reload without a change is one."""
    refuse_weaker(loaded(folder), loaded(folder))


def test_refuse_weaker_new_column_is_taken(folder: Path) -> None:
    """More protection needs no restart."""
    before = loaded(folder)
    refuse_weaker(
        before,
        loaded(folder, rules=RULES.replace("ssn: {type: text}", "ssn: {type: text}\n      dob: {type: date}")),
    )


@pytest.mark.parametrize(
    "rules",
    [
        RULES.replace("ssn:", "dob:"),
        RULES.replace("{type: text}", "{type: text, search: equality}"),
        RULES.replace("name: main", "name: other"),
        RULES.replace("app: {read: plain}", "app: {read: plain}\n  guest: {read: plain}"),
    ],
)
def test_refuse_weaker_less_protection_is_refused(folder: Path, rules: str) -> None:
    """A column gone, a search added, another tenant, a wider role."""
    before = loaded(folder)
    with pytest.raises(ConfigError, match="protect less"):
        refuse_weaker(before, loaded(folder, rules=rules))


def test_refuse_weaker_rules_file_gone_is_refused(folder: Path) -> None:
    """Removing the file of a database removes its protection."""
    before = loaded(folder)
    (folder / "rules" / "app.yaml").unlink()
    with pytest.raises(ConfigError, match="are gone"):
        refuse_weaker(before, load(folder / "pgseal.yaml"))


def test_refuse_weaker_fixed_setting_needs_a_restart(folder: Path) -> None:
    """What a worker was started with is not exchanged while it serves."""
    before = loaded(folder)
    with pytest.raises(ConfigError, match="state needs a restart"):
        refuse_weaker(before, loaded(folder, config=CONFIG.replace("state: state", "state: other")))


def test_refuse_weaker_new_weakness_is_refused(folder: Path) -> None:
    """Configuration that becomes weaker is not taken while serving."""
    before = loaded(folder)
    with pytest.raises(ConfigError, match="trust_server_settings"):
        refuse_weaker(before, loaded(folder, config=CONFIG + "trust_server_settings: true\n"))


def test_watched_state_touched_file_differs(folder: Path) -> None:
    """A new time or size of a rules file is seen; a file that is gone is no error."""
    installation = loaded(folder)
    before = watched_state(installation)
    path = folder / "rules" / "app.yaml"
    os.utime(path, (1, 1))
    touched = watched_state(installation)
    path.unlink()
    assert len({before, touched, watched_state(installation)}) == 3


def test_load_missing_file_says_what_to_do(tmp_path: Path) -> None:
    """No configuration: the message names the file and the hint the command."""
    with pytest.raises(ConfigError, match="no such file") as caught:
        load(tmp_path / "pgseal.yaml")
    assert "init" in (caught.value.hint or "")


def test_load_without_rules_folder_says_what_to_do(folder: Path) -> None:
    """The folder that the configuration names is not there."""
    with pytest.raises(ConfigError, match="there are no rules"):
        loaded(folder, config=CONFIG.replace("rules: rules/", "rules: elsewhere/"))
