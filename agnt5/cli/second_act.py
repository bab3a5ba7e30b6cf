"""The demo's second act: a deployment waits for a person's yes, in the browser or, without a terminal, over HTTP."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from agnt5.cli.output import line
from agnt5.cli.processes import wait_until
from agnt5.cli.proof import Check
from agnt5.cli.show import print_timeline
from agnt5.client import Client, Run
from agnt5.client.moments import collapse
from agnt5.client.timeline import timeline
from agnt5.contracts.errors import ConfigurationError
from agnt5.demo.deployment import APPROVAL
from agnt5.replay import events as ev

RUN_ID = "demo-deployment"
VERSION = "1.4.0"
ASKED_S = 20.0
ENDED_S = 20.0
DECISION = {"decision": "approved", "comment": "all checks passed", "data": {"window": "now", "notify": True}}


class SecondAct:
    """Plays it with a client of the demo's store and the address of its pages."""

    def __init__(self, client: Client, site: str, *, pace_s: float, say: Callable[..., None]) -> None:
        self._client = client
        self._site = site
        self._pace_s = pace_s
        self._say = say

    def play(self) -> list[Check]:
        """Play it, and give what is to be proved; nothing when the viewer skips it."""
        line()
        run: Run = self._client.start("demo.deploy", {"version": VERSION, "pace_s": self._pace_s}, id=RUN_ID)
        self._say(f"second act: version {VERSION} is checked, goes to staging, and to production if a person says yes")
        if not wait_until(lambda: bool(self._client.approvals(run_id=RUN_ID)), ASKED_S):
            raise ConfigurationError(f"the deployment asked for no approval within {ASKED_S:g} s")
        if sys.stdin.isatty() and sys.stdout.isatty():
            if not self._viewer_decides(run):
                return []
        else:
            self._decide_by_http()
        result = run.result(ENDED_S)
        self._say(f"the deployment completed: {result['decision']} by {result['by']}", "bold green")
        events: list[ev.Event] = run.history()
        line()
        print_timeline(collapse(timeline(events)), started_ms=events[0].at)
        return [_proof(events, result)]

    def _viewer_decides(self, run: Run) -> bool:
        """Whether somebody decided; Ctrl-C skips."""
        self._say(f"it waits for you, and holds no worker: decide at {self._site}/runs/{RUN_ID}", "bold yellow")
        self._say("Ctrl-C skips this")
        try:
            while self._client.approvals(run_id=RUN_ID):
                time.sleep(0.2)
        except KeyboardInterrupt:
            self._say("skipped: the deployment is cancelled")
            run.cancel("the viewer of the demo skipped it")
            return False
        return True

    def _decide_by_http(self) -> None:
        """As a program would: this machine needs no token where none are set."""
        url = f"{self._site}/api/v1/runs/{RUN_ID}/approvals/{APPROVAL}/decision"
        request = urllib.request.Request(  # noqa: S310 - our own server
            url, json.dumps(DECISION).encode(), {"Content-Type": "application/json"}
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=10) as answer:
            status: str = json.load(answer)["status"]
        self._say(f"nobody is at the terminal: decided over HTTP, the approval is {status}")


def _proof(events: list[ev.Event], result: dict[str, Any]) -> Check:
    decided = [event for event in events if isinstance(event, ev.ApprovalDecided)]
    deployed = [event.at for event in events if isinstance(event, ev.TaskScheduled)][-1]
    holds = (
        len(decided) == 1
        and (decided[0].decision, decided[0].approver) == (result["decision"], result["by"])
        and (decided[0].decision == "approved") == (deployed >= decided[0].at)
    )
    return Check(holds, "one decision is in the deployment's history, with its person, and production came after it")
