"""What is asked of etcd about itself: members, state, alarms, users and roles."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import attrs

from kvmodel.drivers.etcd.messages import Header
from kvmodel.drivers.etcd.wire import Message, data, flag, integer, message, messages, number, secret, text, texts

__all__ = [
    "Alarm",
    "AlarmAction",
    "AlarmMember",
    "AlarmRequest",
    "AlarmResponse",
    "AuthStatusResponse",
    "AuthenticateRequest",
    "AuthenticateResponse",
    "Done",
    "Empty",
    "HashKVRequest",
    "HashKVResponse",
    "Member",
    "MemberAddRequest",
    "MemberIdRequest",
    "MemberListResponse",
    "MemberResponse",
    "MemberUpdateRequest",
    "MoveLeaderRequest",
    "NameRequest",
    "NamesResponse",
    "Permission",
    "PermissionType",
    "RoleGetResponse",
    "RoleGrantPermissionRequest",
    "RoleRequest",
    "RoleRevokePermissionRequest",
    "RolesResponse",
    "SnapshotResponse",
    "StatusResponse",
    "UserAddRequest",
    "UserGrantRoleRequest",
    "UserPasswordRequest",
    "UserRevokeRoleRequest",
]


@attrs.frozen
class Empty(Message):
    """A question that needs no words."""


@attrs.frozen
class Done(Message):
    """An answer that has nothing to say."""

    header: Header | None = message(1, lambda: Header)


# --- members ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Member(Message):
    """One node of the cluster."""

    id: int = number(1)
    name: str = text(2)
    peer_urls: Sequence[str] = texts(3)
    client_urls: Sequence[str] = texts(4)
    is_learner: bool = flag(5)


@attrs.frozen
class MemberListResponse(Message):
    """All nodes."""

    header: Header | None = message(1, lambda: Header)
    members: Sequence[Member] = messages(2, lambda: Member)


@attrs.frozen
class MemberAddRequest(Message):
    """Add a node."""

    peer_urls: Sequence[str] = texts(1)
    is_learner: bool = flag(2)


@attrs.frozen
class MemberResponse(Message):
    """The node that was added, and all of them."""

    header: Header | None = message(1, lambda: Header)
    member: Member | None = message(2, lambda: Member)
    members: Sequence[Member] = messages(3, lambda: Member)


@attrs.frozen
class MemberIdRequest(Message):
    """Name a node: to remove or promote it."""

    id: int = number(1)


@attrs.frozen
class MemberUpdateRequest(Message):
    """Move a node to other addresses."""

    id: int = number(1)
    peer_urls: Sequence[str] = texts(2)


# --- maintenance ------------------------------------------------------------------------------------------------------


@attrs.frozen
class StatusResponse(Message):
    """The state of one node. ``leader`` 0: there is none."""

    header: Header | None = message(1, lambda: Header)
    version: str = text(2)
    db_size: int = integer(3)
    leader: int = number(4)
    raft_index: int = number(5)
    raft_term: int = number(6)
    raft_applied_index: int = number(7)
    errors: Sequence[str] = texts(8)
    db_size_in_use: int = integer(9)
    is_learner: bool = flag(10)


class Alarm(enum.IntEnum):
    """What is wrong with a node."""

    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


class AlarmAction(enum.IntEnum):
    """What to do about it."""

    GET = 0
    ACTIVATE = 1
    DEACTIVATE = 2


@attrs.frozen
class AlarmRequest(Message):
    """Ask for alarms, raise one, or end one."""

    action: int = integer(1)
    member_id: int = number(2)
    alarm: int = integer(3)


@attrs.frozen
class AlarmMember(Message):
    """One alarm of one node."""

    member_id: int = number(1)
    alarm: int = integer(2)


@attrs.frozen
class AlarmResponse(Message):
    """The alarms concerned."""

    header: Header | None = message(1, lambda: Header)
    alarms: Sequence[AlarmMember] = messages(2, lambda: AlarmMember)


@attrs.frozen
class HashKVRequest(Message):
    """Ask for the hash of all keys at a revision (0: now)."""

    revision: int = integer(1)


@attrs.frozen
class HashKVResponse(Message):
    """Equal on every node that holds the same."""

    header: Header | None = message(1, lambda: Header)
    hash: int = number(2)
    compact_revision: int = integer(3)


@attrs.frozen
class SnapshotResponse(Message):
    """A piece of a copy of the whole store."""

    header: Header | None = message(1, lambda: Header)
    remaining_bytes: int = number(2)
    blob: bytes = data(3)


@attrs.frozen
class MoveLeaderRequest(Message):
    """Make another node the leader."""

    target_id: int = number(1)


# --- users and roles --------------------------------------------------------------------------------------------------


@attrs.frozen
class AuthenticateRequest(Message):
    """Prove who one is."""

    name: str = text(1)
    password: str = secret(2)


@attrs.frozen
class AuthenticateResponse(Message):
    """What goes along with every request from then on."""

    header: Header | None = message(1, lambda: Header)
    token: str = secret(2)


@attrs.frozen
class AuthStatusResponse(Message):
    """Whether requests have to prove who asks."""

    header: Header | None = message(1, lambda: Header)
    enabled: bool = flag(2)
    auth_revision: int = number(3)


@attrs.frozen
class NameRequest(Message):
    """Name a user or a role."""

    name: str = text(1)


@attrs.frozen
class UserAddRequest(Message):
    """Add a user."""

    name: str = text(1)
    password: str = secret(2)


@attrs.frozen
class UserPasswordRequest(Message):
    """Change a password."""

    name: str = text(1)
    password: str = secret(2)


@attrs.frozen
class UserGrantRoleRequest(Message):
    """Give a role to a user."""

    user: str = text(1)
    role: str = text(2)


@attrs.frozen
class UserRevokeRoleRequest(Message):
    """Take a role from a user."""

    name: str = text(1)
    role: str = text(2)


@attrs.frozen
class NamesResponse(Message):
    """The names of users, or of roles."""

    header: Header | None = message(1, lambda: Header)
    names: Sequence[str] = texts(2)


@attrs.frozen
class RolesResponse(Message):
    """The roles of a user."""

    header: Header | None = message(1, lambda: Header)
    roles: Sequence[str] = texts(2)


class PermissionType(enum.IntEnum):
    """What a role may do with a range of keys."""

    READ = 0
    WRITE = 1
    READWRITE = 2


@attrs.frozen
class Permission(Message):
    """What a role may do with which keys."""

    type: int = integer(1)
    key: bytes = data(2)
    range_end: bytes = data(3)


@attrs.frozen
class RoleRequest(Message):
    """Name a role."""

    role: str = text(1)


@attrs.frozen
class RoleGetResponse(Message):
    """What a role may do."""

    header: Header | None = message(1, lambda: Header)
    permissions: Sequence[Permission] = messages(2, lambda: Permission)


@attrs.frozen
class RoleGrantPermissionRequest(Message):
    """Let a role do something."""

    name: str = text(1)
    permission: Permission | None = message(2, lambda: Permission)


@attrs.frozen
class RoleRevokePermissionRequest(Message):
    """Let a role do it no more."""

    role: str = text(1)
    key: bytes = data(2)
    range_end: bytes = data(3)
