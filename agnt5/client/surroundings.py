"""The doctor's look at processes and the server: workers, beats, queues, what Redis keeps. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from agnt5.client.findings import Finding, Reap, Severity
from agnt5.client.moments import span
from agnt5.client.survey import Seen, Survey
from agnt5.contracts.settings import Settings

OVERDUE_MS = 5000
FULL = 0.85
"""Part of `maxmemory` from which on an operator should know."""


def check_surroundings(survey: Survey, settings: Settings) -> Iterator[Finding]:
    """What is wrong around the runs."""
    open_runs = [run for shard in survey.shards for run in shard.runs.values() if not run.ended]
    yield from _hosts(survey, settings)
    yield from _beats(survey, any_open=bool(open_runs))
    yield from _overdue(survey)
    yield from _backlogs(survey, [run for run in open_runs if run.status == "queued"], settings)
    yield from _server(survey.server)
    for key, wrong in survey.broken_config.items():
        yield Finding(
            code="config-unreadable", severity="warning", about="key", mark=(wrong,),
            found=f"config {key!r} is no rule, and workers leave it out: {wrong}",
            remedy="agnt5 config set or unset it",
        )  # fmt: skip


def _hosts(survey: Survey, settings: Settings) -> Iterator[Finding]:
    for host, beaten_ms in survey.hosts_ms.items():
        silent_ms = survey.now_ms - beaten_ms
        if silent_ms > 2 * settings.liveness_timeout_ms:
            yield Finding(
                code="host-not-reaped", severity="error", about="host", repair=Reap(host), mark=(beaten_ms,),
                found=f"worker {host} was silent for {span(silent_ms)} and has not been reaped",
                remedy="is a beat running? agnt5 doctor --fix queues what it owned",
            )  # fmt: skip
    owners = {
        name.removeprefix("owned:") for shard in survey.shards for name in shard.members if name.startswith("owned:")
    }
    owners = {host for host in owners if any(shard.members.get(f"owned:{host}") for shard in survey.shards)}
    for host in sorted(owners - survey.hosts_ms.keys()):
        yield Finding(
            code="host-unlisted", severity="error", about="host", repair=Reap(host),
            found=f"worker {host} owns runs and is not listed: nobody would reap it",
            remedy="agnt5 doctor --fix queues what it owned",
        )  # fmt: skip


def _beats(survey: Survey, *, any_open: bool) -> Iterator[Finding]:
    if survey.beats == 0:
        yield Finding(
            code="no-beat", severity="error" if any_open else "warning", about="beat", found="no beat is running",
            remedy="start one, or better two: celery -A ... beat; without it no timer fires",
        )  # fmt: skip


def _overdue(survey: Survey) -> Iterator[Finding]:
    due = [score for shard in survey.shards for score in shard.scores["timers"].values()]
    late = [score for score in due if survey.now_ms - score > OVERDUE_MS]
    if late:
        yield Finding(
            code="timers-overdue", severity="error", about="beat",
            found=f"{len(late)} timers are overdue, the oldest by {span(survey.now_ms - min(late))}",
            remedy="is a beat running, and can it keep up? See its log",
        )  # fmt: skip


def _backlogs(survey: Survey, queued: list[Seen], settings: Settings) -> Iterator[Finding]:
    oldest: dict[str, int] = {}
    counts: dict[str, int] = {}
    for run in queued:
        queue = run.fields.get("queue", "")
        at = run.number("queued") or survey.now_ms
        oldest[queue] = min(oldest.get(queue, at), at)
        counts[queue] = counts.get(queue, 0) + 1
    live = [ms for ms in survey.hosts_ms.values() if survey.now_ms - ms <= settings.liveness_timeout_ms]
    for queue, at in sorted(oldest.items()):
        waited_ms = survey.now_ms - at
        if live and waited_ms <= settings.probe_after_ms:
            continue
        service = queue.removeprefix("agnt5.")
        yield Finding(
            code="backlog", severity="warning" if live else "error", about="queue",
            found=f"{counts[queue]} runs wait in queue {queue}, the oldest for {span(waited_ms)}"
            + ("" if live else ", and no worker is alive"),
            remedy=f"start workers that import service {service!r}, or more of them",
        )  # fmt: skip


def _server(info: dict[str, str]) -> Iterator[Finding]:
    def finding(code: str, severity: Severity, found: str, remedy: str) -> Finding:
        return Finding(code=code, severity=severity, about="server", found=found, remedy=remedy)

    if info.get("aof_enabled") == "0":
        yield finding(
            "aof-off", "warning", "the append-only file is off: a crash of Redis loses runs", "set appendonly yes"
        )
    for field in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if info.get(field, "ok") != "ok":
            yield finding(field, "error", f"Redis says {field}: {info[field]}", "see its log; is the disk full?")
    limit, used = int(info.get("maxmemory", "0")), int(info.get("used_memory", "0"))
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield finding(
            "may-evict", "error" if limit else "warning", f"maxmemory-policy is {policy}: Redis may evict runs",
            "set maxmemory-policy noeviction",
        )  # fmt: skip
    if limit and used > FULL * limit:
        yield finding(
            "memory",
            "error",
            f"Redis uses {used * 100 // limit} % of its maxmemory",
            "raise it, or shorten AGNT5_RETENTION",
        )
