"""Any configuration or rules file ends in a value or in a ConfigError that says the file: never anything else."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config import Config, load_config
from proxy.errors import ConfigError
from proxy.rules import Ruleset
from proxy.rules_load import load_rules

CANARY = "canary-31f0"

WORDS = """version tables columns type tenant from name database roles read write tenants public.t a b text int4
bool numeric(3,1) date plain deny raw setting column fixed search equality by compare nocase scope table pad none
default bind mode deterministic storage context key_type on_denied null error app.x server host port tls listen
127.0.0.1:1 state rules service kms main provider local aws keyfile key audit path http auth pinned verifiers
key_cache ttl 1h max_message 1MiB workers fips off insecure client_tls require verify-full"""
KEYS = "type search pad default bind mode storage context key_type on_denied accept_leakage"

words = st.sampled_from(WORDS.split())
scalars = st.none() | st.booleans() | st.integers(-2, 70000) | words | st.just(CANARY) | st.text(max_size=8)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=5), inner, max_size=6),
    max_leaves=12,
)
columns = st.dictionaries(st.sampled_from(KEYS.split()), trees, max_size=5)
table = st.fixed_dictionaries(
    {"columns": st.dictionaries(words, columns | trees, max_size=4)},
    optional={"tenant": trees, "isolation": trees, "through": trees},
)
tables = st.dictionaries(st.sampled_from(["public.t", "public.u", "t"]), table, max_size=2)
rules_files = trees | st.fixed_dictionaries(
    {"version": st.just(1) | scalars, "tables": tables | trees},
    optional={"tenant": trees, "roles": trees, "not_protected": trees, "database": trees},
)
config_files = trees | st.fixed_dictionaries(
    {
        "state": words | trees,
        "rules": words | trees,
        "service": st.just(f"postgresql://u:{CANARY}@127.0.0.1/d") | trees,
        "kms": st.just({"main": {"provider": "local", "keyfile": "k"}}) | trees,
    },
    optional=dict.fromkeys(
        ["server", "listen", "auth", "client_tls", "key_cache", "audit", "http", "workers"], trees
    ),
)


def write(folder: str, tree: object) -> Path:
    """JSON is YAML; the tree is written as it is."""
    path = Path(folder) / "file.yaml"
    path.write_text(json.dumps(tree))
    return path


@settings(deadline=None)
@given(rules_files)
def test_rules_of_any_tree_load_or_are_refused(tree: object) -> None:
    """A refusal names the file in each of its lines and shows no default."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            for ruleset in load_rules(write(folder, tree), "app").values():
                assert isinstance(ruleset, Ruleset)
        except ConfigError as error:
            assert all("file.yaml" in line for line in error.message.splitlines())


@settings(deadline=None)
@given(config_files)
def test_config_of_any_tree_loads_or_is_refused(tree: object) -> None:
    """A refusal never shows the service's password."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            config = load_config(write(folder, tree), {})
            assert isinstance(config, Config)
            assert CANARY not in repr(config.service)
        except ConfigError as error:
            assert f":{CANARY}@" not in error.message
            assert all("file.yaml" in line for line in error.message.splitlines())
