"""etcd's commands about itself: members, state, users and roles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvmodel.drivers.etcd import administration as a
from kvmodel.drivers.etcd.calls import Method
from kvmodel.drivers.etcd.commands import Commands, Text, to_bytes

__all__ = ["Administrating"]

_CLUSTER: Final = "/etcdserverpb.Cluster/"
_MAINTENANCE: Final = "/etcdserverpb.Maintenance/"
_AUTH: Final = "/etcdserverpb.Auth/"

MEMBER_LIST: Final = Method(_CLUSTER + "MemberList", a.MemberListResponse)
MEMBER_ADD: Final = Method(_CLUSTER + "MemberAdd", a.MemberResponse, writes=True)
MEMBER_REMOVE: Final = Method(_CLUSTER + "MemberRemove", a.MemberListResponse, writes=True)
MEMBER_UPDATE: Final = Method(_CLUSTER + "MemberUpdate", a.MemberListResponse, writes=True)
MEMBER_PROMOTE: Final = Method(_CLUSTER + "MemberPromote", a.MemberListResponse, writes=True)
STATUS: Final = Method(_MAINTENANCE + "Status", a.StatusResponse)
ALARM: Final = Method(_MAINTENANCE + "Alarm", a.AlarmResponse, writes=True)
HASH_KV: Final = Method(_MAINTENANCE + "HashKV", a.HashKVResponse)
DEFRAGMENT: Final = Method(_MAINTENANCE + "Defragment", a.Done, writes=True)
MOVE_LEADER: Final = Method(_MAINTENANCE + "MoveLeader", a.Done, writes=True)
AUTH_STATUS: Final = Method(_AUTH + "AuthStatus", a.AuthStatusResponse)


def _auth(name: str) -> Method[a.Done]:
    return Method(_AUTH + name, a.Done, writes=True)


class Administrating(Commands):
    """Commands about the cluster. Those with ``node=`` ask this node (``"host:port"``, as in the URL)."""

    # --- members ------------------------------------------------------------------------------------------------------

    async def member_list(self, *, timeout: float | None = None) -> Sequence[a.Member]:
        """List all nodes."""
        return (await self._call(MEMBER_LIST, a.Empty(), timeout)).members

    async def member_add(
        self, peer_urls: Sequence[str], *, is_learner: bool = False, timeout: float | None = None
    ) -> a.MemberResponse:
        """Add a node, before it is started; a learner has no vote yet."""
        return await self._call(MEMBER_ADD, a.MemberAddRequest(peer_urls, is_learner), timeout)

    async def member_remove(self, id: int, *, timeout: float | None = None) -> Sequence[a.Member]:
        """Remove a node; answer those that are left."""
        return (await self._call(MEMBER_REMOVE, a.MemberIdRequest(id), timeout)).members

    async def member_update(
        self, id: int, peer_urls: Sequence[str], *, timeout: float | None = None
    ) -> Sequence[a.Member]:
        """Move a node to other addresses."""
        return (await self._call(MEMBER_UPDATE, a.MemberUpdateRequest(id, peer_urls), timeout)).members

    async def member_promote(self, id: int, *, timeout: float | None = None) -> Sequence[a.Member]:
        """Give a learner its vote."""
        return (await self._call(MEMBER_PROMOTE, a.MemberIdRequest(id), timeout)).members

    # --- maintenance --------------------------------------------------------------------------------------------------

    async def status(self, *, node: str | None = None, timeout: float | None = None) -> a.StatusResponse:
        """Ask a node how it is."""
        return await self._call(STATUS, a.Empty(), timeout, node)

    async def alarms(self, *, timeout: float | None = None) -> Sequence[a.AlarmMember]:
        """List the alarms that are on."""
        return (await self._call(ALARM, a.AlarmRequest(a.AlarmAction.GET), timeout)).alarms

    async def alarm_disarm(
        self, member_id: int = 0, alarm: a.Alarm = a.Alarm.NONE, *, timeout: float | None = None
    ) -> Sequence[a.AlarmMember]:
        """End alarms: of one node or all, of one kind or all."""
        request = a.AlarmRequest(a.AlarmAction.DEACTIVATE, member_id, alarm)
        return (await self._call(ALARM, request, timeout)).alarms

    async def hash_kv(
        self, revision: int = 0, *, node: str | None = None, timeout: float | None = None
    ) -> a.HashKVResponse:
        """Ask a node for the hash of all that it holds at a revision."""
        return await self._call(HASH_KV, a.HashKVRequest(revision), timeout, node)

    async def defragment(self, *, node: str | None = None, timeout: float | None = None) -> None:
        """Let a node give space back. It answers nobody meanwhile."""
        await self._call(DEFRAGMENT, a.Empty(), timeout, node)

    async def move_leader(self, target_id: int, *, node: str | None = None, timeout: float | None = None) -> None:
        """Make another node the leader; only the leader of now, which is to be named, does that."""
        await self._call(MOVE_LEADER, a.MoveLeaderRequest(target_id), timeout, node)

    # --- users --------------------------------------------------------------------------------------------------------

    async def auth_enable(self, *, timeout: float | None = None) -> None:
        """Have requests prove who asks. There has to be a user ``root`` with the role ``root``."""
        await self._call(_auth("AuthEnable"), a.Empty(), timeout)

    async def auth_disable(self, *, timeout: float | None = None) -> None:
        """Let everybody ask everything."""
        await self._call(_auth("AuthDisable"), a.Empty(), timeout)

    async def auth_status(self, *, timeout: float | None = None) -> a.AuthStatusResponse:
        """Say whether requests have to prove who asks. From version 3.5 on."""
        return await self._call(AUTH_STATUS, a.Empty(), timeout)

    async def user_add(self, name: str, password: str, *, timeout: float | None = None) -> None:
        """Add a user. Raises ``AlreadyExists``."""
        await self._call(_auth("UserAdd"), a.UserAddRequest(name, password), timeout)

    async def user_get(self, name: str, *, timeout: float | None = None) -> Sequence[str]:
        """List the roles of a user. Raises ``NotFound``."""
        return (await self._call(Method(_AUTH + "UserGet", a.RolesResponse), a.NameRequest(name), timeout)).roles

    async def user_list(self, *, timeout: float | None = None) -> Sequence[str]:
        """List all users."""
        return (await self._call(Method(_AUTH + "UserList", a.NamesResponse), a.Empty(), timeout)).names

    async def user_delete(self, name: str, *, timeout: float | None = None) -> None:
        """Remove a user. Raises ``NotFound``."""
        await self._call(_auth("UserDelete"), a.NameRequest(name), timeout)

    async def user_change_password(self, name: str, password: str, *, timeout: float | None = None) -> None:
        """Give a user another password."""
        await self._call(_auth("UserChangePassword"), a.UserPasswordRequest(name, password), timeout)

    async def user_grant_role(self, user: str, role: str, *, timeout: float | None = None) -> None:
        """Give a role to a user."""
        await self._call(_auth("UserGrantRole"), a.UserGrantRoleRequest(user, role), timeout)

    async def user_revoke_role(self, user: str, role: str, *, timeout: float | None = None) -> None:
        """Take a role from a user."""
        await self._call(_auth("UserRevokeRole"), a.UserRevokeRoleRequest(user, role), timeout)

    # --- roles --------------------------------------------------------------------------------------------------------

    async def role_add(self, name: str, *, timeout: float | None = None) -> None:
        """Add a role. Raises ``AlreadyExists``."""
        await self._call(_auth("RoleAdd"), a.NameRequest(name), timeout)

    async def role_get(self, name: str, *, timeout: float | None = None) -> Sequence[a.Permission]:
        """List what a role may do. Raises ``NotFound``."""
        method = Method(_AUTH + "RoleGet", a.RoleGetResponse)
        return (await self._call(method, a.RoleRequest(name), timeout)).permissions

    async def role_list(self, *, timeout: float | None = None) -> Sequence[str]:
        """List all roles."""
        return (await self._call(Method(_AUTH + "RoleList", a.NamesResponse), a.Empty(), timeout)).names

    async def role_delete(self, name: str, *, timeout: float | None = None) -> None:
        """Remove a role. Raises ``NotFound``."""
        await self._call(_auth("RoleDelete"), a.RoleRequest(name), timeout)

    async def role_grant_permission(
        self,
        name: str,
        type: a.PermissionType,
        key: Text,
        range_end: Text = b"",
        *,
        timeout: float | None = None,
    ) -> None:
        """Let a role read or write a key, or a range."""
        permission = a.Permission(type, to_bytes(key), to_bytes(range_end))
        await self._call(_auth("RoleGrantPermission"), a.RoleGrantPermissionRequest(name, permission), timeout)

    async def role_revoke_permission(
        self, name: str, key: Text, range_end: Text = b"", *, timeout: float | None = None
    ) -> None:
        """Take that from a role."""
        request = a.RoleRevokePermissionRequest(name, to_bytes(key), to_bytes(range_end))
        await self._call(_auth("RoleRevokePermission"), request, timeout)
