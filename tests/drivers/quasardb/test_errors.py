"""The table of faults, row by row, and what may be said of the library's own words."""

from __future__ import annotations

import pytest

import kvmodel as kv
from kvmodel.drivers.quasardb import QuasardbClient
from kvmodel.drivers.quasardb.errors import FAULTS, Effect, Fault, LibraryError, classify, error_of, function_of, scrub
from kvmodel.testing.quasardb.errors import TEXTS
from kvmodel.testing.quasardb.server import LocalServer, Mishap
from tests.drivers.quasardb.conftest import client_of

STORE = "qdb://db:2836"

# Cause by cause: class and text of the library, then what a read becomes, and a write.
ROWS = [
    ("AliasNotFoundError", "An entry matching the provided alias cannot be found.", kv.NotFound, kv.NotFound),
    ("AliasAlreadyExistsError", "An entry ... already exists.", kv.AlreadyExists, kv.AlreadyExists),
    ("IncompatibleTypeError", "The alias has a type incompatible with it.", kv.DecodingError, kv.DecodingError),
    ("Error", "The provided content does not match.", kv.Conflict, kv.Conflict),
    ("Error", "The operation timed out.", kv.TimedOut, kv.OutcomeUnknown),
    ("Error", "Connection refused.", kv.Unavailable, kv.Unavailable),
    ("Error", "Connection reset by peer.", kv.Unavailable, kv.OutcomeUnknown),
    ("Error", "A network error occurred.", kv.Unavailable, kv.OutcomeUnknown),
    ("Error", "The remote host cannot be resolved.", kv.Unavailable, kv.OutcomeUnknown),
    ("InvalidHandleError", "Invalid handle.", kv.Unavailable, kv.OutcomeUnknown),
    ("Error", "The cluster is unstable.", kv.Unavailable, kv.OutcomeUnknown),
    ("TryAgainError", "A temporary error has occurred.", kv.Unavailable, kv.OutcomeUnknown),
    ("Error", "The operation conflicts with another operation.", kv.Conflict, kv.Conflict),
    ("Error", "The entry is locked by another operation.", kv.Conflict, kv.Conflict),
    ("Error", "The call was interrupted.", kv.Unavailable, kv.OutcomeUnknown),
    ("Error", "The provided cryptographic key is invalid.", kv.AuthenticationFailed, kv.AuthenticationFailed),
    ("Error", "Unknown user.", kv.AuthenticationFailed, kv.AuthenticationFailed),
    ("Error", "Either all keys security settings must be provided, or none", kv.ValidationError, kv.ValidationError),
    ("InvalidArgumentError", "at qdb_option_load_security_files: x", kv.ValidationError, kv.ValidationError),
    ("Error", "Got too big alias (max 1024 characters)", kv.ValidationError, kv.ValidationError),
    ("Error", "The provided alias is too long.", kv.ValidationError, kv.ValidationError),
    ("Error", "The provided alias is reserved.", kv.ValidationError, kv.ValidationError),
    ("InvalidQueryError", "The query is invalid.", kv.ValidationError, kv.ValidationError),
    ("Error", "The entry is larger than the allowed limit.", kv.TooLarge, kv.TooLarge),
    ("InputBufferTooSmallError", "The input buffer is too small.", kv.TooLarge, kv.TooLarge),
    ("Error", "The operation has resulted in an overflow.", kv.ValidationError, kv.ValidationError),
    ("Error", "The operation has resulted in an underflow.", kv.ValidationError, kv.ValidationError),
    ("Error", "The operation has been disabled.", kv.Unsupported, kv.Unsupported),
    ("Error", "Operation not permitted.", kv.Unsupported, kv.Unsupported),
    ("Error", "The remote host and Client API protocol mismatches.", kv.ProtocolError, kv.OutcomeUnknown),
    ("Error", "The versions mismatch.", kv.ProtocolError, kv.OutcomeUnknown),
    ("Error", "Invalid reply.", kv.ProtocolError, kv.OutcomeUnknown),
    ("Error", "No space left on device.", kv.StoreError, kv.StoreError),
    ("InternalLocalError", "An internal error occurred.", kv.StoreError, kv.OutcomeUnknown),
    ("Error", "A system error occurred.", kv.StoreError, kv.OutcomeUnknown),
    ("Error", "Insufficient memory.", kv.StoreError, kv.OutcomeUnknown),
    ("NotImplementedError", "The requested operation is not yet available.", kv.Unsupported, kv.Unsupported),
    ("InvalidArgumentError", "The argument is invalid.", kv.ValidationError, kv.ValidationError),
    ("InvalidArgumentError", "Got empty alias", kv.ValidationError, kv.ValidationError),
    ("TypeError", "incompatible function arguments. Invoked with: 'timed out'", kv.ValidationError, kv.ValidationError),
    ("ModuleNotFoundError", "No module named 'quasardb'", kv.Unsupported, kv.Unsupported),
    ("Error", "Something that nobody has heard of.", kv.StoreError, kv.OutcomeUnknown),
]


