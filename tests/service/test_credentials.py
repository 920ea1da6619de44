"""The key is read again and never shown."""

from __future__ import annotations

from batcher.core.errors import UsageError
from batcher.service import credentials
from batcher.service.credentials import Key, Mask, shown


def test_key_that_cannot_be_read_again_is_the_same_key_and_it_is_never_shown() -> None:
    """Its file vanished between the 401 and the second look: the 401 stands, and nothing crashes."""
    answers: list[object] = ["one", UsageError("gone"), "one", "two"]

    def read() -> str | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    key = Key(read)
    assert [key.read_again(), key.read_again(), key.read_again()] == [False, False, True]
    assert key.headers == {"Authorization": "Bearer two"}
    assert "two" not in repr(key)
    assert Key(lambda: None).headers == {}


def test_a_password_with_an_at_is_not_shown_by_halves() -> None:
    assert "ss" not in credentials.CREDENTIALS.sub("//", "http://me:p@ss@proxy.example:1")


def test_words_of_others_are_shown_short_harmless_and_without_secrets() -> None:
    mask = Mask()
    mask.add("secret-key-7")
    assert shown("the key secret-key-7\n is \x1b[1modd", mask) == "the key [key]\\n is \\x1b[1modd"
    assert shown("cannot reach http://me:p@ss@proxy.example:1", mask) == "cannot reach http://proxy.example:1"
    cut = shown("x" * 295 + "secret-key-7", mask)
    assert cut == "x" * 295 + "[key]", "it is taken out before the rest is cut off"
    assert shown("y" * 5000, mask) == "y" * 300 + "…"
