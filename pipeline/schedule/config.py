"""When a pipeline is run, and what each of its nodes gets: what a scheduler is told. Imports no TensorFlow."""

from __future__ import annotations

import re
from datetime import date

from pydantic import Field, field_validator
from typing_extensions import Self

from features.config import Strict

#: Of the five fields of cron: numbers, names, `*`, lists, ranges, steps.
_CRON_FIELD = r"[A-Za-z0-9*,/-]+"


class NodeNeeds(Strict):
    """What a node gets.

    Attributes:
      cpus: cores, as Kubernetes is asked for.
      memory_mb: memory in MiB, asked for and not to be exceeded.
      timeout_minutes: after which a try is ended.
      retries: how often a node that failed is tried again; what was done before it failed is not done again.
      retry_minutes: between two tries.
      pool: Airflow's pool that it takes a slot of; None: the default pool.
      sla_minutes: after the run's start, by when it should be done; Airflow 2 says where it is not. None: not said.
    """

    cpus: float = Field(2.0, gt=0)
    memory_mb: int = Field(4096, ge=256)
    timeout_minutes: int = Field(120, ge=1)
    retries: int = Field(2, ge=0)
    retry_minutes: int = Field(5, ge=0)
    pool: str | None = None
    sla_minutes: int | None = Field(None, ge=1)


#: Of kinds of nodes, where nothing else is said.
DEFAULTS = {"Trainer": NodeNeeds(timeout_minutes=12 * 60)}


class KubernetesPods(Strict):
    """Every node is a pod of its own.

    Attributes:
      image: with Clickmill installed, and the profile in its working directory.
      namespace: of the pods.
      service_account: of the pods; None: the namespace's default.
      claim: a persistent volume that all pods mount, for runs and serving root; None: these are on an object store.
      mounted_at: where it is mounted.
      secret: whose entries become the pods' environment, as `CLICKMILL_METADATA_PASSWORD`.
    """

    image: str = Field(min_length=1)
    namespace: str = "default"
    service_account: str | None = None
    claim: str | None = None
    mounted_at: str = "/work"
    secret: str | None = None


class Schedule(Strict):
    """How a pipeline is scheduled.

    Attributes:
      cron: when a run begins, as five fields. A run is of the day before: of the interval that ends then.
      timezone: of `cron` and of the days.
      start: the first day.
      catch_up: whether days since then that had no run get one.
      window: of the days that a run trains on, as `7d`; None: as the profile says.
      skip_unchanged: whether a run whose logs and profile are those of the last one ends as skipped.
      timeout_minutes: after which a run is ended.
      tasks_at_once: nodes of one run at a time. One where ML Metadata is SQLite's, which has one writer.
      nodes: needs by node (`Trainer.autoint`) or by kind of node (`Trainer`); `default` of all others. A training
        that is not named gets twelve hours.
      kubernetes: where nodes run as pods; None: as commands on the scheduler's workers.
    """

    cron: str = "0 3 * * *"
    timezone: str = "UTC"
    start: date = date(2026, 1, 1)
    catch_up: bool = True
    window: str | None = Field(None, pattern=r"^[1-9][0-9]*d$")
    skip_unchanged: bool = True
    timeout_minutes: int = Field(24 * 60, ge=1)
    tasks_at_once: int = Field(1, ge=1)
    nodes: dict[str, NodeNeeds] = {}
    kubernetes: KubernetesPods | None = None

    @field_validator("cron")
    @classmethod
    def _has_five_fields(cls, cron: str) -> str:
        fields = cron.split()
        if len(fields) != 5 or not all(re.fullmatch(_CRON_FIELD, field) for field in fields):
            raise ValueError(
                f"five fields, as `0 3 * * *`: minute, hour, day of the month, month, weekday. Received: {cron!r}"
            )
        return " ".join(fields)

    def needs(self, node: str) -> NodeNeeds:
        """Returns what a node gets: its own, or its kind's, or the default."""
        kind = node.partition(".")[0]
        return (
            self.nodes.get(node) or self.nodes.get(kind) or self.nodes.get("default") or DEFAULTS.get(kind, NodeNeeds())
        )

    def for_pipeline(self, nodes: list[str], one_writer: bool) -> Self:
        """Returns the schedule, checked against a pipeline.

        Args:
          nodes: the ids of its nodes.
          one_writer: whether its ML Metadata has one writer.

        Raises:
          SpecError: if it names a node that the pipeline does not have, or too many at once.
        """
        from features.config import SpecError, nearest

        known = {"default", *nodes, *(node.partition(".")[0] for node in nodes)}
        for name in self.nodes:
            if name not in known:
                raise SpecError(f"`nodes.{name}`: the pipeline has no such node.{nearest(name, known)}")
        if one_writer and self.tasks_at_once > 1:
            raise SpecError(
                f"`tasks_at_once: {self.tasks_at_once}`: ML Metadata is an SQLite file, which has one writer. Name a "
                "server in the profile (`metadata: postgresql://…`), or leave it at 1."
            )
        return self
