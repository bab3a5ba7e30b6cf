"""`agnt5 web` serves what it does with Redis, at a port apart from its pages."""

from __future__ import annotations

from support.scraping import free_port, scrape
from support.waiting import until_sync
from web_kit import Api

from agnt5.telemetry.metrics_table import BEAT, SHARED, WORKER


def test_the_web_server_tells_what_it_does_with_redis(server):
    port = free_port()
    with Api(server.url, env={"AGNT5_METRICS_PORT": str(port)}) as api:
        with api.client() as client:
            assert client.get("/runs").status_code == 200
            assert client.get("/metrics").status_code == 404
        until_sync(lambda: scrape(port).value("agnt5_store_calls_total") > 0, 10.0)
        seen = scrape(port).names
    assert {figure.shown for figure in SHARED if not figure.labels and figure.sort == "counter"} <= seen
    assert not {figure.shown for figure in (*WORKER, *BEAT)} & seen
