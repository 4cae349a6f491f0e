"""Panels and dashboards as Grafana's JSON (schema 39, Grafana 10.4 and later), few enough to read alike everywhere.

Every panel has a description that says what to do about what it shows. Colours mean something only where there is a
threshold. Queries name no data source but the dashboard's own variable.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
GRID = 24
GREEN, YELLOW, RED = "green", "yellow", "red"


@dataclass(frozen=True)
class Query:
    """PromQL, what its series are called, and whether the dots of single requests, with their traces, are shown."""

    expr: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """A panel without a place. `limits` are pairs (from this value on, colour); the first one's value is None."""

    kind: str
    title: str
    description: str
    queries: Sequence[Query]
    unit: str = "short"
    limits: Sequence[tuple[float | None, str]] = ()
    custom: Json = field(default_factory=dict)
    """Grafana's `fieldConfig.defaults` beyond the unit."""
    options: Json = field(default_factory=dict)
    overrides: Sequence[Json] = ()
    extra: Json = field(default_factory=dict)
    """More keys of the panel itself."""
    target: Json = field(default_factory=dict)
    """More keys of each query."""

    def json(self, id: int, place: Json) -> Json:
        """Grafana's JSON."""
        steps = [{"color": color, "value": value} for value, color in self.limits]
        defaults: Json = {"unit": self.unit, **self.custom}
        if steps:
            defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        return {
            "id": id,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": place,
            "fieldConfig": {"defaults": defaults, "overrides": list(self.overrides)},
            "options": self.options,
            **self.extra,
            "targets": [
                {
                    "refId": chr(ord("A") + n),
                    "datasource": SOURCE,
                    "expr": query.expr,
                    "legendFormat": query.legend or "__auto",
                    "exemplar": query.exemplars,
                    **self.target,
                }
                for n, query in enumerate(self.queries)
            ],
        }


def stat(
    title: str,
    description: str,
    expr: str,
    *,
    unit: str = "short",
    decimals: int | None = None,
    limits: Sequence[tuple[float | None, str]] = (),
    each: str = "",
) -> Panel:
    """One number, or one for each series, named by the legend `each`. Without limits it has no colour."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value" if limits else "none",
        "graphMode": "none",
        "textMode": "value_and_name" if each else "value",
        "justifyMode": "auto",
        "orientation": "auto",
    }
    custom: Json = {"noValue": "–"}
    if decimals is not None:
        custom["decimals"] = decimals
    target = {"instant": True, "range": False}
    return Panel("stat", title, description, [Query(expr, each)], unit, limits, custom, options, target=target)


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    stack: bool = False,
    top: float | None = None,
    limits: Sequence[tuple[float | None, str]] = (),
) -> Panel:
    """Lines over time from zero up; `stack` for parts of a whole; `top` where the scale has an end; `limits` as lines.

    A query with the legend `goal` is drawn dashed.
    """
    drawn: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if stack else 0,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
    }
    if limits:
        drawn["thresholdsStyle"] = {"mode": "dashed"}
    custom: Json = {"custom": drawn, "min": 0}
    if top is not None:
        custom["max"] = top
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return Panel("timeseries", title, description, queries, unit, limits, custom, options, overrides=[_GOAL])


def bars(
    title: str, description: str, query: Query, *, unit: str, top: float, limits: Sequence[tuple[float | None, str]]
) -> Panel:
    """One bar for each series, now, as a part of `top`."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "displayMode": "basic",
        "showUnfilled": True,
        "valueMode": "color",
    }
    custom = {"min": 0, "max": top, "noValue": "–"}
    target = {"instant": True, "range": False}
    return Panel("bargauge", title, description, [query], unit, limits, custom, options, target=target)


def heatmap(title: str, description: str, expr: str, *, unit: str = "short") -> Panel:
    """How a histogram's values spread over time; `expr` is by `le`."""
    options = {
        "calculate": False,
        "yAxis": {"axisPlacement": "left", "unit": unit},
        "rowsFrame": {"layout": "auto"},
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 32, "reverse": False},
        "cellGap": 1,
        "legend": {"show": False},
        "tooltip": {"mode": "single", "yHistogram": False},
    }
    target = {"format": "heatmap"}
    return Panel("heatmap", title, description, [Query(expr, "{{le}}")], unit, options=options, target=target)