def raised(kind: str, text: str, *, writes: bool, sent: bool = True) -> kv.KvModelError:
    """What the library's error becomes."""
    cause = LibraryError(classify(kind, f"at qdb_blob_put: {text}"), kind, "qdb_blob_put", sent=sent)
    return error_of(cause, writes=writes, store=STORE)


@pytest.mark.parametrize(("kind", "text", "read", "write"), ROWS, ids=[f"{row[0]}-{row[1][:30]}" for row in ROWS])
def test_each_row(kind: str, text: str, read: type[Exception], write: type[Exception]) -> None:
    """Class and text of the library decide, and whether it was a write."""
    assert type(raised(kind, text, writes=False)) is read
    assert type(raised(kind, text, writes=True)) is write


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_no_row_is_left_out(fault: Fault) -> None:
    """Every row of the table is met by a test above."""
    assert any(classify(kind, text) is fault for kind, text, _, _ in ROWS)


@pytest.mark.parametrize(("kind", "text"), [(row[0], row[1]) for row in ROWS if row[0].startswith("Alias")])
def test_the_class_may_be_missing(kind: str, text: str) -> None:
    """The package falls back to its base class now and then: the text says the same."""
    assert classify("Error", text) is classify(kind, text)


def test_what_was_not_sent_was_not_done() -> None:
    """An error while connecting leaves no doubt, not even about a write."""
    for text in ("The operation timed out.", "Connection reset by peer.", "Invalid handle."):
        assert type(raised("Error", text, writes=True, sent=False)) is kv.Unavailable


def test_the_cause_says_class_and_function() -> None:
    """Who looks for help with the vendor's words finds them; the error's own text says what to do."""
    error = raised("AliasNotFoundError", "x", writes=False)

    assert isinstance(error.__cause__, LibraryError)
    assert str(error.__cause__) == "quasardb.AliasNotFoundError: at qdb_blob_put: cannot be found"
    assert function_of("at qdb_connect: Connection refused.") == "qdb_connect"
    assert error.store == STORE


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Something odd about my-key here.", "Something odd about ... here"),
        ("Invoked with: 'SECRET', \"my-key\"", "Invoked with ... ..."),
        ("at qdb_blob_get: odd b'\\x00my-key'", "odd ..."),
        ("key=my-key/SECRET", "..."),
        ("my key is SECR", "... ... is ..."),
        ("nothing of it", "nothing of it"),
    ],
)
def test_words_of_arguments_and_credentials_are_not_shown(text: str, shown: str) -> None:
    """Of a text that no row knows, what stands in an argument or in the credentials is left out, in parts too."""
    assert scrub(text, ["my-key", "SECRET", "my key", ""]) == shown


async def test_a_strange_text_is_told_without_the_key(server: LocalServer) -> None:
    """The same through a worker: the words are the cause's, the key is not among them."""
    async with client_of(server) as client:
        server.mishaps.append(Mishap("strange"))
        with pytest.raises(kv.StoreError) as caught:
            await client.get("nobody")

    assert "Something that ... has heard of" in str(caught.value.__cause__)


async def test_every_fault_of_the_stand_in_is_in_the_table(client: QuasardbClient, server: LocalServer) -> None:
    """All of its texts go through a worker, and come out as the row of their name."""
    await client.put("k", b"x")
    for fault, (kind, text) in TEXTS.items():
        server.mishaps.append(Mishap(fault))
        if classify(kind, text).effect is Effect.AGAIN or fault in ("reset", "handle", "interrupted"):
            continue  # Those are tried again, see the tests of faults.
        expected = error_of(LibraryError(classify(kind, text), kind), writes=False, store=client.store)
        server.mishaps[:] = [Mishap(fault) for _ in range(3)]
        with pytest.raises(kv.KvModelError) as caught:
            await client.get("k")
        assert type(caught.value) is type(expected)
        server.mishaps.clear()
