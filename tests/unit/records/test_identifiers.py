"""Request ids carry their time, unit hashes their secret."""

import uuid

from absa.records.identifiers import RequestIds, is_request_id, unit_hash

AT_US = 1_795_470_037_401_255


def test_id_is_uuid7_with_request_time() -> None:
    made = RequestIds().new(AT_US)
    assert uuid.UUID(made).version == 7
    assert uuid.UUID(made).variant == uuid.RFC_4122
    assert uuid.UUID(made).int >> 80 == AT_US // 1000


def test_ids_differ_and_sort_by_time() -> None:
    ids = RequestIds()
    made = [ids.new(AT_US) for _ in range(2000)]
    assert len(set(made)) == 2000
    assert max(made) < ids.new(AT_US + 1000)


def test_only_router_form_is_an_id() -> None:
    made = RequestIds().new(AT_US)
    assert is_request_id(made)
    assert not is_request_id(made + "\n")
    assert not is_request_id(made.upper())
    assert not is_request_id(str(uuid.uuid4()))


def test_unit_hash_is_16_hex_and_needs_secret() -> None:
    assert unit_hash("acct-42", b"one") == unit_hash("acct-42", b"one")
    assert unit_hash("acct-42", b"one") != unit_hash("acct-42", b"two")
    assert len(bytes.fromhex(unit_hash("acct-42", b"one"))) == 8
