"""The verifier file and the mock verifiers of unknown users."""

from __future__ import annotations

import pytest

from proxy.errors import ConfigError
from proxy.net.scram import Verifier
from proxy.net.verifiers import Verifiers

ANN = Verifier.from_password("a", b"salt of ann", 5000)
BOB = Verifier.from_password("b", b"salt of bob", 5000)


def test_file_with_comments_and_quotes_is_read(tmp_path):
    """One line a user; a doubled quote is a quote."""
    path = tmp_path / "verifiers"
    path.write_text(f'; comment\n\n# another\n"ann" "{ANN}"\n  "b""o b"\t"{BOB}"  \n')
    known = Verifiers.read(path)
    assert known.get("ann") == ANN
    assert known.get('b"o b') == BOB
    assert known.get("bob") is None


@pytest.mark.parametrize(
    "line",
    [
        'ann "x"',
        '"ann"',
        '"ann" "secret"',
        '"ann" "md5abc"',
        f'"" "{ANN}"',
        f'"ann" "{ANN}" extra',
        f'"ann""{ANN}"',
    ],
)
def test_line_of_another_form_is_refused_with_its_place(line, tmp_path):
    """File and line are named, the line's text is not."""
    path = tmp_path / "verifiers"
    path.write_text(f'"bob" "{BOB}"\n{line}\n')
    with pytest.raises(ConfigError, match="verifiers:2: ") as caught:
        Verifiers.read(path)
    assert "secret" not in caught.value.message


def test_user_given_twice_is_refused(tmp_path):
    """Neither line is silently the right one."""
    path = tmp_path / "verifiers"
    path.write_text(f'"ann" "{ANN}"\n"ann" "{BOB}"\n')
    with pytest.raises(ConfigError, match="already"):
        Verifiers.read(path)


def test_file_that_is_not_utf_8_is_refused(tmp_path):
    """With its name only."""
    path = tmp_path / "verifiers"
    path.write_bytes(b'"\xff" "x"\n')
    with pytest.raises(ConfigError, match="UTF-8"):
        Verifiers.read(path)


def test_mock_verifier_is_the_same_each_time_and_in_each_process():
    """Otherwise two attempts would tell that the user does not exist."""
    first, second = Verifiers({"ann": ANN, "bob": BOB}), Verifiers({"bob": BOB, "ann": ANN})
    assert first.mock("eve") == second.mock("eve")
    assert first.mock("eve").salt != first.mock("eva").salt
    assert first.mock("eve").iterations == 5000
    assert len(first.mock("eve").salt) == 16


def test_mock_salt_depends_on_the_secrets_of_the_file():
    """Who does not have the file cannot compute it."""
    assert Verifiers({"ann": ANN}).mock("eve").salt != Verifiers({"ann": BOB}).mock("eve").salt
