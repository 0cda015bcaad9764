"""Roles decide what a visitor may do, and the audience which private recordings exist for one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oda_proxy.access.ownership import Ownership
from oda_proxy.access.roles import Action, Role
from oda_proxy.access.visitor import Visitor
from oda_proxy.query.audience import Claims, Sharing
from oda_proxy.query.cache_key import PUBLIC, key_of
from oda_proxy.query.query import Query
from oda_proxy.store.memory import MemoryStore
from tests.support.recordings import recording
from tests.support.sample_descriptions import OLD_SCHEMA, SCHEMA

READER = frozenset({Role.READER})
QUERY = Query("isgri", "isgri_image", "Real", (("E1_keV", ("20.0",)),), api=True)
HERS, HIS = (Claims(name, ("general",), None).audience(Sharing.SUBJECT) for name in ("her", "him"))


@pytest.mark.parametrize(
    ("roles", "allowed"),
    [
        (set(), set()),
        ({Role.PERSON}, set()),
        ({Role.READER}, {Action.READ_STATUS, Action.READ_RECORDINGS, Action.READ_JOBS}),
        ({Role.METRICS}, {Action.READ_METRICS}),
        ({Role.ADMIN}, set(Action)),
    ],
)
def test_a_role_allows_what_the_table_says(roles: set[Role], allowed: set[Action]) -> None:
    visitor = Visitor("127.0.0.1", frozenset(roles))

    assert {action for action in Action if visitor.may(action)} == allowed | {
        Action.ALIVE,
        Action.SIGN_IN,
        Action.STOP_OWN_JOB,
    }


@pytest.mark.parametrize(
    ("audience", "visitor", "is_seen"),
    [
        (PUBLIC, Visitor(roles=READER), True),
        (PUBLIC, Visitor(), False),
        (HERS, Visitor(roles=READER), False),
        (HERS, Visitor(roles=READER, audience=HERS), True),
        (HERS, Visitor(roles=READER, audience=HIS), False),
        (HERS, Visitor(roles=READER, audience=PUBLIC), False),
        (HERS, Visitor(roles=frozenset({Role.ADMIN})), True),
        (HERS, Visitor(roles=frozenset({Role.METRICS})), False),
    ],
)
def test_a_private_recording_exists_for_its_audience_alone(audience: str, visitor: Visitor, is_seen: bool) -> None:
    store = MemoryStore()
    store.put(recording(key_of(QUERY, audience=audience), query=QUERY, private=audience != PUBLIC))

    (entry,) = store.entries()
    assert visitor.may_see(entry) is is_seen


def test_a_recording_under_a_key_of_an_earlier_description_belongs_to_its_audience() -> None:
    store = MemoryStore()
    for key in (key_of(QUERY, SCHEMA, audience=HERS), key_of(QUERY, audience=HERS)):
        store.put(recording(key, query=QUERY, private=True))
    visitor = Visitor(roles=READER, audience=HERS, ownership=Ownership(lambda _: (SCHEMA,)))

    entries = list(store.entries())
    assert len(entries) == 2
    assert all(visitor.may_see(entry) for entry in entries)


def test_the_result_is_not_memoised_across_descriptions() -> None:
    query = replace(QUERY, parameters=(("T1", ("2003-03-15T23:27:40.0",)), ("E1_keV", ("20",))))
    store, schemas = MemoryStore(), [OLD_SCHEMA]
    store.put(recording(key_of(query, SCHEMA, audience=HERS), query=query, private=True))
    visitor = Visitor(roles=READER, audience=HERS, ownership=Ownership(lambda _: tuple(schemas)))
    (entry,) = store.entries()
    before = visitor.may_see(entry)

    schemas[:] = [SCHEMA]

    assert (before, visitor.may_see(entry)) == (False, True)


def test_an_audience_does_not_print() -> None:
    assert "her" not in repr(Visitor(audience=HERS))
