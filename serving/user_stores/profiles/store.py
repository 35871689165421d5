"""The profile store: what is known of each user when a request does not say it, read once a request.

A profile holds the user's request features (those of the log's table `users`) and the newest behaviours. It is of one
version: the fingerprint of the features that it holds. `serving/user_stores/builds.py` says how a version is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from features.errors import InputError
from serving.user_stores.append_log import Mark
from serving.user_stores.behavior_window import BehaviorWindow, Outcome, Row
from serving.user_stores.environment import StoreError
from serving.user_stores.profiles.record import ProfileLayout
from serving.user_stores.record_pages import Verification
from serving.user_stores.user_keys import RecordError, user_key
from serving.user_stores.user_store import Opened, StoreKind, UserStore, record_of

FORMAT = 1


@dataclass(frozen=True)
class Profile:
    """What is known of a user.

    Attributes:
      features: {request feature: raw value, a list of them where it is multi-valued}; missing ones are left out.
      behaviors: the newest behaviours, oldest first, as a request's `history`: `timestamp` (UTC milliseconds) and the
        history features; null = missing.
    """

    features: dict[str, Any]
    behaviors: list[dict[str, Any]]


class ProfileStore(UserStore):
    """The profiles of one version, open (`UserStore`).

    Example:
      with ProfileStore("serving_models/shop_profiles", follow=True) as store:
          profile = store.get("u7")

    Attributes:
      root: the store with all its versions.
      version: of the features.
    """

    kind = StoreKind(
        name="profile store",
        records="profiles of the features",
        why="Profiles hold the features of one spec",
        command="clickmill profiles build",
        format=FORMAT,
    )

    def get(self, user: str | int, last: int | None = None) -> Profile | None:
        """Returns a user's profile, or None if nothing is known of the user.

        Args:
          user: the id; strings and integers are different users.
          last: only so many of the newest behaviours; None: all that the store keeps (`layout.length`).

        Raises:
          TypeError: if `user` is neither a string nor an integer.
          StoreError: if the record is damaged.
        """
        key, _ = user_key(user)

        def read(opened: Opened) -> Profile | None:
            record = record_of(opened, key)
            if record is None:
                return None
            features, window = self._decode(opened, user, record)
            return Profile(features, window.rows(last))

        return self._read(read)

    def append(self, user: str | int, behaviors: Iterable[Row]) -> list[Outcome]:
        """Adds behaviours to a user's profile and to disk; a user without one gets it.

        Raises:
          StoreError: if the store cannot be written, was replaced by a newer build, or follows one.
        """
        return self._write([(user, behavior) for behavior in behaviors], None, None) or []

    def take_in(self, before: Mark, number: int, behaviors: Sequence[tuple[str | int, Row]]) -> list[Outcome] | None:
        """Adds behaviours of the log, in one transaction; None: not done, as the store has taken in more meanwhile.

        Args:
          before: up to where the store had taken in the log (`mark`).
          number: of the last of them in the log.
          behaviors: (user, behaviour) in the log's order.

        Raises:
          StoreError: as `append`.
        """
        return self._write(behaviors, before, Mark(before.log_id, number))

    def _write(
        self, behaviors: Sequence[tuple[str | int, Row]], before: Mark | None, after: Mark | None
    ) -> list[Outcome] | None:
        opened = self._to_write()
        environment, layout = opened.environment, opened.layout

        def work(transaction):
            if before is not None and Mark.read(transaction, before.log_id) != before:
                return None
            profiles: dict[str | int, tuple[dict[str, Any], BehaviorWindow]] = {}
            outcomes = []
            for user, behavior in behaviors:
                if user not in profiles:
                    found = transaction.get(user_key(user)[0], db=environment.records)
                    known = ({}, layout.empty_window()) if found is None else self._decode(opened, user, bytes(found))
                    profiles[user] = known
                outcomes.append(profiles[user][1].add(behavior).outcome)
            for user, (features, window) in profiles.items():
                key, text = user_key(user)
                transaction.put(key, layout.encode(features, window), db=environment.records)
                if text is not None:
                    transaction.put(key, text, db=environment.long_ids)
            if after is not None:
                after.write(transaction)
            return outcomes

        return environment.write(work)

    def verify(self) -> Verification:
        """Reads every profile and checks key, checksum and behaviours.

        Raises:
          StoreError: if LMDB cannot read on.
        """
        from serving.user_stores.profiles.verify import verify_profiles

        with self._held() as opened:
            return verify_profiles(opened.environment, opened.layout)

    def _layout_of(self, header: dict) -> ProfileLayout:
        return ProfileLayout(tuple(header["features"]), tuple(header["columns"]), header["length"])

    def _decode(self, opened: Opened, user: str | int, record: bytes) -> tuple[dict[str, Any], BehaviorWindow]:
        try:
            return opened.layout.decode(record)
        except (RecordError, ValueError, KeyError) as error:
            raise StoreError(f"{self.root / self.version}: user {user!r}: {error}. Build it again.") from error


def open_profiles(path: str, *, follow: bool = False) -> ProfileStore:
    """Opens the profiles that a release names.

    Args:
      path: `Releases.path(release.profiles)`: the store and the version in it.
      follow: as of `UserStore`.

    Raises:
      InputError: if the path names no version of a store.
    """
    store, _, version = path.rpartition("/")
    if not store:
        raise InputError(f"a profile store is named as STORE/VERSION. Received: {path!r}")
    return ProfileStore(store, version, follow=follow)