def table(title: str, description: str, expr: str, *, columns: Sequence[str]) -> Panel:
    """The labels of the series that there are now."""
    target = {"instant": True, "range": False, "format": "table"}
    extra = {
        "transformations": [{"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}}],
    }
    options = {"showHeader": True, "cellHeight": "sm"}
    return Panel("table", title, description, [Query(expr)], options=options, extra=extra, target=target)


def quantiles(
    metric: str, by: str = "", *, of: Sequence[float] = (0.5, 0.95, 0.99), where: str = "", exemplars: bool = False
) -> list[Query]:
    """Quantiles of a histogram, one line for each, or for each value of the label `by`."""
    groups = f"le, {by}" if by else "le"
    name = f"{{{{{by}}}}} " if by else ""
    return [
        Query(
            f"histogram_quantile({q}, sum by ({groups}) (rate({metric}_bucket{where}[$__rate_interval])))",
            f"{name}p{q * 100:g}",
            exemplars,
        )
        for q in of
    ]


_GOAL = {
    "matcher": {"id": "byName", "options": "goal"},
    "properties": [
        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
        {"id": "color", "value": {"mode": "fixed", "fixedColor": "text"}},
    ],
}


class Board:
    """A dashboard: rows of panels that share the width equally."""

    def __init__(self, uid: str, title: str, description: str, *, since: str = "now-6h") -> None:
        self.uid = uid
        self._title = title
        self._description = description
        self._since = since
        self._panels: list[Json] = []
        self._variables: list[Json] = [_DATASOURCE]
        self._y = 0

    def variable(self, name: str, label: str, metric: str) -> None:
        """Let the reader choose among the values of a metric's label; all of them at first."""
        query = f"label_values({metric}, {name})"
        self._variables.append(
            {
                "name": name,
                "label": label,
                "type": "query",
                "datasource": SOURCE,
                "query": {"query": query, "refId": "Variable"},
                "definition": query,
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "current": {"text": ["All"], "value": ["$__all"]},
            }
        )

    def row(self, title: str, *panels: Panel, height: int = 8, columns: int = 0) -> None:
        """Panels side by side, under a heading; `columns` of them in a line, otherwise all."""
        if title:
            place = {"h": 1, "w": GRID, "x": 0, "y": self._y}
            self._panels.append(
                {"id": self._next(), "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
            )
            self._y += 1
        columns = columns or len(panels)
        width = GRID // columns
        for n, panel in enumerate(panels):
            line, column = divmod(n, columns)
            place = {"h": height, "w": width, "x": column * width, "y": self._y + line * height}
            self._panels.append(panel.json(self._next(), place))
        self._y += height * -(-len(panels) // columns)

    def json(self) -> Json:
        """Grafana's JSON."""
        return {
            "uid": self.uid,
            "title": self._title,
            "description": self._description,
            "tags": ["capstan"],
            "schemaVersion": 39,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": self._since, "to": "now"},
            "timezone": "browser",
            "templating": {"list": self._variables},
            "annotations": {"list": [_ALERTS]},
            "links": [
                {"type": "dashboards", "title": "Capstan", "tags": ["capstan"], "keepTime": True, "includeVars": False}
            ],
            "panels": self._panels,
        }

    def _next(self) -> int:
        return len(self._panels) + 1


_DATASOURCE: Json = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "current": {"text": "Prometheus", "value": "prometheus"},
}
_ALERTS: Json = {
    "name": "Alerts",
    "datasource": SOURCE,
    "enable": True,
    "iconColor": RED,
    "expr": 'ALERTS{alertstate="firing"}',
    "titleFormat": "{{alertname}}",
    "textFormat": "{{pool}} {{tenant}} {{instance}}",
}
